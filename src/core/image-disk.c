/* Images of machines: disks, media and kernels on their way in. What they are is looked at here, without any privilege, and
 * in their headers alone. */
#include "core/core-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "image/artifact.h"
#include "image/disk.h"
#include "image/kernel.h"
#include "image/ova.h"

#include <unistd.h>

#define CHUNK ((size_t)1 << 20)

int image_need_oci(const struct image *image, struct error *err) {
	if (image_is_oci(image))
		return 0;
	return error_set(err, ERROR_UNSUPPORTED, "image %.12s is one of kind %s, for machines: it holds no container's files",
			 image->id + strlen("sha256:"), image->kind);
}

/* ---- looking at blobs ---- */

static int inspect(struct core *c, const char *digest, const struct blob_type *type, struct disk_info *out, struct error *err) {
	*out = (struct disk_info){0};
	if (str_same(type->kind, "kernel"))
		return 0; /* it may be any architecture's */
	_cleanup_(close_fd) int fd = content_blob(c->content, digest, NULL, err);
	return fd < 0 ? fd : disk_inspect(fd, type->format, out, err);
}

/* qemu-img's look at all of it is that of a confined process of the agent's. */
static int check_whole(struct core *c, const char *digest, const struct blob_type *type, struct error *err) {
	struct msg_disk body = {.format = (char *)type->format};
	if (!str_same(type->kind, "disk"))
		return 0;
	_cleanup_(close_fd) int fd = content_blob(c->content, digest, NULL, err);
	return fd < 0 ? fd : agent_call_fd(c, "disk-check", &body, fd, NULL, NULL, err);
}

int blobs_inspect(struct core *c, const struct image *image, struct error *err) {
	for (size_t i = 0; i < image->layers.n; i++) {
		const struct image_layer *l = &image->layers.items[i];
		const struct blob_type *type = blob_type_find(l->media_type);
		struct disk_info is;
		if (!type)
			return error_set(err, ERROR_INVALID, "blob %s has the unknown type %s", l->digest, l->media_type);
		int r = inspect(c, l->digest, type, &is, err);
		if (r == 0 && i == 0 && is.virtual_size != image->virtual_size)
			r = error_set(err, ERROR_CORRUPT, "it is of a disk of %lld bytes, and the image's config says %lld",
				      (long long)is.virtual_size, (long long)image->virtual_size);
		if (r == 0)
			r = check_whole(c, l->digest, type, err);
		if (r < 0)
			return error_wrap(err, "blob %.19s", l->digest);
	}
	return 0;
}

/* ---- import ---- */

static int copy_rest(struct ingest *to, int fd, struct error *err) {
	_cleanup_(free_ptr) char *chunk = alloc_zero(CHUNK);
	for (;;) {
		ssize_t n = RETRY_EINTR(read(fd, chunk, CHUNK));
		if (n <= 0)
			return n < 0 ? error_errno(err, errno, "cannot read the image") : 0;
		int r = ingest_write(to, chunk, (size_t)n, err);
		if (r < 0)
			return r;
	}
}

static int store_blob(struct core *c, const void *head, size_t n, int fd, struct artifact_blob *out, struct error *err) {
	struct ingest *to;
	int r = content_ingest(c->content, NULL, &to, err);
	if (r < 0)
		return r;
	r = ingest_write(to, head, n, err);
	if (r == 0)
		r = copy_rest(to, fd, err);
	if (r < 0) {
		ingest_abort(to);
		return r;
	}
	out->size = (int64_t)ingest_offset(to);
	return ingest_commit(to, &out->digest, err);
}

/* What it is, told or recognised. */
static int choose_type(const struct blob_import *b, const struct blob_type **type, struct error *err) {
	const char *format = b->format;
	if (str_same(b->kind, "iso") || str_same(b->kind, "floppy") || str_same(b->kind, "kernel"))
		format = b->kind;
	if (str_same(b->kind, "disk") && format && !disk_format_known(format))
		return error_field(err, "format", "a disk is qcow2, raw, vmdk, vdi, vpc or vhdx, not %s", format);
	if (!format)
		return error_field(err, "format", "it is not to be seen what format the disk has: say it (qcow2, raw, vmdk, vdi, vpc, vhdx)");
	*type = blob_type_of(format);
	if (!*type)
		return error_field(err, "format", "%.32s is no format of a disk, medium or kernel", format);
	if (b->kind && !str_same((*type)->kind, b->kind))
		return error_field(err, "kind", "must be disk, iso, floppy, kernel or oci, not %.32s", b->kind);
	return 0;
}

