/* Files of an instance, whether it runs or not: copies in and out, what has changed, exports, logs. Paths are
 * looked up inside the instance's root by the layer code; nothing here joins one to a path of the host. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "image/layer.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- a stream whose broken end shows --- */

/* A socket pair with one byte under way to the writer. When an end closes while a byte waits for it, the
 * other end's next read past the data fails with ECONNRESET: so does the reader's if the writer dies or gives
 * up. Only guard_finish takes the byte first. */
int guard_open(int *reader, int *writer, struct error *err) {
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "cannot make a stream");
	*reader = pair[0];
	*writer = pair[1];
	if (send(*reader, "", 1, 0) != 1 || shutdown(*reader, SHUT_WR) < 0)
		return error_errno(err, errno, "cannot prepare a stream");
	return 0;
}

void guard_finish(int *writer) {
	char byte;
	(void)!RETRY_EINTR(recv(*writer, &byte, 1, 0));
	close_fd(writer);
}

/* --- getting at the root --- */

struct access {
	struct msg_instance_create record;
	struct run_state run;
	const struct job *job;
	int lock, root, volume; /* volume: the lock of the root's */
	char *path;             /* where the root's volume is open */
	bool up;
};

static void access_free(struct access *x) {
	close_fd(&x->root);
	root_release(x->job, &x->record, &x->volume);
	instance_unlock(&x->lock);
	free(x->path);
	run_free(&x->run);
	record_free(&x->record);
}

#define ACCESS_INIT ((struct access){.lock = -1, .root = -1, .volume = -1})

/* Lock and record. */
static int access_open(struct job *j, struct access *x, struct error *err) {
	x->job = j;
	int r = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, &x->lock, err);
	if (r == 0)
		r = record_load(j->agent, j->id, &x->record, err);
	if (r == 0 && run_load(j->agent, j->id, &x->run, NULL) == 0)
		x->up = x->run.created && container_state_alive(&x->run.container);
	return r;
}

/* Of a machine that began as a disk the files are its guest's alone. */
static bool has_own_files(const struct access *x) {
	return instance_is_machine(&x->record.instance.spec) && root_is_block(&x->record);
}

static int no_files(const struct access *x, const char *what, struct error *err) {
	return error_set(err, ERROR_UNSUPPORTED, "machine %.12s has a disk, of which wabe does not know the files: %s",
			 x->record.instance.id, what);
}

/* In the machine of a container's image it lies beneath QEMU's own. */
static int running_root(const struct access *x, struct error *err) {
	int root = container_root_open(&x->run.container, err);
	if (root < 0 || !instance_is_machine(&x->record.instance.spec))
		return root;
	int inner = fs_open_in_root(root, GUEST_DIR "/root", O_PATH | O_DIRECTORY, 0);
	close_fd(&root);
	return inner < 0 ? error_errno(err, inner, "cannot open the machine's root") : inner;
}

/* What is in the guest's memory does not show in its root. */
static int check_memory(const struct access *x, const char *path, struct error *err) {
	const struct instance_spec *s = &x->record.instance.spec;
	for (size_t i = 0; x->up && instance_is_machine(s) && path && i < s->mounts.n; i++) {
		const char *target = s->mounts.items[i].target;
		size_t n = strlen(target);
		if (str_same(s->mounts.items[i].type, "tmpfs") && str_starts(path, target) && (path[n] == '/' || !path[n]))
			return error_set(err, ERROR_UNSUPPORTED, "%s lies in the memory of machine %.12s: take it by wabe exec and tar", path,
					 x->record.instance.id);
	}
	return 0;
}

/* And the root. While the instance runs the lock is not needed any more; else it is kept, so that nothing
 * starts on the same files. */
static int access_root(struct job *j, struct access *x, struct error *err) {
	if (has_own_files(x))
		return no_files(x, "stop it and export the image or a snapshot of its disk", err);
	if (x->up) {
		x->root = running_root(x, err);
		instance_unlock(&x->lock);
	} else {
		struct container_config c;
		int r = root_hold(j, &x->record, &x->volume, &x->path, err);
		if (r < 0)
			return r;
		config_root(j->agent, &x->record, x->path, &c);
		x->root = container_root_mount(&c, err);
		container_config_free(&c);
	}
	return x->root < 0 ? error_wrap(err, "cannot open the root of instance %.12s", j->id) : 0;
}

static uint32_t access_base(const struct access *x) {
	return (uint32_t)x->record.instance.uid_base;
}

/* --- copies --- */

char *file_last_part(const char *path) {
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	size_t from = n;
	while (from > 0 && path[from - 1] != '/')
		from--;
	return from == n ? str_copy("/") : str_copyn(path + from, n - from);
}

