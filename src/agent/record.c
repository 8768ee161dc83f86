/* What the agent keeps on disk: a record and a lock for each instance, and a state file for each run.
 * Every write replaces a whole file; nothing here decides anything. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define RECORD_MAX ((size_t)8 << 20)

static char *join3(const char *base, const char *id, const char *name) {
	return name ? str_format("%s/%s/%s", base, id, name) : str_format("%s/%s", base, id);
}

char *instance_path(const struct agent *a, const char *id, const char *name) {
	return join3(a->instances, id, name);
}

char *run_path(const struct agent *a, const char *id, const char *name) {
	return join3(a->shims, id, name);
}

char *exec_path(const struct agent *a, const char *id, const char *exec_id, const char *name) {
	_cleanup_(free_ptr) char *base = str_format("%s/%s/exec", a->shims, id);
	return join3(base, exec_id, name);
}

char *layer_path(const struct agent *a, const char *diff_id, const char *name) {
	const char *colon = strchr(diff_id, ':');
	return join3(a->layers, colon ? colon + 1 : diff_id, name);
}

static json_t *read_json(const char *path, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int r = fs_read(path, RECORD_MAX, &text);
	if (r < 0) {
		error_errno(err, r, "cannot read %s", path);
		return NULL;
	}
	json_t *json = json_parse(buf_str(&text), text.len, err);
	if (!json)
		error_wrap(err, "%s", path);
	return json;
}

static int write_json(const char *path, const json_t *json, struct error *err) {
	_cleanup_(free_ptr) char *text = json_print(json);
	int r = fs_replace(path, text, strlen(text), 0600);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

int object_load(const struct field_table *t, const char *path, void *out, struct error *err) {
	_cleanup_(json_free_ptr) json_t *json = read_json(path, err);
	if (!json)
		return -(int)(err ? err->kind : ERROR_INTERNAL);
	return fields_parse(t, json, FIELDS_TRUSTED, out, err);
}

int object_save(const struct field_table *t, const char *path, const void *object, struct error *err) {
	_cleanup_(json_free_ptr) json_t *json = fields_print(t, object);
	return write_json(path, json, err);
}

int record_load(const struct agent *a, const char *id, struct msg_instance_create *out, struct error *err) {
	_cleanup_(free_ptr) char *path = instance_path(a, id, "record.json");
	return object_load(&msg_instance_create_table, path, out, err);
}

int file_replace(const char *path, const char *text, size_t n, mode_t mode) {
	_cleanup_(free_ptr) char *temporary = str_format("%s.new", path);
	unlink(temporary);
	_cleanup_(close_fd) int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	int r = fs_write_all(fd, text, n);
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	return r;
}

int record_write(const char *path, const struct msg_instance_create *r, struct error *err) {
	return object_save(&msg_instance_create_table, path, r, err);
}

int record_save(const struct agent *a, const struct msg_instance_create *r, struct error *err) {
	_cleanup_(free_ptr) char *path = instance_path(a, r->instance.id, "record.json");
	return record_write(path, r, err);
}

int record_save_end(const struct agent *a, const struct msg_instance_create *r, struct error *err) {
	if (!r->instance.spec.auto_remove)
		return record_save(a, r, err);
	_cleanup_(free_ptr) char *path = instance_path(a, r->instance.id, "record.json");
	_cleanup_(json_free_ptr) json_t *json = fields_print(&msg_instance_create_table, r);
	_cleanup_(free_ptr) char *text = json_print(json);
	int result = file_replace(path, text, strlen(text), 0600);
	return result < 0 ? error_errno(err, result, "cannot write %s", path) : 0;
}

void record_free(struct msg_instance_create *r) {
	fields_free(&msg_instance_create_table, r);
}

void status_set_state(struct instance_status *s, const char *state) {
	free(s->state);
	s->state = str_copy(state);
}

void status_set_error(struct instance_status *s, const char *text) {
	free(s->error);
	s->error = text ? str_copy(text) : NULL;
}

/* --- locks --- */

static void on_alarm(UNUSED int signo) {
}