/* The image of the blobs, under its name. */
static int store_artifact(struct core *c, const char *project, const char *name, const char *action, const struct artifact *a,
			  struct image_snap **out, struct error *err) {
	struct image image;
	int r = image_from_blobs(c->content, a, &image, err);
	if (r < 0)
		return r;
	strv_free(TAKE_PTR(image.names));
	if (name)
		strv_add(&image.names, name);
	r = image_store(c, project, &image, out, err);
	if (r == 0)
		image_publish(c, project, action, image.id, name ? name : image.id);
	fields_free(&image_table, &image);
	return r;
}

int blob_import(struct core *c, const struct blob_import *b, const void *head, size_t n, int fd, struct image_snap **out,
		struct error *err) {
	struct artifact_blob blob = {0};
	struct disk_info is;
	int r = choose_type(b, &blob.type, err);
	if (r == 0)
		r = store_blob(c, head, n, fd, &blob, err);
	_cleanup_(free_ptr) char *digest = blob.digest;
	if (r == 0)
		r = inspect(c, digest, blob.type, &is, err);
	if (r == 0)
		r = check_whole(c, digest, blob.type, err);
	if (r < 0)
		return r;
	const struct artifact a = {&blob, 1, is.virtual_size, b->comment, IMPORTED_BY, NULL};
	return store_artifact(c, b->project, b->name, "import", &a, out, err);
}

/* ---- appliances ---- */

static int ova_type(struct core *c, const struct ova *o, size_t disk, const struct blob_type **type, struct error *err) {
	const char *format = o->ovf.disks[disk].format;
	_cleanup_(free_ptr) char *head = alloc_zero(DISK_HEAD);
	_cleanup_(close_fd) int fd = content_blob(c->content, o->digests[disk], NULL, err);
	if (fd < 0)
		return fd;
	ssize_t n = fs_read_full(fd, head, DISK_HEAD);
	if (!format && n > 0)
		format = disk_recognise(head, (size_t)n);
	if (!format || !disk_format_known(format))
		return error_set(err, ERROR_UNSUPPORTED, "it is of no format that is known here (qcow2, raw, vmdk, vdi, vpc, vhdx)");
	*type = blob_type_of(format);
	return 0;
}

static int take_disk(struct core *c, const struct ova *o, size_t i, struct artifact_blob *blob, struct disk_info *is, struct error *err) {
	int r = ova_type(c, o, i, &blob->type, err);
	blob->digest = o->digests[i];
	blob->size = o->sizes[i];
	if (r == 0)
		r = inspect(c, blob->digest, blob->type, is, err);
	if (r == 0)
		r = check_whole(c, blob->digest, blob->type, err);
	if (r == 0)
		return 0;
	_cleanup_(free_ptr) char *file = text_shown(o->ovf.disks[i].file);
	return error_wrap(err, "disk %s of the OVA", file);
}

int ova_import(struct core *c, const struct blob_import *b, const void *head, size_t n, int fd, struct image_snap **out, struct error *err) {
	_cleanup_(free_ptr) struct ova *o = NEW(struct ova);
	struct artifact_blob blobs[OVF_DISKS_MAX] = {0};
	struct disk_info is[OVF_DISKS_MAX] = {0};
	if (b->kind && !str_same(b->kind, "disk"))
		return error_field(err, "kind", "must be disk for an OVA, not %.32s", b->kind);
	int r = ova_load(c->content, head, n, fd, o, err);
	for (size_t i = 0; r == 0 && i < o->ovf.n; i++)
		r = take_disk(c, o, i, &blobs[i], &is[i], err);
	const struct artifact a = {blobs, o->ovf.n, is[0].virtual_size, b->comment ? b->comment : o->ovf.notes, IMPORTED_BY, &o->ovf.machine};
	if (r == 0)
		r = store_artifact(c, b->project, b->name, "import", &a, out, err);
	ova_free(o);
	return r;
}

static int blobs_store(struct core *c, const struct kernel_files *k, struct artifact_blob blobs[2], struct error *err) {
	blobs[0].type = blob_type_of("kernel");
	blobs[1].type = blob_type_of("initrd");
	int r = store_blob(c, "", 0, k->kernel, &blobs[0], err);
	return r < 0 ? r : store_blob(c, "", 0, k->initrd, &blobs[1], err);
}

int kernel_import(struct core *c, const char *project, const char *name, int tar, int init, struct image_snap **out, struct error *err) {
	_cleanup_(kernel_files_free) struct kernel_files k;
	struct artifact_blob blobs[2] = {0};
	int r = kernel_make(tar, init, &k, err);
	if (r == 0)
		r = blobs_store(c, &k, blobs, err);
	const struct artifact a = {blobs, ARRAY_SIZE(blobs), 0, k.version, "wabe image bootstrap --kernel", NULL};
	if (r == 0)
		r = store_artifact(c, project, name, "bootstrap", &a, out, err);
	free(blobs[0].digest);
	free(blobs[1].digest);
	return r;
}

/* ---- export ---- */

