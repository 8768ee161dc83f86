/* The memory of machines on disk: for snapshots, for machines that are suspended, for clones that go on where their original was;
 * and the start that goes on from there. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/qmp.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOAD_WAIT (120 * NS_PER_SEC)

static const struct field saved_fields[] = {
	FIELD(struct saved_memory, shape, FIELD_STRINGS, .max = 4096, .doc = "What the machine is"),
	FIELD(struct saved_memory, macs, FIELD_STRINGS, .max = 32, .doc = "Addresses of its network cards"),
	FIELD(struct saved_memory, board, FIELD_STRING, .max = 64, .doc = "The version of its board"),
	FIELD(struct saved_memory, generation, FIELD_STRING, .max = 36, .doc = "Which it takes itself for"),
	FIELD(struct saved_memory, size, FIELD_SIZE, .doc = "Of its memory"),
	FIELD(struct saved_memory, run, FIELD_INT, .doc = "Start of the run of which it is"),
	FIELD(struct saved_memory, other, FIELD_BOOL, .doc = "It is of another machine"),
};
static const struct field_table saved_table = {
	"saved_memory", "Of a machine whose memory is saved", sizeof(struct saved_memory), saved_fields, ARRAY_SIZE(saved_fields),
};

void saved_free(struct saved_memory *s) {
	fields_free(&saved_table, s);
}

int saved_load(const char *dir, struct saved_memory *out, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/machine.json", dir);
	return object_load(&saved_table, path, out, err);
}

int saved_save(const char *dir, const struct saved_memory *s, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/machine.json", dir);
	return object_save(&saved_table, path, s, err);
}

json_t *saved_print(const struct saved_memory *s) {
	return fields_print(&saved_table, s);
}

int saved_parse(const json_t *json, struct saved_memory *out, struct error *err) {
	return fields_parse(&saved_table, json, 0, out, err);
}

char *memory_path(const struct agent *a, const char *id, const char *snapshot) {
	_cleanup_(free_ptr) char *name = snapshot ? str_format("memory/%s", snapshot) : str_copy("resume");
	return instance_path(a, id, name);
}

bool memory_is_of(const struct agent *a, const char *id, int64_t run) {
	_cleanup_(free_ptr) char *dir = memory_path(a, id, NULL);
	_cleanup_(saved_free) struct saved_memory s = {0};
	return saved_load(dir, &s, NULL) == 0 && s.run == run;
}

/* --- directories --- */

int memory_drop(const struct agent *a, const char *id, const char *dir, struct error *err) {
	_cleanup_(free_ptr) char *gone = instance_path(a, id, "dropped");
	int r = fs_remove_tree(gone);
	if (r == 0 && rename(dir, gone) < 0)
		r = errno == ENOENT ? 0 : -errno;
	fault_point("memory.dropped");
	if (r == 0)
		r = fs_remove_tree(gone);
	return r < 0 ? error_errno(err, r, "cannot remove %s", dir) : 0;
}

void memory_tidy(const struct agent *a, const char *id) {
	static const char *const names[] = {"saving", "dropped"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_(free_ptr) char *path = instance_path(a, id, names[i]);
		fs_remove_tree(path);
	}
}

/* Whole and on disk under its name. */
int memory_settle(const char *dir, const char *to, struct error *err) {
	_cleanup_(free_ptr) char *parent = str_copyn(to, (size_t)(strrchr(to, '/') - to));
	int r = fs_mkdir_p(parent, 0700);
	if (r == 0)
		r = fs_remove_tree(to);
	if (r == 0)
		r = fs_fsync_dir(dir);
	if (r == 0 && rename(dir, to) < 0)
		r = -errno;
	if (r == 0)
		r = fs_fsync_dir(parent);
	return r < 0 ? error_errno(err, r, "cannot make %s", to) : 0;
}

static int share_file(const char *from, const char *to, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *a = str_format("%s/%s", from, name), *b = str_format("%s/%s", to, name);
	if (link(a, b) == 0)
		return 0;
	return errno == ENOENT ? error_set(err, ERROR_NOT_FOUND, "there is no memory of the machine: %s", a)
			       : error_errno(err, errno, "cannot make %s", b);
}

