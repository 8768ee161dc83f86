/* The driver lvm-thin: thin logical volumes in a thin pool that the administrator has made. Snapshots and clones take no
 * time. What wabe has made carries its tags; nothing else in the volume group is looked at. A thin pool that runs full
 * holds writers for a minute unless it was made with --errorwhenfull y; then the device says "no space", which ext4 (of
 * Linux 6.1) passes on as EIO, and its journal stops when it is hit itself. */
#include "base/time.h"
#include "driver/storage/lvm-priv.h"

static int lvm_probe(struct error *err) {
	int r = storage_need_program("lvcreate", "lvm2", err);
	if (r == 0)
		r = storage_need_program("thin_check", "thin-provisioning-tools", err);
	return r < 0 || fs_exists("/dev/mapper/control") ? r : storage_load_module("dm_thin_pool", "device mapper", err);
}

static int lvm_check(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *vg = NULL, *thin = NULL;
	struct lvm_pool now;
	int r = lvm_source(p, &vg, &thin, err);
	return r < 0 ? r : lvm_thin_pool(p, &now, err);
}

static int lvm_status(const struct storage_pool *p, struct pool_status *out, struct error *err) {
	struct lvm_pool now;
	int r = lvm_thin_pool(p, &now, err);
	if (r < 0)
		return r;
	out->total = now.size;
	out->used = (int64_t)((double)now.size * now.percent / 100);
	out->capabilities = p->driver->can;
	out->capabilities.grow_online = storage_ext4_grows_online();
	return 0;
}

static int lvm_deactivate(const struct storage_pool *p, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	int r = lvm_list(p, &all, err);
	for (size_t i = 0; r == 0 && i < all.n; i++)
		r = lvm_activate(p, all.items[i].name, false, err);
	return r;
}

static int lvm_pool_remove(const struct storage_pool *p, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	int r = lvm_list(p, &all, err);
	for (size_t i = 0; r == 0 && i < all.n; i++)
		if (lvm_find(&all, all.items[i].volume, NULL))
			return error_set(err, ERROR_CONFLICT, "the pool %s still holds volumes", p->pool->spec.name);
	for (size_t i = 0; r == 0 && i < all.n; i++)
		r = lvm_remove(p, all.items[i].name, err);
	return r;
}

/* The volume (of that kind), or a snapshot of it, in a list of all. */
static int find(const struct storage_pool *p, const char *id, bool block, const char *snapshot, struct lvs *all,
		const struct lv **out, struct error *err) {
	int r = lvm_list(p, all, err);
	if (r < 0)
		return r;
	const struct lv *volume = lvm_find(all, id, NULL);
	if (!volume)
		return error_set(err, ERROR_NOT_FOUND, "the pool %s has no volume %s", p->pool->spec.name, id);
	if (volume->block != block)
		return error_set(err, ERROR_INVALID, "the volume %s is %s block volume", id, block ? "no" : "a");
	*out = snapshot ? lvm_find(all, id, snapshot) : volume;
	return *out ? 0 : error_set(err, ERROR_NOT_FOUND, "the volume %s has no snapshot %s", id, snapshot);
}

static bool there(const struct storage_pool *p, const char *id, int *r, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	*r = lvm_list(p, &all, err);
	return *r < 0 || lvm_find(&all, id, NULL);
}

static int volume_create(const struct storage_pool *p, const struct storage_volume *v, struct error *err) {
	struct lvm_new new = {.volume = v->id, .block = v->block, .unfinished = !v->block};
	_cleanup_(free_ptr) char *name = NULL;
	int r;
	if (there(p, v->id, &r, err))
		return r;
	r = disk_size(p, v, &new.size, err);
	if (r == 0)
		r = lvm_create(p, &new, &name, err);
	storage_fault("storage-made");
	if (r < 0 || v->block)
		return r;
	_cleanup_(free_ptr) char *device = lvm_device(p, name);
	r = storage_ext4_make(p, device, v, err);
	if (r == 0)
		r = lvm_untag(p, name, "wabe-unfinished", err);
	storage_fault("storage-renamed");
	if (r < 0)
		lvm_remove(p, name, NULL);
	return r;
}

