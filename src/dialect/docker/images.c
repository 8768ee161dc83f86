/* Images: the list of them, and the table of their routes. */
#include "dialect/docker/images-priv.h"

#include "base/time.h"

/* What a list is limited to. */
struct wanted {
	const json_t *filters;
	bool all, shared_size;
	int dangling; /* -1: not asked for */
	int64_t before, since, until;
	struct image_snap **images; /* all of them */
};

/* ---- one row ---- */

static size_t times_used(struct image_snap *const *all, const char *diff_id) {
	size_t n = 0;
	for (; *all; all++)
		for (size_t i = 0; i < (*all)->image.layers.n; i++)
			n += str_same((*all)->image.layers.items[i].diff_id, diff_id);
	return n;
}

static int64_t shared_size(const struct wanted *w, const struct image *i) {
	int64_t size = 0;
	for (size_t k = 0; k < i->layers.n; k++)
		if (times_used(w->images, i->layers.items[k].diff_id) > 1)
			size += i->layers.items[k].unpacked_size;
	return size;
}

static void none_where_empty(json_t *tags, json_t *digests) {
	if (json_array_size(tags) || json_array_size(digests))
		return;
	json_array_append_new(tags, json_string("<none>:<none>"));
	json_array_append_new(digests, json_string("<none>@<none>"));
}

/* Takes tags and digests. */
static json_t *summary(const struct wanted *w, const struct image *i, int api, json_t *tags, json_t *digests) {
	json_t *o = json_object();
	int64_t size = docker_image_size(i);
	if (api < 43)
		none_where_empty(tags, digests);
	json_set_int(o, "Containers", -1);
	json_set_int(o, "Created", i->created_at / NS_PER_SEC);
	json_set_str(o, "Id", i->id);
	json_object_set_new(o, "Labels", i->config.labels.n ? pairs_print(&i->config.labels) : json_null());
	json_set_str(o, "ParentId", i->parent ? i->parent : "");
	json_object_set_new(o, "RepoDigests", digests);
	json_object_set_new(o, "RepoTags", tags);
	json_set_int(o, "SharedSize", w->shared_size ? shared_size(w, i) : -1);
	json_set_int(o, "Size", size);
	if (api < 44)
		json_set_int(o, "VirtualSize", size);
	return o;
}

/* ---- which rows ---- */

static bool in_time(const struct wanted *w, const struct image *i) {
	return (!w->before || i->created_at < w->before) && (!w->since || i->created_at > w->since) &&
	       (!w->until || i->created_at <= w->until);
}

/* NULL: it is not on the list. */
static json_t *row(const struct wanted *w, const struct image *i, int api) {
	const json_t *patterns = json_object_get(w->filters, "reference");
	bool children = docker_image_has_children(w->images, i->id);
	if (!in_time(w, i) || !docker_filter_labels(w->filters, &i->config.labels) || (w->dangling == 1 && children))
		return NULL;
	json_t *tags = docker_repo_tags(i, patterns), *digests = docker_repo_digests(i, patterns);
	bool tagged = json_array_size(tags) > 0, nameless = !tagged && !json_array_size(digests);
	if ((tagged && w->dangling == 1) ||
	    (nameless && (json_array_size(patterns) || w->dangling == 0 || (!w->all && children)))) {
		json_decref(tags);
		json_decref(digests);
		return NULL;
	}
	return summary(w, i, api, tags, digests);
}

static int newest_first(const void *a, const void *b) {
	const struct image *x = &(*(struct image_snap *const *)a)->image, *y = &(*(struct image_snap *const *)b)->image;
	return (x->created_at < y->created_at) - (x->created_at > y->created_at);
}

/* The time of the image that a filter names; false: an error has been answered. */
static bool time_of(struct http_request *req, const json_t *filters, const char *filter, int64_t *time) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	const char *name = json_string_value(json_array_get(json_object_get(filters, filter), 0));
	*time = 0;
	if (!name)
		return true;
	if (image_get(core_of(req), DOCKER_PROJECT, name, &snap, &err) < 0) {
		docker_image_fail(req, name, &err);
		return false;
	}
	*time = snap->image.created_at;
	return true;
}

