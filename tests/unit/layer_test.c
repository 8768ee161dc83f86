/* Layers: unpacking (also of hostile and damaged archives), confinement, packing, comparing. As root; in a
 * mount namespace of its own, below a directory of its own in /var/tmp (overlayfs and xattrs are needed). */
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "image/layer-confine.h"
#include "image/layer-extract.h"
#include "image/layer-tar.h"
#include "image/layer-walk.h"
#include "image/layer.h"

#include <archive.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#define FILE_ENTRY(p, text) {.type = '0', .path = (p), .mode = 0644, .data = (text)}
#define DIR_ENTRY(p) {.type = '5', .path = (p), .mode = 0755}
#define LINK_ENTRY(t, p, to) {.type = (t), .path = (p), .link = (to), .mode = 0777}

/* A revision 2 capability set: cap_net_raw=ep. */
static const uint8_t net_raw[20] = {1, 0, 0, 2, 0, 0x20};

struct item {
	char type;
	const char *path, *link, *data;
	uint32_t mode, uid, gid, major, minor;
	struct timespec mtime;
	const struct tar_xattr *xattrs;
	size_t n_xattrs;
};

static char *top; /* this run's directory */

static char *in_top(const char *name) {
	return str_format("%s/%s", top, name);
}

/* An empty directory below top. */
static int fresh(const char *name) {
	_cleanup_(free_ptr) char *path = in_top(name);
	assert_int_equal(fs_remove_tree(path), 0);
	assert_int_equal(mkdir(path, 0755), 0);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int memory_file(const void *data, size_t n) {
	int fd = memfd_create("layer", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, data, n), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static int tar_of(const struct item *items, size_t n) {
	int fd = memfd_create("layer", MFD_CLOEXEC);
	_cleanup_(tar_close) struct tar_writer w = {0};
	tar_open(&w, fd);
	for (size_t i = 0; i < n; i++) {
		const struct item *it = &items[i];
		size_t len = it->data ? strlen(it->data) : 0;
		struct tar_entry e = {.type = it->type, .path = it->path, .link = it->link, .mode = it->mode, .uid = it->uid,
				      .gid = it->gid, .major = it->major, .minor = it->minor, .size = len, .mtime = it->mtime,
				      .xattrs = it->xattrs, .n_xattrs = it->n_xattrs};
		assert_int_equal(tar_add(&w, &e, NULL), 0);
		_cleanup_(close_fd) int data = len ? memory_file(it->data, len) : -1;
		if (len)
			assert_int_equal(tar_file(&w, data, len, NULL), 0);
	}
	assert_int_equal(tar_finish(&w, NULL), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static struct buf content_of(int fd) {
	struct buf b = BUF_INIT;
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(fs_read_fd(fd, 64 << 20, &b), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return b;
}

static void digest_of(const void *data, size_t n, char out[72]) {
	uint8_t raw[32];
	assert_int_equal(EVP_Digest(data, n, raw, NULL, EVP_sha256(), NULL), 1);
	memcpy(out, "sha256:", 8);
	hex_encode(raw, sizeof raw, out + 7);
}

/* Unpacks a plain tar as a layer; the result of layer_unpack. */
static int unpack(int tar, int target, struct error *err) {
	_cleanup_(buf_free) struct buf b = content_of(tar);
	char digest[72];
	digest_of(buf_str(&b), b.len, digest);
	return layer_unpack(tar, NULL, digest, target, NULL, NULL, NULL, err);
}

static void unpack_items(const struct item *items, size_t n, int target) {
	_cleanup_(close_fd) int tar = tar_of(items, n);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (unpack(tar, target, &err) < 0)
		fail_msg("%s", error_text(&err));
}

#define UNPACK(items, target) unpack_items(items, ARRAY_SIZE(items), target)

static void assert_content(int dir, const char *path, const char *text) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	assert_int_equal(fs_read_at(dir, path, 1 << 20, &b), 0);
	assert_string_equal(buf_str(&b), text);
}

static struct stat stat_of(int dir, const char *path) {
	struct stat st;
	if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return st;
}

static void assert_missing(int dir, const char *path) {
	struct stat st;
	assert_int_equal(fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(errno, ENOENT);
}

static void assert_whiteout(int dir, const char *path) {
	struct stat st = stat_of(dir, path);
	assert_true(tree_is_whiteout(&st));
}

static bool opaque_at(int dir, const char *path) {
	_cleanup_(close_fd) int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return tree_is_opaque(fd);
}

static ssize_t xattr_at(int dir, const char *path, const char *name, void *value, size_t size) {
	_cleanup_(close_fd) int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fgetxattr(fd, name, value, size);
}

static void run_ok(const char *const argv[]) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct proc p = {.argv = (char *const *)argv};
	if (proc_run_ok(&p, &err) < 0)
		fail_msg("%s", error_text(&err));
}

static void put_file(int dir, const char *path, const char *text) {
	_cleanup_(close_fd) int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, text, strlen(text)), 0);
}

/* ---- what an archive holds arrives ---- */

static void test_kinds(UNUSED void **state) {
	struct tar_xattr attrs[] = {{"security.capability", (void *)net_raw, sizeof net_raw},
				    {"trusted.overlay.opaque", "y", 1},
				    {"user.colour", "blue", 4}};
	char name[256], deep[600];
	memset(name, 'n', 255);
	name[255] = '\0';
	snprintf(deep, sizeof deep, "%.200s/%.200s/x", name, name);
	struct timespec t = {1234567890, 123456789};
	const struct item items[] = {
		{.type = '5', .path = ".", .mode = 0751, .mtime = t},
		{.type = '5', .path = "d", .mode = 02750, .uid = 5, .gid = 6, .mtime = t, .xattrs = &attrs[2], .n_xattrs = 1},
		{.type = '0', .path = "d/f", .mode = 0640, .uid = 1000, .gid = 1001, .mtime = t, .data = "hello"},
		{.type = '0', .path = "d/suid", .mode = 04755, .uid = 7, .data = "s", .xattrs = attrs, .n_xattrs = 3},
		{.type = '0', .path = "d/suid0", .mode = 06711, .data = "s"},
		LINK_ENTRY('2', "d/link", "/no/where"),
		LINK_ENTRY('1', "d/hard", "d/f"),
		{.type = '6', .path = "fifo", .mode = 0622},
		{.type = '3', .path = "null", .mode = 0666, .major = 1, .minor = 3, .gid = 9},
		{.type = '4', .path = "disk", .mode = 0660, .major = 259, .minor = 70000},
		FILE_ENTRY("/absolute//./x", "a"),
		FILE_ENTRY(name, "long"),
		FILE_ENTRY(deep, "deep"),
		FILE_ENTRY("Cafe\xcc\x81", "nfd"),
		FILE_ENTRY("bytes\xff\xfe", "raw"),
		{.type = '0', .path = "big-ids", .mode = 0600, .uid = 4000000000u, .gid = 3000000},
		{.type = '0', .path = "old", .mode = 0600, .mtime = {-2, 0}},
	};
	_cleanup_(close_fd) int d = fresh("kinds");
	UNPACK(items, d);
	struct stat st = stat_of(d, ".");
	assert_int_equal(st.st_mode & 07777, 0751);
	assert_int_equal(st.st_mtim.tv_sec, t.tv_sec);
	st = stat_of(d, "d");
	assert_int_equal(st.st_mode & 07777, 02750);
	assert_int_equal(st.st_gid, 6);
	assert_int_equal(st.st_mtim.tv_nsec, t.tv_nsec);
	st = stat_of(d, "d/f");
	assert_int_equal(st.st_uid, 1000);
	assert_int_equal(st.st_gid, 1001);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(st.st_mtim.tv_nsec, t.tv_nsec);
	assert_content(d, "d/hard", "hello");
	assert_int_equal(stat_of(d, "d/suid").st_mode & 07777, 04755);
	assert_int_equal(stat_of(d, "d/suid0").st_mode & 07777, 06711);
	assert_int_equal(stat_of(d, "d/suid0").st_gid, 0);
	uint8_t value[64];
	assert_int_equal(xattr_at(d, "d/suid", "security.capability", value, sizeof value), sizeof net_raw);
	assert_memory_equal(value, net_raw, sizeof net_raw);
	assert_int_equal(xattr_at(d, "d/suid", "user.colour", value, sizeof value), 4);
	assert_int_equal(xattr_at(d, "d/suid", "trusted.overlay.opaque", value, sizeof value), -1);
	assert_int_equal(xattr_at(d, "d", "user.colour", value, sizeof value), 4);
	assert_true(S_ISLNK(stat_of(d, "d/link").st_mode));
	assert_int_equal(stat_of(d, "fifo").st_mode, S_IFIFO | 0622);
	assert_int_equal(stat_of(d, "null").st_rdev, makedev(1, 3));
	assert_int_equal(stat_of(d, "null").st_mode, S_IFCHR | 0666);
	assert_int_equal(stat_of(d, "null").st_gid, 9);
	assert_int_equal(stat_of(d, "disk").st_rdev, makedev(259, 70000));
	assert_content(d, "absolute/x", "a");
	assert_int_equal(stat_of(d, "absolute").st_mode & 07777, 0755);
	assert_content(d, name, "long");
	assert_content(d, deep, "deep");
	assert_content(d, "Cafe\xcc\x81", "nfd");
	assert_content(d, "bytes\xff\xfe", "raw");
	assert_int_equal(stat_of(d, "big-ids").st_uid, 4000000000u);
	assert_int_equal(stat_of(d, "big-ids").st_gid, 3000000);
	assert_int_equal(stat_of(d, "old").st_mtim.tv_sec, -2);
}

static void test_sparse_and_gnu(UNUSED void **state) {
	_cleanup_(close_fd) int from = fresh("sparse-from");
	_cleanup_(close_fd) int f = openat(from, "holes", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(pwrite(f, "begin", 5, 0), 5);
	assert_int_equal(pwrite(f, "end", 3, 5 << 20), 3);
	assert_int_equal(ftruncate(f, 64 << 20), 0);
	_cleanup_(free_ptr) char *source = in_top("sparse-from"), *archive = in_top("sparse.tar");
	static const char *const formats[] = {"--format=gnu", "--format=pax"};
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		run_ok((const char *const[]){"tar", "-C", source, formats[i], "--sparse", "-cf", archive, ".", NULL});
		_cleanup_(close_fd) int tar = open(archive, O_RDONLY | O_CLOEXEC);
		_cleanup_(close_fd) int d = fresh("sparse");
		assert_int_equal(unpack(tar, d, NULL), 0);
		struct stat st = stat_of(d, "holes");
		assert_int_equal(st.st_size, 64 << 20);
		assert_true(st.st_blocks * 512 < 4 << 20);
		char text[4] = "";
		_cleanup_(close_fd) int got = openat(d, "holes", O_RDONLY | O_CLOEXEC);
		assert_int_equal(pread(got, text, 3, 5 << 20), 3);
		assert_string_equal(text, "end");
	}
}

static void test_replacing(UNUSED void **state) {
	const struct item items[] = {
		FILE_ENTRY("a", "1"), FILE_ENTRY("a", "2"),
		DIR_ENTRY("b"), FILE_ENTRY("b/x/y", "x"), FILE_ENTRY("b", "now a file"),
		FILE_ENTRY("c", "file"), DIR_ENTRY("c"), FILE_ENTRY("c/in", "in"),
		LINK_ENTRY('2', "l", "a"), FILE_ENTRY("l", "no link"),
		DIR_ENTRY("real"), LINK_ENTRY('2', "via", "real"), FILE_ENTRY("via/f", "through"),
		LINK_ENTRY('1', "a", "a"), LINK_ENTRY('1', "l", "a"),
	};
	_cleanup_(close_fd) int d = fresh("replacing");
	UNPACK(items, d);
	assert_content(d, "a", "2");
	assert_content(d, "b", "now a file");
	assert_content(d, "c/in", "in");
	assert_true(opaque_at(d, "c"));
	assert_content(d, "l", "2");
	assert_content(d, "real/f", "through");
}

static void test_whiteouts(UNUSED void **state) {
	const struct item items[] = {
		FILE_ENTRY("etc/.wh.gone", ""),
		FILE_ENTRY(".wh.first", ""), FILE_ENTRY("first", "stays"),
		FILE_ENTRY("second", "stays"), FILE_ENTRY(".wh.second", ""),
		FILE_ENTRY(".wh.dir1", ""), DIR_ENTRY("dir1"), FILE_ENTRY("dir1/x", "x"),
		FILE_ENTRY(".wh.dir2", ""), FILE_ENTRY("dir2/x", "x"),
		DIR_ENTRY("dir3"), FILE_ENTRY(".wh.dir3", ""),
		DIR_ENTRY("opq"), FILE_ENTRY("opq/.wh..wh..opq", ""), FILE_ENTRY("opq/kept", "k"),
		FILE_ENTRY("new/opq/.wh..wh..opq", ""),
		DIR_ENTRY(".wh..wh.plnk"), FILE_ENTRY(".wh..wh.plnk/1.2", "x"), FILE_ENTRY(".wh..wh.aufs", ""),
		DIR_ENTRY("plain"), FILE_ENTRY("plain/.whatever", "w"),
	};
	_cleanup_(close_fd) int d = fresh("whiteouts");
	UNPACK(items, d);
	assert_whiteout(d, "etc/gone");
	assert_content(d, "first", "stays");
	assert_content(d, "second", "stays");
	static const char *const opaque[] = {"dir1", "dir2", "dir3", "opq", "new/opq"};
	for (size_t i = 0; i < ARRAY_SIZE(opaque); i++)
		assert_true(opaque_at(d, opaque[i]));
	assert_false(opaque_at(d, "plain"));
	assert_content(d, "opq/kept", "k");
	assert_missing(d, ".wh..wh.plnk");
	assert_missing(d, ".wh..wh.aufs");
	assert_content(d, "plain/.whatever", "w");
}

/* ---- compression, digests, damage ---- */

static struct buf gzip_of(const void *data, size_t n) {
	z_stream z = {0};
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	struct buf b = BUF_INIT;
	size_t room = deflateBound(&z, n);
	z.next_in = (void *)data;
	z.avail_in = (uInt)n;
	z.next_out = (void *)buf_room(&b, room);
	z.avail_out = (uInt)room;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	buf_grown(&b, z.total_out);
	deflateEnd(&z);
	return b;
}

static struct buf zstd_of(const void *data, size_t n) {
	struct buf b = BUF_INIT;
	size_t room = ZSTD_compressBound(n);
	size_t got = ZSTD_compress(buf_room(&b, room), room, data, n, 3);
	assert_false(ZSTD_isError(got));
	buf_grown(&b, got);
	return b;
}

static int unpack_bytes(const void *data, size_t n, const char *type, const char *digest, int target, struct error *err) {
	_cleanup_(close_fd) int blob = memory_file(data, n);
	return layer_unpack(blob, type, digest, target, NULL, NULL, NULL, err);
}

static struct buf sample_tar(char digest[72]) {
	_cleanup_(free_ptr) char *text = alloc_zero(3000001);
	for (size_t i = 0; i < 3000000; i++)
		text[i] = (char)('a' + i * i % 23);
	const struct item items[] = {FILE_ENTRY("small", "1"), FILE_ENTRY("large", text), FILE_ENTRY("last", "2")};
	_cleanup_(close_fd) int tar = tar_of(items, ARRAY_SIZE(items));
	struct buf b = content_of(tar);
	digest_of(b.data, b.len, digest);
	return b;
}

static void count_progress(uint64_t done, uint64_t total, void *arg) {
	uint64_t *last = arg;
	assert_true(done >= *last && done <= total);
	*last = done;
}

static void test_compression(UNUSED void **state) {
	char digest[72];
	_cleanup_(buf_free) struct buf tar = sample_tar(digest);
	_cleanup_(buf_free) struct buf gz = gzip_of(tar.data, tar.len), zst = zstd_of(tar.data, tar.len);
	_cleanup_(buf_free) struct buf members = gzip_of(tar.data, 1000), tail = gzip_of(tar.data + 1000, tar.len - 1000);
	buf_add(&members, tail.data, tail.len);
	buf_add(&members, "\0\0\0\0", 4);
	const struct {
		const struct buf *data;
		const char *type;
		int result;
	} rows[] = {
		{&tar, NULL, 0},
		{&tar, "application/vnd.oci.image.layer.v1.tar", 0},
		{&tar, "application/vnd.docker.image.rootfs.diff.tar", 0},
		{&gz, NULL, 0},
		{&gz, "application/vnd.oci.image.layer.v1.tar+gzip", 0},
		{&gz, "application/vnd.docker.image.rootfs.diff.tar.gzip", 0},
		{&members, NULL, 0},
		{&zst, NULL, 0},
		{&zst, "application/vnd.oci.image.layer.v1.tar+zstd", 0},
		{&gz, "application/vnd.oci.image.layer.v1.tar+zstd", -ERROR_CORRUPT},
		{&tar, "application/vnd.oci.image.layer.v1.tar+gzip", -ERROR_CORRUPT},
		{&tar, "application/x-something", -ERROR_UNSUPPORTED},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(close_fd) int d = fresh("compression");
		_cleanup_(close_fd) int blob = memory_file(rows[i].data->data, rows[i].data->len);
		uint64_t size = 0, done = 0;
		int r = layer_unpack(blob, rows[i].type, digest, d, &size, count_progress, &done, NULL);
		assert_int_equal(r, rows[i].result);
		if (r < 0)
			continue;
		assert_int_equal(size, 3000002);
		assert_int_equal(done, rows[i].data->len);
		assert_content(d, "last", "2");
	}
}

static void test_damage(UNUSED void **state) {
	char digest[72], padded_digest[72];
	_cleanup_(buf_free) struct buf tar = sample_tar(digest);
	_cleanup_(buf_free) struct buf gz = gzip_of(tar.data, tar.len), zst = zstd_of(tar.data, tar.len);
	struct buf *const all[] = {&tar, &gz, &zst};
	_cleanup_(close_fd) int d = fresh("damage");
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		size_t cuts[] = {0, 1, 3, 100, all[i]->len / 2, all[i]->len - 1};
		for (size_t c = 0; c < ARRAY_SIZE(cuts); c++)
			assert_int_equal(unpack_bytes(all[i]->data, cuts[c], NULL, digest, d, NULL), -ERROR_CORRUPT);
		all[i]->data[all[i]->len / 2] ^= 0x10;
		assert_int_equal(unpack_bytes(all[i]->data, all[i]->len, NULL, digest, d, NULL), -ERROR_CORRUPT);
		all[i]->data[all[i]->len / 2] ^= 0x10;
	}
	/* what follows the end of the tar counts for the digest */
	_cleanup_(buf_free) struct buf padded = BUF_INIT;
	buf_add(&padded, tar.data, tar.len);
	for (size_t i = 0; i < 700000; i++)
		buf_addc(&padded, (char)(i & 1));
	digest_of(padded.data, padded.len, padded_digest);
	assert_int_equal(unpack_bytes(padded.data, padded.len, NULL, padded_digest, d, NULL), 0);
	assert_int_equal(unpack_bytes(padded.data, padded.len, NULL, digest, d, NULL), -ERROR_CORRUPT);
	/* layers without entries */
	_cleanup_(buf_free) struct buf zeros = BUF_INIT;
	for (size_t i = 0; i < 1024; i++)
		buf_addc(&zeros, '\0');
	digest_of(zeros.data, zeros.len, digest);
	assert_int_equal(unpack_bytes(zeros.data, zeros.len, NULL, digest, d, NULL), 0);
	digest_of("", 0, digest);
	assert_int_equal(unpack_bytes("", 0, NULL, digest, d, NULL), 0);
	/* no tar at all */
	const char *text = "this is a letter to you, and no archive\n";
	digest_of(text, strlen(text), digest);
	assert_int_equal(unpack_bytes(text, strlen(text), NULL, digest, d, NULL), -ERROR_CORRUPT);
}

static void test_no_space(UNUSED void **state) {
	close(fresh("small"));
	_cleanup_(free_ptr) char *path = in_top("small");
	assert_int_equal(mount("tmpfs", path, "tmpfs", 0, "size=1m"), 0);
	_cleanup_(close_fd) int d = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char digest[72];
	_cleanup_(buf_free) struct buf tar = sample_tar(digest), gz = gzip_of(tar.data, tar.len);
	assert_int_equal(unpack_bytes(gz.data, gz.len, NULL, digest, d, NULL), -ERROR_NO_SPACE);
	close_fd(&d);
	assert_int_equal(umount(path), 0);
}

/* ---- archives that try to get out, or to confuse ---- */

static void test_hostile(UNUSED void **state) {
	_cleanup_(close_fd) int outside = fresh("outside");
	_cleanup_(close_fd) int f = openat(outside, "precious", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(f, "untouched", 9), 9);
	_cleanup_(free_ptr) char *out = in_top("outside"), *precious = in_top("outside/precious");
	_cleanup_(free_ptr) char *relative = str_format("../../../../../..%s", out);
	char longest[5000];
	for (size_t i = 0; i < sizeof longest; i++)
		longest[i] = i % 2 ? '/' : 'a';
	longest[sizeof longest - 1] = '\0';
	const struct {
		int result;
		struct item items[3];
	} rows[] = {
		{-ERROR_INVALID, {FILE_ENTRY("../outside/precious", "bad")}},
		{-ERROR_INVALID, {FILE_ENTRY("a/../../outside/precious", "bad")}},
		{-ERROR_INVALID, {FILE_ENTRY("..", "bad")}},
		{-ERROR_INVALID, {LINK_ENTRY('1', "x", "../outside/precious")}},
		{-ERROR_INVALID, {LINK_ENTRY('1', "x", precious)}},
		{-ERROR_INVALID, {LINK_ENTRY('2', "s", out), FILE_ENTRY("s/precious", "bad")}},
		{-ERROR_INVALID, {LINK_ENTRY('2', "s", relative), FILE_ENTRY("s/precious", "bad")}},
		{0, {LINK_ENTRY('2', "s", "/"), FILE_ENTRY("s/precious", "inside")}},
		{0, {LINK_ENTRY('2', "s", "../../../.."), FILE_ENTRY("s/outside/precious", "inside")}},
		{-ERROR_INVALID, {LINK_ENTRY('2', "s", out), LINK_ENTRY('1', "h", "s/precious")}},
		{-ERROR_INVALID, {LINK_ENTRY('2', "s", relative), LINK_ENTRY('1', "h", "s/precious"), FILE_ENTRY("h", "bad")}},
		{0, {LINK_ENTRY('2', "f", precious), FILE_ENTRY("f", "bad")}},
		{0, {LINK_ENTRY('2', "s", out), LINK_ENTRY('1', "h", "s"), FILE_ENTRY("h", "bad")}},
		{0, {FILE_ENTRY("proc/self/root/x", "bad")}},
		{-ERROR_INVALID, {LINK_ENTRY('2', "loop", "loop"), FILE_ENTRY("loop/x", "bad")}},
		{-ERROR_INVALID, {{.type = '3', .path = "dev", .mode = 0666}}},
		{-ERROR_INVALID, {LINK_ENTRY('1', "h", "missing")}},
		{-ERROR_INVALID, {FILE_ENTRY(".wh.w", ""), LINK_ENTRY('1', "h", "w")}},
		{-ERROR_INVALID, {DIR_ENTRY("d"), LINK_ENTRY('1', "h", "d")}},
		{-ERROR_INVALID, {FILE_ENTRY("f", "1"), FILE_ENTRY("f/x", "2")}},
		{-ERROR_INVALID, {FILE_ENTRY(".wh.", "")}},
		{-ERROR_INVALID, {FILE_ENTRY(".wh...", "")}},
		{-ERROR_INVALID, {FILE_ENTRY(".", "root as a file")}},
		{-ERROR_INVALID, {LINK_ENTRY('2', "/", "elsewhere")}},
		{-ERROR_INVALID, {FILE_ENTRY(longest, "x")}},
		{-ERROR_INVALID, {{.type = '0', .path = "id", .uid = UINT32_MAX}}},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t n = 0;
		while (n < ARRAY_SIZE(rows[i].items) && rows[i].items[n].path)
			n++;
		_cleanup_(close_fd) int d = fresh("hostile");
		_cleanup_(close_fd) int tar = tar_of(rows[i].items, n);
		_cleanup_(error_free) struct error err = ERROR_INIT;
		int r = unpack(tar, d, &err);
		if (r != rows[i].result)
			fail_msg("row %zu: %d %s", i, r, error_text(&err));
		assert_content(outside, "precious", "untouched");
		assert_int_equal(stat_of(outside, "precious").st_nlink, 1);
	}
	_cleanup_(strv_free_ptr) char **names = NULL;
	assert_int_equal(fs_names(outside, &names), 0);
	assert_int_equal(strv_len(names), 1);
}

static void test_limits(UNUSED void **state) {
	const struct item items[] = {FILE_ENTRY("1", ""), FILE_ENTRY("2", ""), FILE_ENTRY("3", ""), FILE_ENTRY("4", "")};
	_cleanup_(close_fd) int tar = tar_of(items, ARRAY_SIZE(items));
	_cleanup_(close_fd) int d = fresh("limits");
	for (uint64_t max = 3; max <= 4; max++) {
		struct archive *a = archive_read_new();
		archive_read_support_format_tar(a);
		assert_int_equal(lseek(tar, 0, SEEK_SET), 0);
		assert_int_equal(archive_read_open_fd(a, tar, 10240), ARCHIVE_OK);
		struct extract x = {.root = d, .layer = true, .max_entries = max};
		assert_int_equal(extract_archive(&x, a, NULL), max == 3 ? -ERROR_TOO_LARGE : 0);
		archive_read_free(a);
	}
	_cleanup_(free_ptr) char *big = alloc_zero(70000);
	struct tar_xattr attr = {"user.big", big, 70000};
	const struct item wide[] = {{.type = '0', .path = "f", .xattrs = &attr, .n_xattrs = 1}};
	_cleanup_(close_fd) int wide_tar = tar_of(wide, 1);
	assert_int_equal(unpack(wide_tar, d, NULL), -ERROR_TOO_LARGE);
}

/* ---- the confined child itself ---- */

static int nothing(UNUSED struct confine_job *job, UNUSED struct error *err) {
	return 0;
}

static int prepare_nothing(UNUSED struct confine_job *job, UNUSED int archive, UNUSED struct error *err) {
	return 0;
}

/* Names the first thing that was possible and should not be. */
static int try_everything(UNUSED struct confine_job *job, UNUSED struct confined *self, int root, UNUSED struct confine_result *result,
			  struct error *err) {
	struct stat st;
	char *const argv[] = {(char *)"true", NULL};
	const char *broken = NULL;
	if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0)
		broken = "socket";
	else if (fork() >= 0)
		broken = "fork";
	else if (mount("none", "/", "tmpfs", 0, NULL) == 0)
		broken = "mount";
	else if (unshare(CLONE_NEWUSER) == 0)
		broken = "unshare";
	else if (chroot(".") == 0)
		broken = "chroot";
	else if (kill(1, 0) == 0)
		broken = "kill";
	else if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
		broken = "executable memory";
	else if (fstatat(root, "/proc/self", &st, 0) == 0 || fstatat(root, "/etc/passwd", &st, 0) == 0)
		broken = "the host's files";
	else if (fstatat(root, "../../../../etc/passwd", &st, 0) == 0)
		broken = "the way up";
	else if (fsetxattr(root, "trusted.x", "1", 1, 0) == 0)
		broken = "trusted attributes";
	else if (execve("/bin/true", argv, argv + 1) == 0)
		broken = "execve";
	for (int fd = 3; !broken && fd < 1024; fd++)
		if (fd != root && fstat(fd, &st) == 0)
			broken = "an inherited descriptor";
	if (!broken && (mkdirat(root, "made", 0755) < 0 || mknodat(root, "node", S_IFCHR | 0600, makedev(1, 3)) < 0))
		broken = "no right to write";
	return broken ? error_set(err, ERROR_CONFLICT, "%s", broken) : 0;
}

