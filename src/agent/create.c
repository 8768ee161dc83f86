/* Making and removing what an instance has on disk. Both are one rename: before it nothing is there, after
 * it everything; what a crash leaves beside (".tmp-", ".del-") is removed at the agent's next start, and with it the
 * root in the pool that its record names. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The root that the record in a directory (".tmp-", ".del-") stands for: not that of an instance that is there. */
static int remove_root(const struct job *j, const char *dir, const char *id, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/record.json", dir);
	_cleanup_(free_ptr) char *instance = instance_path(j->agent, id, NULL);
	_cleanup_(error_free) struct error why = ERROR_INIT;
	_cleanup_(record_free) struct msg_instance_create r = {0};
	if (fs_exists(instance))
		return 0;
	int result = object_load(&msg_instance_create_table, path, &r, &why);
	if (result == -ERROR_NOT_FOUND)
		return 0; /* the record is written before the root is made */
	return root_remove(j, result < 0 ? NULL : &r, id, err);
}

/* Locks a directory that may be left over from a killed worker, or still be in the hands of a living one, and
 * removes it. id: of the instance that it is of; NULL: it is of none. */
static int remove_leftover(const struct job *j, const char *path, const char *id, struct error *err) {
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : error_errno(err, errno, "cannot open %s", path);
	int r = lock_file(fd, LOCK_EX, LOCK_WAIT);
	if (r < 0)
		return error_errno(err, r, "cannot lock %s", path);
	if (!lock_is_of(fd, path))
		return 0;
	r = id ? remove_root(j, path, id, err) : 0;
	if (r < 0)
		return r;
	r = fs_remove_tree(path);
	return r < 0 ? error_errno(err, r, "cannot remove %s", path) : 0;
}

/* The range of ids is to be known also when the record cannot be read: the directory has it as its group. */
static int fill(const char *dir, struct msg_instance_create *m, uint32_t uid_base, struct error *err) {
	_cleanup_(free_ptr) char *log = str_format("%s/log", dir);
	if (chown(dir, 0, uid_base) < 0 || mkdir(log, 0700) < 0)
		return error_errno(err, errno, "cannot make %s", log);
	fault_point("create.filled");
	m->instance.uid_base = uid_base;
	fields_free(&instance_status_table, &m->instance.status);
	fields_init(&instance_status_table, &m->instance.status);
	status_set_state(&m->instance.status, m->memory ? "suspended" : "created");
	_cleanup_(free_ptr) char *record = str_format("%s/record.json", dir);
	return record_write(record, m, err);
}

