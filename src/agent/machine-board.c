/* What a machine's board remembers (machine-firmware.c), kept with its snapshots and taken along by clones: in the instance's directory
 * boards/<snapshot>/ has the same names as the directory itself. The TPM's directory belongs to the machine: nothing in it is
 * followed, and there is an end to what is copied. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 32
#define FILE_MAX ((off_t)64 << 20)
#define TPM "tpm"

static const char *const variables[] = {"uefi", "uefi-secure"};

static char *board_path(const struct agent *a, const char *id, const char *snapshot) {
	_cleanup_(free_ptr) char *name = str_format("boards/%s", snapshot);
	return instance_path(a, id, name);
}

/* A regular file, with its owner; one that is not there is none. */
static int copy_file(int from_dir, int to_dir, const char *name) {
	_cleanup_(close_fd) int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), to = -1;
	struct stat st;
	if (from < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(from, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		return -EINVAL;
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = to < 0 ? -errno : fs_copy(from, to, NULL);
	return r == 0 && (fchown(to, st.st_uid, st.st_gid) < 0 || fsync(to) < 0) ? -errno : r;
}

static int copy_tpm(int from_dir, int to_dir) {
	_cleanup_(close_fd) int from = openat(from_dir, TPM, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), to = -1;
	_cleanup_(strv_free_ptr) char **names = NULL;
	struct stat st;
	if (from < 0)
		return errno == ENOENT ? 0 : -errno;
	int r = fstat(from, &st) < 0 ? -errno : fs_names(from, &names);
	if (r == 0 && strv_len(names) > FILES_MAX)
		r = -E2BIG;
	if (r == 0 && (mkdirat(to_dir, TPM, 0700) < 0 || (to = openat(to_dir, TPM, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0 ||
		       fchown(to, st.st_uid, st.st_gid) < 0))
		r = -errno;
	for (char **n = names; r == 0 && n && *n; n++)
		r = copy_file(from, to, *n);
	return r == 0 && fsync(to) < 0 ? -errno : r;
}

static int copy_all(const char *from_path, const char *to_path, struct error *err) {
	_cleanup_(close_fd) int from = open(from_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), to = open(to_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = from < 0 || to < 0 ? -errno : 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(variables); i++)
		r = copy_file(from, to, variables[i]);
	if (r == 0)
		r = copy_tpm(from, to);
	if (r == 0 && fsync(to) < 0)
		r = -errno;
	return r < 0 ? error_errno(err, r, "cannot copy what the machine's board remembers from %s", from_path) : 0;
}

static bool has_board(const char *dir) {
	_cleanup_(free_ptr) char *plain = str_format("%s/uefi", dir), *secure = str_format("%s/uefi-secure", dir), *tpm = str_format("%s/" TPM, dir);
	return fs_exists(plain) || fs_exists(secure) || fs_exists(tpm);
}

int board_keep(const struct agent *a, const char *id, const char *snapshot, struct error *err) {
	_cleanup_(free_ptr) char *dir = instance_path(a, id, NULL), *to = board_path(a, id, snapshot), *making = instance_path(a, id, "board.new");
	if (!has_board(dir))
		return board_drop(a, id, snapshot, err);
	int r = fs_remove_tree(making);
	if (r == 0 && mkdir(making, 0700) < 0)
		r = -errno;
	if (r < 0)
		return error_errno(err, r, "cannot make %s", making);
	r = copy_all(dir, making, err);
	fault_point("board.copied");
	return r < 0 ? r : memory_settle(making, to, err);
}

int board_drop(const struct agent *a, const char *id, const char *snapshot, struct error *err) {
	_cleanup_(free_ptr) char *path = board_path(a, id, snapshot);
	int r = fs_remove_tree(path);
	return r < 0 ? error_errno(err, r, "cannot remove %s", path) : 0;
}

/* In one step; what was there is then beside the copy, and goes with it. */
static int put_back(const char *from, const char *dir, const char *name) {
	_cleanup_(free_ptr) char *new = str_format("%s/%s", from, name), *now = str_format("%s/%s", dir, name);
	if (!fs_exists(new))
		return rename(now, new) < 0 && errno != ENOENT ? -errno : 0;
	unsigned flags = fs_exists(now) ? RENAME_EXCHANGE : RENAME_NOREPLACE;
	return renameat2(AT_FDCWD, new, AT_FDCWD, now, flags) < 0 ? -errno : 0;
}

int board_restore(const struct agent *a, const char *id, const char *snapshot, struct error *err) {
	_cleanup_(free_ptr) char *dir = instance_path(a, id, NULL), *from = board_path(a, id, snapshot), *making = instance_path(a, id, "board.new");
	if (!fs_exists(from))
		return 0; /* there was none, or it is older than boards are kept */
	int r = fs_remove_tree(making);
	if (r == 0 && mkdir(making, 0700) < 0)
		r = -errno;
	if (r < 0)
		return error_errno(err, r, "cannot make %s", making);
	r = copy_all(from, making, err);
	if (r < 0)
		return r;
	r = put_back(making, dir, TPM);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(variables); i++)
		r = put_back(making, dir, variables[i]);
	fault_point("board.restored");
	if (r == 0)
		r = fs_remove_tree(making);
	return r < 0 ? error_errno(err, r, "cannot put back what the machine's board remembered") : 0;
}

int board_clone(const struct agent *a, const char *id, const char *snapshot, const char *dir, struct error *err) {
	_cleanup_(free_ptr) char *from = snapshot ? board_path(a, id, snapshot) : instance_path(a, id, NULL);
	return fs_exists(from) ? copy_all(from, dir, err) : 0;
}