static int die(UNUSED struct confine_job *job, UNUSED struct confined *self, UNUSED int root, UNUSED struct confine_result *result,
	       UNUSED struct error *err) {
	_exit(3);
}

static int lie(UNUSED struct confine_job *job, struct confined *self, UNUSED int root, UNUSED struct confine_result *result,
	       UNUSED struct error *err) {
	_cleanup_(free_ptr) char *noise = alloc_zero(100000);
	memset(noise, 0x5a, 100000);
	fs_write_all(self->report, noise, 100000);
	return 0;
}

static int shout(UNUSED struct confine_job *job, UNUSED struct confined *self, UNUSED int root, UNUSED struct confine_result *result,
		 struct error *err) {
	return error_set(err, ERROR_CORRUPT, "a\x1b[31m name\n");
}

static void test_confinement(UNUSED void **state) {
	_cleanup_(close_fd) int d = fresh("confined");
	_cleanup_(close_fd) int archive = memory_file("", 0);
	_cleanup_(close_fd) int stray UNUSED = dup(STDERR_FILENO);
	struct confine_job job = {.archive = archive, .root = d, .prepare = prepare_nothing, .start = nothing, .work = try_everything};
	struct confine_result result;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (confine_run(&job, &result, &err) < 0)
		fail_msg("%s", error_text(&err));
	assert_true(S_ISCHR(stat_of(d, "node").st_mode));
	job.work = die;
	assert_int_equal(confine_run(&job, &result, &err), -ERROR_INTERNAL);
	job.work = lie;
	assert_int_equal(confine_run(&job, &result, &err), -ERROR_INTERNAL);
	job.work = shout;
	assert_int_equal(confine_run(&job, &result, &err), -ERROR_CORRUPT);
	assert_string_equal(error_text(&err), "a?[31m name?");
}

