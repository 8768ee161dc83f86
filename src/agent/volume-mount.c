/* The volumes of an instance that starts: noted in the run's state first, then opened, then mounted like any bind. A
 * block volume appears as a device node. When the run ends, what nobody else uses is closed. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const struct volume_use *use_named(const struct instance *i, const char *name) {
	for (size_t n = 0; name && n < i->volumes.n; n++)
		if (str_same(i->volumes.items[n].name, name))
			return &i->volumes.items[n];
	return NULL;
}

void run_add_volume(struct run_state *run, const struct run_volume *v) {
	run->volumes.items = alloc_resize(run->volumes.items, run->volumes.n + 1, sizeof *run->volumes.items);
	run->volumes.items[run->volumes.n++] = (struct run_volume){
		.pool_id = str_copy(v->pool_id),
		.id = str_copy(v->id),
		.target = str_copy(v->target),
		.block = v->block,
		.changing = v->changing,
	};
}

int volumes_plan(const struct agent *a, const struct msg_instance_create *r, struct run_state *run, struct error *err) {
	const struct instance *i = &r->instance;
	for (size_t n = 0; n < i->spec.mounts.n; n++) {
		const struct mount *m = &i->spec.mounts.items[n];
		if (!str_same(m->type, "volume"))
			continue;
		const struct volume_use *u = use_named(i, m->source);
		if (!u || !u->pool_id || !u->volume_id)
			return error_field(err, "spec.mounts.source", "the volume %s of the mount on %s is not known to the "
					   "agent", m->source ? m->source : "(none)", m->target);
		struct run_volume v = {.pool_id = (char *)volume_pool_now(a, u->pool_id, u->volume_id), .id = u->volume_id, .target = m->target,
				       .block = str_same(u->kind, "block")};
		run_add_volume(run, &v);
	}
	return 0;
}

/* --- opening --- */

char *volume_node(const struct agent *a, const char *instance, const char *volume) {
	_cleanup_(free_ptr) char *name = str_format("block-%s", volume);
	return instance_path(a, instance, name);
}

struct cgroup_device_rule volume_device_rule(dev_t dev, bool read_only) {
	struct cgroup_device_rule rule = {.allow = true, .type = 'b', .major = major(dev), .minor = minor(dev)};
	snprintf(rule.access, sizeof rule.access, "%s", read_only ? "rm" : "rwm");
	return rule;
}

/* As the instance's root has it: nobody else finds it, and it goes with the instance. */
static int make_node(const struct agent *a, const struct instance *i, const char *device, struct volume_mount *v,
		     struct error *err) {
	struct stat st;
	if (stat(device, &st) < 0 || !S_ISBLK(st.st_mode))
		return error_set(err, ERROR_INTERNAL, "%s is no block device", device);
	v->node = volume_node(a, i->id, v->id);
	v->dev = st.st_rdev;
	unlink(v->node);
	uid_t owner = (uid_t)i->uid_base;
	if (mknod(v->node, S_IFBLK | 0660, st.st_rdev) < 0 || chmod(v->node, 0660) < 0 || chown(v->node, owner, owner) < 0)
		return error_errno(err, errno, "cannot make the device node %s", v->node);
	return 0;
}

static bool is_empty(const char *dir) {
	DIR *d = opendir(dir);
	bool empty = d != NULL;
	for (struct dirent *e; d && empty && (e = readdir(d));)
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strcmp(e->d_name, "lost+found") == 0;
	if (d)
		closedir(d);
	return empty;
}

static char *fill_mark(const struct volume_mount *v) {
	return str_format("%s/open/%s.fill", v->pool->dir, v->id);
}

static int empty_dir(const char *path) {
	DIR *d = opendir(path);
	int r = d ? 0 : -errno;
	for (struct dirent *e; r == 0 && d && (e = readdir(d));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && strcmp(e->d_name, "lost+found") != 0)
			r = fs_remove_tree_at(dirfd(d), e->d_name);
	if (d)
		closedir(d);
	return r;
}

/* Whether the image's content is to go in. Whoever fills it has its fill lock until the container is made; what one
 * that was killed has left is removed first. */
static int plan_fill(struct volume_mount *v, struct error *err) {
	const struct mount *m = v->mount;
	if ((m->subpath && *m->subpath) || strv_has(m->options, "nocopy"))
		return 0;
	_cleanup_(free_ptr) char *name = str_format("%s.fill", v->id);
	_cleanup_(free_ptr) char *mark = fill_mark(v);
	if (!fs_exists(mark) && !is_empty(v->handle.path))
		return 0;
	int r = volume_lock(v->pool, name, LOCK_EX, &v->fill_lock, err);
	if (r < 0)
		return r;
	if (fs_exists(mark) && (r = empty_dir(v->handle.path)) < 0)
		return error_errno(err, r, "cannot empty %s", v->handle.path);
	v->fill = is_empty(v->handle.path);
	if (!v->fill)
		return 0;
	_cleanup_(close_fd) int fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	return fd < 0 ? error_errno(err, errno, "cannot make %s", mark) : 0;
}

