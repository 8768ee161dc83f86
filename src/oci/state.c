/* The containers that `wabe oci` knows: ROOT/ID/state.json, replaced as a whole. */
#include "base/fs.h"
#include "base/time.h"
#include "oci/oci-priv.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_MAX ((size_t)16 << 20)
#define ID_MAX 1024

int id_check(const char *id, struct error *err) {
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+_.-";
	if (!id || !*id || strlen(id) > ID_MAX || id[strspn(id, allowed)] || str_same(id, ".") || str_same(id, ".."))
		return error_field(err, "id", "a container id has letters, digits and + _ . - alone");
	return 0;
}

static char *directory(const struct oci *o, const char *id) {
	return str_format("%s/%s", o->root, id);
}

int record_make(struct oci *o, const char *id, struct record *r, struct error *err) {
	*r = (struct record){.lock = -1, .state = {.start_fd = -1, .result_fd = -1, .sync_fd = -1, .pidfd = -1}};
	int e = id_check(id, err);
	if (e < 0)
		return e;
	_cleanup_(free_ptr) char *dir = directory(o, id);
	if (mkdir(dir, 0700) < 0 && errno == ENOENT) {
		fs_mkdir_p(o->root, 0700);
		errno = mkdir(dir, 0700) < 0 ? errno : 0;
		if (errno)
			return error_errno(err, errno, "cannot make %s", dir);
	} else if (errno == EEXIST && fs_exists(dir)) {
		_cleanup_(free_ptr) char *file = str_format("%s/state.json", dir);
		_cleanup_(close_fd) int lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		/* what a create left that was killed before its end has no state, and nobody holds it */
		if (fs_exists(file) || lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0)
			return error_set(err, ERROR_EXISTS, "a container with the id %s exists already", id);
		r->lock = TAKE_FD(lock);
		return 0;
	}
	r->lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->lock < 0 || flock(r->lock, LOCK_EX) < 0)
		return error_errno(err, errno, "cannot lock %s", dir);
	return 0;
}

int record_load(struct oci *o, const char *id, struct record *r, struct error *err) {
	*r = (struct record){.lock = -1, .state = {.start_fd = -1, .result_fd = -1, .sync_fd = -1, .pidfd = -1}};
	int e = id_check(id, err);
	if (e < 0)
		return e;
	_cleanup_(free_ptr) char *dir = directory(o, id), *file = str_format("%s/state.json", dir);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	e = fs_read(file, STATE_MAX, &text);
	if (e < 0)
		return e == -ENOENT ? error_set(err, ERROR_NOT_FOUND, "container %s does not exist", id)
				    : error_errno(err, e, "cannot read %s", file);
	_cleanup_(json_free_ptr) json_t *j = json_parse(buf_str(&text), text.len, err);
	e = j ? container_state_parse(json_object_get(j, "container"), &r->state, err) : -1;
	if (e < 0)
		return error_wrap(err, "%s", file);
	const char *bundle = json_get_str(j, "bundle"), *status = json_get_str(j, "status");
	r->bundle = str_copy(bundle ? bundle : "");
	r->status = str_copy(status ? status : "");
	r->created = json_get_int(j, "created");
	return 0;
}

/* Not durable on purpose: it tells of processes, which end with the host as well. */
static int replace(const char *dir, const char *text) {
	_cleanup_(free_ptr) char *file = str_format("%s/state.json", dir), *temporary = str_format("%s/state.%d", dir, getpid());
	_cleanup_(close_fd) int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int r = fs_write_all(fd, text, strlen(text));
	if (r == 0 && rename(temporary, file) < 0)
		r = -errno;
	if (r < 0)
		unlink(temporary);
	return r;
}

int record_save(struct oci *o, struct record *r, struct error *err) {
	_cleanup_(json_free_ptr) json_t *j = json_object();
	json_set_str(j, "bundle", r->bundle);
	json_set_str(j, "status", r->status);
	json_set_int(j, "created", r->created);
	json_object_set_new(j, "container", container_state_print(&r->state));
	_cleanup_(free_ptr) char *text = json_print(j), *dir = directory(o, r->state.id);
	int e = replace(dir, text);
	return e < 0 ? error_errno(err, e, "cannot write the state of the container in %s", dir) : 0;
}

int record_remove(struct oci *o, const char *id, struct error *err) {
	_cleanup_(free_ptr) char *dir = directory(o, id);
	_cleanup_(free_ptr) char *file = str_format("%s/state.json", dir);
	/* mostly that is all there is */
	if (unlink(file) == 0 && rmdir(dir) == 0)
		return 0;
	int r = fs_remove_tree(dir);
	return r < 0 ? error_errno(err, r, "cannot remove %s", dir) : 0;
}

void record_free(struct record *r) {
	container_state_free(&r->state);
	free(r->bundle);
	free(r->status);
	close_fd(&r->lock);
	*r = (struct record){.lock = -1};
}

const char *record_status(const struct record *r) {
	if (!container_state_alive(&r->state))
		return "stopped";
	if (r->state.cgroup.path && cgroup_is_frozen(&r->state.cgroup))
		return "paused";
	return str_same(r->status, "created") ? "created" : "running";
}