int lock_file(int fd, int how, int64_t deadline) {
	if (flock(fd, how | LOCK_NB) == 0)
		return 0;
	/* A repeated alarm interrupts flock: one that came before the call would be lost. */
	struct sigaction act = {.sa_handler = on_alarm}, old;
	struct itimerval timer = {.it_interval = {0, 100000}, .it_value = {0, 100000}}, off = {0};
	int64_t until = time_mono_ns() + deadline;
	sigaction(SIGALRM, &act, &old);
	setitimer(ITIMER_REAL, &timer, NULL);
	int r;
	do
		r = flock(fd, how) < 0 ? -errno : 0;
	while (r == -EINTR && time_mono_ns() < until);
	setitimer(ITIMER_REAL, &off, NULL);
	sigaction(SIGALRM, &old, NULL);
	return r == -EINTR ? -EBUSY : r;
}

bool lock_is_of(int fd, const char *path) {
	struct stat held, named;
	return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino &&
	       held.st_dev == named.st_dev;
}

int dir_make_locked(const char *path, int *lock, struct error *err) {
	for (;;) {
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return error_errno(err, errno, "cannot make %s", path);
		_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0 || RETRY_EINTR(flock(fd, LOCK_EX)) < 0)
			return error_errno(err, errno, "cannot lock %s", path);
		if (lock_is_of(fd, path)) {
			*lock = TAKE_FD(fd);
			return 0;
		}
	}
}

