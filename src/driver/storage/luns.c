/* A server's fixed devices as volumes. */
#include "driver/storage/luns-priv.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CLAIM_MAX ((size_t)1024)
#define ZERO_STEP (INT64_C(1) << 30)
#define WAIT_MS 100
#define WAITS 50

/* --- devices --- */

char *luns_read(const char *path) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(path, 4096, &text) < 0)
		return NULL;
	char *line = buf_steal(&text);
	line[strcspn(line, "\n")] = '\0';
	return line;
}

void luns_add(struct luns *l, const char *block) {
	_cleanup_(free_ptr) char *size = str_format("/sys/block/%s/size", block), *sectors = luns_read(size);
	_cleanup_(free_ptr) char *at_device = str_format("/sys/block/%s/device/wwid", block);
	_cleanup_(free_ptr) char *at_block = str_format("/sys/block/%s/wwid", block);
	char *identity = luns_read(at_device);
	int64_t n;
	if (!identity)
		identity = luns_read(at_block);
	if (!identity || !*identity || !sectors || str_to_i64(sectors, &n) < 0 || n == 0) {
		free(identity); /* one that cannot be recognised again is not used */
		return;
	}
	l->items = alloc_resize(l->items, l->n + 1, sizeof *l->items);
	l->items[l->n++] = (struct lun){str_format("/dev/%s", block), identity, n * 512};
}

void luns_free(struct luns *l) {
	for (size_t i = 0; i < l->n; i++) {
		free(l->items[i].device);
		free(l->items[i].identity);
	}
	free(l->items);
	*l = (struct luns){0};
}

static int all_luns(const struct storage_pool *p, struct luns *out, struct error *err) {
	return p->driver == &storage_iscsi ? iscsi_luns(p, out, err) : nvme_luns(p, out, err);
}

int luns_wait(const struct storage_pool *p, struct error *err) {
	for (int i = 0; i < WAITS; i++) {
		_cleanup_(luns_free) struct luns l = {0};
		int r = all_luns(p, &l, err);
		if (r < 0 || l.n)
			return r;
		poll(NULL, 0, WAIT_MS); /* udev is not there on every host, and tells of nothing that /sys does not show */
	}
	return error_set(err, ERROR_UNAVAILABLE, "%s offers no devices", p->pool->spec.source);
}

/* --- who is logged in --- */

static char *login_mark(const struct storage_pool *p) {
	return str_format("%s/logged-in", p->dir);
}

bool luns_logged_in(const struct storage_pool *p) {
	_cleanup_(free_ptr) char *path = login_mark(p), *who = luns_read(path);
	return str_same(who, p->pool->id);
}

int luns_nobody_elses(const struct storage_pool *p, struct error *err) {
	_cleanup_(luns_free) struct luns l = {0};
	int r = all_luns(p, &l, err);
	if (r < 0 || !l.n || luns_logged_in(p))
		return r;
	return error_set(err, ERROR_CONFLICT, "%s is in use on this host already, by another pool or by hand; log out there "
			 "first", p->pool->spec.source);
}