int memory_share(const char *from, const char *to, bool other, struct error *err) {
	_cleanup_(saved_free) struct saved_memory s = {0};
	_cleanup_(free_ptr) char *making = str_format("%.*s/saving", (int)(strrchr(to, '/') - to), to);
	int r = saved_load(from, &s, err);
	if (r < 0)
		return r;
	s.run = 0;
	s.other |= other;
	r = fs_remove_tree(making);
	if (r == 0 && mkdir(making, 0700) < 0)
		r = -errno;
	if (r < 0)
		return error_errno(err, r, "cannot make %s", making);
	r = share_file(from, making, "memory", err);
	if (r == 0)
		r = share_file(from, making, "state", err);
	if (r == 0)
		r = saved_save(making, &s, err);
	return r < 0 ? r : memory_settle(making, to, err);
}

/* --- a start that goes on --- */

bool shapes_differ(char *const *was, char *const *is, const char **a, const char **b) {
	size_t n = strv_len(was), m = strv_len(is);
	for (size_t i = 0; i < MAX(n, m); i++) {
		*a = i < n ? was[i] : "nothing";
		*b = i < m ? is[i] : "nothing";
		if (strcmp(*a, *b) != 0)
			return true;
	}
	return false;
}

static int compare_shapes(const char *id, char *const *was, char *const *is, struct error *err) {
	const char *a, *b;
	if (!shapes_differ(was, is, &a, &b))
		return 0;
	return error_set(err, ERROR_CONFLICT, "machine %.12s is not what it was when its memory was saved (%s now, %s then): "
			 "change it back, or give the memory up with \"wabe stop\"", id, b, a);
}

static int open_as(const char *dir, const char *name, int flags, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/%s", dir, name);
	int fd = open(path, flags | O_CLOEXEC, 0600);
	return fd < 0 ? error_errno(err, errno, "cannot open %s", path) : fd;
}

/* A file that is this machine's alone, which QEMU may write to: what a snapshot or another machine has besides is copied. */
static int own_memory(const struct msg_instance_create *r, const char *dir, struct error *err) {
	_cleanup_(close_fd) int fd = open_as(dir, "memory", O_RDWR, err);
	struct stat st;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "cannot look at the memory of machine %.12s", r->instance.id);
	_cleanup_(close_fd) int own = st.st_nlink > 1 ? open_as(dir, ".", O_RDWR | O_TMPFILE, err) : TAKE_FD(fd);
	if (own < 0)
		return own;
	int result = st.st_nlink > 1 ? fs_clone(fd, own) : 0;
	uid_t owner = (uid_t)r->instance.uid_base;
	if (result == 0 && (fchown(own, owner, owner) < 0 || fchmod(own, 0600) < 0))
		result = -errno;
	return result < 0 ? error_errno(err, result, "cannot copy the memory of machine %.12s", r->instance.id) : TAKE_FD(own);
}

static int open_saved(const struct agent *a, const struct msg_instance_create *r, const char *dir, struct machine_start *m, char *const *shape,
		      struct error *err) {
	_cleanup_(saved_free) struct saved_memory s = {0};
	int result = saved_load(dir, &s, err);
	if (result == 0)
		result = compare_shapes(r->instance.id, s.shape, shape, err);
	if (result < 0)
		return result;
	m->config.memory_fd = own_memory(r, dir, err);
	m->state_fd = m->config.memory_fd < 0 ? -1 : open_as(dir, "state", O_RDONLY, err);
	if (m->state_fd < 0)
		return -(int)err->kind;
	m->config.incoming = true;
	m->config.board = machine_keep(m, TAKE_PTR(s.board));
	return s.other ? identity_wanted(a, r->instance.id, s.macs, err) : 0;
}

/* Of the instance, since the last time that it went back to a snapshot. */
static void read_generation(const struct agent *a, const char *id, struct machine_start *m) {
	_cleanup_(free_ptr) char *path = instance_path(a, id, GENERATION_FILE);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, 64, &text) == 0 && text.len == 36)
		m->config.generation = machine_keep(m, str_copy(buf_str(&text)));
}

