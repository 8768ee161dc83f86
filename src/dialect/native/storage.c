/* Routes of pools, volumes and snapshots. */
#include "core/volumes.h"
#include "dialect/native/native-priv.h"
#include "model/task.h"

/* Answers with the object, or with the error. */
static void finish(struct http_request *req, int r, int status, struct noun *const *o, const struct error *err) {
	if (r < 0)
		return fail(req, err);
	reply_text(req, status, (*o)->json, (*o)->json_len);
	noun_unref(*o);
}

/* ---- pools ---- */

static void pools_list(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(strv_free_ptr) char **labels = http_query_all(req, "label");
	_cleanup_(free_ptr) char *text = NULL;
	size_t len;
	if (pool_list(core_of(req), labels, &text, &len, &err) < 0)
		return fail(req, &err);
	reply_text(req, 200, text, len);
}

static void pool_post(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct pool_spec spec;
	struct noun *o = NULL;
	if (dto_parse(req, &pool_spec_table, &spec, NULL))
		finish(req, pool_create(core_of(req), &spec, &o, &err), 201, &o, &err);
}

static void pool_show(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct noun *o = NULL;
	finish(req, pool_find(core_of(req), name_of(req), &o, &err), 200, &o, &err);
}

static void pool_patch(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *body = http_body_json(req, &err);
	struct noun *o = NULL;
	finish(req, body ? pool_update(core_of(req), name_of(req), body, &o, &err) : -1, 200, &o, &err);
}

static void pool_remove(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (pool_delete(core_of(req), name_of(req), &err) < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

/* ---- volumes ---- */

static void volumes_list(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(strv_free_ptr) char **labels = http_query_all(req, "label");
	_cleanup_(free_ptr) char *text = NULL;
	size_t len;
	if (volume_list(core_of(req), project_of(req), labels, &text, &len, &err) < 0)
		return fail(req, &err);
	reply_text(req, 200, text, len);
}

static void volume_post(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct volume_spec spec;
	struct noun *o = NULL;
	if (dto_parse(req, &volume_spec_table, &spec, NULL))
		finish(req, volume_create(core_of(req), project_of(req), &spec, &o, &err), 201, &o, &err);
}

static void volume_show(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct noun *o = NULL;
	finish(req, volume_get(core_of(req), project_of(req), name_of(req), &o, &err), 200, &o, &err);
}

static void volume_patch(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *body = http_body_json(req, &err);
	struct noun *o = NULL;
	finish(req, body ? volume_update(core_of(req), project_of(req), name_of(req), body, &o, &err) : -1, 200, &o, &err);
}

static void volume_remove(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (volume_delete(core_of(req), project_of(req), name_of(req), &err) < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

static void prune(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(strv_free_ptr) char **deleted = NULL;
	if (volume_prune(core_of(req), project_of(req), &deleted, &err) < 0)
		return fail(req, &err);
	_cleanup_(json_free_ptr) json_t *answer = json_object();
	json_object_set_new(answer, "deleted", json_from_strv(deleted));
	http_reply_json(req, 200, answer);
}

static void copy_by(struct http_request *req, bool move) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct copy_request dto;
	char *task = NULL;
	if (!dto_parse(req, &copy_request_table, &dto, NULL))
		return;
	struct volume_copy_options o = {dto.name, dto.pool, dto.snapshot, dto.linked, false};
	int r = dto.memory ? error_field(&err, "memory", "is a machine's: a volume has none") : 0;
	if (r == 0 && move && (dto.name || dto.snapshot || dto.linked))
		r = error_set(&err, ERROR_INVALID, "a volume moves as it is: give a pool alone");
	else if (r == 0 && !move && !dto.name)
		r = error_field(&err, "name", "give the copy a name");
	if (r == 0)
		r = volume_duplicate(core_of(req), project_of(req), name_of(req), &o, &task, &err);
	fields_free(&copy_request_table, &dto);
	reply_json(req, r, 202, &task, &err);
}

static void copy(struct http_request *req) {
	copy_by(req, false);
}

static void move(struct http_request *req) {
	copy_by(req, true);
}

static bool format_of(struct http_request *req, const char **out) {
	static const char *const formats[] = {"tar", "raw", "qcow2"};
	*out = http_query(req, "format");
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (str_same(*out, formats[i]))
			return true;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	error_field(&err, "format", "must be tar, raw or qcow2");
	fail(req, &err);
	return false;
}

static void export(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const char *format;
	int fd = -1;
	if (!format_of(req, &format))
		return;
	if (volume_export(core_of(req), project_of(req), name_of(req), http_query(req, "snapshot"), format, &fd, &err) < 0)
		return fail(req, &err);
	reply_stream_fd(req, str_same(format, "tar") ? TAR_TYPE : "application/octet-stream", fd);
}

struct import {
	struct http_request *req;
	struct volume_spec spec;
	const char *format;
	struct noun *out;
};

static int import_body(int fd, void *arg, struct error *err) {
	struct import *i = arg;
	return volume_import(core_of(i->req), project_of(i->req), &i->spec, i->format, fd, &i->out, err);
}

/* The spec comes as JSON text in the query, for the body is the data. */
static void import(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct import i = {.req = req};
	const char *text = http_query(req, "spec");
	if (!format_of(req, &i.format))
		return;
	_cleanup_(json_free_ptr) json_t *json = json_parse(text ? text : "", text ? strlen(text) : 0, &err);
	if (!json || fields_parse(&volume_spec_table, json, 0, &i.spec, &err) < 0) {
		error_in_field(&err, "spec");
		return fail(req, &err);
	}
	int r = with_body(req, import_body, &i, &err);
	fields_free(&volume_spec_table, &i.spec);
	finish(req, r, 201, &i.out, &err);
}

/* ---- volumes of an instance ---- */

static void attach(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct volume_attach_request dto;
	struct instance_snap *snap = NULL;
	if (!dto_parse(req, &volume_attach_request_table, &dto, NULL))
		return;
	struct mount m = {.source = dto.volume, .target = dto.target, .subpath = dto.subpath, .read_only = dto.read_only};
	int r = volume_attach(core_of(req), project_of(req), name_of(req), &m, &snap, &err);
	fields_free(&volume_attach_request_table, &dto);
	if (r < 0)
		return fail(req, &err);
	reply_instance(req, 200, snap);
}

static void detach(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct instance_snap *snap = NULL;
	if (volume_detach(core_of(req), project_of(req), name_of(req), http_param(req, "volume"), &snap, &err) < 0)
		return fail(req, &err);
	reply_instance(req, 200, snap);
}

/* ---- snapshots ---- */

static struct snapshot_owner owner_of(struct http_request *req, bool instance) {
	return (struct snapshot_owner){project_of(req), name_of(req), instance};
}

static void list_by(struct http_request *req, bool instance) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct snapshot_owner of = owner_of(req, instance);
	char *json = NULL;
	reply_json(req, snapshot_list(core_of(req), &of, &json, &err), 200, &json, &err);
}

static void create_by(struct http_request *req, bool instance) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct snapshot_owner of = owner_of(req, instance);
	struct snapshot_request dto;
	char *json = NULL;
	if (!dto_parse(req, &snapshot_request_table, &dto, NULL))
		return;
	struct snapshot s = {.name = dto.name, .description = dto.description, .memory = dto.memory};
	int r = snapshot_create(core_of(req), &of, &s, &json, &err);
	fields_free(&snapshot_request_table, &dto);
	reply_json(req, r, 201, &json, &err);
}

static void patch_by(struct http_request *req, bool instance) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct snapshot_owner of = owner_of(req, instance);
	struct snapshot_request dto;
	char *json = NULL;
	if (!dto_parse(req, &snapshot_request_table, &dto, NULL))
		return;
	int r = dto.name ? error_field(&err, "name", "a snapshot cannot be renamed") : 0;
	if (r == 0 && dto.memory)
		r = error_field(&err, "memory", "is there from a snapshot's beginning, or not at all");
	if (r == 0)
		r = snapshot_update(core_of(req), &of, http_param(req, "snapshot"), dto.description, &json, &err);
	fields_free(&snapshot_request_table, &dto);
	reply_json(req, r, 200, &json, &err);
}

