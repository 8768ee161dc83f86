/* docker system df: what images, containers and volumes take. */
#include "dialect/docker/images-priv.h"
#include "dialect/docker/inside.h"
#include "dialect/docker/networks-priv.h"

static void snaps_free(struct instance_snap ***snaps) {
	for (struct instance_snap **s = *snaps; s && *s; s++)
		instance_snap_unref(*s);
	free(*snaps);
}

/* Each layer once, however many images have it. */
static int64_t layers_size(struct image_snap *const *images) {
	_cleanup_(strv_free_ptr) char **seen = NULL;
	int64_t size = 0;
	for (; *images; images++)
		for (size_t i = 0; i < (*images)->image.layers.n; i++) {
			const struct image_layer *l = &(*images)->image.layers.items[i];
			if (strv_has(seen, l->diff_id))
				continue;
			strv_add(&seen, l->diff_id);
			size += l->unpacked_size;
		}
	return size;
}

static void count_containers(json_t *images, struct instance_snap *const *containers) {
	json_t *image;
	size_t i;
	json_array_foreach(images, i, image) {
		int64_t n = 0;
		for (struct instance_snap *const *s = containers; *s; s++)
			n += str_same((*s)->instance.image_id, json_get_str(image, "Id"));
		json_set_int(image, "Containers", n);
	}
}

void docker_count_users(struct core *c, json_t *rows) {
	_cleanup_(snaps_free) struct instance_snap **containers = NULL;
	const struct instance_filter all = {.all = true};
	if (instance_snaps(c, DOCKER_PROJECT, &all, &containers, NULL) == 0)
		count_containers(rows, containers);
}

static int64_t times_mounted(struct instance_snap *const *containers, const char *volume) {
	int64_t n = 0;
	for (; *containers; containers++)
		for (size_t k = 0; k < (*containers)->instance.volumes.n; k++)
			n += str_same((*containers)->instance.volumes.items[k].volume_id, volume);
	return n;
}

static json_t *volumes_usage(struct core *c, struct instance_snap *const *containers, struct error *err) {
	_cleanup_(nouns_unref_ptr) struct noun **all = NULL;
	if (docker_volume_snaps(c, &all, err) < 0)
		return NULL;
	json_t *list = json_array();
	for (struct noun **v = all; *v; v++) {
		_cleanup_(noun_unref_ptr) struct noun *now = NULL;
		const struct volume *known = (*v)->of;
		if (volume_get(c, DOCKER_PROJECT, known->id, &now, NULL) < 0)
			continue; /* gone meanwhile */
		const struct volume *volume = now->of;
		json_t *one = docker_volume_json(volume);
		json_object_set_new(one, "UsageData", json_pack("{s:I, s:I}", "Size", (json_int_t)volume->used, "RefCount",
								 (json_int_t)times_mounted(containers, volume->id)));
		json_array_append_new(list, one);
	}
	return list;
}

struct wish {
	bool images, containers, volumes, cache;
};

/* ?type=, once or more: 1.42 and later. */
static bool wish_of(struct http_request *req, struct wish *w) {
	_cleanup_(strv_free_ptr) char **types = docker_api(req) >= 42 ? http_query_all(req, "type") : NULL;
	bool all = !strv_len(types);
	*w = (struct wish){all, all, all, all};
	for (char **t = types; t && *t; t++) {
		bool *one = str_same(*t, "image") ? &w->images : str_same(*t, "container") ? &w->containers
			    : str_same(*t, "volume") ? &w->volumes : str_same(*t, "build-cache") ? &w->cache : NULL;
		if (!one) {
			_cleanup_(free_ptr) char *shown = text_shown(*t);
			docker_fail(req, 400, "unknown object type: %s", shown);
			return false;
		}
		*one = true;
	}
	return true;
}

static void set_or_null(json_t *o, const char *key, json_t *value) {
	json_object_set_new(o, key, value ? value : json_null());
}

void docker_df(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(snaps_free) struct instance_snap **containers = NULL;
	_cleanup_(image_snaps_free_ptr) struct image_snap **images = NULL;
	const struct instance_filter all = {.all = true};
	struct wish w;
	if (!wish_of(req, &w))
		return;
	struct core *c = core_of(req);
	if (instance_snaps(c, DOCKER_PROJECT, &all, &containers, &err) < 0 || image_snaps(c, DOCKER_PROJECT, &images, &err) < 0)
		return fail(req, &err);
	json_t *o = json_object(), *rows = w.images ? docker_image_rows(images, docker_api(req)) : NULL,
	       *volumes = w.volumes ? volumes_usage(c, containers, &err) : NULL;
	count_containers(rows, containers);
	json_set_int(o, "LayersSize", w.images ? layers_size(images) : 0);
	set_or_null(o, "Images", rows);
	set_or_null(o, "Containers", w.containers ? docker_container_rows(c, containers, docker_api(req)) : NULL);
	set_or_null(o, "Volumes", volumes);
	set_or_null(o, "BuildCache", w.cache ? json_array() : NULL);
	if (docker_api(req) < 42)
		json_set_int(o, "BuilderSize", 0);
	docker_reply(req, 200, o);
}
