/* wabe cp: files into and out of instances, packed and unpacked by the host's tar. What comes out of an instance
 * is unpacked in a fresh directory where it gets another name, so that nothing in it chooses where it lands. */
#include "cli/cli.h"

#include "base/fs.h"
#include "base/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <unistd.h>

struct options {
	bool archive;
};

static const struct option_row options[] = {
	OPTION(struct options, archive, BOOL, "archive,a", .doc = "Keeps owners"),
	{0},
};

/* "NAME:PATH" with a name before the first colon; a path with a slash before it is local. */
static bool split_remote(const char *text, char **name, char **path) {
	const char *colon = strchr(text, ':'), *slash = strchr(text, '/');
	if (!colon || colon == text || (slash && slash < colon))
		return false;
	*name = str_copyn(text, (size_t)(colon - text));
	*path = colon[1] == '/' ? str_copy(colon + 1) : str_format("/%s", colon + 1);
	return true;
}

/* The last part of a path without trailing slashes; "." for the root. */
static char *base_name(const char *path) {
	size_t n = strlen(path);
	while (n && path[n - 1] == '/')
		n--;
	size_t start = n;
	while (start && path[start - 1] != '/')
		start--;
	return n == start ? str_copy(".") : str_copyn(path + start, n - start);
}

static char *dir_name(const char *path) {
	_cleanup_(free_ptr) char *base = base_name(path);
	size_t n = strlen(path);
	while (n && path[n - 1] == '/')
		n--;
	n -= MIN(n, strlen(base));
	while (n > 1 && path[n - 1] == '/')
		n--;
	return n ? str_copyn(path, n) : str_copy(path[0] == '/' ? "/" : ".");
}

/* "dir/.": what is in it, not itself. */
static bool is_content(const char *path) {
	return strcmp(path, ".") == 0 || str_ends(path, "/.");
}