typedef int (*snapshot_verb)(struct core *c, const struct snapshot_owner *of, const char *snapshot, struct error *err);

static void verb_by(struct http_request *req, bool instance, snapshot_verb verb) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct snapshot_owner of = owner_of(req, instance);
	if (verb(core_of(req), &of, http_param(req, "snapshot"), &err) < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

#define BOTH(name_, call_)                                     \
	static void volume_##name_(struct http_request *req) { \
		const bool instance = false;                   \
		call_;                                         \
	}                                                      \
	static void instance_##name_(struct http_request *req) { \
		const bool instance = true;                    \
		call_;                                         \
	}
BOTH(snapshots, list_by(req, instance))
BOTH(snapshot_post, create_by(req, instance))
BOTH(snapshot_patch, patch_by(req, instance))
BOTH(snapshot_remove, verb_by(req, instance, snapshot_delete))
BOTH(snapshot_restores, verb_by(req, instance, snapshot_restore))

static void clone(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct copy_request dto;
	char *task = NULL;
	if (!dto_parse(req, &copy_request_table, &dto, NULL))
		return;
	struct volume_copy_options o = {dto.name, NULL, dto.snapshot, dto.linked, dto.memory};
	int r = dto.pool ? error_field(&err, "pool", "a clone lives in the pool of its original") : 0;
	if (r == 0)
		r = instance_clone(core_of(req), project_of(req), name_of(req), &o, &task, &err);
	fields_free(&copy_request_table, &dto);
	reply_json(req, r, 202, &task, &err);
}