int file_look(int root, const char *path, const char *of, struct msg_file *out, struct error *err) {
	_cleanup_(close_fd) int fd = fs_open_in_root(root, path, O_PATH | O_NOFOLLOW, 0);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, fd < 0 ? fd : errno, "there is no %s to be had in %s", path, of);
	*out = (struct msg_file){
		.name = file_last_part(path),
		.size = st.st_size,
		.mode = st.st_mode,
		.mtime = st.st_mtim.tv_sec * NS_PER_SEC + st.st_mtim.tv_nsec,
	};
	char target[PATH_MAX];
	ssize_t n = S_ISLNK(st.st_mode) ? readlinkat(fd, "", target, sizeof target) : -1;
	if (n >= 0)
		out->link_target = str_copyn(target, (size_t)n);
	return 0;
}

static int look_at(const struct access *x, const char *path, struct msg_file *out, struct error *err) {
	_cleanup_(free_ptr) char *of = str_format("instance %.12s", x->record.instance.id);
	return file_look(x->root, path, of, out, err);
}

int work_archive_stat(struct job *j, struct error *err) {
	const struct msg_archive *m = j->body;
	_cleanup_(access_free) struct access x = ACCESS_INIT;
	struct msg_file file = {0};
	int r = access_open(j, &x, err);
	if (r == 0 && has_own_files(&x) && x.up)
		return instance_unlock(&x.lock), machine_file_stat(j, m, err);
	if (r == 0)
		r = access_root(j, &x, err);
	if (r == 0)
		r = look_at(&x, m->path, &file, err);
	if (r == 0)
		r = job_answer(j, &file, NULL, 0, err);
	fields_free(&msg_file_table, &file);
	return r;
}

int answer_stream(struct job *j, const void *reply, int *writer, struct error *err) {
	_cleanup_(close_fd) int reader = -1;
	int r = guard_open(&reader, writer, err);
	if (r == 0)
		r = job_answer(j, reply, &reader, 1, err);
	close_fd(&j->sock); /* the answer is given: what fails from here on shows in the stream */
	signal(SIGPIPE, SIG_IGN);
	return r;
}

int answer_file(struct job *j, int file, struct error *err) {
	_cleanup_(close_fd) int writer = -1;
	int r = answer_stream(j, NULL, &writer, err);
	if (r == 0 && lseek(file, 0, SEEK_SET) < 0)
		r = error_errno(err, errno, "cannot read what was made");
	if (r == 0 && (r = fs_copy(file, writer, NULL)) < 0)
		r = error_errno(err, r, "what was made is not wanted any more");
	if (r == 0)
		guard_finish(&writer);
	return r;
}

/* Who asks for "dir/." finds its content under a name that he can take for another one. */
static const char *name_in_archive(const char *name) {
	return str_same(name, "/") ? "." : str_same(name, ".") ? "./" : name;
}

int work_archive_get(struct job *j, struct error *err) {
	const struct msg_archive *m = j->body;
	_cleanup_(access_free) struct access x = ACCESS_INIT;
	_cleanup_(close_fd) int writer = -1;
	struct msg_file file = {0};
	int r = access_open(j, &x, err);
	if (r == 0 && has_own_files(&x) && x.up)
		return instance_unlock(&x.lock), machine_file_get(j, m, err);
	if (r == 0)
		r = check_memory(&x, m->path, err);
	if (r == 0)
		r = access_root(j, &x, err);
	if (r == 0)
		r = look_at(&x, m->path, &file, err);
	if (r == 0)
		r = answer_stream(j, &file, &writer, err);
	if (r == 0)
		r = tree_pack(x.root, m->path, name_in_archive(file.name), access_base(&x), writer, err);
	if (r == 0)
		guard_finish(&writer);
	fields_free(&msg_file_table, &file);
	return r;
}

int work_archive_put(struct job *j, struct error *err) {
	const struct msg_archive *m = j->body;
	_cleanup_(access_free) struct access x = ACCESS_INIT;
	int r = access_open(j, &x, err);
	if (r == 0 && has_own_files(&x) && x.up)
		return instance_unlock(&x.lock), machine_file_put(j, m, err);
	if (r == 0)
		r = check_memory(&x, m->path, err);
	if (r == 0)
		r = access_root(j, &x, err);
	struct unpack_options o = {access_base(&x), m->keep_owner, m->no_overwrite_dir};
	if (r == 0)
		r = tree_unpack(j->fds[0], x.root, m->path, &o, err);
	return r < 0 ? r : job_answer(j, NULL, NULL, 0, err);
}