/* ---- trees ---- */

static void test_tree_unpack(UNUSED void **state) {
	struct tar_xattr attr = {"security.capability", (void *)net_raw, sizeof net_raw};
	const struct item items[] = {
		DIR_ENTRY("."),
		{.type = '0', .path = "f", .mode = 04755, .uid = 33, .gid = 70000, .data = "f", .xattrs = &attr, .n_xattrs = 1},
		FILE_ENTRY(".wh.name", "plain"),
		FILE_ENTRY("new/x", "x"),
	};
	_cleanup_(close_fd) int root = fresh("tree");
	assert_int_equal(mkdirat(root, "srv", 0711), 0);
	assert_int_equal(mkdirat(root, "srv/data", 0700), 0);
	assert_int_equal(symlinkat("/srv", root, "link"), 0);
	_cleanup_(close_fd) int tar = tar_of(items, ARRAY_SIZE(items));
	struct unpack_options o = {.uid_base = 200000, .keep_owner = true, .no_overwrite_dir = true};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (tree_unpack(tar, root, "/link/data", &o, &err) < 0)
		fail_msg("%s", error_text(&err));
	struct stat st = stat_of(root, "srv/data/f");
	assert_int_equal(st.st_uid, 200033);
	assert_int_equal(st.st_gid, 265534);
	assert_int_equal(st.st_mode & 07777, 04755);
	uint8_t value[64];
	assert_int_equal(xattr_at(root, "srv/data/f", "security.capability", value, sizeof value), 24);
	assert_content(root, "srv/data/.wh.name", "plain");
	assert_int_equal(stat_of(root, "srv/data/new").st_uid, 200000);
	assert_int_equal(stat_of(root, "srv/data").st_mode & 07777, 0700); /* "." does not touch what is there */
	/* and back */
	_cleanup_(close_fd) int back = memfd_create("back", MFD_CLOEXEC), again = fresh("tree-back");
	assert_int_equal(tree_pack(root, "link/data", "top", 200000, back, &err), 0);
	assert_int_equal(unpack(back, again, &err), 0);
	assert_int_equal(stat_of(again, "top/f").st_uid, 33);
	assert_int_equal(stat_of(again, "top/f").st_gid, 65534);
	assert_int_equal(stat_of(again, "top").st_uid, 65534); /* owned by the host's root, outside the range */
	assert_int_equal(xattr_at(again, "top/f", "security.capability", value, sizeof value), 20);
	assert_memory_equal(value, net_raw, 20);
	/* through a pipe, owners not kept */
	_cleanup_(buf_free) struct buf bytes = content_of(tar);
	_cleanup_(buf_free) struct buf gz = gzip_of(bytes.data, bytes.len);
	int pipe_fds[2];
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_int_equal(fs_write_all(pipe_fds[1], gz.data, gz.len), 0);
	close(pipe_fds[1]);
	o.keep_owner = false;
	int r = tree_unpack(pipe_fds[0], root, "link/../link/data/../../", &o, &err);
	close(pipe_fds[0]);
	assert_int_equal(r, 0);
	assert_int_equal(stat_of(root, "f").st_uid, 200000);
}

