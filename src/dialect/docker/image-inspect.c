/* One image in full, and how it came to be: from its own configuration, as it was pulled or built. */
#include "dialect/docker/images-priv.h"

#include "base/time.h"

/* The image's configuration blob as JSON; an answer has been given where it is NULL. */
static json_t *config_of(struct http_request *req, const struct image *i) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	json_t *json = NULL;
	if (image_config_text(core_of(req), i, &text, &err) == 0)
		json = json_parse(buf_str(&text), text.len, &err);
	if (!json)
		fail(req, &err);
	return json;
}

/* What Docker prints of a configuration that says nothing. */
static json_t *empty_config(void) {
	static const char *const texts[] = {"Hostname", "Domainname", "User", "WorkingDir", "Image"};
	static const char *const flags[] = {"AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"};
	static const char *const nulls[] = {"Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels"};
	json_t *o = json_object();
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		json_set_str(o, texts[i], "");
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		json_set_bool(o, flags[i], false);
	for (size_t i = 0; i < ARRAY_SIZE(nulls); i++)
		json_object_set_new(o, nulls[i], json_null());
	return o;
}

/* Since 1.50 without what only containers have. */
static json_t *full_config(const json_t *own, int api) {
	static const char *const of_containers[] = {"Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin",
						    "StdinOnce", "Image", "NetworkDisabled", "MacAddress", "StopTimeout"};
	json_t *o = empty_config();
	if (json_is_object(own))
		json_object_update(o, (json_t *)own);
	for (size_t i = 0; api >= 50 && i < ARRAY_SIZE(of_containers); i++)
		json_object_del(o, of_containers[i]);
	return o;
}

static const char *text_or(const json_t *o, const char *key, const char *otherwise) {
	const char *text = json_get_str(o, key);
	return text ? text : otherwise;
}

static void add_history_texts(json_t *o, const json_t *own) {
	const json_t *history = json_object_get(own, "history");
	const json_t *last = json_array_get(history, json_array_size(history) - 1);
	json_set_str(o, "Comment", text_or(own, "comment", text_or(last, "comment", "")));
	json_set_str(o, "Author", text_or(own, "author", ""));
	json_set_str(o, "DockerVersion", text_or(own, "docker_version", ""));
}

static json_t *rootfs_of(const struct image *i) {
	json_t *o = json_object(), *layers = json_array();
	json_set_str(o, "Type", "layers");
	for (size_t k = 0; k < i->layers.n; k++)
		json_array_append_new(layers, json_string(i->layers.items[k].diff_id));
	json_object_set_new(o, "Layers", layers);
	return o;
}

static void add_sizes(json_t *o, const struct image *i, int api) {
	int64_t size = docker_image_size(i);
	json_t *driver = json_object(), *metadata = json_object();
	json_set_int(o, "Size", size);
	if (api < 44)
		json_set_int(o, "VirtualSize", size);
	json_set_str(driver, "Name", "overlay2");
	json_object_set_new(driver, "Data", json_null());
	json_object_set_new(o, "GraphDriver", driver);
	json_object_set_new(o, "RootFS", rootfs_of(i));
	json_object_set_new(metadata, "LastTagTime", docker_time(i->tagged_at));
	json_object_set_new(o, "Metadata", metadata);
}

static json_t *inspection(const struct image *i, const json_t *own, int api) {
	const char *created = json_get_str(own, "created");
	json_t *o = json_object();
	json_set_str(o, "Id", i->id);
	json_object_set_new(o, "RepoTags", docker_repo_tags(i, NULL));
	json_object_set_new(o, "RepoDigests", docker_repo_digests(i, NULL));
	json_set_str(o, "Parent", i->parent ? i->parent : "");
	add_history_texts(o, own);
	json_object_set_new(o, "Created", created ? json_from_str(created) : docker_time(0));
	if (api < 45)
		json_set_str(o, "Container", text_or(own, "container", ""));
	/* gone since 1.45 in dockerd, upon which docker-compose 1 can make no container anew */
	json_object_set_new(o, "ContainerConfig", full_config(json_object_get(own, "container_config"), api));
	json_object_set_new(o, "Config", full_config(json_object_get(own, "config"), api));
	json_set_str(o, "Architecture", i->architecture);
	json_set_str(o, "Variant", i->variant);
	json_set_str(o, "Os", i->os);
	json_set_str(o, "OsVersion", json_get_str(own, "os.version"));
	add_sizes(o, i, api);
	return o;
}

/* The image of the path; NULL: an error has been answered. */
static struct image_snap *image_of(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const char *name = http_param(req, "name");
	struct image_snap *snap;
	if (image_get(core_of(req), DOCKER_PROJECT, name, &snap, &err) == 0)
		return snap;
	docker_image_fail(req, name, &err);
	return NULL;
}

void docker_image_inspect(struct http_request *req) {
	const char *platform = http_query(req, "platform");
	if (docker_api(req) >= 49 && platform && *platform && docker_query_bool(req, "manifests"))
		return docker_fail(req, 400, "conflicting options: manifests and platform options cannot both be set");
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = image_of(req);
	_cleanup_(json_free_ptr) json_t *own = snap ? config_of(req, &snap->image) : NULL;
	if (own && docker_platform_is(req, "platform", 49, &snap->image))
		docker_reply(req, 200, inspection(&snap->image, own, docker_api(req)));
}

/* ---- history ---- */

/* Lowest first, as the configuration has it; an image without one has its layers alone. */
static json_t *history_entry(const struct image *i, const json_t *entry, size_t *layer) {
	json_t *o = json_object();
	int64_t created = 0, size = 0;
	const char *time = json_get_str(entry, "created");
	if (time && time_parse(time, &created) < 0)
		created = 0;
	if (!json_get_bool(entry, "empty_layer") && *layer < i->layers.n)
		size = i->layers.items[(*layer)++].unpacked_size;
	json_set_str(o, "Comment", text_or(entry, "comment", ""));
	json_set_int(o, "Created", created / NS_PER_SEC);
	json_set_str(o, "CreatedBy", text_or(entry, "created_by", ""));
	json_set_str(o, "Id", "<missing>");
	json_set_int(o, "Size", size);
	json_object_set_new(o, "Tags", json_null());
	return o;
}

/* Ids and tags of those that are known: the image, and what it was built upon here. */
static void add_parents(struct core *c, json_t *rows, struct image_snap *snap) {
	struct image_snap *at = image_snap_ref(snap);
	for (size_t i = 0; at && i < json_array_size(rows); i++) {
		json_t *row = json_array_get(rows, i), *tags = docker_repo_tags(&at->image, NULL);
		json_set_str(row, "Id", at->image.id);
		if (json_array_size(tags))
			json_object_set(row, "Tags", tags);
		json_decref(tags);
		struct image_snap *parent = NULL;
		if (at->image.parent && image_get(c, DOCKER_PROJECT, at->image.parent, &parent, NULL) < 0)
			parent = NULL;
		image_snap_unref(at);
		at = parent;
	}
	image_snap_unref(at);
}

void docker_image_history(struct http_request *req) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = image_of(req);
	_cleanup_(json_free_ptr) json_t *own = snap ? config_of(req, &snap->image) : NULL;
	if (!own || !docker_platform_is(req, "platform", 48, &snap->image))
		return;
	const json_t *history = json_object_get(own, "history"), *entry;
	json_t *rows = json_array();
	size_t i, layer = 0;
	json_array_foreach(history, i, entry)
		json_array_insert_new(rows, 0, history_entry(&snap->image, entry, &layer));
	add_parents(core_of(req), rows, snap);
	docker_reply(req, 200, rows);
}
