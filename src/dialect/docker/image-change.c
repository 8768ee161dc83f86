/* Names and removal of images, in Docker's words. */
#include "dialect/docker/images-priv.h"

#define SHOWN 12 /* digits of an id */

void docker_image_tag(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL, *tagged = NULL;
	const char *name = http_param(req, "name"), *repository = http_query(req, "repo");
	if (image_get(core_of(req), DOCKER_PROJECT, name, &snap, &err) < 0)
		return docker_image_fail(req, name, &err);
	_cleanup_(free_ptr) char *full = docker_reference(req, repository ? repository : "", http_query(req, "tag"));
	if (!full)
		return;
	if (strchr(full, '@'))
		return docker_fail(req, 400, "refusing to create a tag with a digest reference");
	_cleanup_(free_ptr) char *familiar = docker_familiar(full);
	if (str_starts(familiar, "sha256:"))
		return docker_fail(req, 400, "refusing to create an ambiguous tag using digest algorithm as name");
	if (image_tag(core_of(req), DOCKER_PROJECT, snap->image.id, full, &tagged, &err) < 0)
		return fail(req, &err);
	http_reply_empty(req, 201);
}

/* ---- removal ---- */

static const char *digits(const char *id) {
	return str_starts(id, "sha256:") ? id + strlen("sha256:") : id;
}

static void conflict(struct http_request *req, const char *name, const struct image_removal *m) {
	const char *image = digits(m->image), *instance = m->instance ? m->instance : "";
	switch (m->conflict) {
	case IMAGE_NAME_IN_USE:
		return docker_fail(req, 409, "conflict: unable to remove repository reference \"%s\" (must force) - container %.*s is using its "
				   "referenced image %.*s", name, SHOWN, instance, SHOWN, image);
	case IMAGE_HAS_CHILDREN:
		return docker_fail(req, 409, "conflict: unable to delete %.*s (cannot be forced) - image has dependent child images", SHOWN,
				   image);
	case IMAGE_RUNS:
		return docker_fail(req, 409, "conflict: unable to delete %.*s (cannot be forced) - image is being used by running container %.*s",
				   SHOWN, image, SHOWN, instance);
	case IMAGE_HAS_NAMES:
		return docker_fail(req, 409, "conflict: unable to delete %.*s (must be forced) - image is referenced in multiple repositories",
				   SHOWN, image);
	default:
		return docker_fail(req, 409, "conflict: unable to delete %.*s (must be forced) - image is being used by stopped container %.*s",
				   SHOWN, image, SHOWN, instance);
	}
}

static void add_untagged(json_t *list, char *const *references) {
	for (char *const *r = references; r && *r; r++) {
		_cleanup_(free_ptr) char *shown = docker_familiar(*r);
		json_t *one = json_object();
		json_set_str(one, "Untagged", shown);
		json_array_append_new(list, one);
	}
}

/* [{"Untagged":…},{"Deleted":…}] */
static json_t *records(const struct image_removal *m) {
	json_t *list = json_array();
	add_untagged(list, m->untagged);
	add_untagged(list, m->digests);
	for (char **d = m->deleted; d && *d; d++) {
		json_t *one = json_object();
		json_set_str(one, "Deleted", *d);
		json_array_append_new(list, one);
	}
	return list;
}

void docker_image_delete(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(image_removal_free) struct image_removal m = {0};
	const char *name = http_param(req, "name");
	unsigned flags = IMAGE_DIGESTS_HOLD | (docker_query_bool(req, "force") ? IMAGE_FORCE : 0) |
			 (docker_query_bool(req, "noprune") ? IMAGE_KEEP_PARENTS : 0);
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	if (http_query(req, "platforms") && image_get(core_of(req), DOCKER_PROJECT, name, &snap, NULL) == 0 &&
	    !docker_platform_is(req, "platforms", 50, &snap->image))
		return;
	if (image_remove(core_of(req), DOCKER_PROJECT, name, flags, &m, &err) == 0)
		return docker_reply(req, 200, records(&m));
	if (m.conflict)
		conflict(req, name, &m);
	else
		docker_image_fail(req, name, &err);
}

static bool labels_fit(const struct image *image, void *arg) {
	return docker_filter_labels(arg, &image->config.labels);
}

void docker_images_prune(struct http_request *req) {
	static const char *const known[] = {"dangling", "until", "label", "label!", NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(image_removal_free) struct image_removal m = {0};
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, known);
	uint64_t freed = 0;
	if (!filters)
		return;
	int dangling = docker_filter_bool(req, filters, "dangling", true);
	if (dangling < 0)
		return;
	struct image_prune_options o = {.all = !dangling, .fits = labels_fit, .arg = filters};
	const char *until = json_string_value(json_array_get(json_object_get(filters, "until"), 0));
	if (until && docker_time_parse(until, &o.until) < 0) {
		_cleanup_(free_ptr) char *shown = text_shown(until);
		return docker_fail(req, 400, "invalid value for 'until' filter: \"%s\" is no time", shown);
	}
	if (image_prune_fitting(core_of(req), DOCKER_PROJECT, &o, &m, &freed, &err) < 0)
		return fail(req, &err);
	json_t *answer = json_object(), *list = records(&m);
	json_object_set_new(answer, "ImagesDeleted", json_array_size(list) ? json_incref(list) : json_null());
	json_set_int(answer, "SpaceReclaimed", (int64_t)freed);
	json_decref(list);
	docker_reply(req, 200, answer);
}
