/* Copies into and out of a machine whose files are its guest's alone: the agent in it has the guest's tar pack them into a file that
 * is fetched, or unpack one that has been brought. What comes out is as the guest gives it. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/guest.h"
#include "driver/qemu/lines.h"

#include <sys/stat.h>
#include <unistd.h>

#define CALL_WAIT (60 * NS_PER_SEC)
#define TEXT_MAX ((size_t)8192)

/* $1 and so on are the arguments. */
static int run(const struct job *j, const char *script, char *const *args, char **out, struct error *err) {
	_cleanup_(strv_free_ptr) char **argv = NULL;
	const char *const shell[] = {"sh", "-c", script, "sh"};
	struct guest_result result;
	for (size_t i = 0; i < ARRAY_SIZE(shell); i++)
		strv_add(&argv, shell[i]);
	for (; args && *args; args++)
		strv_add(&argv, *args);
	int r = machine_guest_run(j->agent, j->id, argv, &result, err);
	if (r == 0 && result.status != 0) {
		_cleanup_(free_ptr) char *words = lines_words(buf_str(&result.err));
		enum error_kind kind = strstr(words, "No such file") ? ERROR_NOT_FOUND : ERROR_CONFLICT;
		r = error_set(err, kind, "in machine %.12s: %s", j->id, words);
	}
	if (r == 0 && out)
		*out = str_copyn(buf_str(&result.out), MIN(result.out.len, TEXT_MAX));
	guest_result_free(&result);
	return r;
}

/* The path of a file that the script has made, on a line. */
static int made_file(char *text, char **path, struct error *err) {
	text[strcspn(text, "\n")] = '\0';
	if (text[0] != '/')
		return error_set(err, ERROR_CORRUPT, "the guest tells no path of the file that it has made");
	*path = str_copy(text);
	return 0;
}

static void remove_file(const struct job *j, const char *path) {
	char *const args[] = {(char *)path, NULL};
	run(j, "rm -f -- \"$1\"", args, NULL, NULL);
}

/* --- what is there --- */

static int look(const struct job *j, const char *path, struct msg_file *out, struct error *err) {
	char *const args[] = {(char *)path, NULL};
	_cleanup_(free_ptr) char *text = NULL;
	unsigned mode;
	long long size, mtime;
	int at = 0;
	int r = run(j, "stat -c '%f %s %Y' -- \"$1\" && { readlink -- \"$1\" || :; }", args, &text, err);
	if (r < 0)
		return r;
	if (sscanf(text, "%x %lld %lld\n%n", &mode, &size, &mtime, &at) < 3)
		return error_set(err, ERROR_CORRUPT, "the guest's stat does not tell what %s is", path);
	*out = (struct msg_file){.name = file_last_part(path), .size = size, .mode = mode, .mtime = mtime * NS_PER_SEC};
	if (S_ISLNK(mode) && at)
		out->link_target = str_copyn(text + at, strcspn(text + at, "\n"));
	return 0;
}

int machine_file_stat(struct job *j, const struct msg_archive *m, struct error *err) {
	struct msg_file file = {0};
	int r = look(j, m->path, &file, err);
	if (r == 0)
		r = job_answer(j, &file, NULL, 0, err);
	fields_free(&msg_file_table, &file);
	return r;
}

/* --- out --- */

static int fetch(const struct job *j, const char *path, int to, struct error *err) {
	_cleanup_(guest_free_ptr) struct guest *g = NULL;
	int64_t handle;
	int r = machine_guest_open(j->agent, j->id, time_mono_ns() + CALL_WAIT, &g, err);
	if (r == 0)
		r = guest_file_open(g, path, "r", time_mono_ns() + CALL_WAIT, &handle, err);
	if (r < 0)
		return r;
	for (bool end = false; r == 0 && !end;) {
		_cleanup_(buf_free) struct buf chunk = BUF_INIT;
		r = guest_file_read(g, handle, GUEST_CHUNK, time_mono_ns() + CALL_WAIT, &chunk, &end, err);
		if (r == 0 && fs_write_all(to, chunk.data, chunk.len) < 0)
			r = error_set(err, ERROR_CANCELLED, "nobody takes it any more");
	}
	guest_file_close(g, handle, time_mono_ns() + CALL_WAIT, NULL);
	return r;
}