/* Shared: layers are being taken into use; exclusive: one is being removed. */
int layers_lock(const struct agent *a, int how, int *lock, struct error *err) {
	_cleanup_(close_fd) int fd = open(a->layers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : lock_file(fd, how, LOCK_WAIT);
	if (r < 0)
		return error_errno(err, r, "cannot lock %s", a->layers);
	*lock = TAKE_FD(fd);
	return 0;
}

int layers_present(const struct agent *a, char *const *layers, struct error *err) {
	for (size_t i = 0; layers && layers[i]; i++) {
		if (digest_check(layers[i], err) < 0) {
			error_in_field(err, "layers");
			return -ERROR_INVALID;
		}
		_cleanup_(free_ptr) char *path = layer_path(a, layers[i], "fs");
		if (!fs_exists(path)) {
			error_set(err, ERROR_NOT_FOUND, "layer %s is not unpacked on this host", layers[i]);
			error_in_field(err, "layers");
			return -ERROR_NOT_FOUND;
		}
	}
	return 0;
}

/* Told at once rather than at each start; a source that goes away later is told then. */
static int check_binds(const struct instance_spec *s, struct error *err) {
	for (size_t i = 0; i < s->mounts.n; i++) {
		const struct mount *m = &s->mounts.items[i];
		struct stat st;
		if (!str_same(m->type, "bind") || m->create || !m->source || stat(m->source, &st) == 0 ||
		    (errno != ENOENT && errno != ENOTDIR))
			continue;
		return error_field(err, "instance.spec.mounts.source", "invalid mount config for type \"bind\": bind source path "
				   "does not exist: %s", m->source);
	}
	return 0;
}

/* A clone that goes on has the disk of the very moment of its memory. */
static int make_root(const struct job *j, const struct msg_instance_create *m, const char *dir, struct error *err) {
	_cleanup_(memory_saver_free) struct memory_saver s = MEMORY_SAVER_INIT;
	_cleanup_(free_ptr) char *to = str_format("%s/resume", dir);
	int r = m->memory ? memory_take(j->agent, m, dir, &s, err) : 0;
	if (r == 0)
		r = root_create(j, m, s.lock >= 0, err);
	if (r == 0 && m->root.id && instance_is_machine(&m->instance.spec))
		r = board_clone(j->agent, m->root.id, m->root.snapshot, dir, err);
	if (r == 0)
		r = memory_cont(&s, err);
	return r == 0 && s.q ? memory_keep(&s, to, err) : r;
}

int work_create(struct job *j, struct error *err) {
	const struct agent *a = j->agent;
	struct msg_instance_create *m = j->body;
	_cleanup_(free_ptr) char *temporary = str_format("%s/.tmp-%s", a->instances, m->instance.id);
	_cleanup_(free_ptr) char *gone = str_format("%s/.del-%s", a->instances, m->instance.id);
	_cleanup_(free_ptr) char *path = instance_path(a, m->instance.id, NULL);
	_cleanup_(close_fd) int layers = -1, dir = -1;
	int r = remove_leftover(j, temporary, m->instance.id, err);
	if (r == 0) /* later it would take the new one's root along */
		r = remove_leftover(j, gone, m->instance.id, err);
	if (r == 0)
		r = layers_lock(a, LOCK_SH, &layers, err);
	if (r == 0)
		r = layers_present(a, m->layers, err);
	if (r == 0)
		r = check_binds(&m->instance.spec, err);
	if (r < 0)
		return r;
	r = dir_make_locked(temporary, &dir, err);
	fault_point("create.dir");
	if (r == 0)
		r = fill(temporary, m, j->uid_base, err);
	fault_point("create.record");
	if (r == 0)
		r = files_take(j, temporary, &m->instance.spec.files, err);
	if (r == 0)
		r = media_take(j, temporary, &m->media, m->instance.spec.files.n ? 1 : 0, err);
	if (r == 0)
		r = make_root(j, m, temporary, err);
	fault_point("create.root");
	if (r == 0 && rename(temporary, path) < 0) /* writing the record has put the directory on disk */
		r = error_errno(err, errno, "cannot make %s", path);
	if (r < 0) {
		_cleanup_(error_free) struct error why = ERROR_INIT;
		if (remove_root(j, temporary, m->instance.id, &why) == 0)
			fs_remove_tree(temporary);
		else
			log_warn("the root of instance %.12s: %s", m->instance.id, error_text(&why));
		return r;
	}
	/* its name need not be on disk: one that a power cut takes back is made again by control, and the start writes more */
	fault_point("create.renamed");
	job_report(j, "create", &m->instance.status, NULL);
	fault_point("create.reported");
	return job_answer_state(j, &m->instance, err);
}

static bool restarts_at_boot(const struct instance_spec *s) {
	return s->restart.policy && !str_same(s->restart.policy, "no");
}

int work_delete(struct job *j, struct error *err) {
	const struct agent *a = j->agent;
	const struct msg_instance_delete *m = j->body;
	_cleanup_(instance_unlock) int lock = -1;
	_cleanup_(record_free) struct msg_instance_create r = {0};
	int result = instance_lock(a, m->id, LOCK_EX, LOCK_WAIT, &lock, err);
	if (result < 0)
		return result;
	struct run_state run = {0};
	bool runs = run_load(a, m->id, &run, NULL) == 0;
	_cleanup_(close_fd) int shim = runs ? run_pidfd(&run) : -1;
	run_free(&run);
	if (shim >= 0 && !m->force)
		return error_set(err, ERROR_CONFLICT, "instance %.12s runs: stop it first, or remove it by force",
				 m->id);
	fault_point("delete.locked");
	result = record_load(a, m->id, &r, err);
	if (result < 0 && !m->force)
		return result;
	bool damaged = result < 0; /* away with it */
	if (damaged)
		r.instance.id = str_copy(m->id);
	if (m->unstarted && r.instance.status.started_at)
		return error_set(err, ERROR_CONFLICT, "instance %.12s has been started", m->id);
	r.instance.status.stopped_by_user = true;
	result = instance_reap(j, &r, true, err);
	if (result == -ERROR_NO_SPACE)
		error_free(err); /* the record goes anyway */
	else if (result < 0)
		return result;
	fault_point("delete.reaped");
	_cleanup_(free_ptr) char *path = instance_path(a, m->id, NULL);
	_cleanup_(free_ptr) char *gone = str_format("%s/.del-%s", a->instances, m->id);
	_cleanup_(free_ptr) char *run_dir = run_path(a, m->id, NULL);
	result = remove_leftover(j, gone, NULL, err);
	if (result == 0 && rename(path, gone) < 0)
		result = error_errno(err, errno, "cannot remove %s", path);
	if (result == 0) {
		/* a power cut could bring it back, and its restart policy start it before control has removed it again */
		if (damaged || restarts_at_boot(&r.instance.spec))
			fs_fsync_dir(a->instances);
		fault_point("delete.renamed");
		fs_remove_tree(run_dir);
		fault_point("delete.run");
		job_report(j, "destroy", &r.instance.status, json_pack("{sb}", "gone", 1));
		_cleanup_(error_free) struct error why = ERROR_INIT;
		int left = root_remove(j, damaged ? NULL : &r, m->id, &why);
		if (left == 0 && (left = fs_remove_tree(gone)) < 0)
			error_errno(&why, left, "%s", gone);
		if (left < 0)
			log_warn("instance %.12s could not be removed whole (%s); the next start of the agent goes on "
				 "with it", m->id, error_text(&why));
		result = job_answer(j, NULL, NULL, 0, err);
	}
	return result;
}

/* --- at the agent's start --- */

static void remove_matching(const struct job *j, const char *dir, bool (*match)(const char *name)) {
	bool instances = strcmp(dir, j->agent->instances) == 0;
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (!match(e->d_name))
			continue;
		_cleanup_(free_ptr) char *path = str_format("%s/%s", dir, e->d_name);
		_cleanup_(error_free) struct error err = ERROR_INIT;
		const char *id = instances ? e->d_name + strlen(".tmp-") : NULL;
		if (remove_leftover(j, path, id, &err) < 0)
			log_warn("left over: %s", error_text(&err));
	}
	if (d)
		closedir(d);
}

