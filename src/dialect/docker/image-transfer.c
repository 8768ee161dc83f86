/* Pull and push, with Docker's defaults for platforms and for registries on this host. */
#include "dialect/docker/images-priv.h"

/* Docker trusts whatever is on this host. */
static bool is_local(const char *full) {
	return str_starts(full, "127.") || str_starts(full, "localhost:") || str_starts(full, "localhost/") ||
	       str_starts(full, "[::1]");
}

/* Nothing for a header that makes no sense, as dockerd does. */
static void credentials(struct http_request *req, struct docker_auth *auth) {
	docker_auth_parse(http_header(req, "X-Registry-Auth"), auth, NULL);
}

static void pull(struct http_request *req, const char *image) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(docker_auth_free) struct docker_auth auth = {0};
	const char *tag = http_query(req, "tag"), *slash = strrchr(image, '/');
	bool all = (!tag || !*tag) && !strpbrk(slash ? slash : image, ":@");
	_cleanup_(free_ptr) char *full = docker_reference(req, image, tag);
	char *task;
	if (!full)
		return;
	_cleanup_(free_ptr) char *platform = docker_platform(docker_api(req) >= 32 ? http_query(req, "platform") : NULL, &err);
	if (!platform)
		return fail(req, &err);
	credentials(req, &auth);
	const struct image_pull_options o = {.name = full,
					     .platform = platform,
					     .username = auth.username,
					     .password = auth.password,
					     .insecure_tls = is_local(full),
					     .all_tags = all,
					     .followed = true};
	if (image_pull(core_of(req), DOCKER_PROJECT, &o, &task, &err) < 0)
		return fail(req, &err);
	_cleanup_(free_ptr) char *name = all ? docker_familiar_name(full) : str_copy(full);
	docker_follow_transfer(req, DOCKER_PULL, full, all ? name : NULL, task);
}

void docker_images_create(struct http_request *req) {
	const char *image = http_query(req, "fromImage");
	if (image && *image)
		pull(req, image);
	else
		docker_image_import(req);
}

/* ---- push ---- */

static bool is_there(struct http_request *req, const char *full) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	return image_get(core_of(req), DOCKER_PROJECT, full, &snap, NULL) == 0 && strv_has(snap->image.names, full);
}

static bool is_of_platform(struct http_request *req, const char *full) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	return image_get(core_of(req), DOCKER_PROJECT, full, &snap, NULL) < 0 || docker_platform_is(req, "platform", 46, &snap->image);
}

static bool any_there(struct http_request *req, const char *full) {
	_cleanup_(image_snaps_free_ptr) struct image_snap **all = NULL;
	if (image_snaps(core_of(req), DOCKER_PROJECT, &all, NULL) < 0)
		return false;
	for (struct image_snap **s = all; *s; s++)
		for (char **n = (*s)->image.names; n && *n; n++)
			if (!strchr(*n, '@') && image_ref_same_repository(*n, full))
				return true;
	return false;
}

void docker_image_push(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(docker_auth_free) struct docker_auth auth = {0};
	const char *image = http_param(req, "name"), *tag = http_query(req, "tag");
	const char *slash = strrchr(image, '/');
	bool all = (!tag || !*tag) && !strchr(slash ? slash : image, ':');
	_cleanup_(free_ptr) char *full = docker_reference(req, image, tag), *task = NULL;
	if (!full || !docker_platform_is(req, "platform", 46, NULL))
		return;
	_cleanup_(free_ptr) char *shown = docker_familiar(full), *name = docker_familiar_name(full), *why = NULL;
	if (strchr(full, '@'))
		why = str_copy("cannot push a digest reference");
	else if (!any_there(req, full))
		why = str_format("An image does not exist locally with the tag: %s", name);
	else if (!all && !is_there(req, full))
		why = str_format("tag does not exist: %s", shown);
	if (why)
		return docker_push_refused(req, full, why);
	if (!all && !is_of_platform(req, full))
		return;
	credentials(req, &auth);
	const struct image_pull_options o = {.name = full,
					     .username = auth.username,
					     .password = auth.password,
					     .insecure_tls = is_local(full),
					     .all_tags = all,
					     .followed = true};
	if (image_push(core_of(req), DOCKER_PROJECT, full, &o, &task, &err) < 0)
		return docker_push_refused(req, full, error_text(&err));
	docker_follow_transfer(req, DOCKER_PUSH, full, NULL, TAKE_PTR(task));
}
