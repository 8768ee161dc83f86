/* Every driver of pools passes the same tests: make, write, snapshot, change, restore, clone, resize, fill up, be killed at
 * each step, recover, remove; lists are exact and nothing is left over. As root, in a mount name space and below a directory
 * of its own in /var/tmp.
 *
 *   storage_test                          the drivers that any host can have, on file systems in loop files
 *   storage_test DRIVER SOURCE [SERVER]   one driver on what is there (the lab: tests/lab/storage)
 *
 * WABE_TEST: only the tests whose names fit this pattern. */
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "driver/storage/storage.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define POOL_ID "00000000000000000000000000000000000000000000000000000000000000aa"
#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID_C "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define MIB (INT64_C(1) << 20)
#define OWNER 165536

static char *top; /* of this run */

/* One kind of pool to test: what lies under it, and how it is described. */
struct bed {
	const char *name, *driver;
	const char *under; /* mkfs of a loop file below which the source lies; NULL: nothing */
	bool source;       /* a directory there is the source */
	bool device;       /* a loop device is the source */
	const char *given; /* the source as it stands */
	const char *server, *user, *secret;
	int64_t size;

	char *dir, *loop;
	struct pool pool;
	struct storage_pool p;
};

static struct error err; /* of the last call */

#define OK(call)                                                            \
	do {                                                                \
		int ok_ = (call);                                           \
		if (ok_ < 0)                                                \
			fail_msg("%s: %s", #call, error_text(&err));        \
	} while (0)
#define FAILS(kind, call)                                                                             \
	do {                                                                                          \
		int fails_ = (call);                                                                  \
		if (fails_ != -(kind))                                                                \
			fail_msg("%s: wanted %s, got %d: %s", #call, error_kind_name(kind), fails_, error_text(&err)); \
	} while (0)

static void run(const char *const *argv) {
	struct proc x = {.argv = (char *const *)argv};
	if (proc_run_ok(&x, &err) < 0)
		fail_msg("%s", error_text(&err));
}
#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

/* --- beds --- */

/* Also what a test that failed has left. */
static void unmount_all(const char *dir) {
	_cleanup_(buf_free) struct buf all = BUF_INIT;
	for (int tries = 0; tries < 64; tries++) {
		buf_truncate(&all, 0);
		fs_read("/proc/self/mounts", 64 << 20, &all);
		char *at = all.data ? strstr(all.data, dir) : NULL;
		while (at && at[-1] != ' ')
			at = strstr(at + 1, dir); /* a device's name */
		if (!at)
			return;
		at[strcspn(at, " ")] = '\0';
		umount2(at, MNT_DETACH);
	}
}

static void bed_free(struct bed *b) {
	unmount_all(b->dir);
	if (b->loop)
		RUN("losetup", "-d", b->loop);
	free_ptr(&b->loop);
	fs_remove_tree(b->dir);
	free_ptr(&b->dir);
	free(b->pool.id);
	free(b->pool.spec.name);
	free(b->pool.spec.source);
	strv_free(b->pool.spec.servers);
	b->pool = (struct pool){0};
}

static char *make_loop(const char *dir) {
	_cleanup_(free_ptr) char *command = str_format("truncate -s 512M %s/device.img && losetup -f --show %s/device.img >%s/device", dir, dir, dir);
	_cleanup_(free_ptr) char *said = str_format("%s/device", dir);
	_cleanup_(buf_free) struct buf name = BUF_INIT;
	RUN("sh", "-c", command);
	assert_int_equal(fs_read(said, 256, &name), 0);
	char *device = buf_steal(&name);
	device[strcspn(device, "\n")] = '\0';
	return device;
}

static void bed_make(struct bed *b) {
	b->dir = str_format("%s/%s", top, b->name);
	_cleanup_(free_ptr) char *under = str_format("%s/under", b->dir), *pool = str_format("%s/pool", b->dir);
	unmount_all(b->dir);
	fs_remove_tree(b->dir);
	assert_int_equal(fs_mkdir_p(under, 0700), 0);
	assert_int_equal(fs_mkdir_p(pool, 0700), 0);
	if (b->under) {
		_cleanup_(free_ptr) char *image = str_format("%s/under.img", b->dir);
		RUN("truncate", "-s", "512M", image);
		RUN(b->under, "-q", image);
		RUN("mount", "-o", "loop", image, under);
	}
	if (b->device)
		b->loop = make_loop(b->dir);
	const struct storage_driver *d = storage_driver_find(b->driver);
	assert_non_null(d);
	b->pool = (struct pool){.id = str_copy(POOL_ID)};
	b->pool.spec.name = str_copy(b->name);
	b->pool.spec.driver = (char *)d->name;
	b->pool.spec.size = b->size;
	b->pool.spec.source = b->loop ? str_copy(b->loop) : b->given ? str_copy(b->given) : b->source ? str_format("%s/pool", under) : NULL;
	if (b->server)
		strv_add(&b->pool.spec.servers, b->server);
	b->pool.spec.user = (char *)b->user;
	b->pool.spec.secret = (char *)b->secret;
	if (b->source && b->under)
		assert_int_equal(mkdir(b->pool.spec.source, 0700), 0);
	b->p = (struct storage_pool){d, &b->pool, str_format("%s/pool", b->dir)};
}

static int begin(void **state) {
	struct bed *b = *state;
	bed_make(b);
	OK(b->p.driver->probe(&err));
	OK(b->p.driver->create(&b->p, &err));
	OK(b->p.driver->activate(&b->p, &err));
	OK(b->p.driver->recover(&b->p, &err));
	return 0;
}

static bool mentions(const char *file, const char *text) {
	_cleanup_(buf_free) struct buf all = BUF_INIT;
	assert_int_equal(fs_read(file, 64 << 20, &all), 0);
	return strstr(buf_str(&all), text) != NULL;
}

/* No mount, no loop device of this bed's own. */
static void nothing_left(const struct bed *b) {
	assert_false(mentions("/proc/self/mountinfo", b->p.dir));
	for (int i = 0; i < 64; i++) {
		_cleanup_(free_ptr) char *path = str_format("/sys/block/loop%d/loop/backing_file", i);
		_cleanup_(buf_free) struct buf file = BUF_INIT;
		if (fs_read(path, 4096, &file) == 0 && strstr(buf_str(&file), b->p.dir))
			fail_msg("loop%d is left on %s", i, buf_str(&file));
	}
}

static int end(void **state) {
	struct bed *b = *state;
	char **ids = NULL;
	OK(b->p.driver->volume_list(&b->p, &ids, &err));
	assert_null(ids);
	OK(b->p.driver->deactivate(&b->p, &err));
	OK(b->p.driver->activate(&b->p, &err));
	OK(b->p.driver->remove(&b->p, &err));
	OK(b->p.driver->remove(&b->p, &err));
	nothing_left(b);
	free((char *)b->p.dir);
	bed_free(b);
	error_free(&err);
	return 0;
}

/* --- what a volume holds --- */

static struct storage_volume volume(const char *id, bool block, int64_t size) {
	return (struct storage_volume){.id = id, .block = block, .size = size, .uid = OWNER, .gid = OWNER, .mode = 0750};
}

static void write_text(const struct bed *b, const char *id, bool block, const char *text) {
	struct storage_handle h = {0};
	OK(b->p.driver->volume_open(&b->p, id, block, NULL, &h, &err));
	_cleanup_(free_ptr) char *path = block ? str_copy(h.path) : str_format("%s/file", h.path);
	_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (block ? 0 : O_TRUNC), 0600);
	char sector[512] = "";
	snprintf(sector, sizeof sector, "%s", text);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, sector, sizeof sector), sizeof sector);
	assert_int_equal(fsync(fd), 0);
	close_fd(&fd);
	OK(b->p.driver->volume_close(&b->p, id, block, NULL, &err));
	storage_handle_free(&h);
}