static int volume_remove(const struct storage_pool *p, const char *id, bool block, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	(void)block;
	int r = lvm_list(p, &all, err);
	for (size_t i = 0; r == 0 && i < all.n; i++)
		if (str_same(all.items[i].volume, id))
			r = disk_close(p, id, all.items[i].snapshot, err);
	/* the volume first: snapshots without one go with the next recovery */
	for (int snapshots = 0; snapshots < 2; snapshots++)
		for (size_t i = 0; r == 0 && i < all.n; i++)
			if (str_same(all.items[i].volume, id) && (all.items[i].snapshot != NULL) == (snapshots == 1)) {
				r = lvm_remove(p, all.items[i].name, err);
				storage_fault("storage-removed");
			}
	return r;
}

static int volume_resize(const struct storage_pool *p, const struct storage_volume *v, int64_t size, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	const struct lv *lv;
	int r = find(p, v->id, v->block, NULL, &all, &lv, err);
	if (r == 0)
		r = disk_can_grow(p, v->id, v->block, lv->size, size, err);
	if (r == 0 && size > lv->size)
		r = lvm_grow(p, lv->name, size, err);
	storage_fault("storage-grown");
	return r < 0 ? r : disk_grown(p, v->id, v->block, size, err);
}

static int volume_usage(const struct storage_pool *p, const char *id, bool block, int64_t *size, int64_t *used,
			struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	const struct lv *lv;
	int r = find(p, id, block, NULL, &all, &lv, err);
	if (r < 0)
		return r;
	*size = lv->size;
	*used = (int64_t)((double)lv->size * lv->percent / 100);
	return 0;
}

static int volume_list(const struct storage_pool *p, char ***ids, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	*ids = NULL;
	int r = lvm_list(p, &all, err);
	for (size_t i = 0; r == 0 && i < all.n; i++)
		if (all.items[i].volume && &all.items[i] == lvm_find(&all, all.items[i].volume, NULL))
			strv_add(ids, all.items[i].volume);
	return r;
}

