/* Layers of images on this host: unpacked under the digest that they turned out to have, shared by all
 * instances, removed when no record names them. And root file systems made from the host's own package
 * sources. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"
#include "image/layer.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- unpack --- */

static void on_unpack_progress(uint64_t done, uint64_t total, void *arg) {
	job_progress(arg, "unpacking", (int64_t)done, (int64_t)total);
}

static int sync_fs(const char *dir) {
	_cleanup_(close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || syncfs(fd) < 0 ? -errno : 0;
}

/* Writes the size beside the tree, so that it need not be counted again. */
static int finish_layer(const struct agent *a, const char *temporary, const char *path, uint64_t size,
			struct error *err) {
	_cleanup_(free_ptr) char *file = str_format("%s/size", temporary);
	_cleanup_(free_ptr) char *text = str_format("%llu\n", (unsigned long long)size);
	int r = fs_replace(file, text, strlen(text), 0600);
	if (r == 0)
		r = sync_fs(temporary);
	fault_point("unpack.synced");
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r == 0)
		r = fs_fsync_dir(a->layers);
	return r < 0 ? error_errno(err, r, "cannot make %s", path) : 0;
}

static int read_size(const char *path, struct msg_layer_unpacked *out) {
	_cleanup_(free_ptr) char *file = str_format("%s/size", path);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(file, 64, &text) < 0)
		return -ENOENT;
	out->size = strtoll(buf_str(&text), NULL, 10);
	return 0;
}

static int unpack_into(struct job *j, const char *temporary, uint64_t *size, struct error *err) {
	const struct msg_layer *m = j->body;
	_cleanup_(free_ptr) char *tree = str_format("%s/fs", temporary);
	int r = fs_remove_tree(tree); /* of a worker that was killed */
	if (r < 0)
		return error_errno(err, r, "cannot remove %s", tree);
	if (mkdir(tree, 0755) < 0)
		return error_errno(err, errno, "cannot make %s", tree);
	_cleanup_(close_fd) int target = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (target < 0)
		return error_errno(err, errno, "cannot open %s", tree);
	fault_point("unpack.begin");
	return layer_unpack(j->fds[0], m->media_type, m->diff_id, target, size, on_unpack_progress, j, err);
}

int work_layer_unpack(struct job *j, struct error *err) {
	const struct msg_layer *m = j->body;
	const struct agent *a = j->agent;
	_cleanup_(free_ptr) char *path = layer_path(a, m->diff_id, NULL);
	_cleanup_(free_ptr) char *temporary = str_format("%s/.tmp-%s", a->layers, strchr(m->diff_id, ':') + 1);
	struct msg_layer_unpacked reply = {0};
	_cleanup_(close_fd) int lock = -1;
	int r = read_size(path, &reply) == 0 ? 0 : dir_make_locked(temporary, &lock, err);
	if (r < 0)
		return r;
	if (lock >= 0 && read_size(path, &reply) == 0) { /* somebody else made it meanwhile */
		fs_remove_tree(temporary);
		return job_answer(j, &reply, NULL, 0, err);
	}
	if (lock < 0)
		return job_answer(j, &reply, NULL, 0, err);
	uint64_t size = 0;
	r = unpack_into(j, temporary, &size, err);
	fault_point("unpack.done");
	if (r == 0)
		r = finish_layer(a, temporary, path, size, err);
	if (r < 0) {
		fs_remove_tree(temporary);
		return r;
	}
	reply.size = (int64_t)size;
	return job_answer(j, &reply, NULL, 0, err);
}