int memory_prepare(const struct job *j, const struct msg_instance_create *r, struct machine_start *m, struct error *err) {
	const struct agent *a = j->agent;
	_cleanup_(free_ptr) char *dir = memory_path(a, j->id, NULL), *run = run_path(a, j->id, NULL);
	struct saved_memory now = {.size = machine_ram(&m->config)};
	bool goes_on = str_same(r->instance.status.state, "suspended");
	for (size_t i = 0; i < m->config.n_nics; i++)
		strv_add(&now.macs, m->config.nics[i].mac);
	int result = machine_shape(&m->config, &now.shape, err);
	if (result == 0 && m->receiver)
		result = receive_prepare(a, m->receiver, now.shape, m, err);
	else
		read_generation(a, j->id, m);
	now.generation = m->config.generation ? str_copy(m->config.generation) : NULL;
	if (result == 0)
		result = saved_save(run, &now, err);
	memory_tidy(a, j->id);
	if (!goes_on)
		identity_drop(a, j->id);
	if (result == 0 && goes_on)
		result = open_saved(a, r, dir, m, now.shape, err);
	else if (result == 0)
		result = memory_drop(a, j->id, dir, err); /* of a time that is past */
	m->other = goes_on && identity_is_wanted(a, j->id);
	saved_free(&now);
	return result;
}

int memory_events(struct qmp *q, int64_t deadline, struct error *err) {
	json_t *events = json_pack("{s:[{ss,sb}]}", "capabilities", "capability", "events", "state", 1);
	return qmp_call(q, "migrate-set-capabilities", events, -1, deadline, NULL, err);
}

static bool is_over(const char *status) {
	return str_same(status, "completed") || str_same(status, "failed") || str_same(status, "cancelled");
}

int memory_await(struct qmp *q, int64_t deadline, bool *completed, struct error *err) {
	for (;;) {
		_cleanup_(json_free_ptr) json_t *data = NULL;
		int r = qmp_event(q, "MIGRATION", deadline, NULL, &data, err);
		const char *status = r == 0 ? json_get_str(data, "status") : NULL;
		*completed = str_same(status, "completed");
		if (r < 0 || is_over(status))
			return r;
	}
}

/* The cards of a machine that does not know yet who it is are unplugged. */
static int unplug(struct qmp *q, const struct machine_start *m, int64_t deadline, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && m->other && i < m->config.n_nics; i++)
		r = qmp_call(q, "set_link", json_pack("{ss,sb}", "name", m->config.nics[i].id, "up", 0), -1, deadline, NULL, err);
	return r;
}

int memory_load(const struct agent *a, const char *id, const struct machine_start *m, struct error *err) {
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	int64_t deadline = time_mono_ns() + LOAD_WAIT;
	bool completed = false;
	int r = machine_monitor(a, id, time_mono_ns() + LOAD_WAIT, &q, err);
	if (r == 0)
		r = memory_events(q, deadline, err);
	if (r == 0)
		r = qmp_give(q, "state", m->state_fd, deadline, err);
	if (r == 0)
		r = qmp_call(q, "migrate-incoming", json_pack("{ss}", "uri", "fd:state"), -1, deadline, NULL, err);
	if (r == 0)
		r = memory_await(q, deadline, &completed, err);
	if (r == 0 && !completed)
		r = error_set(err, ERROR_CORRUPT, "QEMU does not take the memory that was saved of machine %.12s", id);
	if (r == 0)
		r = unplug(q, m, deadline, err);
	fault_point("memory.loaded");
	return r;
}

int memory_go(const struct agent *a, const char *id, struct error *err) {
	_cleanup_(free_ptr) char *dir = memory_path(a, id, NULL);
	_cleanup_(qmp_free_ptr) struct qmp *q = NULL;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	int r = machine_monitor(a, id, time_mono_ns() + LOAD_WAIT, &q, err);
	if (r == 0)
		r = qmp_call(q, "cont", NULL, -1, time_mono_ns() + LOAD_WAIT, NULL, err);
	fault_point("memory.gone");
	if (r == 0 && memory_drop(a, id, dir, &why) < 0) /* it is of no use any more: the instance is not suspended */
		log_warn("machine %.12s: %s", id, error_text(&why));
	return r;
}
