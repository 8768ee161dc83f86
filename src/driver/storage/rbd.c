/* The driver rbd: images of a Ceph pool, through the kernel's client. Snapshots and clones (of the second format, which
 * need no protection) take no time. Several hosts may use the pool at once, a volume one of them at a time. Restoring copies back in
 * place: a mark in p->dir/restoring has it done again after a crash. */
#include "base/json.h"
#include "base/time.h"
#include "driver/storage/rbd-priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FEATURES "layering,exclusive-lock,object-map,fast-diff,deep-flatten"

static int probe(struct error *err) {
	int r = storage_need_program("rbd", "ceph-common", err);
	return r < 0 || fs_exists("/sys/bus/rbd") ? r : storage_load_module("rbd", "Ceph block device", err);
}

static const char *kind_of(bool block) {
	return block ? "block" : "fs";
}

static int activate(const struct storage_pool *p, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	struct error why = ERROR_INIT;
	int r = rbd_configure(p, err);
	if (r < 0)
		return r;
	r = rbd_list(p, &names, &why);
	if (r == -ERROR_TIMEOUT || r == -ERROR_INTERNAL)
		r = error_set(err, ERROR_UNAVAILABLE, "%s", error_text(&why));
	else if (r < 0)
		return error_move(err, &why);
	error_free(&why);
	return r;
}

static int create(const struct storage_pool *p, struct error *err) {
	const char *source = p->pool->spec.source;
	if (*source == '-' || strpbrk(source, "/@ "))
		return error_field(err, "source", "must be the name of a Ceph pool, not %s", source);
	return activate(p, err);
}

static int deactivate(const struct storage_pool *p, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = rbd_list(p, &names, err);
	for (size_t i = 0; r == 0 && names && names[i]; i++)
		r = rbd_unmap(p, names[i], "*", err);
	return r;
}

static int status(const struct storage_pool *p, struct pool_status *out, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX((size_t)16 << 20);
	int r = rbd_run(p, (const char *const[]){"df", "--format", "json", NULL}, &text, err);
	_cleanup_(json_free_ptr) json_t *all = r < 0 ? NULL : json_parse(buf_str(&text), text.len, err);
	if (!all)
		return r < 0 ? r : -ERROR_INTERNAL;
	size_t i;
	json_t *one;
	json_array_foreach(json_object_get(all, "pools"), i, one) {
		const json_t *stats = json_object_get(one, "stats");
		if (!str_same(json_get_str(one, "name"), p->pool->spec.source))
			continue;
		out->used = json_get_int(stats, "stored");
		out->total = out->used + json_get_int(stats, "max_avail");
	}
	out->capabilities = p->driver->can;
	out->capabilities.grow_online = storage_ext4_grows_online();
	return 0;
}

/* --- volumes --- */

/* The image's name; NOT_FOUND, or INVALID for one of the other kind. */
static int find(const struct storage_pool *p, const char *id, bool block, char **name, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	_cleanup_(free_ptr) char *other = rbd_name(p, kind_of(!block), id);
	char *wanted = rbd_name(p, kind_of(block), id);
	int r = rbd_list(p, &names, err);
	if (r == 0 && strv_has(names, wanted)) {
		*name = wanted;
		return 0;
	}
	free(wanted);
	if (r < 0)
		return r;
	if (strv_has(names, other))
		return error_set(err, ERROR_INVALID, "the volume %s is %s block volume", id, block ? "no" : "a");
	return error_set(err, ERROR_NOT_FOUND, "the pool %s has no volume %s", p->pool->spec.name, id);
}

static bool is_there(const struct storage_pool *p, const char *id, int *r, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	_cleanup_(free_ptr) char *fs = rbd_name(p, "fs", id), *block = rbd_name(p, "block", id);
	*r = rbd_list(p, &names, err);
	return *r < 0 || strv_has(names, fs) || strv_has(names, block);
}

static char *full(const struct storage_pool *p, const char *name, const char *snapshot) {
	return str_format("%s/%s%s%s", p->pool->spec.source, name, snapshot ? "@" : "", snapshot ? snapshot : "");
}