static void has_text(const struct bed *b, const char *id, bool block, const char *snapshot, const char *text) {
	struct storage_handle h = {0};
	OK(b->p.driver->volume_open(&b->p, id, block, snapshot, &h, &err));
	_cleanup_(free_ptr) char *path = block ? str_copy(h.path) : str_format("%s/file", h.path);
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	char sector[512];
	assert_true(fd >= 0);
	assert_int_equal(read(fd, sector, sizeof sector), sizeof sector);
	assert_string_equal(sector, text);
	close_fd(&fd);
	if (snapshot && !block) {
		_cleanup_(free_ptr) char *more = str_format("%s/more", h.path);
		assert_int_equal(open(more, O_WRONLY | O_CREAT, 0600), -1);
		assert_int_equal(errno, EROFS);
	}
	OK(b->p.driver->volume_close(&b->p, id, block, snapshot, &err));
	storage_handle_free(&h);
}

static void holds(const struct bed *b, const char *const *wanted) {
	char **ids = NULL;
	OK(b->p.driver->volume_list(&b->p, &ids, &err));
	size_t n = 0;
	for (; wanted[n]; n++)
		if (!strv_has(ids, wanted[n]))
			fail_msg("the list lacks %.4s", wanted[n]);
	assert_int_equal(strv_len(ids), n);
	strv_free(ids);
}
#define HOLDS(b, ...) holds(b, (const char *const[]){__VA_ARGS__})