void volumes_filled(const struct volume_mounts *all) {
	for (size_t i = 0; i < all->n; i++) {
		_cleanup_(free_ptr) char *mark = all->items[i].fill ? fill_mark(&all->items[i]) : NULL;
		if (mark)
			unlink(mark);
	}
}

int volume_mount_open(const struct job *j, const struct instance *i, struct volume_mount *v, struct error *err) {
	_cleanup_(volume_unlock) int lock = -1;
	_cleanup_(free_ptr) char *device = NULL;
	struct volume have;
	int r = pool_ready(j, v->pool_id, &v->pool, err);
	if (r == 0)
		r = volume_hold(v->pool, v->id, LOCK_SH, &lock, &have, err);
	if (r < 0)
		return r;
	bool block = volume_is_block(&have);
	fields_free(&volume_table, &have);
	if (block != v->block)
		return error_set(err, ERROR_CONFLICT, "it is %sa block volume", block ? "" : "not ");
	if (block)
		r = volume_open_device(v->pool, v->id, &device, err);
	else
		r = volume_open(v->pool, v->id, false, NULL, &v->handle, err);
	if (r < 0)
		return pool_failed(j, v->pool, r, err);
	return block ? make_node(j->agent, i, device, v, err) : 0;
}

int volume_mount_stat(const struct volume_mount *v, const char *subpath, struct stat *out) {
	_cleanup_(close_fd) int base = open(v->handle.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *below = subpath ? subpath + strspn(subpath, "/") : "";
	_cleanup_(close_fd) int fd = base < 0 ? -errno : fs_open_within(base, *below ? below : ".", O_PATH);
	return fd < 0 ? fd : fstat(fd, out) < 0 ? -errno : 0;
}

unsigned long volume_node_flags(bool read_only) {
	return MS_BIND | MS_NOSUID | MS_NOEXEC | (read_only ? MS_RDONLY : 0);
}

/* Device nodes that a privileged instance has put on it are of no use to others. */
unsigned long volume_mount_flags(const struct instance *i, bool read_only) {
	return MS_BIND | (i->uid_base ? MS_NODEV : 0) | (read_only ? MS_RDONLY : 0);
}

/* Where each is mounted from, for a detach. */
static void note_sources(const struct volume_mounts *all, struct run_state *run) {
	for (size_t n = 0; n < all->n && n < run->volumes.n; n++) {
		const struct volume_mount *v = &all->items[n];
		struct stat st;
		if (v->block ? stat(v->node, &st) < 0 : volume_mount_stat(v, v->mount->subpath, &st) < 0)
			continue;
		run->volumes.items[n].dev = st.st_dev;
		run->volumes.items[n].ino = st.st_ino;
	}
}

int volumes_open(const struct job *j, const struct msg_instance_create *r, struct run_state *run,
		 struct volume_mounts *out, struct error *err) {
	const struct instance *i = &r->instance;
	int result = 0;
	out->items = alloc_array(i->spec.mounts.n + 1, sizeof *out->items);
	for (size_t n = 0; result == 0 && n < i->spec.mounts.n; n++) {
		const struct mount *m = &i->spec.mounts.items[n];
		const struct volume_use *u = str_same(m->type, "volume") ? use_named(i, m->source) : NULL;
		if (!u)
			continue;
		struct volume_mount *v = &out->items[out->n++];
		*v = (struct volume_mount){.pool_id = volume_pool_now(j->agent, u->pool_id, u->volume_id), .id = u->volume_id,
					   .block = str_same(u->kind, "block"), .mount = m, .fill_lock = -1};
		result = volume_mount_open(j, i, v, err);
		if (result == 0 && v->block && !m->read_only)
			result = checkpoints_written(j->agent, v->id, i->id, instance_is_machine(&i->spec), err);
		if (result == 0 && !v->block)
			result = plan_fill(v, err);
		if (result < 0)
			error_wrap(err, "volume %s", m->source);
	}
	if (result == 0)
		note_sources(out, run);
	fault_point("start.volumes");
	return result;
}

void volume_mount_free(struct volume_mount *v) {
	storage_handle_free(&v->handle);
	volume_unlock(&v->fill_lock);
	free(v->node);
}

void volumes_free(struct volume_mounts *v) {
	for (size_t i = 0; i < v->n; i++)
		volume_mount_free(&v->items[i]);
	free(v->items);
	*v = (struct volume_mounts){0};
}

/* --- closing --- */

void volumes_release(const struct job *j, const struct run_state *run) {
	for (size_t i = 0; i < run->volumes.n; i++) {
		const struct run_volume *v = &run->volumes.items[i];
		const struct pool_entry *e = pool_get(j->agent, v->pool_id);
		if (e && !e->creating)
			volume_close_unused(j->agent, e, v->id, v->block, NULL, j->id);
	}
}
