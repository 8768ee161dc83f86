/* Routes of images. */
#include "core/images.h"
#include "dialect/native/native-priv.h"
#include "model/task.h"

static void list(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *text = NULL;
	size_t len;
	if (image_list(core_of(req), project_of(req), http_query(req, "name"), query_bool(req, "dangling", false), &text, &len, &err) < 0)
		return fail(req, &err);
	reply_text(req, 200, text, len);
}

static void get(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct image_snap *snap;
	if (image_get(core_of(req), project_of(req), name_of(req), &snap, &err) < 0)
		return fail(req, &err);
	reply_image(req, 200, snap);
}

static void reply_task(struct http_request *req, int result, char *task, const struct error *err) {
	if (result < 0)
		return fail(req, err);
	reply_text(req, 202, task, strlen(task));
}

/* Both ways of a registry: image NULL is a pull. */
static void transfer(struct http_request *req, const char *image) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *task = NULL;
	struct pull_request dto;
	if (!dto_parse(req, &pull_request_table, &dto, NULL))
		return;
	const struct image_pull_options o = {dto.name, dto.platform, dto.username, dto.password, dto.plain_http, dto.insecure_tls};
	int r = image ? image_push(core_of(req), project_of(req), image, &o, &task, &err)
		      : image_pull(core_of(req), project_of(req), &o, &task, &err);
	fields_free(&pull_request_table, &dto);
	reply_task(req, r, task, &err);
}

static void pull(struct http_request *req) {
	transfer(req, NULL);
}

static void push(struct http_request *req) {
	transfer(req, name_of(req));
}

static void bootstrap(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *task = NULL;
	struct bootstrap_request dto;
	if (!dto_parse(req, &bootstrap_request_table, &dto, NULL))
		return;
	int r = image_bootstrap(core_of(req), project_of(req), dto.name, dto.variant, dto.include, &task, &err);
	fields_free(&bootstrap_request_table, &dto);
	reply_task(req, r, task, &err);
}

/* ---- archives ---- */

struct load {
	struct http_request *req;
	struct image_snap **images;
};

static int load_body(int fd, void *arg, struct error *err) {
	struct load *l = arg;
	return image_load(core_of(l->req), project_of(l->req), fd, &l->images, NULL, err);
}

static void load(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct load l = {.req = req};
	if (with_body(req, load_body, &l, &err) < 0)
		return fail(req, &err);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	buf_adds(&text, "{\"images\":[");
	for (size_t i = 0; l.images[i]; i++) {
		if (i)
			buf_addc(&text, ',');
		buf_add(&text, l.images[i]->json, l.images[i]->json_len);
		image_snap_unref(l.images[i]);
	}
	buf_adds(&text, "]}");
	free(l.images);
	reply_text(req, 200, text.data, text.len);
}

struct save {
	struct http_request *req;
	char **names;
};

static int save_to(int fd, void *arg, struct error *err) {
	struct save *s = arg;
	return image_save(core_of(s->req), project_of(s->req), s->names, fd, err);
}

static void save(struct http_request *req) {
	struct save s = {req, http_query_all(req, "name")};
	reply_written(req, TAR_TYPE, save_to, &s);
	strv_free(s.names);
}

static const char *query_given(struct http_request *req, const char *key) {
	const char *value = http_query(req, key);
	return value && *value ? value : NULL;
}

static int export_ova_to(int fd, void *arg, struct error *err) {
	struct http_request *req = arg;
	return image_export_ova(core_of(req), project_of(req), name_of(req), fd, err);
}

static void export(struct http_request *req) {
	if (str_same(query_given(req, "format"), "ova"))
		return reply_written(req, TAR_TYPE, export_ova_to, req);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int fd;
	if (image_export(core_of(req), project_of(req), name_of(req), query_given(req, "format"), &fd, &err) < 0)
		return fail(req, &err);
	reply_stream_fd(req, "application/octet-stream", fd);
}

struct import {
	struct http_request *req;
	struct image_config config;
	struct image_snap *image;
};

static int import_body(int fd, void *arg, struct error *err) {
	struct import *i = arg;
	const struct image_import_options o = {
		.name = query_given(i->req, "name"),
		.kind = query_given(i->req, "kind"),
		.format = query_given(i->req, "format"),
		.comment = http_query(i->req, "comment"),
		.config = &i->config,
	};
	return image_import(core_of(i->req), project_of(i->req), &o, fd, &i->image, err);
}