int image_export(struct core *c, const char *project, const char *name, const char *format, int *fd, struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	int r = image_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	const struct image *i = &snap->image;
	const struct blob_type *type = image_is_oci(i) ? NULL : blob_type_find(i->layers.items[0].media_type);
	if (!type || (format && !str_same(type->kind, "disk")))
		return error_set(err, ERROR_UNSUPPORTED, "image %.12s is no disk: it has no format that could be chosen",
				 i->id + strlen("sha256:"));
	if (format && !disk_format_known(format))
		return error_field(err, "format", "a disk is qcow2, raw, vmdk, vdi, vpc or vhdx, not %.32s", format);
	_cleanup_(close_fd) int blob = content_blob(c->content, i->layers.items[0].digest, NULL, err);
	if (blob < 0)
		return blob;
	if (!format || str_same(format, type->format)) {
		*fd = TAKE_FD(blob);
		return 0;
	}
	struct msg_disk body = {.format = (char *)type->format, .to = (char *)format, .size = i->virtual_size};
	r = agent_call_fd(c, "disk-convert", &body, blob, NULL, fd, err);
	return r < 0 ? r : stream_expected(*fd, err);
}

/* ---- templates ---- */

/* One disk at a time is prepared in a pool; who comes meanwhile waits and finds it. */
int template_ensure(struct core *c, const struct image *image, const char *pool_id, struct error *err) {
	const struct image_layer *disk = &image->layers.items[0];
	const char *hex = strchr(disk->digest, ':') + 1;
	_cleanup_(held_release) struct held held = hold(c, "template", hex);
	_cleanup_(free_ptr) char *key = str_format("%s/%s", pool_id, hex);
	core_lock(c);
	bool there = map_get(c->templates, key);
	core_unlock(c);
	if (there)
		return 0;
	struct msg_template body = {.pool_id = (char *)pool_id, .digest = disk->digest, .size = image->virtual_size};
	body.format = (char *)blob_type_find(disk->media_type)->format;
	_cleanup_(close_fd) int blob = content_blob(c->content, disk->digest, NULL, err);
	int r = blob < 0 ? blob : agent_call_fd(c, "template-make", &body, blob, NULL, NULL, err);
	if (r < 0)
		return error_wrap(err, "preparing the disk of image %.12s", image->id + strlen("sha256:"));
	WITH_LOCK(c);
	map_set(c->templates, key, c);
	return 0;
}

/* Needs the lock. */
static bool image_has_disk(struct core *c, const char *hex) {
	const struct image *image;
	for (struct image_walk w = {0}; image_next(c, &w, &image);)
		if (str_same(image->kind, "disk") && str_ends(image->layers.items[0].digest, hex))
			return true;
	return false;
}

bool template_known(struct core *c, const char *pool_id, const char *id) {
	if (!image_has_disk(c, id))
		return false;
	_cleanup_(free_ptr) char *key = str_format("%s/%s", pool_id, id);
	map_set(c->templates, key, c);
	return true;
}

static int template_remove(struct core *c, const char *key, struct error *err) {
	_cleanup_(free_ptr) char *pool = str_copyn(key, strcspn(key, "/"));
	struct msg_volume_ref body = {.pool_id = pool, .id = strchr(key, '/') + 1};
	int r = agent_call(c, "volume-delete", &body, NULL, err);
	if (r < 0)
		return r;
	WITH_LOCK(c);
	map_remove(c->templates, key);
	return 0;
}

int templates_drop(struct core *c, const char *pool_id, struct error *err) {
	_cleanup_(strv_free_ptr) char **gone = NULL;
	const char *key;
	core_lock(c);
	for (size_t i = 0; map_next(c->templates, &i, &key, NULL);)
		if (str_starts(key, pool_id))
			strv_add(&gone, key);
	core_unlock(c);
	int r = 0;
	for (char **k = gone; r == 0 && k && *k; k++)
		r = template_remove(c, *k, err);
	return r;
}

static char **unneeded(struct core *c, const struct map *needed) {
	WITH_LOCK(c);
	char **gone = NULL;
	const char *key;
	for (size_t i = 0; map_next(c->templates, &i, &key, NULL);) {
		_cleanup_(free_ptr) char *digest = str_format("sha256:%s", strchr(key, '/') + 1);
		if (!map_get(needed, digest))
			strv_add(&gone, key);
	}
	return gone;
}

void templates_collect(struct core *c, const struct map *needed) {
	_cleanup_(strv_free_ptr) char **gone = unneeded(c, needed);
	for (char **key = gone; key && *key; key++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		const char *hex = strchr(*key, '/') + 1;
		_cleanup_(held_release) struct held held = hold(c, "template", hex);
		core_lock(c);
		bool again = image_has_disk(c, hex); /* one that has come meanwhile */
		core_unlock(c);
		if (!again && template_remove(c, *key, &err) < 0)
			log_warn("removing the disk %.12s that machines began as: %s", hex, error_text(&err));
	}
}