int place_open(const struct agent *a, const char *what, struct place *p, struct error *err) {
	_cleanup_(free_ptr) char *salt = random_hex(8);
	p->path = str_format("%s/%s-%s", a->tmp, what, salt);
	int r = dir_make_locked(p->path, &p->lock, err);
	if (r == 0 && (p->dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		r = error_errno(err, errno, "cannot open %s", p->path);
	return r;
}

void place_close(struct place *p) {
	close_fd(&p->dir);
	if (p->lock >= 0 && fs_remove_tree(p->path) < 0)
		log_warn("%s could not be removed; the next start of the agent tries again", p->path);
	close_fd(&p->lock);
	free(p->path);
}

int instance_lock(const struct agent *a, const char *id, int how, int64_t deadline, int *lock, struct error *err) {
	_cleanup_(free_ptr) char *path = instance_path(a, id, NULL);
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? error_set(err, ERROR_NOT_FOUND, "the agent has no instance %s", id)
				       : error_errno(err, errno, "cannot open %s", path);
	int r = lock_file(fd, how, deadline);
	if (r == -EBUSY)
		return error_set(err, ERROR_BUSY,
				 "another operation on instance %s goes on; try again when it is done", id);
	if (r < 0)
		return error_errno(err, r, "cannot lock %s", path);
	if (!lock_is_of(fd, path))
		return error_set(err, ERROR_NOT_FOUND, "instance %s has been removed", id);
	*lock = TAKE_FD(fd);
	return 0;
}

void instance_unlock(int *lock) {
	if (*lock >= 0)
		flock(*lock, LOCK_UN); /* children may hold copies */
	close_fd(lock);
}

/* --- processes --- */

uint64_t pid_start_time(pid_t pid) {
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/stat", pid);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, 4096, &text) < 0)
		return 0;
	const char *p = strrchr(buf_str(&text), ')'); /* the name before may hold anything */
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p + 1, NULL, 10) : 0;
}

int pid_open(pid_t pid, uint64_t start) {
	if (pid <= 0)
		return -1;
	_cleanup_(close_fd) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd ended = {fd, POLLIN, 0}; /* a zombie is there, but has ended */
	if (fd < 0 || !start || pid_start_time(pid) != start || poll(&ended, 1, 0) != 0)
		return -1;
	return TAKE_FD(fd);
}

/* --- runs --- */

void run_move_free(struct run_move *m) {
	free(m->id);
	free(m->from);
	free(m->to);
	free(m->place);
	*m = (struct run_move){0};
}

static void parse_move(const json_t *json, struct run_move *out) {
	const char *id = json_get_str(json, "id"), *from = json_get_str(json, "from"), *to = json_get_str(json, "to"),
		   *place = json_get_str(json, "place");
	if (id && from && to)
		*out = (struct run_move){str_copy(id), str_copy(from), str_copy(to), place ? str_copy(place) : NULL};
}

static json_t *print_move(const struct run_move *m) {
	return json_pack("{s:s,s:s,s:s,s:s*}", "id", m->id, "from", m->from, "to", m->to, "place", m->place);
}

void run_free(struct run_state *s) {
	if (s->created) /* else it holds no descriptors, not even -1 */
		container_state_free(&s->container);
	for (size_t i = 0; i < s->volumes.n; i++) {
		free(s->volumes.items[i].pool_id);
		free(s->volumes.items[i].id);
		free(s->volumes.items[i].target);
	}
	free(s->volumes.items);
	run_move_free(&s->move);
	*s = (struct run_state){0};
}

static void parse_volumes(const json_t *list, struct run_state *out) {
	size_t at;
	json_t *one;
	out->volumes.items = alloc_array(json_array_size(list) + 1, sizeof *out->volumes.items);
	json_array_foreach((json_t *)list, at, one) {
		const char *pool = json_get_str(one, "pool"), *id = json_get_str(one, "id"),
			   *target = json_get_str(one, "target");
		if (!pool || !id || !target)
			continue;
		out->volumes.items[out->volumes.n++] = (struct run_volume){
			.pool_id = str_copy(pool),
			.id = str_copy(id),
			.target = str_copy(target),
			.block = json_get_bool(one, "block"),
			.dev = (dev_t)json_get_int(one, "dev"),
			.ino = (ino_t)json_get_int(one, "ino"),
			.changing = json_get_bool(one, "changing"),
		};
	}
}

static json_t *print_volumes(const struct run_state *s) {
	json_t *all = json_array();
	for (size_t i = 0; i < s->volumes.n; i++) {
		const struct run_volume *v = &s->volumes.items[i];
		json_t *one = json_object();
		json_set_str(one, "pool", v->pool_id);
		json_set_str(one, "id", v->id);
		json_set_str(one, "target", v->target);
		json_set_bool(one, "block", v->block);
		json_set_int(one, "dev", (int64_t)v->dev);
		json_set_int(one, "ino", (int64_t)v->ino);
		json_set_bool(one, "changing", v->changing);
		json_array_append_new(all, one);
	}
	return all;
}

int run_load(const struct agent *a, const char *id, struct run_state *out, struct error *err) {
	*out = (struct run_state){0};
	_cleanup_(free_ptr) char *path = run_path(a, id, "state.json");
	_cleanup_(json_free_ptr) json_t *json = read_json(path, err);
	if (!json)
		return -(int)(err ? err->kind : ERROR_INTERNAL);
	out->shim = (pid_t)json_get_int(json, "shim");
	out->shim_start = (uint64_t)json_get_int(json, "shim_start");
	out->started_at = json_get_int(json, "started_at");
	if (json_object_get(json, "volumes"))
		parse_volumes(json_object_get(json, "volumes"), out);
	parse_move(json_object_get(json, "move"), &out->move);
	json_t *container = json_object_get(json, "container");
	if (!container)
		return 0;
	int r = container_state_parse(container, &out->container, err);
	out->created = r == 0;
	return r;
}

int run_save(const struct agent *a, const char *id, const struct run_state *s, struct error *err) {
	_cleanup_(free_ptr) char *path = run_path(a, id, "state.json");
	_cleanup_(json_free_ptr) json_t *json = json_object();
	json_set_int(json, "shim", s->shim);
	json_set_int(json, "shim_start", (int64_t)s->shim_start);
	json_set_int(json, "started_at", s->started_at);
	if (s->volumes.n)
		json_object_set_new(json, "volumes", print_volumes(s));
	if (s->move.id)
		json_object_set_new(json, "move", print_move(&s->move));
	if (s->created)
		json_object_set_new(json, "container", container_state_print(&s->container));
	_cleanup_(free_ptr) char *text = json_print(json);
	int r = file_replace(path, text, strlen(text), 0600);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

int run_pidfd(const struct run_state *s) {
	return pid_open(s->shim, s->shim_start);
}

bool exit_file_read(const char *file, int64_t *code, int64_t *when) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	long long status, signo, time;
	if (fs_read(file, 4096, &text) < 0 || sscanf(buf_str(&text), "%lld %lld %lld", &status, &signo, &time) != 3 ||
	    status < 0 || status > 255)
		return false;
	*code = status;
	*when = time;
	return true;
}