static bool until_of(struct http_request *req, const json_t *filters, int64_t *until) {
	const char *text = json_string_value(json_array_get(json_object_get(filters, "until"), 0));
	*until = 0;
	if (!text || docker_time_parse(text, until) == 0)
		return true;
	_cleanup_(free_ptr) char *shown = text_shown(text);
	docker_fail(req, 400, "invalid value for 'until' filter: \"%s\" is no time", shown);
	return false;
}

static json_t *list_filters(struct http_request *req) {
	static const char *const known[] = {"dangling", "label", "before", "since", "reference", "until", NULL};
	json_t *filters = docker_filters(req, known);
	const char *old = docker_api(req) < 41 ? http_query(req, "filter") : NULL; /* a reference */
	if (filters && old && *old) {
		json_t *patterns = json_object_get(filters, "reference");
		if (!patterns)
			json_object_set_new(filters, "reference", patterns = json_array());
		json_array_append_new(patterns, json_from_str(old));
	}
	return filters;
}

static void list(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *filters = list_filters(req);
	_cleanup_(image_snaps_free_ptr) struct image_snap **images = NULL;
	if (!filters)
		return;
	struct wanted w = {.filters = filters, .all = docker_query_bool(req, "all"), .dangling = -1,
			   .shared_size = docker_query_bool(req, "shared-size")};
	if (json_object_get(filters, "dangling") && (w.dangling = docker_filter_bool(req, filters, "dangling", false)) < 0)
		return;
	if (!time_of(req, filters, "before", &w.before) || !time_of(req, filters, "since", &w.since) ||
	    !until_of(req, filters, &w.until))
		return;
	if (image_snaps(core_of(req), DOCKER_PROJECT, &images, &err) < 0)
		return fail(req, &err);
	size_t n = 0;
	while (images[n])
		n++;
	qsort(images, n, sizeof(struct image_snap *), newest_first);
	w.images = images;
	json_t *rows = json_array();
	for (size_t i = 0; i < n; i++) {
		json_t *one = row(&w, &images[i]->image, docker_api(req));
		if (one)
			json_array_append_new(rows, one);
	}
	if (docker_api(req) >= 51)
		docker_count_users(core_of(req), rows);
	docker_reply(req, 200, rows);
}

json_t *docker_image_rows(struct image_snap **images, int api) {
	const struct wanted w = {.shared_size = true, .dangling = -1, .images = images};
	json_t *rows = json_array();
	for (; *images; images++) {
		json_t *one = row(&w, &(*images)->image, api);
		if (one)
			json_array_append_new(rows, one);
	}
	return rows;
}

const struct docker_route docker_image_routes[] = {
	{"GET", "/images/json", list, 0, DOCKER_WORKS, NULL},
	{"GET", "/images/{name...}/json", docker_image_inspect, 0, DOCKER_DIFFERS,
	 "GraphDriver.Data is null: the directories of layers are the agent's alone; ContainerConfig stays after 1.44 for docker-compose 1"},
	{"GET", "/images/{name...}/history", docker_image_history, 0, DOCKER_WORKS, NULL},
	{"POST", "/images/create", docker_images_create, HTTP_STREAM_BODY, DOCKER_WORKS, NULL},
	{"POST", "/images/{name...}/push", docker_image_push, 0, DOCKER_WORKS, NULL},
	{"POST", "/images/{name...}/tag", docker_image_tag, 0, DOCKER_WORKS, NULL},
	{"DELETE", "/images/{name...}", docker_image_delete, 0, DOCKER_DIFFERS,
	 "ids of layers are not listed as deleted"},
	{"POST", "/images/prune", docker_images_prune, 0, DOCKER_WORKS, NULL},
	{"GET", "/images/get", docker_images_save, 0, DOCKER_WORKS, NULL},
	{"GET", "/images/{name...}/get", docker_image_save, 0, DOCKER_WORKS, NULL},
	{"POST", "/images/load", docker_images_load, HTTP_STREAM_BODY, DOCKER_DIFFERS,
	 "tells what was loaded, not how far each layer is; platform is refused"},
	{"GET", "/images/search", docker_images_search, 0, DOCKER_WORKS, NULL},
	{"GET", "/distribution/{name...}/json", docker_distribution, 0, DOCKER_WORKS, NULL},
	{"POST", "/auth", docker_login, 0, DOCKER_DIFFERS, "no identity tokens are given out: IdentityToken is empty"},
	{0},
};
