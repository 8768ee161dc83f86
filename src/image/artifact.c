/* Images of machines: their media types, and new ones made of blobs. */
#include "image/artifact.h"

#include "base/str.h"
#include "base/time.h"
#include "image/archive.h"
#include "image/manifest.h"

#define DISKS_MAX 16

static const struct blob_type types[] = {
	{"application/vnd.wabe.disk.v1+qcow2", "disk", "qcow2"},
	{"application/vnd.wabe.disk.v1+raw", "disk", "raw"},
	{"application/vnd.wabe.disk.v1+vmdk", "disk", "vmdk"},
	{"application/vnd.wabe.disk.v1+vdi", "disk", "vdi"},
	{"application/vnd.wabe.disk.v1+vpc", "disk", "vpc"},
	{"application/vnd.wabe.disk.v1+vhdx", "disk", "vhdx"},
	{"application/vnd.wabe.iso.v1", "iso", "iso"},
	{"application/vnd.wabe.floppy.v1", "floppy", "floppy"},
	{"application/vnd.wabe.kernel.v1", "kernel", "kernel"},
	{"application/vnd.wabe.initrd.v1", "kernel", "initrd"},
};

const struct blob_type *blob_type_find(const char *media_type) {
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_same(types[i].media_type, media_type))
			return &types[i];
	return NULL;
}

const struct blob_type *blob_type_of(const char *format) {
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_same(types[i].format, format))
			return &types[i];
	return NULL;
}

int blobs_check(const struct image *image, const char **kind, struct error *err) {
	*kind = NULL;
	size_t n = image->layers.n;
	for (size_t i = 0; i < n; i++) {
		const struct image_layer *l = &image->layers.items[i];
		const struct blob_type *t = blob_type_find(l->media_type);
		if (!t || (*kind && !str_same(t->kind, *kind)) || (str_same(t->kind, "kernel") && str_same(t->format, "initrd") != (i == 1)))
			return error_set(err, ERROR_INVALID, "blob %zu of the image has a type that does not go with the others: %s", i,
					 l->media_type);
		if (!str_same(l->digest, l->diff_id))
			return error_set(err, ERROR_INVALID, "blob %s of the image is another one in its config", l->digest);
		*kind = t->kind;
	}
	size_t most = str_same(*kind, "disk") ? DISKS_MAX : str_same(*kind, "kernel") ? 2 : 1;
	if (n == 0 || n > most)
		return error_set(err, ERROR_INVALID, "an image of kind %s has 1 to %zu blobs, not %zu", *kind ? *kind : "disk", most, n);
	return 0;
}

static json_t *make_config(const struct artifact *a) {
	char now[TIME_TEXT_MAX];
	time_format(time_now_ns(), now);
	json_t *o = json_object(), *diff_ids = json_array(), *entry = json_object();
	json_set_str(o, "created", now);
	json_set_str(o, "architecture", host_architecture());
	json_set_str(o, "os", "linux");
	for (size_t i = 0; i < a->n; i++)
		json_array_append_new(diff_ids, json_string(a->blobs[i].digest));
	json_object_set_new(o, "rootfs", json_pack("{s:s,s:o}", "type", "layers", "diff_ids", diff_ids));
	json_set_str(entry, "created", now);
	json_set_str(entry, "created_by", a->created_by);
	json_set_str(entry, "comment", a->comment);
	json_object_set_new(o, "history", json_pack("[o]", entry));
	if (a->virtual_size)
		json_set_int(o, "virtual_size", a->virtual_size);
	if (a->machine)
		json_object_set_new(o, "machine", fields_print(&machine_hardware_table, a->machine));
	return o;
}

int image_from_blobs(struct content *c, const struct artifact *a, struct image *out, struct error *err) {
	_cleanup_(json_free_ptr) json_t *config = make_config(a);
	_cleanup_(free_ptr) char *text = json_print(config), *manifest = NULL, *digest = NULL;
	struct image made;
	fields_init(&image_table, &made);
	int r = content_put(c, text, strlen(text), &made.id, err);
	made.kind = str_copy(a->blobs[0].type->kind);
	made.layers.items = alloc_array(a->n, sizeof *made.layers.items);
	for (size_t i = 0; i < a->n; i++) {
		const struct artifact_blob *b = &a->blobs[i];
		made.layers.items[made.layers.n++] = (struct image_layer){str_copy(b->digest), str_copy(b->digest),
									  str_copy(b->type->media_type), b->size};
	}
	if (r == 0) {
		manifest = manifest_print(&made, (int64_t)strlen(text));
		r = content_put(c, manifest, strlen(manifest), &digest, err);
	}
	fields_free(&image_table, &made);
	return r < 0 ? r : image_from_content(c, digest, NULL, out, err);
}
