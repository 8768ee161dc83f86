/* Copies of trees and blocks: everything that a tree may hold comes along, owners move where they shall, links are copied and
 * never followed, damage is noticed. As root, on file systems in loop files, in a mount name space of its own. */
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "driver/storage/storage-priv.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#define BASE 165536u
#define SHIFT 65536

static char *top;
static struct error err;

#define OK(call)                                                     \
	do {                                                         \
		int ok_ = (call);                                    \
		if (ok_ < 0)                                         \
			fail_msg("%s: %s", #call, error_text(&err)); \
	} while (0)
#define FAILS(kind, call) assert_int_equal((call), -(kind))

/* cap_net_raw=ep, for a user name space whose root is BASE */
static const uint8_t capability[24] = {1, 0, 0, 3, 0, 0x20, [20] = BASE & 255, BASE >> 8 & 255, BASE >> 16 & 255};
/* user::rw-,user:BASE+7:r--,group::r--,mask::r--,other::--- */
static const uint32_t acl_user = BASE + 7;

static void in(const char *dir, const char *name, char out[512]) {
	snprintf(out, 512, "%s/%s/%s", top, dir, name);
}

static void fresh(const char *dir) {
	char path[512];
	in(dir, ".", path);
	path[strlen(path) - 2] = '\0';
	assert_int_equal(fs_remove_tree(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void set_acl(const char *path) {
	uint8_t acl[4 + 5 * 8] = {2};
	static const struct {
		uint16_t tag, perm;
		uint32_t id;
	} rows[] = {{1, 6, ~0U}, {2, 4, BASE + 7}, {4, 4, ~0U}, {0x10, 4, ~0U}, {0x20, 0, ~0U}};
	for (size_t i = 0; i < 5; i++) {
		memcpy(acl + 4 + 8 * i, &rows[i].tag, 2);
		memcpy(acl + 6 + 8 * i, &rows[i].perm, 2);
		memcpy(acl + 8 + 8 * i, &rows[i].id, 4);
	}
	assert_int_equal(setxattr(path, "system.posix_acl_access", acl, sizeof acl, 0), 0);
}

/* A bit of everything, the owners from BASE on. */
static void plant(const char *dir) {
	char path[512], other[512];
	fresh(dir);
	in(dir, "file", path);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "content", 7), 7);
	assert_int_equal(fchown(fd, BASE + 5, BASE + 6), 0);
	assert_int_equal(fchmod(fd, 06755), 0);
	assert_int_equal(fsetxattr(fd, "security.capability", capability, sizeof capability, 0), 0);
	assert_int_equal(fsetxattr(fd, "user.note", "hello", 5, 0), 0);
	assert_int_equal(fsetxattr(fd, "trusted.overlay.metacopy", "", 0, 0), 0);
	close(fd);
	in(dir, "sub", path);
	assert_int_equal(mkdir(path, 0711), 0);
	assert_int_equal(chown(path, BASE, BASE), 0);
	assert_int_equal(setxattr(path, "trusted.overlay.opaque", "y", 1, 0), 0);
	in(dir, "sub/link", other);
	in(dir, "file", path);
	assert_int_equal(link(path, other), 0);
	in(dir, "sub/holes", path);
	fd = open(path, O_RDWR | O_CREAT, 0640);
	assert_int_equal(ftruncate(fd, 64 << 20), 0);
	assert_int_equal(pwrite(fd, "x", 1, 32 << 20), 1);
	set_acl(path);
	assert_int_equal(fchown(fd, BASE, BASE), 0);
	close(fd);
	in(dir, "out", path);
	assert_int_equal(symlink("/etc", path), 0);
	assert_int_equal(lchown(path, BASE + 1, BASE + 1), 0);
	in(dir, "white", path);
	assert_int_equal(mknod(path, S_IFCHR, makedev(0, 0)), 0);
	assert_int_equal(chown(path, BASE, BASE), 0);
	in(dir, "pipe", path);
	assert_int_equal(mkfifo(path, 0622), 0);
	assert_int_equal(chown(path, BASE, BASE), 0);
	in(dir, ".", path);
	assert_int_equal(chown(path, BASE, BASE), 0);
	assert_int_equal(chmod(path, 01777), 0);
	struct timespec old[2] = {{1000, 1}, {2000, 2}};
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
}

static void has_owner(const char *dir, const char *name, uint32_t uid, uint32_t gid, mode_t mode) {
	char path[512];
	struct stat st;
	in(dir, name, path);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_uid, uid);
	assert_int_equal(st.st_gid, gid);
	assert_int_equal(st.st_mode, mode);
}

static void is_planted(const char *dir, uint32_t base) {
	char path[512], other[512];
	uint8_t value[256];
	struct stat a, b;
	has_owner(dir, "file", base + 5, base + 6, S_IFREG | 06755);
	has_owner(dir, "sub", base, base, S_IFDIR | 0711);
	has_owner(dir, ".", base, base, S_IFDIR | 01777);
	has_owner(dir, "pipe", base, base, S_IFIFO | (0622 & ~022));
	has_owner(dir, "out", base + 1, base + 1, S_IFLNK | 0777);
	in(dir, "file", path);
	in(dir, "sub/link", other);
	assert_int_equal(stat(path, &a), 0);
	assert_int_equal(stat(other, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(a.st_nlink, 2);
	uint8_t wanted[24];
	memcpy(wanted, capability, sizeof wanted);
	memcpy(wanted + 20, &base, 4);
	assert_int_equal(getxattr(path, "security.capability", value, sizeof value), base ? 24 : 20);
	if (base)
		assert_memory_equal(value, wanted, sizeof wanted);
	assert_int_equal(getxattr(path, "user.note", value, sizeof value), 5);
	assert_int_equal(getxattr(path, "trusted.overlay.metacopy", value, sizeof value), 0);
	in(dir, "sub", path);
	assert_int_equal(getxattr(path, "trusted.overlay.opaque", value, sizeof value), 1);
	in(dir, "sub/holes", path);
	assert_int_equal(stat(path, &a), 0);
	assert_int_equal(a.st_size, 64 << 20);
	assert_true(a.st_blocks < 2048);
	assert_int_equal(getxattr(path, "system.posix_acl_access", value, sizeof value), 44);
	uint32_t id;
	memcpy(&id, value + 16, 4);
	assert_int_equal(id, acl_user - BASE + base);
	in(dir, "white", path);
	assert_int_equal(lstat(path, &a), 0);
	assert_true(S_ISCHR(a.st_mode) && a.st_rdev == makedev(0, 0));
	in(dir, ".", path);
	assert_int_equal(stat(path, &a), 0);
	assert_int_equal(a.st_mtim.tv_sec, 2000);
	char **names = NULL;
	int fd = open(path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(fs_names(fd, &names), 0);
	close(fd);
	assert_int_equal(strv_len(names), 5);
	strv_free(names);
}

static int copy(const char *from, const char *to, int64_t shift, const struct storage_copy *c) {
	char a[512], b[512];
	in(from, ".", a);
	in(to, ".", b);
	a[strlen(a) - 2] = b[strlen(b) - 2] = '\0';
	return storage_copy_tree(a, b, shift, c, &err);
}

/* From and to each of these. */
static const char *const places[] = {"ext4", "btrfs", "xfs"};

static void test_trees(void **state) {
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		for (size_t k = 0; k < ARRAY_SIZE(places); k++) {
			char from[64], to[64];
			snprintf(from, sizeof from, "%s/from", places[i]);
			snprintf(to, sizeof to, "%s/to", places[k]);
			plant(from);
			fresh(to);
			OK(copy(from, to, 0, NULL));
			is_planted(to, BASE);
			fresh(to);
			OK(copy(from, to, SHIFT, NULL));
			is_planted(to, BASE + SHIFT);
			FAILS(ERROR_CONFLICT, copy(from, to, 0, NULL));
			is_planted(from, BASE);
		}
}

static void test_to_the_host_and_back(void **state) {
	(void)state;
	plant("ext4/from");
	fresh("ext4/host");
	fresh("ext4/back");
	OK(copy("ext4/from", "ext4/host", -(int64_t)BASE, NULL));
	is_planted("ext4/host", 0);
	OK(copy("ext4/host", "ext4/back", BASE, NULL));
	is_planted("ext4/back", BASE);
}

static void test_owners_in_place(void **state) {
	char path[512];
	(void)state;
	plant("ext4/from");
	in("ext4", "from", path);
	OK(storage_shift_owners(path, SHIFT, &err));
	is_planted("ext4/from", BASE + SHIFT);
	OK(storage_shift_owners(path, -SHIFT, &err));
	is_planted("ext4/from", BASE);
	/* what the host's root made for a tree of a user name space stays its */
	in("ext4", "from/work", path);
	assert_int_equal(mkdir(path, 0), 0);
	in("ext4", "from", path);
	OK(storage_shift_owners(path, SHIFT, &err));
	has_owner("ext4/from", "work", 0, 0, S_IFDIR);
	has_owner("ext4/from", "file", BASE + SHIFT + 5, BASE + SHIFT + 6, S_IFREG | 06755);
}

static void test_owners_of_two_ranges_are_refused(void **state) {
	char path[512];
	(void)state;
	plant("ext4/from");
	fresh("ext4/to");
	in("ext4", "from/sub", path);
	assert_int_equal(chown(path, BASE + 70000, BASE), 0);
	FAILS(ERROR_INVALID, copy("ext4/from", "ext4/to", SHIFT, NULL));
	assert_int_equal(chown(path, 12, BASE), 0);
	FAILS(ERROR_INVALID, copy("ext4/from", "ext4/to", SHIFT, NULL));
	assert_int_equal(chown(path, BASE, BASE), 0);
	FAILS(ERROR_INVALID, copy("ext4/from", "ext4/to", -(int64_t)BASE - 1, NULL));
	FAILS(ERROR_INVALID, copy("ext4/from", "ext4/to", INT64_C(1) << 32, NULL));
	OK(copy("ext4/from", "ext4/to", 0, NULL));
}

static void test_deeper_than_descriptors(void **state) {
	char path[512];
	(void)state;
	fresh("ext4/from");
	fresh("ext4/to");
	in("ext4", "from", path);
	int at = open(path, O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 3000; i++) {
		assert_int_equal(mkdirat(at, "d", 0755), 0);
		int next = openat(at, "d", O_RDONLY | O_DIRECTORY);
		close(at);
		at = next;
		assert_true(at >= 0);
	}
	int fd = openat(at, "bottom", O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	close(at);
	OK(copy("ext4/from", "ext4/to", 0, NULL));
	_cleanup_(free_ptr) char *a = NULL, *b = NULL;
	struct owner_shift none = {0};
	OK(storage_tree_digest(path, &none, &a, &err));
	in("ext4", "to", path);
	OK(storage_tree_digest(path, &none, &b, &err));
	assert_string_equal(a, b);
}

/* A link that points out, where the tree's own root is one, and a mount in the way. */
static void test_nothing_outside_is_touched(void **state) {
	char path[512], outside[512];
	(void)state;
	fresh("ext4/from");
	fresh("ext4/to");
	fresh("ext4/outside");
	in("ext4", "outside", outside);
	in("ext4", "from/sub", path);
	assert_int_equal(symlink(outside, path), 0);
	OK(copy("ext4/from", "ext4/to", 0, NULL));
	in("ext4", "to/sub", path);
	char target[512] = "";
	assert_true(readlink(path, target, sizeof target - 1) > 0);
	assert_string_equal(target, outside);
	fresh("ext4/to");
	in("ext4", "from/mount", path);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(mount("wabe-test", path, "tmpfs", 0, NULL), 0);
	assert_true(copy("ext4/from", "ext4/to", 0, NULL) < 0);
	assert_int_equal(umount2(path, 0), 0);
	in("ext4", "from/sub", path);
	in("ext4", "to", outside);
	assert_true(storage_copy_tree(path, outside, 0, NULL, &err) < 0);
}

static void spoil(void *arg, int64_t done, int64_t total) {
	(void)done, (void)total;
	_cleanup_(close_fd) int fd = open(arg, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		assert_int_equal(pwrite(fd, "y", 1, 10), 1);
}

static void test_damage_is_noticed(void **state) {
	char from[512], to[512];
	(void)state;
	fresh("ext4/from");
	fresh("ext4/to");
	in("ext4/from", "big", from);
	int fd = open(from, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "0123456789abcdef", 16), 16);
	close(fd);
	in("ext4/to", "big", to);
	struct storage_copy c = {spoil, to};
	FAILS(ERROR_CORRUPT, copy("ext4/from", "ext4/to", 0, &c));
	assert_true(strstr(error_text(&err), "SHA-256") != NULL);
}

static void test_blocks(void **state) {
	char from[512], to[512];
	struct stat st;
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		in(places[0], "disk", from);
		in(places[i], "copy", to);
		int fd = open(from, O_RDWR | O_CREAT | O_TRUNC, 0600);
		assert_int_equal(ftruncate(fd, 64 << 20), 0);
		assert_int_equal(pwrite(fd, "begin", 5, 0), 5);
		assert_int_equal(pwrite(fd, "end", 3, (64 << 20) - 3), 3);
		close(fd);
		fd = open(to, O_RDWR | O_CREAT | O_TRUNC, 0600);
		assert_int_equal(ftruncate(fd, 96 << 20), 0);
		OK(storage_copy_block(from, to, NULL, &err));
		char text[8] = "";
		assert_int_equal(pread(fd, text, 3, (64 << 20) - 3), 3);
		assert_string_equal(text, "end");
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_size, 96 << 20);
		assert_true(st.st_blocks < 4096);
		assert_int_equal(ftruncate(fd, 1 << 20), 0);
		close(fd);
		FAILS(ERROR_INVALID, storage_copy_block(from, to, NULL, &err));
	}
}

static void test_block_to_a_device_with_old_content(void **state) {
	char from[512], to[512];
	_cleanup_(free_ptr) char *device = NULL;
	(void)state;
	in("ext4", "disk", from);
	in("ext4", "copy", to);
	int fd = open(from, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(ftruncate(fd, 16 << 20), 0);
	assert_int_equal(pwrite(fd, "begin", 5, 8 << 20), 5);
	close(fd);
	fd = open(to, O_RDWR | O_CREAT | O_TRUNC, 0600);
	_cleanup_(free_ptr) char *junk = alloc_zero(16 << 20);
	memset(junk, 'j', 16 << 20);
	assert_int_equal(fs_write_all(fd, junk, 16 << 20), 0);
	close(fd);
	_cleanup_(close_fd) int loop = storage_loop_attach(to, false, &device, &err);
	assert_true(loop >= 0);
	OK(storage_copy_block(from, device, NULL, &err));
}

static void run(const char *const *argv) {
	if (proc_run_ok(&(struct proc){.argv = (char *const *)argv}, &err) < 0)
		fail_msg("%s", error_text(&err));
}
#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

static int begin(void **state) {
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		_cleanup_(free_ptr) char *image = str_format("%s/%s.img", top, places[i]);
		_cleanup_(free_ptr) char *dir = str_format("%s/%s", top, places[i]);
		_cleanup_(free_ptr) char *make = str_format("mkfs.%s", places[i]);
		RUN("truncate", "-s", "512M", image);
		RUN(make, "-q", image);
		assert_int_equal(mkdir(dir, 0700), 0);
		RUN("mount", "-o", "loop", image, dir);
	}
	return 0;
}

static int end(void **state) {
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		_cleanup_(free_ptr) char *dir = str_format("%s/%s", top, places[i]);
		umount2(dir, MNT_DETACH);
	}
	error_free(&err);
	return 0;
}

int main(void) {
	char dir[] = "/var/tmp/wabe-copy-XXXXXX";
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trees),
		cmocka_unit_test(test_to_the_host_and_back),
		cmocka_unit_test(test_owners_in_place),
		cmocka_unit_test(test_owners_of_two_ranges_are_refused),
		cmocka_unit_test(test_deeper_than_descriptors),
		cmocka_unit_test(test_nothing_outside_is_touched),
		cmocka_unit_test(test_damage_is_noticed),
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_block_to_a_device_with_old_content),
	};
	if (geteuid() != 0) {
		printf("1..0 # SKIP needs root\n");
		return 0;
	}
	umask(022);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !mkdtemp(dir) ||
	    mount("wabe-test", dir, "tmpfs", 0, "size=3g") < 0) /* goes with us, and fsync is free */
		return 1;
	top = dir;
	int failed = cmocka_run_group_tests(tests, begin, end);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	return failed;
}