int luns_set_logged_in(const struct storage_pool *p, bool on, struct error *err) {
	_cleanup_(free_ptr) char *path = login_mark(p);
	int r = on ? fs_replace(path, p->pool->id, strlen(p->pool->id), 0600) : unlink(path) < 0 && errno != ENOENT ? -errno : 0;
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

/* --- claims --- */

static char *claim_path(const struct storage_pool *p, const char *id, const char *state) {
	_cleanup_(free_ptr) char *dir = str_format("%s/claims", p->dir);
	mkdir(dir, 0700); /* that it is missing shows when it is written to */
	return str_format("%s/%s%s", dir, id, state);
}

static int claim_names(const struct storage_pool *p, char ***names, struct error *err) {
	_cleanup_(free_ptr) char *dir = claim_path(p, "", "");
	_cleanup_(close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*names = NULL;
	int r = fd < 0 ? -errno : fs_names(fd, names);
	return r < 0 ? error_errno(err, r, "cannot read %s", dir) : 0;
}

/* "block" or "filesystem", and what the device calls itself. */
static char *read_claim(const struct storage_pool *p, const char *id, const char *state, bool *block) {
	_cleanup_(free_ptr) char *path = claim_path(p, id, state), *line = luns_read(path);
	if (!line)
		return NULL;
	*block = str_starts(line, "block ");
	const char *space = strchr(line, ' ');
	return space ? str_copy(space + 1) : NULL;
}

static bool is_claimed(const struct storage_pool *p, char *const *names, const char *identity) {
	for (size_t i = 0; names && names[i]; i++) {
		bool block;
		_cleanup_(free_ptr) char *who = read_claim(p, names[i], "", &block);
		if (str_same(who, identity))
			return true;
	}
	return false;
}

static const struct lun *lun_of(const struct luns *all, const char *identity) {
	for (size_t i = 0; i < all->n; i++)
		if (str_same(all->items[i].identity, identity))
			return &all->items[i];
	return NULL;
}

/* The volume's device. */
static int find(const struct storage_pool *p, const char *id, bool block, struct luns *all, const struct lun **out,
		struct error *err) {
	bool is_block = false;
	_cleanup_(free_ptr) char *identity = read_claim(p, id, "", &is_block);
	if (!identity)
		return error_set(err, ERROR_NOT_FOUND, "the pool %s has no volume %s", p->pool->spec.name, id);
	if (is_block != block)
		return error_set(err, ERROR_INVALID, "the volume %s is %s block volume", id, block ? "no" : "a");
	int r = all_luns(p, all, err);
	if (r < 0)
		return r;
	*out = lun_of(all, identity);
	return *out ? 0 : error_set(err, ERROR_UNAVAILABLE, "the server does not offer the device of the volume %s (%s)", id,
				    identity);
}

/* The smallest that nobody has, with nothing on it. */
static int choose(const struct storage_pool *p, const struct luns *all, int64_t size, const struct lun **out,
		  struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	size_t in_use = 0;
	int r = claim_names(p, &names, err);
	*out = NULL;
	for (size_t i = 0; r == 0 && i < all->n; i++) {
		const struct lun *l = &all->items[i];
		if (l->size < size || (*out && (*out)->size <= l->size) || is_claimed(p, names, l->identity))
			continue;
		_cleanup_(free_ptr) char *type = NULL;
		r = storage_signature(l->device, &type, NULL, err);
		if (r == 0 && !type)
			*out = l;
		in_use += type != NULL;
	}
	if (r < 0 || *out)
		return r;
	return error_set(err, ERROR_NO_SPACE, "none of the %zu devices of %s is free and has %jd bytes%s", all->n,
			 p->pool->spec.source, (intmax_t)size, in_use ? " (some hold what wabe did not put there)" : "");
}

/* Reserves a device under `state`. One at a time chooses. */
static int claim(const struct storage_pool *p, const struct storage_volume *v, const char *state, char **device,
		 struct error *err) {
	_cleanup_(luns_free) struct luns all = {0};
	_cleanup_(free_ptr) char *dir = claim_path(p, "", ""), *path = claim_path(p, v->id, state);
	_cleanup_(close_fd) int lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct lun *l;
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return error_errno(err, errno, "cannot lock %s", dir);
	int r = all_luns(p, &all, err);
	if (r == 0)
		r = choose(p, &all, MAX(v->size, v->block ? 0 : EXT4_SIZE_MIN), &l, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *text = str_format("%s %s\n", v->block ? "block" : "filesystem", l->identity);
	r = fs_replace(path, text, strlen(text), 0600);
	*device = str_copy(l->device);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

/* Nobody who gets it next reads what was on it. */
static int zero(const struct storage_pool *p, const char *identity, struct error *err) {
	_cleanup_(luns_free) struct luns all = {0};
	int r = all_luns(p, &all, err);
	if (r < 0)
		return r;
	const struct lun *l = lun_of(&all, identity);
	if (!l)
		return error_set(err, ERROR_UNAVAILABLE, "the server does not offer the device %s", identity);
	_cleanup_(close_fd) int fd = open(l->device, O_RDWR | O_EXCL | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "cannot open %s", l->device);
	for (int64_t at = 0; at < l->size; at += ZERO_STEP) {
		uint64_t range[2] = {(uint64_t)at, (uint64_t)MIN(ZERO_STEP, l->size - at)};
		if (ioctl(fd, BLKZEROOUT, range) < 0)
			return error_errno(err, errno, "cannot zero %s", l->device);
	}
	return fsync(fd) < 0 ? error_errno(err, errno, "cannot zero %s", l->device) : 0;
}

/* Ends a claim that is in this state. */
static int give_back(const struct storage_pool *p, const char *id, const char *state, struct error *err) {
	_cleanup_(free_ptr) char *path = claim_path(p, id, state);
	bool block;
	_cleanup_(free_ptr) char *identity = read_claim(p, id, state, &block);
	int r = identity ? zero(p, identity, err) : 0;
	return r == 0 && unlink(path) < 0 && errno != ENOENT ? error_errno(err, errno, "cannot remove %s", path) : r;
}

static int move_claim(const struct storage_pool *p, const char *id, const char *from, const char *to, struct error *err) {
	_cleanup_(free_ptr) char *a = claim_path(p, id, from), *b = claim_path(p, id, to), *dir = claim_path(p, "", "");
	if (rename(a, b) < 0)
		return error_errno(err, errno, "cannot move %s", a);
	int r = fs_fsync_dir(dir);
	return r < 0 ? error_errno(err, r, "cannot write %s", dir) : 0;
}

/* --- operations --- */

/* One portal is enough. */
int luns_ask(const struct storage_pool *p, struct error *err) {
	int r = 0;
	for (size_t i = 0; p->pool->spec.servers && p->pool->spec.servers[i]; i++) {
		_cleanup_(free_ptr) char *host = NULL, *port = NULL;
		r = storage_portal(p->pool->spec.servers[i], p->driver == &storage_iscsi ? "3260" : "4420", &host, &port, err);
		if (r == 0)
			r = storage_ask(host, port, err);
		if (r == 0)
			return 0;
	}
	return r;
}

int luns_volume_create(const struct storage_pool *p, const struct storage_volume *v, struct error *err) {
	_cleanup_(free_ptr) char *path = claim_path(p, v->id, ""), *device = NULL;
	if (fs_exists(path))
		return 0;
	int r = v->size && !v->block ? storage_ext4_size_check(v->size, err) : 0;
	if (r == 0)
		r = luns_ask(p, err);
	if (r == 0)
		r = claim(p, v, ".new", &device, err);
	storage_fault("storage-made");
	if (r < 0)
		return r;
	r = v->block ? 0 : storage_ext4_make(p, device, v, err);
	if (r == 0)
		r = move_claim(p, v->id, ".new", "", err);
	storage_fault("storage-renamed");
	if (r < 0)
		give_back(p, v->id, ".new", NULL);
	return r;
}

int luns_volume_remove(const struct storage_pool *p, const char *id, bool block, struct error *err) {
	_cleanup_(free_ptr) char *path = claim_path(p, id, "");
	(void)block;
	int r = disk_close(p, id, NULL, err);
	if (r == 0 && fs_exists(path))
		r = move_claim(p, id, "", ".gone", err);
	storage_fault("storage-removed");
	return r < 0 ? r : give_back(p, id, ".gone", err);
}

int luns_volume_resize(const struct storage_pool *p, const struct storage_volume *v, int64_t size, struct error *err) {
	_cleanup_(luns_free) struct luns all = {0};
	const struct lun *l;
	int r = find(p, v->id, v->block, &all, &l, err);
	if (r < 0 || size == l->size)
		return r;
	if (size < l->size)
		return error_set(err, ERROR_CONFLICT, "the volume is a device of %jd bytes and cannot become smaller",
				 (intmax_t)l->size);
	return error_set(err, ERROR_UNSUPPORTED, "the volume is a device of %jd bytes, which only its server can grow; copy "
			 "what it holds to a larger one", (intmax_t)l->size);
}

int luns_volume_usage(const struct storage_pool *p, const char *id, bool block, int64_t *size, int64_t *used,
		      struct error *err) {
	_cleanup_(luns_free) struct luns all = {0};
	_cleanup_(free_ptr) char *mount = storage_mount_point(p, id, NULL);
	const struct lun *l;
	struct statfs fs;
	int r = find(p, id, block, &all, &l, err);
	if (r < 0)
		return r;
	*size = l->size;
	*used = 0;
	if (!block && storage_is_mounted(mount) && statfs(mount, &fs) == 0)
		*used = (int64_t)(fs.f_blocks - fs.f_bfree) * fs.f_bsize;
	return 0;
}

int luns_volume_list(const struct storage_pool *p, char ***ids, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = claim_names(p, &names, err);
	*ids = NULL;
	for (size_t i = 0; r == 0 && names && names[i]; i++)
		if (!strchr(names[i], '.'))
			strv_add(ids, names[i]);
	return r;
}

int luns_volume_open(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
		     struct storage_handle *out, struct error *err) {
	_cleanup_(luns_free) struct luns all = {0};
	const struct lun *l;
	if (snapshot)
		return error_set(err, ERROR_NOT_FOUND, "the volume %s has no snapshot %s", id, snapshot);
	int r = find(p, id, block, &all, &l, err);
	return r < 0 ? r : disk_open(p, l->device, id, block, NULL, out, err);
}

int luns_volume_close(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
		      struct error *err) {
	(void)block;
	return disk_close(p, id, snapshot, err);
}

int luns_status(const struct storage_pool *p, struct pool_status *out, struct error *err) {
	_cleanup_(luns_free) struct luns all = {0};
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = p->driver->activate(p, err);
	if (r == 0)
		r = all_luns(p, &all, err);
	if (r == 0)
		r = claim_names(p, &names, err);
	for (size_t i = 0; r == 0 && i < all.n; i++) {
		out->total += all.items[i].size;
		out->used += is_claimed(p, names, all.items[i].identity) ? all.items[i].size : 0;
	}
	out->capabilities = p->driver->can;
	return r;
}

int luns_release(const struct storage_pool *p, struct error *err) {
	_cleanup_(strv_free_ptr) char **ids = NULL;
	_cleanup_(free_ptr) char *dir = claim_path(p, "", "");
	int r = luns_volume_list(p, &ids, err);
	if (r == 0 && ids)
		return error_set(err, ERROR_CONFLICT, "the pool %s still holds volumes", p->pool->spec.name);
	if (r == 0)
		r = luns_recover(p, err);
	return r == 0 && rmdir(dir) < 0 && errno != ENOENT ? error_errno(err, errno, "cannot remove %s", dir) : r;
}

int luns_recover(const struct storage_pool *p, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = storage_mount_recover(p, err);
	if (r == 0)
		r = claim_names(p, &names, err);
	for (size_t i = 0; r == 0 && names && names[i]; i++) {
		char *dot = strchr(names[i], '.');
		if (!dot)
			continue;
		_cleanup_(free_ptr) char *id = str_copyn(names[i], (size_t)(dot - names[i]));
		if (strcmp(dot, ".new") == 0 || strcmp(dot, ".gone") == 0)
			r = give_back(p, id, dot, err);
	}
	return r;
}