/* Under the lock of the directory that an unpacking would use. */
static int file_locked(const struct agent *a, const char *dir, const char *temporary, const char *path, uint64_t size,
		       struct error *err) {
	_cleanup_(free_ptr) char *tree = str_format("%s/fs", temporary);
	struct msg_layer_unpacked there;
	if (read_size(path, &there) == 0) {
		fs_remove_tree(temporary);
		return 0;
	}
	int r = fs_remove_tree(tree); /* of a worker that was killed */
	if (r < 0)
		return error_errno(err, r, "cannot remove %s", tree);
	if (rename(dir, tree) < 0)
		return errno == EXDEV ? error_set(err, ERROR_UNSUPPORTED, "%s is on another file system", dir)
				      : error_errno(err, errno, "cannot make %s", tree);
	fault_point("layer-file.renamed");
	return finish_layer(a, temporary, path, size, err);
}

int layer_file(const struct agent *a, const char *dir, const char *diff_id, uint64_t size, struct error *err) {
	_cleanup_(free_ptr) char *path = layer_path(a, diff_id, NULL);
	_cleanup_(free_ptr) char *temporary = str_format("%s/.tmp-%s", a->layers, strchr(diff_id, ':') + 1);
	_cleanup_(close_fd) int lock = -1;
	struct msg_layer_unpacked there;
	if (read_size(path, &there) == 0)
		return 0;
	int r = dir_make_locked(temporary, &lock, err);
	if (r == 0)
		r = file_locked(a, dir, temporary, path, size, err);
	if (r < 0 && lock >= 0)
		fs_remove_tree(temporary);
	return r;
}

/* --- list, delete --- */

static bool is_layer(const char *name) {
	return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
}

int work_layer_list(struct job *j, struct error *err) {
	DIR *d = opendir(j->agent->layers);
	if (!d)
		return error_errno(err, errno, "cannot read %s", j->agent->layers);
	_cleanup_(strv_free_ptr) char **all = NULL;
	for (struct dirent *e; (e = readdir(d));)
		if (is_layer(e->d_name))
			strv_take(&all, str_format("sha256:%s", e->d_name));
	closedir(d);
	struct msg_layers reply = {.diff_ids = all};
	return job_answer(j, &reply, NULL, 0, err);
}

/* The instance that has the layer, or NULL. A record that cannot be read may have any. */
static char *layer_user(const struct agent *a, const char *diff_id) {
	DIR *d = opendir(a->instances);
	char *user = NULL;
	for (struct dirent *e; d && !user && (e = readdir(d));) {
		_cleanup_(record_free) struct msg_instance_create r = {0};
		if (e->d_name[0] == '.')
			continue;
		if (record_load(a, e->d_name, &r, NULL) < 0 || strv_has(r.layers, diff_id))
			user = str_copy(e->d_name);
	}
	if (d)
		closedir(d);
	return user;
}

