/* Trees that layers make without an instance: parts of them are read, and new layers made upon them. Each has an overlay of
 * its own in a directory below STATE/agent/tmp, locked as long as its worker lives. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "image/layer.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct stack {
	char *dir; /* upper/, work/ */
	int dir_lock, layers_lock, root;
};
#define STACK_INIT ((struct stack){.dir_lock = -1, .layers_lock = -1, .root = -1})

static void stack_close(struct stack *s) {
	close_fd(&s->root);
	close_fd(&s->layers_lock);
	if (s->dir_lock >= 0 && fs_remove_tree(s->dir) < 0)
		log_warn("%s could not be removed; the next start of the agent tries again", s->dir);
	close_fd(&s->dir_lock);
	free(s->dir);
}

static int make_part(const struct stack *s, const char *name, char **path, struct error *err) {
	*path = str_format("%s/%s", s->dir, name);
	if (mkdir(*path, 0755) < 0 || chmod(*path, 0755) < 0)
		return error_errno(err, errno, "cannot make %s", *path);
	return 0;
}

static int mount_stack(const struct agent *a, char *const *layers, struct stack *s, struct error *err) {
	struct container_config c;
	container_config_init(&c);
	c.id = str_copy(strrchr(s->dir, '/') + 1);
	int r = make_part(s, "upper", &c.upper, err);
	if (r == 0)
		r = make_part(s, "work", &c.work, err);
	for (size_t i = 0; layers && layers[i]; i++)
		strv_take(&c.lowers, layer_path(a, layers[i], "fs"));
	if (r == 0 && !c.lowers) { /* an overlay needs one */
		char *empty = NULL;
		r = make_part(s, "empty", &empty, err);
		strv_take(&c.lowers, empty);
	}
	s->root = r < 0 ? -1 : container_root_mount(&c, err);
	container_config_free(&c);
	return s->root < 0 ? error_wrap(err, "cannot open the tree") : 0;
}

/* No layer goes away from under it meanwhile. */
static int stack_open(const struct job *j, char *const *layers, struct stack *s, struct error *err) {
	const struct agent *a = j->agent;
	_cleanup_(free_ptr) char *salt = random_hex(8);
	int r = layers_lock(a, LOCK_SH, &s->layers_lock, err);
	if (r == 0)
		r = layers_present(a, layers, err);
	if (r < 0)
		return r;
	s->dir = str_format("%s/tree-%s", a->tmp, salt);
	r = dir_make_locked(s->dir, &s->dir_lock, err);
	return r < 0 ? r : mount_stack(a, layers, s, err);
}

/* Where the path leads, by links too; as the path inside the tree. Free it; NULL and *err. */
static char *real_path(const struct stack *s, const struct msg_tree *m, struct error *err) {
	char link[FD_PATH_MAX], path[PATH_MAX];
	if (!m->follow)
		return str_copy(m->path);
	_cleanup_(close_fd) int fd = fs_open_in_root(s->root, m->path, O_PATH, 0);
	ssize_t n = fd < 0 ? fd : readlink(fd_path(fd, link), path, sizeof path - 1);
	if (n < 0 || path[0] != '/') {
		error_errno(err, fd < 0 ? fd : errno, "there is no %s to be had in the image", m->path);
		return NULL;
	}
	return str_copyn(path, (size_t)n);
}

/* What is at the path, called as it was asked for. */
static int look(const struct stack *s, const struct msg_tree *m, char **path, struct msg_file *out, struct error *err) {
	*path = real_path(s, m, err);
	int r = *path ? file_look(s->root, *path, "the image", out, err) : -ERROR_NOT_FOUND;
	if (r == 0 && m->follow) {
		const char *slash = strrchr(m->path, '/');
		free(out->name);
		out->name = str_copy(slash[1] ? slash + 1 : "/");
	}
	return r;
}

static int tree_answer(struct job *j, const struct msg_tree *m, bool content, struct error *err) {
	_cleanup_(stack_close) struct stack s = STACK_INIT;
	_cleanup_(close_fd) int writer = -1;
	_cleanup_(free_ptr) char *path = NULL;
	struct msg_file file = {0};
	int r = stack_open(j, m->layers, &s, err);
	if (r == 0)
		r = look(&s, m, &path, &file, err);
	if (r == 0)
		r = content ? answer_stream(j, &file, &writer, err) : job_answer(j, &file, NULL, 0, err);
	if (r == 0 && content)
		r = tree_pack(s.root, path, str_same(file.name, "/") ? "." : file.name, 0, writer, err);
	if (r == 0 && content)
		guard_finish(&writer);
	fields_free(&msg_file_table, &file);
	return r;
}

int work_tree_get(struct job *j, struct error *err) {
	return tree_answer(j, j->body, true, err);
}

int work_tree_stat(struct job *j, struct error *err) {
	return tree_answer(j, j->body, false, err);
}

/* One directory on the way; what is there stays as it is. */
static int make_directory(const struct stack *s, const struct msg_tree *m, const char *path) {
	_cleanup_(close_fd) int there = fs_open_in_root(s->root, path, O_PATH | O_DIRECTORY, 0);
	if (there != -ENOENT)
		return there < 0 ? there : 0;
	_cleanup_(close_fd) int made = fs_mkdir_in_root(s->root, path, 0755);
	if (made < 0)
		return made;
	return fchownat(made, "", (uid_t)m->uid, (gid_t)m->gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int unpack_upon(const struct job *j, const struct stack *s, struct error *err) {
	const struct msg_tree *m = j->body;
	const struct unpack_options o = {.keep_owner = true};
	for (const char *end = m->path; *end;) {
		end = strchrnul(end + 1, '/');
		_cleanup_(free_ptr) char *above = str_copyn(m->path, (size_t)(end - m->path));
		int r = make_directory(s, m, above);
		if (r < 0)
			return error_errno(err, r, "cannot make the directory %s", above);
	}
	return tree_unpack(j->fds[0], s->root, m->path, &o, err);
}

int work_layer_make(struct job *j, struct error *err) {
	const struct msg_tree *m = j->body;
	_cleanup_(stack_close) struct stack s = STACK_INIT;
	_cleanup_(close_fd) int writer = -1, upper = -1;
	_cleanup_(free_ptr) char *diff_id = NULL, *path = NULL;
	uint64_t size = 0;
	int r = stack_open(j, m->layers, &s, err);
	if (r == 0)
		r = unpack_upon(j, &s, err);
	close_fd(&s.root); /* unmounted: nothing changes any more */
	fault_point("layer-make.unpacked");
	if (r < 0)
		return r;
	path = str_format("%s/upper", s.dir);
	upper = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (upper < 0)
		return error_errno(err, errno, "cannot open %s", path);
	r = answer_stream(j, NULL, &writer, err);
	if (r == 0)
		r = layer_pack(upper, 0, writer, &diff_id, &size, err);
	if (r == 0)
		r = layer_file(j->agent, path, diff_id, size, err);
	if (r == 0)
		guard_finish(&writer);
	return r;
}