static int volume_open(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
		       struct storage_handle *out, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	const struct lv *lv;
	int r = find(p, id, block, snapshot, &all, &lv, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *device = lvm_device(p, lv->name);
	r = fs_exists(device) ? 0 : lvm_activate(p, lv->name, true, err);
	return r < 0 ? r : disk_open(p, device, id, block, snapshot, out, err);
}

static int volume_close(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
			struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	(void)block;
	int r = disk_close(p, id, snapshot, err);
	if (r < 0 || !snapshot)
		return r;
	r = lvm_list(p, &all, err);
	const struct lv *lv = r < 0 ? NULL : lvm_find(&all, id, snapshot);
	return lv ? lvm_activate(p, lv->name, false, err) : r;
}

static int snapshot_create(const struct storage_pool *p, const char *id, bool block, const char *name, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	_cleanup_(free_ptr) char *made = NULL;
	const struct lv *lv;
	int r = find(p, id, block, NULL, &all, &lv, err);
	if (r < 0 || lvm_find(&all, id, name))
		return r;
	/* the kernel freezes a file system on it meanwhile */
	r = lvm_create(p, &(struct lvm_new){.volume = id, .snapshot = name, .block = block, .origin = lv->name}, &made, err);
	storage_fault("storage-snapshot-made");
	return r;
}

static int snapshot_remove(const struct storage_pool *p, const char *id, bool block, const char *name, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	(void)block;
	int r = disk_close(p, id, name, err);
	if (r == 0)
		r = lvm_list(p, &all, err);
	const struct lv *lv = r < 0 ? NULL : lvm_find(&all, id, name);
	return lv ? lvm_remove(p, lv->name, err) : r;
}

/* All volumes but the one that was restored go, and it is the volume. */
static int finish_restore(const struct storage_pool *p, const char *id, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	int r = lvm_list(p, &all, err);
	const struct lv *now = r < 0 ? NULL : lvm_find(&all, id, NULL);
	if (!now || !now->restored)
		return r;
	for (size_t i = 0; r == 0 && i < all.n; i++)
		if (&all.items[i] != now && str_same(all.items[i].volume, id) && !all.items[i].snapshot)
			r = lvm_remove(p, all.items[i].name, err);
	storage_fault("storage-restored");
	return r < 0 ? r : lvm_untag(p, now->name, "wabe-restored", err);
}

static int snapshot_restore(const struct storage_pool *p, const char *id, bool block, const char *name, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	_cleanup_(free_ptr) char *made = NULL;
	const struct lv *lv;
	int r = find(p, id, block, name, &all, &lv, err);
	int64_t size = r < 0 ? 0 : lvm_find(&all, id, NULL)->size; /* it may have grown since */
	if (r == 0)
		r = disk_close(p, id, NULL, err);
	if (r == 0)
		r = lvm_create(p, &(struct lvm_new){.volume = id, .block = block, .origin = lv->name, .restored = true}, &made, err);
	storage_fault("storage-restore-made");
	if (r == 0 && size > lv->size)
		r = lvm_grow(p, made, size, err);
	return r < 0 ? r : finish_restore(p, id, err);
}

static int snapshot_list(const struct storage_pool *p, const char *id, bool block, snapshots *out, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	const struct lv *lv;
	int r = find(p, id, block, NULL, &all, &lv, err);
	if (r < 0)
		return r;
	*out = (snapshots){.items = alloc_array(all.n, sizeof *out->items)};
	for (size_t i = 0; i < all.n; i++)
		if (all.items[i].snapshot && str_same(all.items[i].volume, id))
			out->items[out->n++] = (struct snapshot){.name = str_copy(all.items[i].snapshot),
								 .created_at = all.items[i].created_at};
	return 0;
}

static int clone_volume(const struct storage_pool *p, const char *from, const char *snapshot,
			const struct storage_volume *to, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	_cleanup_(free_ptr) char *made = NULL;
	const struct lv *lv;
	int r = find(p, from, to->block, snapshot, &all, &lv, err);
	if (r < 0 || lvm_find(&all, to->id, NULL))
		return r;
	if (to->size && to->size < lv->size)
		return error_field(err, "size", "must be at least that of what is cloned, %jd bytes", (intmax_t)lv->size);
	bool grows = to->size > lv->size;
	r = lvm_create(p, &(struct lvm_new){.volume = to->id, .block = to->block, .origin = lv->name, .unfinished = grows}, &made,
		       err);
	storage_fault("storage-made");
	if (r < 0 || !grows)
		return r;
	r = lvm_grow(p, made, to->size, err);
	return r < 0 ? r : lvm_untag(p, made, "wabe-unfinished", err);
}

static int lvm_recover(const struct storage_pool *p, struct error *err) {
	_cleanup_(lvm_list_free) struct lvs all = {0};
	int r = storage_mount_recover(p, err);
	if (r == 0)
		r = lvm_list(p, &all, err);
	for (size_t i = 0; r == 0 && i < all.n; i++) {
		const struct lv *lv = &all.items[i];
		if (lv->unfinished || !lv->volume || (lv->snapshot && !lvm_find(&all, lv->volume, NULL)))
			r = lvm_remove(p, lv->name, err);
		else if (lv->restored)
			r = finish_restore(p, lv->volume, err);
	}
	return r;
}

const struct storage_driver storage_lvm_thin = {
	.name = "lvm-thin",
	.can = {.filesystems = true, .blocks = true, .snapshots = true, .instant_snapshots = true, .linked_clones = true,
		.restore_older = true,
		.quotas = true, .grow_online = true, .persistent = true},
	.probe = lvm_probe,
	.create = lvm_check,
	.activate = lvm_check,
	.deactivate = lvm_deactivate,
	.remove = lvm_pool_remove,
	.status = lvm_status,
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
	.recover = lvm_recover,
};