/* Unfinished, or no longer wanted: with its snapshots. One that clones need stays until they are gone. */
static int discard(const struct storage_pool *p, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *image = full(p, name, NULL);
	struct error why = ERROR_INIT;
	int r = rbd_unmap(p, name, "*", err);
	if (r < 0)
		return r;
	r = RBD(p, &why, "snap", "purge", "--no-progress", image);
	if (r == 0)
		r = RBD(p, &why, "rm", "--no-progress", image);
	if (r == -ERROR_NOT_FOUND || r == -ERROR_CONFLICT || r == -ERROR_BUSY)
		r = 0; /* the next recovery tries again */
	if (r < 0)
		return error_move(err, &why);
	error_free(&why);
	return 0;
}

static int finish(const struct storage_pool *p, const struct storage_volume *v, int r, struct error *err) {
	_cleanup_(free_ptr) char *new = rbd_name(p, "new", v->id), *from = full(p, new, NULL);
	_cleanup_(free_ptr) char *to = rbd_image(p, kind_of(v->block), v->id);
	storage_fault("storage-made");
	if (r == 0)
		r = rbd_rename(p, from, to, err);
	storage_fault("storage-renamed");
	if (r < 0)
		discard(p, new, NULL);
	return r;
}

static int volume_create(const struct storage_pool *p, const struct storage_volume *v, struct error *err) {
	_cleanup_(free_ptr) char *new = rbd_name(p, "new", v->id), *image = full(p, new, NULL), *device = NULL;
	int64_t size;
	int r;
	if (is_there(p, v->id, &r, err))
		return r;
	r = disk_size(p, v, &size, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *bytes = str_format("%jdB", (intmax_t)size);
	r = RBD(p, err, "create", "--size", bytes, "--image-feature", FEATURES, image);
	if (r == 0 && !v->block) {
		r = rbd_map(p, new, NULL, &device, err);
		if (r == 0)
			r = storage_ext4_make(p, device, v, err);
		if (r == 0)
			r = rbd_unmap(p, new, NULL, err);
	}
	return finish(p, v, r, err);
}

static int volume_remove(const struct storage_pool *p, const char *id, bool block, struct error *err) {
	_cleanup_(free_ptr) char *name = rbd_name(p, kind_of(block), id), *from = full(p, name, NULL), *salt = random_hex(6);
	_cleanup_(free_ptr) char *rest = str_format("%s.%s", id, salt), *gone = rbd_name(p, "gone", rest), *to = full(p, gone, NULL);
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = disk_close(p, id, NULL, err);
	if (r == 0)
		r = rbd_list(p, &names, err);
	if (r < 0 || !strv_has(names, name))
		return r;
	r = rbd_unmap(p, name, "*", err);
	if (r == 0)
		r = rbd_rename(p, from, to, err);
	storage_fault("storage-removed");
	return r < 0 ? r : discard(p, gone, err);
}

static int volume_resize(const struct storage_pool *p, const struct storage_volume *v, int64_t size, struct error *err) {
	_cleanup_(free_ptr) char *name = NULL, *bytes = str_format("%jdB", (intmax_t)size);
	int64_t now = 0;
	int r = find(p, v->id, v->block, &name, err);
	_cleanup_(free_ptr) char *image = r < 0 ? NULL : full(p, name, NULL);
	if (r == 0)
		r = rbd_size(p, image, &now, err);
	if (r == 0)
		r = disk_can_grow(p, v->id, v->block, now, size, err);
	if (r == 0 && size > now)
		r = RBD(p, err, "resize", "--no-progress", "--size", bytes, image);
	storage_fault("storage-grown");
	return r < 0 ? r : disk_grown(p, v->id, v->block, size, err);
}

static int volume_usage(const struct storage_pool *p, const char *id, bool block, int64_t *size, int64_t *used,
			struct error *err) {
	_cleanup_(free_ptr) char *name = NULL;
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX((size_t)1 << 20);
	int r = find(p, id, block, &name, err);
	_cleanup_(free_ptr) char *image = r < 0 ? NULL : full(p, name, NULL);
	if (r == 0)
		r = rbd_size(p, image, size, err);
	if (r == 0)
		r = rbd_run(p, (const char *const[]){"du", "--format", "json", image, NULL}, &text, err);
	_cleanup_(json_free_ptr) json_t *all = r < 0 ? NULL : json_parse(buf_str(&text), text.len, err);
	*used = all ? json_get_int(all, "total_used_size") : 0;
	return r;
}

static int volume_list(const struct storage_pool *p, char ***ids, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = rbd_list(p, &names, err);
	*ids = NULL;
	for (size_t i = 0; r == 0 && names && names[i]; i++) {
		_cleanup_(free_ptr) char *kind = NULL, *id = NULL;
		if (rbd_split(p, names[i], &kind, &id) && (strcmp(kind, "fs") == 0 || strcmp(kind, "block") == 0))
			strv_add(ids, id);
	}
	return r;
}

/* --- snapshots --- */

static json_t *list_snapshots(const struct storage_pool *p, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *image = full(p, name, NULL);
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX((size_t)16 << 20);
	int r = rbd_run(p, (const char *const[]){"snap", "ls", "--format", "json", image, NULL}, &text, err);
	return r < 0 ? NULL : json_parse(buf_str(&text), text.len, err);
}

/* 1: it is there, 0: not. */
static int has_snapshot(const struct storage_pool *p, const char *name, const char *snapshot, struct error *err) {
	_cleanup_(json_free_ptr) json_t *all = list_snapshots(p, name, err);
	if (!all)
		return -ERROR_INTERNAL;
	size_t i;
	json_t *one;
	json_array_foreach(all, i, one) if (str_same(json_get_str(one, "name"), snapshot)) return 1;
	return 0;
}

static int need_snapshot(const struct storage_pool *p, const char *id, const char *name, const char *snapshot,
			 struct error *err) {
	int r = has_snapshot(p, name, snapshot, err);
	return r != 0 ? MIN(r, 0) : error_set(err, ERROR_NOT_FOUND, "the volume %s has no snapshot %s", id, snapshot);
}

static int volume_open(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
		       struct storage_handle *out, struct error *err) {
	_cleanup_(free_ptr) char *name = NULL, *device = NULL;
	int r = find(p, id, block, &name, err);
	if (r == 0 && snapshot)
		r = need_snapshot(p, id, name, snapshot, err);
	if (r == 0)
		r = rbd_map(p, name, snapshot, &device, err);
	return r < 0 ? r : disk_open(p, device, id, block, snapshot, out, err);
}

static int volume_close(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
			struct error *err) {
	_cleanup_(free_ptr) char *name = rbd_name(p, kind_of(block), id);
	int r = disk_close(p, id, snapshot, err);
	return r < 0 ? r : rbd_unmap(p, name, snapshot, err);
}

static int take_snapshot(const struct storage_pool *p, const char *id, const char *name, const char *snapshot,
			 struct error *err) {
	_cleanup_(free_ptr) char *image = full(p, name, snapshot), *mount = storage_mount_point(p, id, NULL);
	_cleanup_(storage_thaw) struct storage_frozen frozen = STORAGE_FROZEN_INIT;
	int r = storage_is_mounted(mount) ? storage_freeze(mount, &frozen, err) : 0;
	storage_fault("storage-frozen");
	if (r == 0)
		r = RBD(p, err, "snap", "create", "--no-progress", image);
	storage_fault("storage-snapshot-made");
	return r;
}

static int snapshot_create(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
			   struct error *err) {
	_cleanup_(free_ptr) char *name = NULL;
	int r = find(p, id, block, &name, err);
	if (r == 0)
		r = has_snapshot(p, name, snapshot, err);
	return r != 0 ? MIN(r, 0) : take_snapshot(p, id, name, snapshot, err);
}

static int snapshot_remove(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
			   struct error *err) {
	_cleanup_(free_ptr) char *name = NULL;
	int r = find(p, id, block, &name, err);
	if (r == -ERROR_NOT_FOUND)
		return 0;
	if (r == 0)
		r = volume_close(p, id, block, snapshot, err);
	if (r == 0)
		r = has_snapshot(p, name, snapshot, err);
	_cleanup_(free_ptr) char *image = r == 1 ? full(p, name, snapshot) : NULL;
	return r == 1 ? RBD(p, err, "snap", "rm", "--no-progress", image) : r;
}

static char *restoring(const struct storage_pool *p, const char *name) {
	_cleanup_(free_ptr) char *dir = str_format("%s/restoring", p->dir);
	mkdir(dir, 0700);
	return str_format("%s/%s", dir, name);
}

/* The mark says which snapshot: what was begun is done from the start. */
static int roll_back(const struct storage_pool *p, const char *name, const char *snapshot, struct error *err) {
	_cleanup_(free_ptr) char *image = full(p, name, snapshot), *plain = full(p, name, NULL), *mark = restoring(p, name);
	int64_t before, after;
	int r = rbd_unmap(p, name, NULL, err);
	if (r == 0)
		r = rbd_size(p, plain, &before, err);
	if (r == 0)
		r = RBD(p, err, "snap", "rollback", "--no-progress", image);
	storage_fault("storage-restored");
	if (r == 0)
		r = rbd_size(p, plain, &after, err);
	if (r == 0 && after < before) { /* it has grown since */
		_cleanup_(free_ptr) char *bytes = str_format("%jdB", (intmax_t)before);
		r = RBD(p, err, "resize", "--no-progress", "--size", bytes, plain);
	}
	return r == 0 && unlink(mark) < 0 && errno != ENOENT ? error_errno(err, errno, "cannot remove %s", mark) : r;
}

static int snapshot_restore(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
			    struct error *err) {
	_cleanup_(free_ptr) char *name = NULL;
	int r = find(p, id, block, &name, err);
	if (r == 0)
		r = need_snapshot(p, id, name, snapshot, err);
	if (r == 0)
		r = disk_close(p, id, NULL, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *mark = restoring(p, name);
	int w = fs_replace(mark, snapshot, strlen(snapshot), 0600);
	if (w < 0)
		return error_errno(err, w, "cannot write %s", mark);
	storage_fault("storage-restore-made");
	return roll_back(p, name, snapshot, err);
}

/* "Mon Nov 23 03:40:00 2026", by the C locale, in UTC as this program runs in no other time zone. */
static int64_t parse_time(const char *text) {
	struct tm tm = {0};
	return text && strptime(text, "%a %b %d %H:%M:%S %Y", &tm) ? mktime(&tm) * NS_PER_SEC : 0;
}

static int snapshot_list(const struct storage_pool *p, const char *id, bool block, snapshots *out, struct error *err) {
	_cleanup_(free_ptr) char *name = NULL;
	int r = find(p, id, block, &name, err);
	_cleanup_(json_free_ptr) json_t *all = r < 0 ? NULL : list_snapshots(p, name, err);
	if (!all)
		return r < 0 ? r : -ERROR_INTERNAL;
	*out = (snapshots){.items = alloc_array(json_array_size(all) + 1, sizeof *out->items)};
	size_t i;
	json_t *one;
	json_array_foreach(all, i, one) {
		const char *snapshot = json_get_str(one, "name");
		if (snapshot && !str_starts(snapshot, RBD_CLONING))
			out->items[out->n++] = (struct snapshot){.name = str_copy(snapshot),
								 .created_at = parse_time(json_get_str(one, "timestamp"))};
	}
	return 0;
}

static int clone_volume(const struct storage_pool *p, const char *from, const char *snapshot,
			const struct storage_volume *to, struct error *err) {
	_cleanup_(free_ptr) char *name = NULL, *new = rbd_image(p, "new", to->id);
	_cleanup_(free_ptr) char *own = snapshot ? NULL : str_format(RBD_CLONING "%.16s", to->id);
	int64_t size = 0;
	int r;
	if (is_there(p, to->id, &r, err))
		return r;
	r = find(p, from, to->block, &name, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *source = full(p, name, snapshot ? snapshot : own);
	r = snapshot ? need_snapshot(p, from, name, snapshot, err) : take_snapshot(p, from, name, own, err);
	if (r == 0)
		r = rbd_size(p, source, &size, err);
	if (r == 0 && to->size && to->size < size)
		r = error_field(err, "size", "must be at least that of what is cloned, %jd bytes", (intmax_t)size);
	if (r == 0)
		r = RBD(p, err, "clone", "--rbd-default-clone-format", "2", "--image-feature", FEATURES, source, new);
	if (r == 0 && to->size > size) {
		_cleanup_(free_ptr) char *bytes = str_format("%jdB", (intmax_t)to->size);
		r = RBD(p, err, "resize", "--no-progress", "--size", bytes, new);
	}
	if (own) { /* in Ceph's own trash it lives on, unseen, for as long as the clone needs it */
		int gone = RBD(p, r < 0 ? NULL : err, "snap", "rm", "--no-progress", source);
		r = r < 0 ? r : gone;
	}
	return finish(p, to, r, err);
}

static int finish_restores(const struct storage_pool *p, char *const *names, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && names && names[i]; i++) {
		_cleanup_(free_ptr) char *mark = restoring(p, names[i]);
		_cleanup_(buf_free) struct buf snapshot = BUF_INIT;
		if (fs_read(mark, 1024, &snapshot) == 0)
			r = roll_back(p, names[i], buf_str(&snapshot), err);
	}
	return r;
}

static int recover(const struct storage_pool *p, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = storage_mount_recover(p, err);
	if (r == 0)
		r = rbd_list(p, &names, err);
	for (size_t i = 0; r == 0 && names && names[i]; i++) {
		_cleanup_(free_ptr) char *kind = NULL, *id = NULL;
		if (rbd_split(p, names[i], &kind, &id) && (strcmp(kind, "new") == 0 || strcmp(kind, "gone") == 0))
			r = discard(p, names[i], err);
	}
	return r < 0 ? r : finish_restores(p, names, err);
}

static int remove_pool(const struct storage_pool *p, struct error *err) {
	_cleanup_(strv_free_ptr) char **ids = NULL, **names = NULL;
	int r = rbd_configure(p, err);
	if (r == 0)
		r = volume_list(p, &ids, err);
	if (r == 0 && ids)
		return error_set(err, ERROR_CONFLICT, "the pool %s still holds volumes", p->pool->spec.name);
	if (r == 0)
		r = recover(p, err);
	if (r == 0)
		r = deactivate(p, err);
	static const char *const files[] = {"ceph.conf", "keyring", "restoring"};
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(files); i++) {
		_cleanup_(free_ptr) char *path = str_format("%s/%s", p->dir, files[i]);
		r = fs_remove_tree(path) < 0 ? error_set(err, ERROR_INTERNAL, "cannot remove %s", path) : 0;
	}
	return r;
}

const struct storage_driver storage_rbd = {
	.name = "rbd",
	.can = {.filesystems = true, .blocks = true, .snapshots = true, .instant_snapshots = true, .linked_clones = true,
		.restore_older = true,
		.quotas = true, .grow_online = true, .shared = true, .persistent = true},
	.probe = probe,
	.create = create,
	.activate = activate,
	.deactivate = deactivate,
	.remove = remove_pool,
	.status = status,
	.volume_create = volume_create,
	.volume_remove = volume_remove,
	.volume_resize = volume_resize,
	.volume_usage = volume_usage,
	.volume_list = volume_list,
	.volume_open = volume_open,
	.volume_close = volume_close,
	.snapshot_create = snapshot_create,
	.snapshot_remove = snapshot_remove,
	.snapshot_restore = snapshot_restore,
	.snapshot_list = snapshot_list,
	.clone = clone_volume,
	.recover = recover,
};