static bool is_dir(const char *path) {
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* tar with one end of a pipe as its standard input or output. */
struct tar {
	pid_t pid;
	int fd;
};

static int tar_start(char *const *argv, bool reads, struct tar *t, struct error *err) {
	int p[2];
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_errno(err, errno, "cannot make a pipe");
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, reads ? p[0] : p[1], reads ? STDIN_FILENO : STDOUT_FILENO);
	int r = posix_spawnp(&t->pid, "tar", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(reads ? p[0] : p[1]);
	t->fd = reads ? p[1] : p[0];
	if (r) {
		close_fd(&t->fd);
		return error_errno(err, r, "cannot run tar");
	}
	return 0;
}

static int tar_end(struct tar *t, int r, struct error *err) {
	close_fd(&t->fd);
	int status = proc_wait(t->pid);
	if (r == 0 && status)
		return error_set(err, ERROR_INTERNAL, "tar failed with status %d", status);
	return r;
}

static int to_fd(const char *data, size_t n, void *arg) {
	return fs_write_all(*(int *)arg, data, n);
}

static int fetch(const struct invocation *in, const char *name, const char *path, int fd, struct error *err) {
	_cleanup_(free_ptr) char *request = api_path(in, "/instances/%s/archive", name);
	path_query(&request, "path", path);
	return client_stream(in->client, "GET", request, NULL, to_fd, &fd, err);
}

/* Unpacks into a directory; strip: without the first part of each name. */
static int fetch_into(const struct invocation *in, const char *name, const char *path, const char *dir, bool strip,
		      struct error *err) {
	const struct options *o = in->options;
	char *argv[] = {"tar",
			"-x",
			"-f",
			"-",
			"-C",
			(char *)dir,
			o->archive ? "--same-owner" : "--no-same-owner",
			o->archive ? "--same-permissions" : "--no-same-permissions",
			strip ? "--strip-components=1" : NULL,
			NULL};
	struct tar t;
	int r = tar_start(argv, true, &t, err);
	return r < 0 ? r : tar_end(&t, fetch(in, name, path, t.fd, err), err);
}

/* The one thing in a directory; NULL when there are none or several. */
static char *only_entry(const char *dir) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	DIR *d = opendir(dir);
	if (!d)
		return NULL;
	for (struct dirent *e; (e = readdir(d));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			strv_add(&names, e->d_name);
	closedir(d);
	return strv_len(names) == 1 ? str_format("%s/%s", dir, names[0]) : NULL;
}

/* To a name that is not there, or is a file. */
static int fetch_as(const struct invocation *in, const char *name, const char *path, const char *target,
		    struct error *err) {
	_cleanup_(free_ptr) char *parent = dir_name(target), *dir = str_format("%s/.wabe-cp-XXXXXX", parent);
	if (!mkdtemp(dir))
		return error_errno(err, errno, "cannot write to %s", parent);
	int r = fetch_into(in, name, path, dir, false, err);
	_cleanup_(free_ptr) char *entry = r == 0 ? only_entry(dir) : NULL;
	if (r == 0 && !entry)
		r = error_set(err, ERROR_CORRUPT, "what came for %s is not one file or directory", path);
	if (r == 0 && rename(entry, target) < 0)
		r = error_errno(err, errno, "cannot write %s", target);
	fs_remove_tree(dir);
	return r;
}

static int copy_out(const struct invocation *in, const char *name, const char *path, const char *target,
		    struct error *err) {
	bool content = is_content(path);
	if (strcmp(target, "-") == 0)
		return fetch(in, name, path, STDOUT_FILENO, err);
	if (!content && !is_dir(target)) {
		if (str_ends(target, "/"))
			return error_set(err, ERROR_NOT_FOUND, "%s is not a directory", target);
		return fetch_as(in, name, path, target, err);
	}
	if (content && mkdir(target, 0777) < 0 && errno != EEXIST)
		return error_errno(err, errno, "cannot make %s", target);
	_cleanup_(free_ptr) char *whole = content ? str_copyn(path, strlen(path) - 1) : str_copy(path);
	return fetch_into(in, name, whole, target, content, err);
}

/* Is there a directory inside the instance? Not when there is nothing; negative when it cannot be told. */
static int remote_is_dir(const struct invocation *in, const char *name, const char *path, struct error *err) {
	char *request = api_path(in, "/instances/%s/archive", name);
	path_query(&request, "path", path);
	_cleanup_(error_free) struct error e = ERROR_INIT;
	int r = api_call(in, "HEAD", request, NULL, NULL, &e);
	if (r == -ERROR_NOT_FOUND)
		return 0;
	if (r < 0)
		return error_move(err, &e);
	const char *header = client_header(in->client, "Wabe-File");
	_cleanup_(json_free_ptr) json_t *file = header ? json_parse(header, strlen(header), NULL) : NULL;
	return S_ISDIR((mode_t)json_get_int(file, "mode"));
}

static int send_archive(const struct invocation *in, const char *name, const char *dir, int fd, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(free_ptr) char *request = api_path(in, "/instances/%s/archive", name);
	path_query(&request, "path", dir);
	path_query(&request, "keep_owner", o->archive ? "true" : NULL);
	struct progress *p = progress_of_upload(in->client, "copying", fd);
	int r = client_upload(in->client, "PUT", request, "application/x-tar", fd, NULL, err);
	progress_end(p);
	return r;
}

/* s/^BASE/NEW/ for names in the archive, not for what links point to. */
static char *rename_rule(const char *base, const char *new) {
	struct buf b = BUF_INIT;
	buf_adds(&b, "--transform=flags=rSH;s,^");
	for (const char *s = base; *s; s++)
		buf_addf(&b, strchr("\\.[]*^$,", *s) ? "\\%c" : "%c", *s);
	buf_adds(&b, ",");
	for (const char *s = new; *s; s++)
		buf_addf(&b, strchr("\\&,", *s) ? "\\%c" : "%c", *s);
	buf_adds(&b, ",");
	return buf_steal(&b);
}

static int send_tree(const struct invocation *in, const char *source, const char *name, const char *dir,
		     const char *new, struct error *err) {
	bool content = is_content(source);
	_cleanup_(free_ptr) char *parent = content ? str_copy(source) : dir_name(source),
				 *base = content ? str_copy(".") : base_name(source), *rule = new ? rename_rule(base, new) : NULL;
	char *argv[] = {"tar", "-c", "-f", "-", "-C", parent, rule ? rule : "--sparse", "--", base, NULL};
	struct tar t;
	int r = tar_start(argv, false, &t, err);
	return r < 0 ? r : tar_end(&t, send_archive(in, name, dir, t.fd, err), err);
}

static int copy_in(const struct invocation *in, const char *source, const char *name, const char *path,
		   struct error *err) {
	if (strcmp(source, "-") == 0)
		return send_archive(in, name, path, STDIN_FILENO, err);
	struct stat st;
	if (lstat(source, &st) < 0)
		return error_errno(err, errno, "cannot read %s", source);
	int dir = is_content(source) ? 1 : remote_is_dir(in, name, path, err);
	if (dir < 0)
		return dir;
	if (dir)
		return send_tree(in, source, name, path, NULL, err);
	if (str_ends(path, "/"))
		return error_set(err, ERROR_NOT_FOUND, "%s is not a directory in %s", path, name);
	_cleanup_(free_ptr) char *parent = dir_name(path), *base = base_name(path);
	return send_tree(in, source, name, parent, base, err);
}

static int run(struct invocation *in, struct error *err) {
	_cleanup_(free_ptr) char *name = NULL, *path = NULL, *other_name = NULL, *other_path = NULL;
	bool from = split_remote(in->args[0], &name, &path), to = split_remote(in->args[1], &other_name, &other_path);
	if (from == to)
		return error_set(err, ERROR_INVALID, "one of the two must be INSTANCE:PATH");
	signal(SIGPIPE, SIG_IGN);
	return from ? copy_out(in, name, path, in->args[1], err)
		    : copy_in(in, in->args[0], other_name, other_path, err);
}

const struct command command_cp = {
	.name = "cp",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE:PATH PATH|-   or   PATH|- INSTANCE:PATH",
	.doc = "Copy files into or out of an instance",
	.details = "A \"-\" is a tar archive on standard input or output. DIR/. is what is in a directory.",
	.examples = "wabe cp web:/etc/hosts .\nwabe cp ./site/. web:/srv/www\ntar -c x | wabe cp - web:/srv",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 2,
	.complete = "instance",
	.run = run,
};