int work_layer_delete(struct job *j, struct error *err) {
	const struct msg_layer *m = j->body;
	const struct agent *a = j->agent;
	_cleanup_(free_ptr) char *path = layer_path(a, m->diff_id, NULL);
	_cleanup_(free_ptr) char *gone = str_format("%s/.del-%s", a->layers, strchr(m->diff_id, ':') + 1);
	_cleanup_(close_fd) int lock = -1;
	int r = layers_lock(a, LOCK_EX, &lock, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *user = layer_user(a, m->diff_id);
	if (user)
		return error_set(err, ERROR_CONFLICT, "layer %s is in use by instance %.12s", m->diff_id, user);
	fs_remove_tree(gone);
	if (rename(path, gone) < 0 && errno != ENOENT)
		return error_errno(err, errno, "cannot remove %s", path);
	close_fd(&lock);
	fault_point("layer-delete.renamed");
	r = fs_remove_tree(gone);
	if (r < 0)
		return error_errno(err, r, "cannot remove %s", gone);
	return job_answer(j, NULL, NULL, 0, err);
}

/* --- bootstrap --- */

/* What makes a whole system of the smallest one. */
static const char system_packages[] = "systemd,systemd-sysv,dbus,udev,ifupdown,iproute2,iputils-ping,login,passwd,"
				      "kmod,procps,less,netbase";
#define LINE_MAX_SHOWN ((size_t)4096)

static bool name_is(const char *name, const char *further) {
	size_t n = 0;
	for (; name[n]; n++)
		if (!islower((unsigned char)name[n]) && !isdigit((unsigned char)name[n]) && 
		    !(n && strchr(further, name[n])))
			return false;
	return n > 0 && n <= 128;
}

static int check_bootstrap(const struct msg_bootstrap *m, struct error *err) {
	if (!name_is(m->suite, ".-"))
		return error_field(err, "suite", "\"%s\" is not the name of a suite", m->suite);
	for (size_t i = 0; m->include && m->include[i]; i++)
		if (!name_is(m->include[i], "+.:-"))
			return error_field(err, "include", "\"%s\" is not the name of a package", m->include[i]);
	return 0;
}

/* The kernel alone, unpacked and not set up. */
#define KERNEL_PACKAGE "linux-image-cloud-amd64"

static bool is_kernel(const struct msg_bootstrap *m) {
	return str_same(m->variant, "kernel");
}

/* In the child: becomes mmdebstrap, with the tar on standard output. */
__attribute__((noreturn)) static void exec_mmdebstrap(const struct msg_bootstrap *m, const char *tmp, int out,
						      int errors) {
	_cleanup_(strv_free_ptr) char **argv = NULL, **env = NULL, **include = NULL;
	bool system = str_same(m->variant, "system");
	strv_add(&argv, "mmdebstrap");
	strv_add(&argv, "--mode=root");
	strv_add(&argv, is_kernel(m) ? "--variant=extract" : "--variant=minbase");
	strv_add(&argv, "--format=tar");
	if (system)
		strv_add(&include, system_packages);
	if (is_kernel(m))
		strv_add(&include, KERNEL_PACKAGE);
	for (size_t i = 0; m->include && m->include[i]; i++)
		strv_add(&include, m->include[i]);
	_cleanup_(free_ptr) char *packages = strv_join(include, ",");
	if (include)
		strv_take(&argv, str_format("--include=%s", packages));
	strv_add(&argv, m->suite);
	strv_add(&argv, "-");
	strv_add(&env, "PATH=/usr/sbin:/usr/bin:/sbin:/bin");
	strv_add(&env, "LANG=C.UTF-8");
	strv_take(&env, str_format("TMPDIR=%s", tmp));
	static const char *const proxies[] = {"http_proxy", "https_proxy", "no_proxy"};
	for (size_t i = 0; i < ARRAY_SIZE(proxies); i++)
		if (getenv(proxies[i]))
			strv_take(&env, str_format("%s=%s", proxies[i], getenv(proxies[i])));
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(errors, 2) < 0)
		_exit(127);
	syscall(SYS_close_range, 3, ~0U, 0);
	/* what it mounts goes away with it, however it ends */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		_exit(126);
	execve("/usr/bin/mmdebstrap", argv, env);
	_exit(127);
}

/* A line becomes progress. The first that tells an error is kept (those after it are its consequences), or the
 * last one of all. Takes line. */
static void take_line(struct job *j, char *line, char **kept) {
	if (j->sock >= 0)
		job_progress(j, line, 0, 0);
	if (*kept && str_starts(*kept, "E: ")) {
		free(line);
		return;
	}
	free(*kept);
	*kept = line;
}

static bool read_lines(struct job *j, int fd, struct buf *pending, char **kept) {
	char chunk[4096];
	ssize_t n = RETRY_EINTR(read(fd, chunk, sizeof chunk));
	if (n <= 0)
		return false;
	buf_add(pending, chunk, (size_t)n);
	for (char *end; (end = memchr(buf_str(pending), '\n', pending->len));) {
		size_t len = (size_t)(end - pending->data);
		if (len && len < LINE_MAX_SHOWN)
			take_line(j, str_copyn(pending->data, len), kept);
		buf_consume(pending, len + 1);
	}
	if (pending->len > LINE_MAX_SHOWN)
		buf_truncate(pending, 0);
	return true;
}

