/* Which of a disk's file systems holds a Linux system; its files as a tar, in a confined child. */
#include "image/disk-tree.h"

#include "base/str.h"
#include "image/disk-priv.h"
#include "image/ext-tree.h"
#include "image/layer-confine.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define TREE "tree.tar"

static bool marked(int disk, const struct disk_part *p, uint64_t at, const void *mark, size_t n) {
	uint8_t there[16];
	return n <= sizeof there && at + n <= p->size && pread(disk, there, n, (off_t)(p->at + at)) == (ssize_t)n && memcmp(there, mark, n) == 0;
}

static bool is_ext(int disk, const struct disk_part *p) {
	return marked(disk, p, 1024 + 56, "\x53\xef", 2);
}

/* What else it may be that has a Linux system in it; NULL. */
static const char *other_kind(int disk, const struct disk_part *p) {
	static const struct {
		uint64_t at;
		const char *mark;
		size_t n;
		const char *name;
	} known[] = {
		{0, "XFSB", 4, "xfs"}, {65536 + 64, "_BHRfS_M", 8, "btrfs"}, {0, "LUKS\xba\xbe", 6, "an encrypted volume (LUKS)"},
		{512, "LABELONE", 8, "volumes of LVM"}, {1024, "\x10\x20\xf5\xf2", 4, "f2fs"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (marked(disk, p, known[i].at, known[i].mark, known[i].n))
			return known[i].name;
	return NULL;
}

static bool is_system(void *fs) {
	return ext_has(fs, "/etc/os-release") || ext_has(fs, "/usr/lib/os-release") || (ext_has(fs, "/etc/passwd") && ext_has(fs, "/bin/sh"));
}

static int none(int disk, const struct disk_part *parts, int n, struct error *err) {
	for (int i = 0; i < n; i++) {
		const char *kind = other_kind(disk, &parts[i]);
		if (kind)
			return error_set(err, ERROR_UNSUPPORTED, "the disk has %s, which is not read here: ext2, ext3 and ext4 are", kind);
	}
	return error_set(err, ERROR_NOT_FOUND, "there is no Linux system on the disk (no ext2, ext3 or ext4 with /etc/os-release, or /etc/passwd and /bin/sh)");
}

static int write_tree(void *fs, int root, struct error *err) {
	_cleanup_(close_fd) int out = openat(root, TREE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return out < 0 ? error_errno(err, errno, "cannot keep the disk's files") : ext_tree(fs, out, err);
}

/* A file system that cannot be read is told of if no other one will do. */
static int work(UNUSED struct confine_job *job, UNUSED struct confined *self, int root, UNUSED struct confine_result *result, struct error *err) {
	struct disk_part parts[DISK_PARTS_MAX];
	struct error why = ERROR_INIT;
	int n = disk_parts(STDIN_FILENO, parts, err);
	for (int i = 0; i < n; i++) {
		void *fs;
		if (!is_ext(STDIN_FILENO, &parts[i]))
			continue;
		error_free(&why);
		if (ext_open(STDIN_FILENO, &parts[i], &fs, &why) < 0)
			continue;
		if (is_system(fs)) {
			int r = write_tree(fs, root, err);
			ext_close(fs);
			return r;
		}
		ext_close(fs);
	}
	if (n < 0)
		return n;
	return why.kind ? error_move(err, &why) : none(STDIN_FILENO, parts, n, err);
}

static int nothing(UNUSED struct confine_job *job, UNUSED int archive, UNUSED struct error *err) {
	return 0;
}

static int no_threads(UNUSED struct confine_job *job, UNUSED struct error *err) {
	return 0;
}

int disk_tree(int disk, int dir, struct error *err) {
	struct confine_job job = {.archive = disk, .root = dir, .prepare = nothing, .start = no_threads, .work = work};
	struct confine_result result = {0};
	return confine_run(&job, &result, err);
}