/* The image's config comes as JSON text in the query, for the body is the tar. */
static int import_config(struct http_request *req, struct image_config *out, struct error *err) {
	const char *text = http_query(req, "config");
	_cleanup_(json_free_ptr) json_t *json = text && *text ? json_parse(text, strlen(text), err) : json_object();
	int r = json ? fields_parse(&image_config_table, json, 0, out, err) : -ERROR_INVALID;
	if (r < 0)
		error_in_field(err, "config");
	return r;
}

static void import(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct import i = {.req = req};
	if (import_config(req, &i.config, &err) < 0)
		return fail(req, &err);
	int r = with_body(req, import_body, &i, &err);
	fields_free(&image_config_table, &i.config);
	if (r < 0)
		return fail(req, &err);
	reply_image(req, 200, i.image);
}

/* ---- names ---- */

static void tag(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct tag_request dto;
	struct image_snap *snap;
	if (!dto_parse(req, &tag_request_table, &dto, NULL))
		return;
	int r = image_tag(core_of(req), project_of(req), name_of(req), dto.name, &snap, &err);
	fields_free(&tag_request_table, &dto);
	if (r < 0)
		return fail(req, &err);
	reply_image(req, 200, snap);
}

static void delete(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(strv_free_ptr) char **untagged = NULL, **deleted = NULL;
	if (image_delete(core_of(req), project_of(req), name_of(req), query_bool(req, "force", false), &untagged, &deleted, &err) < 0)
		return fail(req, &err);
	_cleanup_(json_free_ptr) json_t *answer = json_object();
	json_object_set_new(answer, "untagged", json_from_strv(untagged));
	json_object_set_new(answer, "deleted", json_from_strv(deleted));
	http_reply_json(req, 200, answer);
}

static void prune(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(strv_free_ptr) char **deleted = NULL;
	struct prune_request dto;
	uint64_t freed = 0;
	if (!dto_parse(req, &prune_request_table, &dto, NULL))
		return;
	if (image_prune(core_of(req), project_of(req), dto.all, &deleted, &freed, &err) < 0)
		return fail(req, &err);
	_cleanup_(json_free_ptr) json_t *answer = json_object();
	json_object_set_new(answer, "deleted", json_from_strv(deleted));
	json_set_int(answer, "freed", (int64_t)freed);
	http_reply_json(req, 200, answer);
}

#define P "/v1/projects/{project}/images"
const struct native_route image_routes[] = {
	{"GET", P, list, .summary = "Lists images", .query = "name dangling", .what = "{\"revision\":N,\"images\":[image…]}", .status = 200},
	{"POST", P "/pull", pull, .summary = "Fetches an image from its registry", .request = &pull_request_table, .reply = &task_table, .status = 202},
	{"POST", P "/bootstrap", bootstrap, .summary = "Builds an image from the host's package sources",
	 .request = &bootstrap_request_table, .reply = &task_table, .status = 202},
	{"POST", P "/load", load, HTTP_STREAM_BODY, .summary = "Takes the images of a docker or OCI archive",
	 .what = "{\"images\":[image…]}", .status = 200},
	{"GET", P "/save", save, .summary = "An archive of images, for docker and OCI", .query = "name", .what = "tar", .status = 200},
	{"POST", P "/import", import, HTTP_STREAM_BODY, .summary = "Makes an image of a root file system's tar (config: an image_config as JSON), or of a machine's disk, medium or kernel",
	 .query = "name kind format comment config", .reply = &image_table, .status = 200},
	{"POST", P "/prune", prune, .summary = "Removes images and data that nothing needs", .request = &prune_request_table,
	 .what = "{\"deleted\":[id…],\"freed\":BYTES}", .status = 200},
	{"GET", P "/{name}", get, .summary = "One image", .reply = &image_table, .status = 200},
	{"GET", P "/{name}/export", export, .summary = "A machine's disk, medium or kernel", .query = "format", .what = "bytes", .status = 200},
	{"POST", P "/{name}/push", push, .summary = "Sends an image to a registry", .request = &pull_request_table, .reply = &task_table, .status = 202},
	{"POST", P "/{name}/tag", tag, .summary = "Gives an image a further name", .request = &tag_request_table, .reply = &image_table, .status = 200},
	{"DELETE", P "/{name}", delete, .summary = "Removes a name, and the image with its last one", .query = "force",
	 .what = "{\"untagged\":[name…],\"deleted\":[id…]}", .status = 200},
	{0},
};