static int by_name(const void *a, const void *b) {
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void has_snapshots(const struct bed *b, const char *id, bool block, const char *joined) {
	snapshots s = {0};
	char **names = NULL;
	OK(b->p.driver->snapshot_list(&b->p, id, block, &s, &err));
	for (size_t i = 0; i < s.n; i++) {
		assert_true(s.items[i].created_at > 0);
		strv_take(&names, s.items[i].name);
	}
	if (names)
		qsort(names, s.n, sizeof *names, by_name);
	_cleanup_(free_ptr) char *got = strv_join(names, " ");
	assert_string_equal(got, joined);
	strv_free(names);
	free(s.items);
}

/* --- tests --- */

static int64_t size_for(const struct bed *b, bool block) {
	(void)b;
	return block ? 32 * MIB : 64 * MIB;
}

static void life_of(struct bed *b, bool block, int64_t size) {
	const struct storage_driver *d = b->p.driver;
	struct storage_volume v = volume(ID_A, block, size);
	if (!(block ? d->can.blocks : d->can.filesystems))
		return;
	OK(d->volume_create(&b->p, &v, &err));
	OK(d->volume_create(&b->p, &v, &err));
	HOLDS(b, ID_A, NULL);
	FAILS(ERROR_INVALID, d->volume_open(&b->p, ID_A, !block, NULL, &(struct storage_handle){0}, &err));
	FAILS(ERROR_NOT_FOUND, d->volume_open(&b->p, ID_B, block, NULL, &(struct storage_handle){0}, &err));
	if (!block) {
		struct storage_handle h = {0};
		struct stat st;
		OK(d->volume_open(&b->p, ID_A, block, NULL, &h, &err));
		storage_handle_free(&h);
		OK(d->volume_open(&b->p, ID_A, block, NULL, &h, &err));
		assert_int_equal(stat(h.path, &st), 0);
		assert_int_equal(st.st_uid, OWNER);
		assert_int_equal(st.st_gid, OWNER);
		assert_int_equal(st.st_mode, S_IFDIR | 0750);
		_cleanup_(close_fd) int fd = open(h.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		char **names = NULL;
		assert_int_equal(fs_names(fd, &names), 0);
		assert_null(names);
		close_fd(&fd);
		OK(d->volume_close(&b->p, ID_A, block, NULL, &err));
		OK(d->volume_close(&b->p, ID_A, block, NULL, &err));
		storage_handle_free(&h);
	}
	write_text(b, ID_A, block, "one");
	has_text(b, ID_A, block, NULL, "one");
	int64_t total, used;
	OK(d->volume_usage(&b->p, ID_A, block, &total, &used, &err));
	if (block || size)
		assert_true(total >= size);
	if (d->snapshot_create) {
		OK(d->snapshot_create(&b->p, ID_A, block, "s1", &err));
		OK(d->snapshot_create(&b->p, ID_A, block, "s1", &err));
		write_text(b, ID_A, block, "two");
		OK(d->snapshot_create(&b->p, ID_A, block, "s2", &err));
		write_text(b, ID_A, block, "three");
		has_snapshots(b, ID_A, block, "s1 s2");
		has_text(b, ID_A, block, "s1", "one");
		has_text(b, ID_A, block, "s2", "two");
		has_text(b, ID_A, block, NULL, "three");
		if (d->can.restore_older)
			OK(d->snapshot_restore(&b->p, ID_A, block, "s1", &err));
		else
			FAILS(ERROR_CONFLICT, d->snapshot_restore(&b->p, ID_A, block, "s1", &err));
		has_text(b, ID_A, block, NULL, d->can.restore_older ? "one" : "three");
		OK(d->snapshot_restore(&b->p, ID_A, block, "s2", &err));
		has_text(b, ID_A, block, NULL, "two");
		has_text(b, ID_A, block, "s1", "one");
		FAILS(ERROR_NOT_FOUND, d->snapshot_restore(&b->p, ID_A, block, "none", &err));
		has_snapshots(b, ID_A, block, "s1 s2");
		HOLDS(b, ID_A, NULL);
		OK(d->snapshot_remove(&b->p, ID_A, block, "s1", &err));
		OK(d->snapshot_remove(&b->p, ID_A, block, "s1", &err));
		has_snapshots(b, ID_A, block, "s2");
	}
	OK(d->volume_remove(&b->p, ID_A, block, &err));
	OK(d->volume_remove(&b->p, ID_A, block, &err));
	HOLDS(b, NULL);
}

static void test_life_of_a_file_system(void **state) {
	life_of(*state, false, 0);
}

static void test_life_of_a_sized_file_system(void **state) {
	life_of(*state, false, 64 * MIB);
}

static void test_life_of_a_block_volume(void **state) {
	life_of(*state, true, 32 * MIB);
}

static void clone_of(struct bed *b, bool block, int64_t size) {
	const struct storage_driver *d = b->p.driver;
	struct storage_volume v = volume(ID_A, block, size), to = volume(ID_B, block, size), third = volume(ID_C, block, size);
	struct pool_status status = {0};
	OK(d->status(&b->p, &status, &err));
	assert_true(status.total > 0);
	if (!d->clone)
		return;
	OK(d->volume_create(&b->p, &v, &err));
	write_text(b, ID_A, block, "one");
	OK(d->snapshot_create(&b->p, ID_A, block, "s1", &err));
	write_text(b, ID_A, block, "two");
	if (!status.capabilities.linked_clones) {
		FAILS(ERROR_UNSUPPORTED, d->clone(&b->p, ID_A, "s1", &to, &err));
		HOLDS(b, ID_A, NULL);
	} else {
		OK(d->clone(&b->p, ID_A, "s1", &to, &err));
		OK(d->clone(&b->p, ID_A, "s1", &to, &err));
		OK(d->clone(&b->p, ID_A, NULL, &third, &err));
		HOLDS(b, ID_A, ID_B, ID_C, NULL);
		has_text(b, ID_B, block, NULL, "one");
		has_text(b, ID_C, block, NULL, "two");
		write_text(b, ID_B, block, "three");
		has_text(b, ID_A, block, "s1", "one");
		has_snapshots(b, ID_B, block, "");
		OK(d->volume_remove(&b->p, ID_B, block, &err));
		OK(d->volume_remove(&b->p, ID_C, block, &err));
	}
	OK(d->volume_remove(&b->p, ID_A, block, &err));
}

static void test_clones(void **state) {
	clone_of(*state, false, 0);
	clone_of(*state, false, 64 * MIB);
	clone_of(*state, true, 32 * MIB);
}

/* Bytes until it is full. */
static int64_t fill(const char *path, int *why) {
	_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	_cleanup_(free_ptr) char *chunk = alloc_zero(1 << 20);
	int64_t n = 0;
	memset(chunk, 'x', 1 << 20);
	assert_true(fd >= 0);
	for (;;) {
		ssize_t w = write(fd, chunk, 1 << 20);
		if (w < 0 || fsync(fd) < 0) {
			*why = errno;
			return n;
		}
		n += w;
	}
}

static void test_a_size_is_kept_and_grows(void **state) {
	struct bed *b = *state;
	const struct storage_driver *d = b->p.driver;
	struct storage_volume v = volume(ID_A, false, 64 * MIB);
	struct storage_handle h = {0};
	int why = 0;
	if (!d->can.grow_online)
		return; /* devices of a size that is not ours */
	OK(d->volume_create(&b->p, &v, &err));
	OK(d->volume_open(&b->p, ID_A, false, NULL, &h, &err));
	_cleanup_(free_ptr) char *path = str_format("%s/full", h.path);
	int64_t first = fill(path, &why);
	assert_true(why == ENOSPC || why == EDQUOT);
	assert_true(first <= 64 * MIB);
	assert_true(first >= 32 * MIB);
	FAILS(ERROR_CONFLICT, d->volume_resize(&b->p, &v, 32 * MIB, &err));
	struct pool_status status = {0};
	OK(d->status(&b->p, &status, &err));
	if (!status.capabilities.grow_online) {
		FAILS(ERROR_UNSUPPORTED, d->volume_resize(&b->p, &v, 128 * MIB, &err));
		OK(d->volume_close(&b->p, ID_A, false, NULL, &err));
	}
	OK(d->volume_resize(&b->p, &v, 128 * MIB, &err));
	OK(d->volume_resize(&b->p, &v, 128 * MIB, &err));
	storage_handle_free(&h);
	OK(d->volume_open(&b->p, ID_A, false, NULL, &h, &err));
	free_ptr(&path);
	path = str_format("%s/more", h.path);
	int64_t more = fill(path, &why);
	assert_true(more >= 40 * MIB);
	assert_true(first + more <= 128 * MIB);
	OK(d->volume_close(&b->p, ID_A, false, NULL, &err));
	storage_handle_free(&h);
	OK(d->volume_remove(&b->p, ID_A, false, &err));
}

static void test_blocks_grow(void **state) {
	struct bed *b = *state;
	const struct storage_driver *d = b->p.driver;
	struct storage_volume v = volume(ID_A, true, size_for(b, true));
	if (!d->can.grow_online)
		return;
	OK(d->volume_create(&b->p, &v, &err));
	write_text(b, ID_A, true, "one");
	OK(d->volume_resize(&b->p, &v, 2 * v.size, &err));
	int64_t size, used;
	OK(d->volume_usage(&b->p, ID_A, true, &size, &used, &err));
	assert_int_equal(size, 2 * v.size);
	FAILS(ERROR_CONFLICT, d->volume_resize(&b->p, &v, v.size, &err));
	has_text(b, ID_A, true, NULL, "one");
	OK(d->volume_remove(&b->p, ID_A, true, &err));
}

static void test_a_full_pool_recovers(void **state) {
	struct bed *b = *state;
	const struct storage_driver *d = b->p.driver;
	struct storage_volume v = volume(ID_A, false, 0), other = volume(ID_B, false, 0);
	struct storage_handle h = {0};
	int why = 0;
	struct pool_status status = {0};
	OK(d->status(&b->p, &status, &err));
	if (status.total > 1100 * MIB)
		return; /* the host's own file system is not filled */
	OK(d->volume_create(&b->p, &other, &err));
	write_text(b, ID_B, false, "one");
	OK(d->volume_create(&b->p, &v, &err));
	OK(d->volume_open(&b->p, ID_A, false, NULL, &h, &err));
	_cleanup_(free_ptr) char *path = str_format("%s/full", h.path);
	fill(path, &why);
	if (why == EIO && !status.capabilities.full_safe) {
		/* a device that cannot take what it has promised: the file system on it stops, and is repaired when it is opened
		 * with room again; the others are not harmed */
		OK(d->volume_close(&b->p, ID_A, false, NULL, &err));
		storage_handle_free(&h);
		FAILS(ERROR_NO_SPACE, d->volume_create(&b->p, &(struct storage_volume){.id = ID_C, .size = 64 * MIB}, &err));
		FAILS(ERROR_NO_SPACE, d->snapshot_create(&b->p, ID_B, false, "s1", &err));
		HOLDS(b, ID_A, ID_B, NULL);
		OK(d->volume_remove(&b->p, ID_A, false, &err));
		has_text(b, ID_B, false, NULL, "one");
		write_text(b, ID_B, false, "two");
		has_text(b, ID_B, false, NULL, "two");
		OK(d->volume_remove(&b->p, ID_B, false, &err));
		return;
	}
	assert_int_equal(why, ENOSPC);
	/* whatever is tried meanwhile either works or leaves no trace */
	struct storage_volume third = volume(ID_C, false, 64 * MIB);
	int r = d->volume_create(&b->p, &third, &err);
	if (r < 0)
		HOLDS(b, ID_A, ID_B, NULL);
	OK(d->recover(&b->p, &err));
	has_text(b, ID_B, false, NULL, "one");
	assert_int_equal(unlink(path), 0);
	sync();
	write_text(b, ID_B, false, "two");
	has_text(b, ID_B, false, NULL, "two");
	OK(d->volume_close(&b->p, ID_A, false, NULL, &err));
	storage_handle_free(&h);
	OK(d->volume_remove(&b->p, ID_C, false, &err));
	OK(d->volume_create(&b->p, &third, &err));
	OK(d->volume_remove(&b->p, ID_A, false, &err));
	OK(d->volume_remove(&b->p, ID_B, false, &err));
	OK(d->volume_remove(&b->p, ID_C, false, &err));
}

/* --- being killed --- */

enum step { CREATE, SNAPSHOT, RESTORE, CLONE, UNSNAPSHOT, RESIZE, REMOVE, STEPS };
static const char *const step_names[] = {"create", "snapshot", "restore", "clone", "snapshot-remove", "resize", "remove"};

static int do_step(const struct bed *b, enum step s, bool block, int64_t size, struct error *e) {
	const struct storage_driver *d = b->p.driver;
	struct storage_volume v = volume(ID_A, block, size), to = volume(ID_B, block, size);
	switch (s) {
	case CREATE: return d->volume_create(&b->p, &v, e);
	case SNAPSHOT: return d->snapshot_create ? d->snapshot_create(&b->p, ID_A, block, "s1", e) : 0;
	case RESTORE: return d->snapshot_restore ? d->snapshot_restore(&b->p, ID_A, block, "s1", e) : 0;
	case CLONE: {
		int r = d->clone ? d->clone(&b->p, ID_A, "s1", &to, e) : 0;
		return r == -ERROR_UNSUPPORTED ? 0 : r;
	}
	case UNSNAPSHOT: {
		d->volume_remove(&b->p, ID_B, block, e);
		return d->snapshot_remove ? d->snapshot_remove(&b->p, ID_A, block, "s1", e) : 0;
	}
	case RESIZE: return size && d->can.grow_online ? d->volume_resize(&b->p, &v, 2 * size, e) : 0;
	default: return d->volume_remove(&b->p, ID_A, block, e);
	}
}

/* The drivers' fault points come here (the linker sees to it): noted by step, and where a process is to be killed. Shared
 * with the processes that work. */
static struct {
	struct {
		char names[16][32];
		size_t n;
	} seen[STEPS];
	enum step step;
	char kill_at[32];
} *faults;

void __wrap_storage_fault(const char *name);
void __wrap_storage_fault(const char *name) {
	if (!faults)
		return;
	if (strcmp(faults->kill_at, name) == 0)
		kill(getpid(), SIGKILL);
	size_t n = faults->seen[faults->step].n, i = 0;
	while (i < n && strcmp(faults->seen[faults->step].names[i], name) != 0)
		i++;
	if (i == n && n < ARRAY_SIZE(faults->seen[0].names))
		snprintf(faults->seen[faults->step].names[faults->seen[faults->step].n++], sizeof faults->kill_at, "%s", name);
}

/* A step by a process of its own, which is killed if it comes by that point. True: it did. */
static bool killed_at(const struct bed *b, enum step s, bool block, int64_t size, const char *point) {
	faults->step = s;
	snprintf(faults->kill_at, sizeof faults->kill_at, "%s", point);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct error e = ERROR_INIT;
		_exit(do_step(b, s, block, size, &e) < 0 ? 1 : 0);
	}
	int status = proc_wait(pid);
	faults->kill_at[0] = '\0';
	if (status != 0 && status != 128 + SIGKILL)
		fail_msg("%s with the fault \"%s\" ended with %d", step_names[s], point, status);
	return status != 0;
}

/* All steps, each by a process that is killed at the k-th point that it comes by; then recovered, and the step is done once
 * more. */
static unsigned kill_at(struct bed *b, bool block, int64_t size, size_t k) {
	const struct storage_driver *d = b->p.driver;
	_cleanup_(free_ptr) char *tmp = str_format("%s/mnt/tmp-", b->p.dir);
	unsigned hits = 0;
	for (enum step s = CREATE; s < STEPS; s++) {
		bool has_it = k < faults->seen[s].n;
		bool killed = killed_at(b, s, block, size, has_it ? faults->seen[s].names[k] : "");
		if (has_it)
			print_message("# %s of %s killed at %s\n", step_names[s], block ? "blocks" : "a file system", faults->seen[s].names[k]);
		assert_int_equal(killed, has_it);
		if (!killed)
			continue;
		hits++;
		OK(d->recover(&b->p, &err));
		assert_false(mentions("/proc/self/mountinfo", tmp));
		OK(do_step(b, s, block, size, &err));
	}
	OK(d->volume_remove(&b->p, ID_B, block, &err));
	HOLDS(b, NULL);
	return hits;
}

/* The first round shows which points each step has. */
static unsigned kill_everywhere(struct bed *b, bool block, int64_t size) {
	size_t rounds = 0;
	memset(faults, 0, sizeof *faults);
	kill_at(b, block, size, SIZE_MAX);
	unsigned hits = 0;
	for (size_t i = 0; i < STEPS; i++)
		rounds = MAX(rounds, faults->seen[i].n);
	for (size_t k = 0; k < rounds; k++)
		hits += kill_at(b, block, size, k);
	return hits;
}

static void test_killed_at_every_step(void **state) {
	struct bed *b = *state;
	unsigned hits = kill_everywhere(b, true, 32 * MIB);
	hits += kill_everywhere(b, false, 64 * MIB);
	if (!b->given) /* there every volume has a size */
		hits += kill_everywhere(b, false, 0);
	assert_true(hits >= 6);
	print_message("# %s: killed %u times\n", b->name, hits);
}

static void test_frozen_by_a_killed_process(void **state) {
	struct bed *b = *state;
	const struct storage_driver *d = b->p.driver;
	struct storage_volume v = volume(ID_A, false, 64 * MIB);
	struct storage_handle h = {0};
	if (!d->snapshot_create)
		return;
	OK(d->volume_create(&b->p, &v, &err));
	OK(d->volume_open(&b->p, ID_A, false, NULL, &h, &err));
	killed_at(b, SNAPSHOT, false, 64 * MIB, "storage-frozen");
	/* it can be written to at once: whoever waits here for ever has found a fault */
	_cleanup_(free_ptr) char *path = str_format("%s/file", h.path);
	assert_int_equal(fs_replace(path, "x", 1, 0600), 0);
	OK(d->recover(&b->p, &err));
	OK(d->snapshot_create(&b->p, ID_A, false, "s1", &err));
	assert_int_equal(fs_replace(path, "y", 1, 0600), 0);
	OK(d->volume_close(&b->p, ID_A, false, NULL, &err));
	storage_handle_free(&h);
	OK(d->volume_remove(&b->p, ID_A, false, &err));
}

static void test_a_volume_in_use_stays(void **state) {
	struct bed *b = *state;
	const struct storage_driver *d = b->p.driver;
	struct storage_volume v = volume(ID_A, false, 64 * MIB);
	struct storage_handle h = {0};
	OK(d->volume_create(&b->p, &v, &err));
	OK(d->volume_open(&b->p, ID_A, false, NULL, &h, &err));
	if (h.mounted) {
		_cleanup_(free_ptr) char *path = str_format("%s/file", h.path);
		_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		FAILS(ERROR_BUSY, d->volume_close(&b->p, ID_A, false, NULL, &err));
		FAILS(ERROR_BUSY, d->volume_remove(&b->p, ID_A, false, &err));
		HOLDS(b, ID_A, NULL);
	}
	OK(d->volume_close(&b->p, ID_A, false, NULL, &err));
	storage_handle_free(&h);
	OK(d->volume_remove(&b->p, ID_A, false, &err));
}

/* Another daemon's pool, or somebody's files, are not taken. */
static void test_the_source_is_nobody_elses(void **state) {
	struct bed *b = *state;
	const struct storage_driver *d = b->p.driver;
	struct pool other = b->pool;
	struct storage_pool p = {d, &other, b->p.dir};
	static const char *const lent[] = {"lvm-thin", "rbd", "zfs"}; /* others may use what wabe uses there */
	for (size_t i = 0; i < ARRAY_SIZE(lent); i++)
		if (strcmp(d->name, lent[i]) == 0)
			return;
	if (!other.spec.source)
		return;
	_cleanup_(free_ptr) char *id = str_copy(POOL_ID);
	id[0] = 'f';
	other.id = id;
	FAILS(ERROR_CONFLICT, d->create(&p, &err));
	OK(d->status(&b->p, &(struct pool_status){0}, &err));
}

/* Said at once, and all is well when it is back. The lab says how (a command). */
static void test_the_server_goes_away(void **state) {
	struct bed *b = *state;
	const struct storage_driver *d = b->p.driver;
	const char *away = getenv("WABE_TEST_SERVER_AWAY"), *back = getenv("WABE_TEST_SERVER_BACK");
	struct storage_volume v = volume(ID_A, false, 64 * MIB), other = volume(ID_B, false, 64 * MIB);
	struct pool_status status = {0};
	if (!away || !back)
		return;
	OK(d->volume_create(&b->p, &v, &err));
	write_text(b, ID_A, false, "one");
	RUN("sh", "-c", away);
	FAILS(ERROR_UNAVAILABLE, d->status(&b->p, &status, &err));
	FAILS(ERROR_UNAVAILABLE, d->activate(&b->p, &err));
	FAILS(ERROR_UNAVAILABLE, d->volume_create(&b->p, &other, &err));
	if (d->snapshot_create)
		FAILS(ERROR_UNAVAILABLE, d->snapshot_create(&b->p, ID_A, false, "s1", &err));
	RUN("sh", "-c", back);
	OK(d->activate(&b->p, &err));
	OK(d->recover(&b->p, &err));
	HOLDS(b, ID_A, NULL);
	has_text(b, ID_A, false, NULL, "one");
	write_text(b, ID_A, false, "two");
	OK(d->volume_remove(&b->p, ID_A, false, &err));
}

/* Nobody gets in with another one, and it stays nowhere. */
static void test_a_wrong_secret(void **state) {
	struct bed *b = *state;
	const struct storage_driver *d = b->p.driver;
	const char *kept = getenv("WABE_TEST_SECRET_KEPT"), *wrong = getenv("WABE_TEST_SECRET_WRONG");
	if (!b->secret)
		return;
	OK(d->deactivate(&b->p, &err));
	b->pool.spec.secret = wrong ? (char *)wrong : "another secret";
	FAILS(ERROR_UNAUTHORIZED, d->activate(&b->p, &err));
	assert_null(strstr(error_text(&err), b->pool.spec.secret));
	if (kept)
		assert_int_equal(access(kept, F_OK), -1);
	b->pool.spec.secret = (char *)b->secret;
	OK(d->activate(&b->p, &err));
}

/* --- streams --- */

static int stream(const struct bed *b, const char *snapshot, const char *since) {
	int fd = memfd_create("stream", MFD_CLOEXEC);
	assert_true(fd >= 0);
	OK(b->p.driver->send(&b->p, ID_A, false, snapshot, since, fd, &err));
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static void test_send_and_receive(void **state) {
	struct bed *b = *state;
	const struct storage_driver *d = b->p.driver;
	struct storage_volume v = volume(ID_A, false, 0), to = volume(ID_B, false, 0);
	if (!d->can.send)
		return;
	OK(d->volume_create(&b->p, &v, &err));
	write_text(b, ID_A, false, "one");
	OK(d->snapshot_create(&b->p, ID_A, false, "s1", &err));
	write_text(b, ID_A, false, "two");
	OK(d->snapshot_create(&b->p, ID_A, false, "s2", &err));
	_cleanup_(close_fd) int whole = stream(b, "s1", NULL), more = stream(b, "s2", "s1");
	OK(d->receive(&b->p, &to, "s1", whole, &err));
	has_text(b, ID_B, false, NULL, "one");
	OK(d->receive(&b->p, &to, "s2", more, &err));
	has_text(b, ID_B, false, NULL, "two");
	has_text(b, ID_B, false, "s1", "one");
	has_snapshots(b, ID_B, false, "s1 s2");
	_cleanup_(close_fd) int junk = memfd_create("junk", MFD_CLOEXEC);
	assert_int_equal(fs_write_all(junk, "no stream at all", 16), 0);
	assert_int_equal(lseek(junk, 0, SEEK_SET), 0);
	struct storage_volume third = volume(ID_C, false, 0);
	assert_true(d->receive(&b->p, &third, "s1", junk, &err) < 0);
	HOLDS(b, ID_A, ID_B, NULL);
	OK(d->volume_remove(&b->p, ID_A, false, &err));
	OK(d->volume_remove(&b->p, ID_B, false, &err));
}

/* --- all of them --- */

#define TEST(fn) {#fn, fn}
static const struct {
	const char *name;
	CMUnitTestFunction fn;
} tests[] = {
	TEST(test_life_of_a_file_system), TEST(test_life_of_a_sized_file_system), TEST(test_life_of_a_block_volume),
	TEST(test_clones), TEST(test_a_size_is_kept_and_grows), TEST(test_blocks_grow), TEST(test_a_full_pool_recovers),
	TEST(test_killed_at_every_step), TEST(test_frozen_by_a_killed_process), TEST(test_a_volume_in_use_stays),
	TEST(test_the_source_is_nobody_elses), TEST(test_the_server_goes_away), TEST(test_a_wrong_secret), TEST(test_send_and_receive),
};

static struct bed beds[] = {
	{.name = "dir", .driver = "dir"},
	{.name = "dir-ext4", .driver = "dir", .under = "mkfs.ext4", .source = true},
	{.name = "dir-xfs", .driver = "dir", .under = "mkfs.xfs", .source = true},
	{.name = "btrfs", .driver = "btrfs", .size = 512 * MIB},
	{.name = "btrfs-directory", .driver = "btrfs", .under = "mkfs.btrfs", .source = true},
	{.name = "btrfs-device", .driver = "btrfs", .device = true},
	{.name = "tmpfs", .driver = "tmpfs", .size = 512 * MIB},
};

int main(int argc, char **argv) {
	char dir[] = "/var/tmp/wabe-storage-XXXXXX";
	struct bed one = {0};
	if (geteuid() != 0) {
		printf("1..0 # SKIP needs root\n");
		return 0;
	}
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !mkdtemp(dir))
		return 1;
	if (argc < 3 && mount("wabe-test", dir, "tmpfs", 0, "size=3g") < 0) /* goes with us, and fsync is free */
		return 1;
	faults = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (faults == MAP_FAILED)
		return 1;
	top = dir;
	if (argc > 2)
		one = (struct bed){.name = argv[1], .driver = argv[1], .given = argv[2], .server = argc > 3 ? argv[3] : NULL,
				   .user = getenv("WABE_TEST_USER"), .secret = getenv("WABE_TEST_SECRET")};
	size_t n_beds = argc > 2 ? 1 : ARRAY_SIZE(beds), n = 0;
	struct CMUnitTest *all = alloc_array(n_beds * ARRAY_SIZE(tests), sizeof *all);
	for (size_t i = 0; i < n_beds; i++)
		for (size_t k = 0; k < ARRAY_SIZE(tests); k++) {
			struct bed *b = argc > 2 ? &one : &beds[i];
			all[n++] = (struct CMUnitTest){str_format("%s: %s", b->name, tests[k].name + strlen("test_")), tests[k].fn,
						       begin, end, b};
		}
	if (getenv("WABE_TEST"))
		cmocka_set_test_filter(getenv("WABE_TEST"));
	int failed = _cmocka_run_group_tests("storage", all, n, NULL, NULL);
	for (size_t i = 0; i < n; i++)
		free((char *)all[i].name);
	free(all);
	unmount_all(dir);
	fs_remove_tree(dir);
	return failed;
}