static bool is_leftover(const char *name) {
	return str_starts(name, ".tmp-") || str_starts(name, ".del-");
}

static bool is_entry(const char *name) {
	return strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Run directories of instances that are no more. */
static void remove_stale_runs(const struct agent *a) {
	DIR *d = opendir(a->shims);
	for (struct dirent *e; d && (e = readdir(d));) {
		_cleanup_(free_ptr) char *instance = instance_path(a, e->d_name, NULL);
		_cleanup_(free_ptr) char *path = run_path(a, e->d_name, NULL);
		if (is_entry(e->d_name) && !fs_exists(instance))
			fs_remove_tree(path);
	}
	if (d)
		closedir(d);
}

/* Groups of instances that are no more. */
static void remove_stale_cgroups(const struct agent *a) {
	static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"};
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		_cleanup_(free_ptr) char *base = str_format("%s/%s", roots[i], a->cgroup);
		DIR *d = opendir(base);
		for (struct dirent *e; d && (e = readdir(d));) {
			_cleanup_(free_ptr) char *instance = instance_path(a, e->d_name, NULL);
			if (is_entry(e->d_name) && e->d_type == DT_DIR && !fs_exists(instance))
				cgroup_sweep(a, e->d_name, NULL);
		}
		if (d)
			closedir(d);
	}
}

int work_cleanup(struct job *j, UNUSED struct error *err) {
	const struct agent *a = j->agent;
	remove_stale_cgroups(a);
	remove_matching(j, a->instances, is_leftover);
	remove_matching(j, a->layers, is_leftover);
	remove_matching(j, a->tmp, is_entry);
	remove_stale_runs(a);
	pools_tidy(j);
	return 0;
}