static void root_move(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct copy_request dto;
	char *task = NULL;
	if (!dto_parse(req, &copy_request_table, &dto, NULL))
		return;
	bool more = dto.name || dto.snapshot || dto.linked || dto.memory;
	int r = more ? error_field(&err, "pool", "is all that a move takes")
		     : instance_move(core_of(req), project_of(req), name_of(req), dto.pool, &task, &err);
	fields_free(&copy_request_table, &dto);
	reply_json(req, r, 202, &task, &err);
}

#define POOLS "/v1/pools"
#define P "/v1/projects/{project}"
#define VOLUME P "/volumes/{name}"
#define INSTANCE P "/instances/{name}"
#define SNAPSHOTS(one_, prefix_, noun_)                                                                                 \
	{"GET", one_ "/snapshots", prefix_##_snapshots, .summary = "Snapshots of " noun_,                               \
	 .what = "{\"current\":NAME,\"snapshots\":[snapshot…]}", .status = 200},                                        \
	{"POST", one_ "/snapshots", prefix_##_snapshot_post, .summary = "Takes a snapshot of " noun_,                   \
	 .request = &snapshot_request_table, .reply = &snapshot_table, .status = 201},                                  \
	{"PATCH", one_ "/snapshots/{snapshot}", prefix_##_snapshot_patch, .summary = "Changes its description",         \
	 .request = &snapshot_request_table, .reply = &snapshot_table, .status = 200},                                  \
	{"DELETE", one_ "/snapshots/{snapshot}", prefix_##_snapshot_remove, .summary = "Removes a snapshot", .status = 204}, \
	{"POST", one_ "/snapshots/{snapshot}/restore", prefix_##_snapshot_restores, .summary = "Goes back to a snapshot", .status = 204}

const struct native_route storage_routes[] = {
	{"GET", POOLS, pools_list, .summary = "Lists pools", .query = "label", .what = "{\"revision\":N,\"pools\":[pool…]}", .status = 200},
	{"POST", POOLS, pool_post, .summary = "Makes a pool", .request = &pool_spec_table, .reply = &pool_table, .status = 201},
	{"GET", POOLS "/{name}", pool_show, .summary = "One pool, as it is now", .reply = &pool_table, .status = 200},
	{"PATCH", POOLS "/{name}", pool_patch, .summary = "Changes a pool by a JSON merge patch", .request = &pool_spec_table,
	 .reply = &pool_table, .status = 200},
	{"DELETE", POOLS "/{name}", pool_remove, .summary = "Removes an empty pool", .status = 204},
	{"GET", P "/volumes", volumes_list, .summary = "Lists volumes", .query = "label",
	 .what = "{\"revision\":N,\"volumes\":[volume…]}", .status = 200},
	{"POST", P "/volumes", volume_post, .summary = "Makes a volume", .request = &volume_spec_table, .reply = &volume_table, .status = 201},
	{"POST", P "/volumes/import", import, HTTP_STREAM_BODY, .summary = "Makes a volume of the body; spec: a volume_spec as JSON",
	 .query = "spec format", .reply = &volume_table, .status = 201},
	{"POST", P "/volumes/prune", prune, .summary = "Removes volumes that no instance mounts", .what = "{\"deleted\":[name…]}", .status = 200},
	{"GET", VOLUME, volume_show, .summary = "One volume, with what it takes now", .reply = &volume_table, .status = 200},
	{"PATCH", VOLUME, volume_patch, .summary = "Changes a volume by a JSON merge patch: a new size, a new name",
	 .request = &volume_spec_table, .reply = &volume_table, .status = 200},
	{"DELETE", VOLUME, volume_remove, .summary = "Removes a volume that no instance mounts", .status = 204},
	{"POST", VOLUME "/copy", copy, .summary = "A new volume with the content of this one or of a snapshot",
	 .request = &copy_request_table, .reply = &task_table, .status = 202},
	{"POST", VOLUME "/move", move, .summary = "Moves it to another pool", .request = &copy_request_table, .reply = &task_table, .status = 202},
	{"GET", VOLUME "/export", export, .summary = "Its content, or a snapshot's", .query = "format snapshot", .what = "tar, raw or qcow2", .status = 200},
	SNAPSHOTS(VOLUME, volume, "a volume"),
	SNAPSHOTS(INSTANCE, instance, "an instance's root"),
	{"POST", INSTANCE "/clone", clone, .summary = "A new instance whose root begins as this one's or a snapshot's",
	 .request = &copy_request_table, .reply = &task_table, .status = 202},
	{"POST", INSTANCE "/move", root_move, .summary = "Moves the root of a machine that runs to another pool", .request = &copy_request_table,
	 .reply = &task_table, .status = 202},
	{"POST", INSTANCE "/volumes", attach, .summary = "Mounts a volume, at once if it runs", .request = &volume_attach_request_table,
	 .reply = &instance_table, .status = 200},
	{"DELETE", INSTANCE "/volumes/{volume}", detach, .summary = "Unmounts a volume", .reply = &instance_table, .status = 200},
	{0},
};