int work_export(struct job *j, struct error *err) {
	_cleanup_(access_free) struct access x = ACCESS_INIT;
	_cleanup_(close_fd) int writer = -1;
	int r = access_open(j, &x, err);
	if (r == 0)
		r = access_root(j, &x, err);
	if (r == 0)
		r = answer_stream(j, NULL, &writer, err);
	if (r == 0)
		r = tree_pack(x.root, "/", ".", access_base(&x), writer, err);
	if (r == 0)
		guard_finish(&writer);
	return r;
}

/* --- what has changed --- */

static int open_upper(struct job *j, struct access *x, struct error *err) {
	int r = root_hold(j, &x->record, &x->volume, &x->path, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *path = str_format("%s/upper", x->path);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? error_errno(err, errno, "cannot open %s", path) : fd;
}

/* The directory of changes becomes the layer, and a new one takes its place. */
static int take_upper(const struct access *x, const char *diff_id, uint64_t size, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/upper", x->path);
	struct error why = ERROR_INIT;
	int r = layer_file(x->job->agent, path, diff_id, size, &why);
	if (r == -ERROR_UNSUPPORTED) {
		error_free(&why);
		return 0; /* whoever needs the layer has it unpacked */
	}
	if (r < 0)
		return error_move(err, &why);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return error_errno(err, errno, "cannot make %s", path);
	return chmod(path, 0755) < 0 ? error_errno(err, errno, "cannot open up %s", path) : 0;
}

int work_commit(struct job *j, struct error *err) {
	const struct msg_export *m = j->body;
	_cleanup_(access_free) struct access x = ACCESS_INIT;
	_cleanup_(close_fd) int writer = -1;
	int r = access_open(j, &x, err);
	if (r == 0 && has_own_files(&x))
		r = no_files(&x, "a snapshot keeps its state", err);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int upper = open_upper(j, &x, err);
	if (upper < 0)
		return upper;
	bool freeze = m->pause && x.up && str_same(x.record.instance.status.state, "running");
	if (x.up && !freeze)
		instance_unlock(&x.lock);
	r = freeze ? cgroup_freeze(&x.run.container.cgroup, true, err) : 0;
	fault_point("commit.frozen");
	if (r == 0)
		r = answer_stream(j, NULL, &writer, err);
	_cleanup_(free_ptr) char *diff_id = NULL;
	uint64_t size = 0;
	bool take = m->take && !x.up;
	if (r == 0)
		r = layer_pack(upper, 0, writer, take ? &diff_id : NULL, &size, err); /* its owners are those inside */
	if (freeze)
		cgroup_freeze(&x.run.container.cgroup, false, NULL);
	if (r == 0 && take)
		r = take_upper(&x, diff_id, size, err);
	if (r == 0)
		guard_finish(&writer);
	return r;
}

static void add_change(char kind, const char *path, void *arg) {
	struct buf *all = arg;
	buf_addc(all, kind);
	buf_add(all, path, strlen(path) + 1);
}

int work_diff(struct job *j, struct error *err) {
	_cleanup_(access_free) struct access x = ACCESS_INIT;
	_cleanup_(buf_free) struct buf all = BUF_INIT_MAX(CHANGES_MAX);
	_cleanup_(close_fd) int writer = -1;
	int r = access_open(j, &x, err);
	if (r == 0 && has_own_files(&x))
		r = no_files(&x, "a snapshot keeps its state", err);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int upper = open_upper(j, &x, err);
	if (upper < 0)
		return upper;
	size_t n = strv_len(x.record.layers), opened = 0;
	_cleanup_(free_ptr) int *lowers = alloc_array(n + 1, sizeof *lowers);
	for (; r == 0 && opened < n; opened++) {
		_cleanup_(free_ptr) char *path = layer_path(j->agent, x.record.layers[opened], "fs");
		lowers[opened] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (lowers[opened] < 0)
			r = error_errno(err, errno, "cannot open %s", path);
	}
	if (r == 0)
		r = layer_changes(upper, lowers, n, add_change, &all, err);
	for (size_t i = 0; i < opened; i++)
		close_fd(&lowers[i]);
	instance_unlock(&x.lock); /* who reads may take his time */
	if (r == 0 && buf_overflowed(&all))
		r = error_set(err, ERROR_TOO_LARGE, "the instance has more changes than %zu bytes of names: export it instead",
			      CHANGES_MAX);
	if (r == 0)
		r = answer_stream(j, NULL, &writer, err);
	if (r == 0 && fs_write_all(writer, buf_str(&all), all.len) == 0)
		guard_finish(&writer);
	return r;
}
