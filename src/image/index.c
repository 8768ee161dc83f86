/* Indexes of which all images are kept, not that of one platform alone: whoever gets the whole gets the same digest. */
#include "image/manifest.h"

#include "base/str.h"

#define DEPTH_MAX 4
#define REFS_MAX 1024  /* of one text */
#define PARTS_MAX 8192 /* of all */

static void list_free(descriptors *list) {
	for (size_t i = 0; i < list->n; i++)
		descriptor_free(&list->items[i]);
	free(list->items);
	*list = (descriptors){0};
}

void index_parts_free(struct index_parts *p) {
	list_free(&p->manifests);
	list_free(&p->blobs);
}

static bool has(const descriptors *list, const char *digest) {
	for (size_t i = 0; i < list->n; i++)
		if (str_same(list->items[i].digest, digest))
			return true;
	return false;
}

static int add(descriptors *list, const char *digest, const char *type, int64_t size, struct error *err) {
	if (has(list, digest))
		return 0;
	if (list->n >= PARTS_MAX)
		return error_set(err, ERROR_TOO_LARGE, "an index of more than %d parts", PARTS_MAX);
	list->items = alloc_resize(list->items, list->n + 1, sizeof *list->items);
	list->items[list->n++] = (struct descriptor){.digest = str_copy(digest), .media_type = type ? str_copy(type) : NULL, .size = size};
	return 0;
}

/* What one member refers to. Of any kind: an attestation's "layers" are no layers. */
static int add_ref(descriptors *list, const json_t *o, struct error *err) {
	const char *digest = json_get_str(o, "digest");
	int64_t size = json_get_int(o, "size");
	if (!digest || digest_check(digest, NULL) < 0 || size < 0)
		return error_set(err, ERROR_INVALID, "a manifest refers to something without a digest and a size");
	return add(list, digest, json_get_str(o, "mediaType"), size, err);
}

static int add_refs(descriptors *list, const json_t *array, struct error *err) {
	int r = 0;
	if (json_array_size(array) > REFS_MAX)
		return error_set(err, ERROR_TOO_LARGE, "a manifest refers to more than %d things", REFS_MAX);
	for (size_t i = 0; r == 0 && i < json_array_size(array); i++)
		r = add_ref(list, json_array_get(array, i), err);
	return r;
}

struct reading {
	struct content *c;
	index_need *need;
	void *arg;
	struct index_parts *out;
};

static int read_one(const struct reading *x, const struct descriptor *d, int depth, struct error *err);

static int read_children(const struct reading *x, const json_t *o, int depth, struct error *err) {
	descriptors children = {0};
	int r = depth == DEPTH_MAX ? error_set(err, ERROR_INVALID, "indexes refer to indexes without end")
				   : add_refs(&children, json_object_get(o, "manifests"), err);
	for (size_t i = 0; r == 0 && i < children.n; i++)
		r = has(&x->out->manifests, children.items[i].digest) ? 0 : read_one(x, &children.items[i], depth + 1, err);
	list_free(&children);
	return r;
}

static int read_one(const struct reading *x, const struct descriptor *d, int depth, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int r = x->need ? x->need(d, x->arg, err) : 0;
	if (r == 0)
		r = content_read(x->c, d->digest, &text, err);
	if (r < 0)
		return r;
	_cleanup_(json_free_ptr) json_t *o = json_parse(buf_str(&text), text.len, err);
	if (!o)
		return error_wrap(err, "manifest %s", d->digest);
	if (json_object_get(o, "manifests")) {
		r = read_children(x, o, depth, err);
	} else {
		r = add_ref(&x->out->blobs, json_object_get(o, "config"), err);
		if (r == 0)
			r = add_refs(&x->out->blobs, json_object_get(o, "layers"), err);
	}
	const char *type = json_get_str(o, "mediaType");
	return r < 0 ? r : add(&x->out->manifests, d->digest, type ? type : d->media_type, (int64_t)text.len, err);
}

int index_read(struct content *c, const char *digest, index_need *need, void *arg, struct index_parts *out, struct error *err) {
	struct reading x = {c, need, arg, out};
	*out = (struct index_parts){0};
	int r = read_one(&x, &(struct descriptor){.digest = (char *)digest, .media_type = TYPE_OCI_INDEX, .size = -1}, 0, err);
	if (r < 0)
		index_parts_free(out);
	return r;
}

void image_take_index(struct image *image, const struct index_parts *p) {
	free(image->index);
	strv_free(TAKE_PTR(image->index_blobs));
	image->index = str_copy(p->manifests.items[p->manifests.n - 1].digest);
	for (size_t i = 0; i < p->manifests.n; i++)
		strv_add(&image->index_blobs, p->manifests.items[i].digest);
	for (size_t i = 0; i < p->blobs.n; i++)
		strv_add(&image->index_blobs, p->blobs.items[i].digest);
}