/* The reader of the tar, and what goes along. */
static int answer_tar(struct job *j, int *writer, struct error *err) {
	_cleanup_(close_fd) int reader = -1;
	_cleanup_(close_fd) int init = -1;
	_cleanup_(free_ptr) char *path = program_beside(j->agent, "wabe-init");
	if (is_kernel(j->body) && (init = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return error_errno(err, errno, "cannot open %s", path);
	int r = guard_open(&reader, writer, err);
	const int fds[] = {reader, init};
	return r < 0 ? r : job_answer(j, NULL, fds, init >= 0 ? 2 : 1, err);
}

/* Gives the stream to the peer once the first byte of the tar is there, and copies it from then on. */
static int relay(struct job *j, int tar, int errors, int *writer, char **kept, struct error *err) {
	_cleanup_(buf_free) struct buf pending = BUF_INIT_MAX(65536);
	_cleanup_(free_ptr) char *chunk = alloc_zero(65536);
	int r = 0;
	for (bool more_tar = true, more_errors = true; r == 0 && (more_tar || more_errors);) {
		struct pollfd p[] = {{more_tar ? tar : -1, POLLIN, 0}, {more_errors ? errors : -1, POLLIN, 0}};
		if (RETRY_EINTR(poll(p, 2, -1)) < 0)
			return error_errno(err, errno, "cannot wait for mmdebstrap");
		if (p[1].revents)
			more_errors = read_lines(j, errors, &pending, kept);
		if (!p[0].revents)
			continue;
		ssize_t n = RETRY_EINTR(read(tar, chunk, 65536));
		if (n > 0 && *writer < 0) {
			r = answer_tar(j, writer, err);
			close_fd(&j->sock);
		}
		if (n > 0 && r == 0 && (r = fs_write_all(*writer, chunk, (size_t)n)) < 0)
			r = error_errno(err, r, "the tar is not wanted any more");
		more_tar = n > 0;
	}
	return r;
}

static int run_mmdebstrap(struct job *j, const char *tmp, struct error *err) {
	int out[2], errors[2];
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	pid_t pid = fork();
	if (pid < 0)
		return error_errno(err, errno, "cannot start mmdebstrap");
	if (pid == 0)
		exec_mmdebstrap(j->body, tmp, out[1], errors[1]);
	close_fd(&out[1]);
	close_fd(&errors[1]);
	_cleanup_(free_ptr) char *kept = NULL;
	_cleanup_(close_fd) int writer = -1;
	int r = relay(j, out[0], errors[0], &writer, &kept, err);
	if (r < 0)
		kill(pid, SIGTERM);
	close_fd(&out[0]);
	close_fd(&errors[0]);
	int status = proc_wait(pid);
	if (r < 0)
		return r;
	if (status != 0 || writer < 0)
		return error_set(err, ERROR_INTERNAL, "mmdebstrap failed with status %d: %s", status,
				 kept ? kept : "no message");
	guard_finish(&writer);
	return 0;
}

int work_bootstrap(struct job *j, struct error *err) {
	const struct msg_bootstrap *m = j->body;
	int r = check_bootstrap(m, err);
	if (r < 0)
		return r;
	if (!fs_exists("/usr/bin/mmdebstrap"))
		return error_set(err, ERROR_UNSUPPORTED, "mmdebstrap is not installed on this host");
	_cleanup_(free_ptr) char *salt = random_hex(8);
	_cleanup_(free_ptr) char *tmp = str_format("%s/bootstrap-%s", j->agent->tmp, salt);
	_cleanup_(close_fd) int lock = -1;
	r = dir_make_locked(tmp, &lock, err);
	if (r < 0)
		return r;
	if (fchmod(lock, 0755) < 0) /* apt's own user works below it */
		return error_errno(err, errno, "cannot open up %s", tmp);
	signal(SIGPIPE, SIG_IGN);
	r = run_mmdebstrap(j, tmp, err);
	if (fs_remove_tree(tmp) < 0)
		log_warn("%s could not be removed; the next start of the agent tries again", tmp);
	return r;
}