static int pack(const struct job *j, const char *path, const char *name, char **archive, struct error *err) {
	bool content = str_same(name, ".") || str_same(name, "/");
	_cleanup_(free_ptr) char *dir = str_copyn(path, strlen(path));
	if (!content) {
		size_t n = strlen(dir);
		while (n > 1 && dir[n - 1] == '/')
			n--;
		dir[n - strlen(name)] = '\0';
	}
	char *const args[] = {dir, content ? (char *)"." : (char *)name, NULL};
	_cleanup_(free_ptr) char *text = NULL;
	int r = run(j, "f=$(mktemp -p /var/tmp) && { tar -C \"$1\" -cf \"$f\" -- \"$2\" && echo \"$f\" || { rm -f \"$f\"; exit 1; }; }", args, &text, err);
	return r < 0 ? r : made_file(text, archive, err);
}

int machine_file_get(struct job *j, const struct msg_archive *m, struct error *err) {
	_cleanup_(close_fd) int writer = -1;
	_cleanup_(free_ptr) char *archive = NULL;
	struct msg_file file = {0};
	int r = look(j, m->path, &file, err);
	if (r == 0)
		r = pack(j, m->path, file.name, &archive, err);
	if (r == 0)
		r = answer_stream(j, &file, &writer, err);
	if (r == 0)
		r = fetch(j, archive, writer, err);
	if (r == 0)
		guard_finish(&writer);
	if (archive)
		remove_file(j, archive);
	fields_free(&msg_file_table, &file);
	return r;
}

/* --- in --- */

static int bring(const struct job *j, int from, const char *path, struct error *err) {
	_cleanup_(guest_free_ptr) struct guest *g = NULL;
	_cleanup_(free_ptr) char *chunk = alloc_array(GUEST_CHUNK, 1);
	int64_t handle;
	ssize_t n = 1;
	int r = machine_guest_open(j->agent, j->id, time_mono_ns() + CALL_WAIT, &g, err);
	if (r == 0)
		r = guest_file_open(g, path, "w", time_mono_ns() + CALL_WAIT, &handle, err);
	if (r < 0)
		return r;
	while (r == 0 && (n = fs_read_full(from, chunk, GUEST_CHUNK)) > 0)
		r = guest_file_write(g, handle, chunk, (size_t)n, time_mono_ns() + CALL_WAIT, err);
	if (r == 0 && n < 0)
		r = error_errno(err, (int)n, "cannot read the archive");
	guest_file_close(g, handle, time_mono_ns() + CALL_WAIT, r == 0 ? err : NULL);
	return r;
}

static int unpack(const struct job *j, const struct msg_archive *m, const char *archive, struct error *err) {
	char *const args[] = {m->path, (char *)archive, m->keep_owner ? (char *)"--same-owner" : (char *)"--no-same-owner",
			      m->no_overwrite_dir ? (char *)"--no-overwrite-dir" : NULL, NULL};
	return run(j, "d=$1 f=$2; shift 2; tar -C \"$d\" -xpf \"$f\" \"$@\"", args, NULL, err);
}

int machine_file_put(struct job *j, const struct msg_archive *m, struct error *err) {
	_cleanup_(free_ptr) char *text = NULL, *archive = NULL;
	int r = run(j, "mktemp -p /var/tmp", NULL, &text, err);
	if (r == 0)
		r = made_file(text, &archive, err);
	if (r == 0)
		r = bring(j, j->fds[0], archive, err);
	if (r == 0)
		r = unpack(j, m, archive, err);
	if (archive)
		remove_file(j, archive);
	return r < 0 ? r : job_answer(j, NULL, NULL, 0, err);
}
