/* Files that control hands over with an instance: secrets and configs. They lie in its directory, root's alone, so that it can be
 * started again without control, and inside in memory. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FILES_MAX ((int64_t)256 << 20)

static int64_t size_of(const instance_files *files) {
	int64_t size = 0;
	for (size_t i = 0; i < files->n && size <= FILES_MAX; i++)
		size += files->items[i].size;
	return size;
}

int files_take(const struct job *j, const char *dir, const instance_files *files, struct error *err) {
	int64_t size = size_of(files);
	struct stat st;
	if (!files->n)
		return 0;
	if (j->nfds < 1 || size > FILES_MAX || fstat(j->fds[0], &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != size)
		return error_field(err, "instance.spec.files", "what is in them has not come along");
	_cleanup_(free_ptr) char *path = str_format("%s/files", dir);
	_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	off_t at = 0;
	while (fd >= 0 && at < st.st_size) {
		ssize_t n = sendfile(fd, j->fds[0], &at, (size_t)(st.st_size - at));
		if (n < 0)
			return error_errno(err, errno, "cannot write %s", path);
		if (n == 0)
			return error_field(err, "instance.spec.files", "what is in them has become shorter");
	}
	return fd < 0 || fsync(fd) < 0 ? error_errno(err, errno, "cannot write %s", path) : 0;
}

static char *target_of(const struct instance_file *f) {
	if (f->target)
		return str_copy(f->target);
	return str_format("%s/%s", str_same(f->kind, "secret") ? "/run/secrets" : "", f->source);
}

static void add(const struct instance_file *f, const char *data, struct container_config *c) {
	struct container_file *to = &c->files[c->n_files++];
	uint64_t mode = 0444;
	if (f->mode)
		str_to_u64(f->mode, 8, &mode);
	*to = (struct container_file){target_of(f), alloc_zero((size_t)f->size + 1), (size_t)f->size, (uint32_t)f->uid,
				      (uint32_t)f->gid, (mode_t)mode, str_same(f->kind, "socket"), -1};
	memcpy(to->data, data, to->size);
}

int files_load(const struct agent *a, const struct msg_instance_create *r, struct container_config *c, struct error *err) {
	const instance_files *files = &r->instance.spec.files;
	if (!files->n)
		return 0;
	_cleanup_(free_ptr) char *path = instance_path(a, r->instance.id, "files");
	_cleanup_(buf_free) struct buf all = BUF_INIT;
	int result = fs_read(path, FILES_MAX, &all);
	if (result < 0)
		return error_errno(err, result, "cannot read the secrets and configs in %s", path);
	if ((int64_t)all.len != size_of(files))
		return error_set(err, ERROR_CORRUPT, "%s is damaged", path);
	c->files = alloc_array(files->n, sizeof *c->files);
	int64_t at = 0;
	for (size_t i = 0; i < files->n; at += files->items[i++].size)
		add(&files->items[i], buf_str(&all) + at, c);
	return 0;
}

static bool is_unnamed(int fd) {
	struct sockaddr_un at;
	socklen_t n = sizeof at;
	return getsockname(fd, (struct sockaddr *)&at, &n) == 0 && at.sun_family == AF_UNIX && n == offsetof(struct sockaddr_un, sun_path);
}

int files_lend(const struct job *j, struct container_config *c, struct error *err) {
	size_t n = 0;
	for (size_t i = 0; i < c->n_files; i++) {
		if (!c->files[i].is_socket)
			continue;
		if (n == j->nfds || !is_unnamed(j->fds[n]))
			return error_set(err, ERROR_CONFLICT, "nobody listens at %s: it is started by the builder alone", c->files[i].target);
		c->files[i].socket = j->fds[n++];
	}
	return 0;
}