static void test_tree_refusals(UNUSED void **state) {
	_cleanup_(close_fd) int root = fresh("refusals");
	assert_int_equal(mkdirat(root, "dir", 0755), 0);
	_cleanup_(close_fd) int f = openat(root, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	const struct item over_dir[] = {FILE_ENTRY("dir", "x")}, over_file[] = {DIR_ENTRY("file")};
	_cleanup_(close_fd) int a = tar_of(over_dir, 1), b = tar_of(over_file, 1);
	struct unpack_options o = {.no_overwrite_dir = true};
	assert_int_equal(tree_unpack(a, root, "/", &o, NULL), -ERROR_CONFLICT);
	assert_int_equal(tree_unpack(b, root, "/", &o, NULL), -ERROR_CONFLICT);
	assert_int_equal(tree_unpack(a, root, "/missing", &o, NULL), -ERROR_NOT_FOUND);
	assert_int_equal(tree_unpack(a, root, "/file", &o, NULL), -ERROR_INVALID);
	assert_true(S_ISDIR(stat_of(root, "dir").st_mode));
	o.no_overwrite_dir = false;
	assert_int_equal(tree_unpack(a, root, "/", &o, NULL), 0);
	assert_content(root, "dir", "x");
	/* mounts of the container: a volume takes files, its /proc does not, and none is crossed on the way */
	assert_int_equal(mkdirat(root, "proc", 0755) | mkdirat(root, "vol", 0755), 0);
	_cleanup_(free_ptr) char *proc = in_top("refusals/proc"), *vol = in_top("refusals/vol");
	assert_int_equal(mount("proc", proc, "proc", 0, NULL) | mount("vol", vol, "tmpfs", 0, NULL), 0);
	assert_int_equal(tree_unpack(a, root, "/proc", &o, NULL), -ERROR_INVALID);
	assert_int_equal(tree_unpack(a, root, "/vol", &o, NULL), 0);
	assert_content(root, "vol/dir", "x");
	_cleanup_(close_fd) int back = memfd_create("back", MFD_CLOEXEC), again = fresh("refusals-back");
	assert_int_equal(tree_pack(root, "/", ".", 0, back, NULL), 0);
	assert_int_equal(tree_pack(root, "/proc/self", "x", 0, STDERR_FILENO, NULL), -ERROR_INVALID);
	assert_int_equal(umount2(proc, MNT_DETACH) | umount2(vol, MNT_DETACH), 0);
	assert_int_equal(unpack(back, again, NULL), 0);
	assert_true(S_ISDIR(stat_of(again, "vol").st_mode));
	assert_missing(again, "vol/dir");
	assert_missing(again, "proc/self");
}

/* The root of a running container: of another mount namespace, with a volume below it. */
static void test_other_namespace(UNUSED void **state) {
	_cleanup_(close_fd) int before = fresh("other");
	_cleanup_(free_ptr) char *path = in_top("other"), *vol = in_top("other/vol");
	int ready[2], go[2];
	assert_int_equal(pipe2(ready, O_CLOEXEC) | pipe2(go, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(go[1]);
		if (unshare(CLONE_NEWNS) < 0 || mount("root", path, "tmpfs", 0, NULL) < 0 || mkdir(vol, 0755) < 0 ||
		    mount("vol", vol, "tmpfs", 0, NULL) < 0)
			_exit(1);
		char c = 0;
		_exit(write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 0);
	}
	close(go[0]);
	close(ready[1]);
	char c;
	assert_int_equal(read(ready[0], &c, 1), 1);
	_cleanup_(free_ptr) char *seen = str_format("/proc/%d/root%s", pid, path);
	_cleanup_(close_fd) int root = open(seen, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	const struct item items[] = {LINK_ENTRY('2', "s", "/"), FILE_ENTRY("s/f", "f")}, over[] = {FILE_ENTRY("vol", "x")},
			  into[] = {FILE_ENTRY("vol/x", "x")};
	_cleanup_(close_fd) int a = tar_of(items, 2), b = tar_of(over, 1), in = tar_of(into, 1);
	struct unpack_options o = {.keep_owner = true};
	assert_int_equal(tree_unpack(a, root, "/", &o, NULL), 0);
	assert_int_equal(tree_unpack(a, root, "/vol", &o, NULL), 0);
	assert_int_equal(tree_unpack(b, root, "/", &o, NULL), -ERROR_BUSY);
	assert_int_equal(tree_unpack(in, root, "/", &o, NULL), -ERROR_INVALID);
	assert_content(root, "f", "f");
	assert_content(root, "vol/f", "f");
	assert_missing(root, "vol/x");
	assert_missing(before, "f");
	close(go[1]);
	close(ready[0]);
	assert_int_equal(proc_wait(pid), 0);
}

/* Swaps names in `dir` for ever: "f" is a file or a link to a secret, "d" a directory or a link out of the tree. */
static _Noreturn void keep_swapping(int dir) {
	for (;;) {
		renameat2(dir, "f", dir, "f2", RENAME_EXCHANGE);
		renameat2(dir, "d", dir, "d2", RENAME_EXCHANGE);
	}
}

static void test_hostile_neighbour(UNUSED void **state) {
	_cleanup_(close_fd) int outside = fresh("aim"), root = fresh("swapped");
	put_file(outside, "secret", "SECRET");
	_cleanup_(free_ptr) char *aim = in_top("aim"), *secret = in_top("aim/secret");
	put_file(root, "f", "harmless");
	assert_int_equal(symlinkat(secret, root, "f2") | mkdirat(root, "d", 0755) | symlinkat(aim, root, "d2"), 0);
	const struct item items[] = {DIR_ENTRY("d"), FILE_ENTRY("d/x", "x"), FILE_ENTRY("d2/y", "y"), FILE_ENTRY("d/secret", "bad")};
	_cleanup_(close_fd) int tar = tar_of(items, ARRAY_SIZE(items));
	pid_t pid = fork();
	if (pid == 0)
		keep_swapping(root);
	struct unpack_options o = {.no_overwrite_dir = true};
	bool leaked = false;
	for (int i = 0; i < 60; i++) {
		_cleanup_(close_fd) int out = memfd_create("out", MFD_CLOEXEC);
		tree_pack(root, "/", ".", 0, out, NULL); /* may fail: then it has failed safely */
		_cleanup_(buf_free) struct buf b = content_of(out);
		leaked |= memmem(buf_str(&b), b.len, "SECRET", 6) != NULL;
		tree_unpack(tar, root, "/", &o, NULL);
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(proc_wait(pid), 128 + SIGKILL);
	assert_false(leaked);
	assert_content(outside, "secret", "SECRET");
	_cleanup_(strv_free_ptr) char **names = NULL;
	assert_int_equal(fs_names(outside, &names), 0);
	assert_int_equal(strv_len(names), 1);
}

/* The child dies with the worker that started it: nobody reads the archive's pipe any more. */
static void test_killed_worker(UNUSED void **state) {
	_cleanup_(close_fd) int d = fresh("killed");
	int p[2];
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(p[1]);
		layer_unpack(p[0], NULL, "sha256:", d, NULL, NULL, NULL, NULL);
		_exit(0);
	}
	close(p[0]);
	const struct item items[] = {FILE_ENTRY("begun", "b")};
	_cleanup_(close_fd) int tar = tar_of(items, 1);
	_cleanup_(buf_free) struct buf b = content_of(tar);
	/* more than the pipe holds: when it is written, the child reads */
	for (int i = 0; i < 300; i++)
		assert_int_equal(fs_write_all(p[1], b.data, 1024), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(proc_wait(pid), 128 + SIGKILL);
	struct pollfd poll_for = {.fd = p[1]};
	assert_int_equal(poll(&poll_for, 1, -1), 1);
	assert_true(poll_for.revents & POLLERR);
	close(p[1]);
}

/* ---- unpack, stack, change, pack, unpack again ---- */

static int mount_overlay(const char *at, const char *lower, const char *upper) {
	close(fresh(at));
	_cleanup_(free_ptr) char *path = in_top(at), *options = NULL;
	if (upper)
		options = str_format("lowerdir=%s/%s,upperdir=%s/%s,workdir=%s/work,redirect_dir=off,metacopy=off", top, lower, top, upper, top);
	else
		options = str_format("lowerdir=%s", lower);
	if (mount("overlay", path, "overlay", 0, options) < 0)
		fail_msg("overlay %s: %s", options, strerror(errno));
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void umount_at(const char *name) {
	_cleanup_(free_ptr) char *path = in_top(name);
	assert_int_equal(umount2(path, MNT_DETACH), 0);
}

/* Everything that is seen of a tree, as text. */
static void describe(int dir, const char *prefix, struct buf *out) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	assert_int_equal(fs_names(dir, &names), 0);
	for (char **name = names; name && *name; name++) {
		struct stat st = stat_of(dir, *name);
		buf_addf(out, "%s/%s %o %u:%u %llx n%u t%lld.%09ld", prefix, *name, st.st_mode, st.st_uid, st.st_gid,
			 (unsigned long long)st.st_rdev, S_ISDIR(st.st_mode) ? 0 : (unsigned)st.st_nlink,
			 (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
		if (S_ISREG(st.st_mode)) {
			_cleanup_(buf_free) struct buf text = BUF_INIT;
			assert_int_equal(fs_read_at(dir, *name, 1 << 20, &text), 0);
			uint8_t cap[32];
			buf_addf(out, " '%s' cap %zd", buf_str(&text), xattr_at(dir, *name, "security.capability", cap, sizeof cap));
		}
		buf_addc(out, '\n');
		if (!S_ISDIR(st.st_mode))
			continue;
		_cleanup_(close_fd) int sub = openat(dir, *name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		_cleanup_(free_ptr) char *below = str_format("%s/%s", prefix, *name);
		describe(sub, below, out);
	}
}

static void note_change(char kind, const char *path, void *arg) {
	buf_addf(arg, "%c %s\n", kind, path);
}

static void test_round_trip(UNUSED void **state) {
	struct tar_xattr attr = {"security.capability", (void *)net_raw, sizeof net_raw};
	const struct item base[] = {
		DIR_ENTRY("etc"), FILE_ENTRY("etc/passwd", "root"), FILE_ENTRY("etc/group", "wheel"),
		DIR_ENTRY("usr"), {.type = '0', .path = "usr/ping", .mode = 0755, .data = "ping", .xattrs = &attr, .n_xattrs = 1},
		DIR_ENTRY("var"), DIR_ENTRY("var/cache"), FILE_ENTRY("var/cache/a", "a"), FILE_ENTRY("var/cache/b", "b"),
		DIR_ENTRY("same"), FILE_ENTRY("same/untouched", "u"), DIR_ENTRY("was-dir"), FILE_ENTRY("was-dir/x", "x"),
		FILE_ENTRY("was-file", "f"),
	};
	_cleanup_(close_fd) int lower = fresh("lower"), upper = fresh("upper");
	close(fresh("work"));
	UNPACK(base, lower);
	_cleanup_(close_fd) int m = mount_overlay("merged", "lower", "upper");
	put_file(m, "etc/passwd", "root2");
	put_file(m, "etc/new", "new");
	assert_int_equal(unlinkat(m, "etc/group", 0), 0);
	assert_int_equal(linkat(m, "etc/new", m, "etc/newer", 0), 0);
	assert_int_equal(fs_remove_tree_at(m, "var/cache"), 0);
	assert_int_equal(mkdirat(m, "var/cache", 0700), 0);
	put_file(m, "var/cache/b", "b2");
	put_file(m, "var/cache/c", "c");
	assert_int_equal(fs_remove_tree_at(m, "was-dir"), 0);
	put_file(m, "was-dir", "now a file");
	assert_int_equal(unlinkat(m, "was-file", 0), 0);
	assert_int_equal(mkdirat(m, "was-file", 0755), 0);
	assert_int_equal(fchmodat(m, "usr/ping", 04755, 0), 0);
	assert_int_equal(symlinkat("etc", m, "link"), 0);
	assert_int_equal(mknodat(m, "fifo", S_IFIFO | 0600, 0), 0);

	_cleanup_(buf_free) struct buf changes = BUF_INIT;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (layer_changes(upper, &lower, 1, note_change, &changes, &err) < 0)
		fail_msg("%s", error_text(&err));
	assert_string_equal(buf_str(&changes), "C /etc\nD /etc/group\nA /etc/new\nA /etc/newer\nC /etc/passwd\nA /fifo\nA /link\n"
					       "C /usr\nC /usr/ping\nC /var\nC /var/cache\nD /var/cache/a\nC /var/cache/b\n"
					       "A /var/cache/c\nC /was-dir\nC /was-file\n");

	_cleanup_(close_fd) int tar = memfd_create("layer", MFD_CLOEXEC), second = memfd_create("layer", MFD_CLOEXEC);
	if (layer_pack(upper, 0, tar, NULL, NULL, &err) < 0 || layer_pack(upper, 0, second, NULL, NULL, &err) < 0)
		fail_msg("%s", error_text(&err));
	_cleanup_(buf_free) struct buf one = content_of(tar), two = content_of(second);
	assert_int_equal(one.len, two.len);
	assert_memory_equal(one.data, two.data, one.len);
	_cleanup_(close_fd) int layer2 = fresh("layer2");
	if (unpack(tar, layer2, &err) < 0)
		fail_msg("%s", error_text(&err));
	_cleanup_(free_ptr) char *both = str_format("%s/layer2:%s/lower", top, top);
	_cleanup_(close_fd) int m2 = mount_overlay("merged2", both, NULL);
	_cleanup_(buf_free) struct buf seen = BUF_INIT, wanted = BUF_INIT;
	describe(m, "", &wanted);
	describe(m2, "", &seen);
	assert_string_equal(buf_str(&seen), buf_str(&wanted));
	close_fd(&m);
	close_fd(&m2);
	umount_at("merged2");
	umount_at("merged");
}

static void test_pack_oddities(UNUSED void **state) {
	_cleanup_(close_fd) int upper = fresh("odd");
	char name[256];
	memset(name, 'x', 255);
	name[255] = '\0';
	put_file(upper, name, "long");
	put_file(upper, "Caf\xc3\xa9", "utf-8");
	put_file(upper, "bytes\xff", "raw");
	put_file(upper, "owned", "o");
	assert_int_equal(fchownat(upper, "owned", 300005, 99, 0), 0);
	assert_int_equal(mknodat(upper, "sock", S_IFSOCK | 0600, 0), 0);
	struct timespec t[2] = {{5, 250000000}, {5, 250000000}};
	assert_int_equal(utimensat(upper, "owned", t, 0), 0);
	_cleanup_(close_fd) int tar = memfd_create("layer", MFD_CLOEXEC), back = fresh("odd-back");
	assert_int_equal(layer_pack(upper, 300000, tar, NULL, NULL, NULL), 0);
	assert_int_equal(unpack(tar, back, NULL), 0);
	assert_content(back, name, "long");
	assert_content(back, "Caf\xc3\xa9", "utf-8");
	assert_content(back, "bytes\xff", "raw");
	assert_missing(back, "sock");
	assert_int_equal(stat_of(back, "owned").st_uid, 5);
	assert_int_equal(stat_of(back, "owned").st_gid, 65534);
	assert_int_equal(stat_of(back, "owned").st_mtim.tv_sec, 5);
	assert_int_equal(stat_of(back, "owned").st_mtim.tv_nsec, 250000000);
	/* another tar agrees on what we write */
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/fd/%d", getpid(), tar);
	run_ok((const char *const[]){"tar", "-tf", path, NULL});
	put_file(upper, ".wh.trick", "t");
	assert_int_equal(layer_pack(upper, 0, tar, NULL, NULL, NULL), -ERROR_UNSUPPORTED);
}

static int set_up(UNUSED void **state) {
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	umask(022);
	top = str_format("/var/tmp/wabe-layer-test.%d", getpid());
	return fs_mkdir_p(top, 0700);
}

static int tear_down(UNUSED void **state) {
	/* what a failed test may have left mounted */
	static const char *const mounts[] = {"small", "refusals/proc", "refusals/vol", "merged2", "merged"};
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		_cleanup_(free_ptr) char *path = in_top(mounts[i]);
		umount2(path, MNT_DETACH);
	}
	int r = fs_remove_tree(top);
	free(top);
	return r;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_sparse_and_gnu),
		cmocka_unit_test(test_replacing),
		cmocka_unit_test(test_whiteouts),
		cmocka_unit_test(test_compression),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_no_space),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_confinement),
		cmocka_unit_test(test_tree_unpack),
		cmocka_unit_test(test_tree_refusals),
		cmocka_unit_test(test_other_namespace),
		cmocka_unit_test(test_hostile_neighbour),
		cmocka_unit_test(test_killed_worker),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_pack_oddities),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
