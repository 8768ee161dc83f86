/* POST /commit: an image from a container. What the container was made with becomes the image's, over that what the body
 * says, over that the Dockerfile's instructions in ?changes=. */
#include "dialect/docker/changes.h"
#include "dialect/docker/containers.h"

/* ---- configurations ---- */

static void take_list(char ***to, char *const *from) {
	strv_free(*to);
	*to = strv_copy(from);
}

static void take_text(char **to, const char *from) {
	free(*to);
	*to = str_copy(from);
}

static void take_keys(char ***to, const json_t *set) {
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)set, key, value)
		if (!strv_has(*to, key))
			strv_add(to, key);
}

/* Of the container: its own over its image's. */
static void add_container(struct image_config *c, const struct instance *i) {
	const struct instance_spec *s = &i->spec;
	_cleanup_(json_free_ptr) json_t *note = docker_note(i, NOTE_CONFIG);
	bool none = s->entrypoint && !s->entrypoint[0][0] && !s->entrypoint[1];
	if (s->entrypoint)
		take_list(&c->entrypoint, none ? NULL : s->entrypoint);
	if (s->command || s->entrypoint)
		take_list(&c->command, s->command);
	for (char *const *e = s->env; e && *e; e++)
		strv_env_set(&c->env, *e);
	if (s->workdir)
		take_text(&c->workdir, s->workdir);
	if (s->user)
		take_text(&c->user, s->user);
	if (s->stop_signal)
		take_text(&c->stop_signal, s->stop_signal);
	pairs_add(&c->labels, &s->labels);
	take_keys(&c->volumes, json_object_get(note, "Volumes"));
	for (char *const *e = s->expose; e && *e; e++)
		if (!strv_has(c->exposed_ports, *e))
			strv_add(&c->exposed_ports, *e);
	if (s->health.command) {
		fields_free(&health_check_table, &c->health);
		fields_copy(&health_check_table, &s->health, &c->health);
	}
}

static void add_health(struct image_config *c, const struct docker_health *h) {
	if (!h->test)
		return;
	fields_free(&health_check_table, &c->health);
	c->health = (struct health_check){
		.command = strv_copy(h->test),
		.interval = h->interval,
		.timeout = h->timeout,
		.start_period = h->start_period,
		.start_interval = h->start_interval,
		.retries = h->retries,
	};
}

static void add_body(struct image_config *c, const struct docker_config *body) {
	if (body->entrypoint)
		take_list(&c->entrypoint, body->entrypoint);
	if (body->command)
		take_list(&c->command, body->command);
	for (char *const *e = body->env; e && *e; e++)
		strv_env_set(&c->env, *e);
	const struct {
		char **to;
		const char *from;
	} texts[] = {{&c->workdir, body->workdir}, {&c->user, body->user}, {&c->stop_signal, body->stop_signal}};
	for (size_t k = 0; k < ARRAY_SIZE(texts); k++)
		if (texts[k].from && *texts[k].from)
			take_text(texts[k].to, texts[k].from);
	pairs_add(&c->labels, &body->labels);
	take_keys(&c->volumes, body->volumes);
	take_keys(&c->exposed_ports, body->exposed_ports);
	add_health(c, &body->health);
}

/* All of it, so that what is empty takes the place of the image's, too. */
static json_t *config_patch(const struct image_config *c) {
	json_t *patch = fields_print(&image_config_table, c);
	for (size_t k = 0; k < image_config_table.n; k++)
		if (!json_object_get(patch, image_config_table.fields[k].name))
			json_object_set_new(patch, image_config_table.fields[k].name, json_null());
	return patch;
}

/* ---- the request ---- */

static char *image_name(struct http_request *req) {
	const char *repo = http_query(req, "repo"), *tag = http_query(req, "tag");
	if (!repo || !*repo)
		return NULL;
	return tag && *tag ? str_format("%s:%s", repo, tag) : str_copy(repo);
}

static int build_config(struct http_request *req, const struct instance *i, const struct docker_config *body,
			json_t **patch, struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *image = instance_image(core_of(req), i);
	_cleanup_(strv_free_ptr) char **changes = http_query_all(req, "changes");
	struct image_config c;
	if (!image)
		return error_set(err, ERROR_NOT_FOUND, "No such image: %s", i->spec.image ? i->spec.image : "scratch");
	fields_copy(&image_config_table, &image->image.config, &c);
	add_container(&c, i);
	add_body(&c, body);
	int r = docker_changes(changes, &c, err);
	if (r == 0)
		*patch = config_patch(&c);
	fields_free(&image_config_table, &c);
	return r;
}

static void commit(struct http_request *req, const struct instance *i, const struct docker_config *body) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *patch = NULL;
	_cleanup_(image_snap_unref_ptr) struct image_snap *image = NULL;
	_cleanup_(free_ptr) char *name = image_name(req);
	struct image_ref ref;
	if (name && image_ref_parse(name, &ref, NULL) < 0)
		return docker_fail(req, 400, "invalid reference format");
	if (name)
		image_ref_free(&ref);
	int r = build_config(req, i, body, &patch, &err);
	const struct commit_options o = {
		.name = name,
		.comment = http_query(req, "comment"),
		.author = http_query(req, "author"),
		.pause = docker_query_bool_or(req, "pause", true),
		.config = patch,
	};
	if (r == 0)
		r = instance_commit(core_of(req), DOCKER_PROJECT, i->id, &o, &image, &err);
	if (r < 0) {
		if (err.field)
			error_wrap(&err, "%s", err.field);
		return fail(req, &err);
	}
	docker_reply(req, 201, json_pack("{ss}", "Id", image->image.id));
}

void docker_commit(struct http_request *req) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(json_free_ptr) json_t *body = docker_body(req);
	const char *container = http_query(req, "container");
	struct docker_config config;
	if (!body)
		return;
	if (json_is_null(body)) {
		json_decref(body);
		body = json_object();
	}
	docker_widen_lists(body, NULL);
	if (!container || !*container)
		return docker_fail(req, 400, "container: which one is to be committed?");
	if (!docker_parse_json(req, &docker_config_table, body, &config))
		return;
	if (docker_container(req, container, &snap))
		commit(req, &snap->instance, &config);
	fields_free(&docker_config_table, &config);
}
