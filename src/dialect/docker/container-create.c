/* POST /containers/create: from a body to an instance. */
#include "dialect/docker/containers.h"

#include <strings.h>

#define NS_PER_S INT64_C(1000000000)
#define NS_PER_MILLI INT64_C(1000000)
#define STOP_TIMEOUT_MAX INT64_C(8640000) /* s; what has no end for Docker ends after so long */

static char *text_or_null(const char *s) {
	return s && *s ? str_copy(s) : NULL;
}

/* ---- Config ---- */

/* An empty text or list in place of the image's entrypoint says that there shall be none. */
static void take_command(struct docker_create *d, struct instance_spec *spec) {
	char *const *entry = d->c.entrypoint, *const *command = d->c.command;
	bool given = json_is_array(json_object_get(d->config, "Entrypoint"));
	bool none = given && (!entry || (!entry[0][0] && !entry[1]));
	if (given && !entry && !command)
		command = d->image->config.command; /* Docker takes it over in this case, too */
	if (none)
		strv_add(&spec->entrypoint, "");
	else
		spec->entrypoint = strv_copy(entry);
	spec->command = strv_copy(command);
}

static int check_interval(int64_t ns, const char *name, struct error *err) {
	if (ns < 0 || (ns && ns < NS_PER_MILLI))
		return error_set(err, ERROR_INVALID, "%s in Healthcheck cannot be less than 1ms", name);
	return 0;
}

static int take_health(struct docker_create *d, struct instance_spec *spec, struct error *err) {
	const struct docker_health *h = &d->c.health;
	const struct health_check *of_image = &d->image->config.health;
	if (!json_is_object(json_object_get(d->config, "Healthcheck")))
		return 0;
	int r = check_interval(h->interval, "Interval", err);
	if (r == 0)
		r = check_interval(h->timeout, "Timeout", err);
	if (r == 0)
		r = check_interval(h->start_period, "StartPeriod", err);
	if (r == 0)
		r = check_interval(h->start_interval, "StartInterval", err);
	if (r == 0 && h->retries < 0)
		r = error_set(err, ERROR_INVALID, "Retries in Healthcheck cannot be negative");
	if (r < 0)
		return r;
	spec->health = (struct health_check){
		.command = strv_copy(h->test ? h->test : of_image->command),
		.interval = h->interval ? h->interval : of_image->interval,
		.timeout = h->timeout ? h->timeout : of_image->timeout,
		.start_period = h->start_period ? h->start_period : of_image->start_period,
		.start_interval = h->start_interval ? h->start_interval : of_image->start_interval,
		.retries = h->retries ? h->retries : of_image->retries,
	};
	return 0;
}

static void take_labels(struct docker_create *d, struct instance_spec *spec) {
	const struct pairs *both[] = {&d->image->config.labels, &d->c.labels};
	for (size_t k = 0; k < ARRAY_SIZE(both); k++)
		pairs_add(&spec->labels, both[k]);
}

static int invalid_text(struct error *err, const char *fmt, const char *value) {
	_cleanup_(free_ptr) char *shown = text_shown(value);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	const char *at = strstr(fmt, "%");
	buf_add(&text, fmt, (size_t)(at - fmt));
	buf_adds(&text, shown);
	buf_adds(&text, at + 1);
	return error_set(err, ERROR_INVALID, "%s", buf_str(&text));
}

static int check_config(const struct docker_config *c, struct error *err) {
	for (size_t i = 0; c->env && c->env[i]; i++)
		if (!c->env[i][0] || c->env[i][0] == '=')
			return invalid_text(err, "invalid environment variable: %", c->env[i]);
	if (c->workdir && *c->workdir && c->workdir[0] != '/')
		return invalid_text(err, "the working directory '%' is invalid, it needs to be an absolute path", c->workdir);
	if (c->stop_signal && *c->stop_signal && !signal_from_name(c->stop_signal))
		return invalid_text(err, "invalid signal: %", c->stop_signal);
	if (c->hostname && *c->hostname &&
	    (strlen(c->hostname) > 63 || c->hostname[0] == '-' ||
	     c->hostname[strspn(c->hostname, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")]))
		return invalid_text(err, "invalid hostname format: %", c->hostname);
	return 0;
}

int docker_spec_config(struct docker_create *d, struct instance_spec *spec, struct error *err) {
	const struct docker_config *c = &d->c;
	int r = check_config(c, err);
	if (r < 0)
		return r;
	spec->image = str_copy(c->image);
	spec->hostname = text_or_null(c->hostname);
	spec->domainname = text_or_null(c->domainname);
	spec->user = text_or_null(c->user);
	spec->workdir = text_or_null(c->workdir);
	spec->stop_signal = text_or_null(c->stop_signal);
	spec->env = strv_copy(c->env);
	spec->tty = c->tty;
	spec->stdin_open = c->open_stdin;
	spec->stdin_once = c->stdin_once;
	if (c->stop_timeout != STOP_TIMEOUT_NONE)
		spec->stop_timeout = (c->stop_timeout < 0 ? STOP_TIMEOUT_MAX : MIN(c->stop_timeout, STOP_TIMEOUT_MAX)) * NS_PER_S;
	take_command(d, spec);
	take_labels(d, spec);
	return take_health(d, spec, err);
}

/* ---- notes ---- */

static void keep(const json_t *from, const char *const *members, const char *note, struct instance_spec *spec) {
	_cleanup_(json_free_ptr) json_t *kept = json_object();
	for (; *members; members++) {
		json_t *value = json_object_get(from, *members);
		bool empty = !value || json_is_null(value) || json_is_false(value) ||
			     (json_is_string(value) && !*json_string_value(value));
		if (!empty)
			json_object_set(kept, *members, value);
	}
	if (!json_object_size(kept))
		return;
	_cleanup_(free_ptr) char *text = json_print(kept);
	pairs_set(&spec->annotations, note, text);
}

/* Profiles are long, and in the spec. */
static json_t *without_profiles(const json_t *host) {
	json_t *copy = json_copy((json_t *)host), *list = json_array(), *option;
	size_t i;
	json_array_foreach(json_object_get(host, "SecurityOpt"), i, option)
		if (!str_starts(json_string_value(option), "seccomp"))
			json_array_append(list, option);
	json_object_set_new(copy, "SecurityOpt", json_array_size(list) ? json_incref(list) : json_null());
	json_decref(list);
	return copy;
}

void docker_keep_notes(const struct docker_create *d, struct instance_spec *spec) {
	static const char *const of_config[] = {"AttachStdin", "AttachStdout", "AttachStderr", "Volumes", "Shell", "ArgsEscaped", "NetworkDisabled", "StopTimeout",
						"MacAddress", NULL};
	static const char *const of_host[] = {"Binds", "ContainerIDFile", "LogConfig", "VolumeDriver",
					      "VolumesFrom", "Mounts", "Tmpfs", "IpcMode", "SecurityOpt",
					      "StorageOpt", "Runtime", "Isolation", "ConsoleSize", NULL};
	keep(d->config, of_config, NOTE_CONFIG, spec);
	_cleanup_(json_free_ptr) json_t *host = d->host ? without_profiles(d->host) : json_object();
	keep(host, of_host, NOTE_HOST, spec);
	if (d->h.network_mode && *d->h.network_mode && !str_starts(d->h.network_mode, "container:"))
		pairs_set(&spec->annotations, NOTE_NETWORK, d->h.network_mode);
}

/* ---- the request ---- */

static void create_free(struct docker_create *d) {
	json_decref(d->config);
	json_decref(d->warnings);
	fields_free(&docker_config_table, &d->c);
	fields_free(&docker_host_table, &d->h);
}

/* Members as documented, where dockerd would take them in another case, too. */
static void usual_names(json_t *object, const struct field_table *t) {
	static const char *const parts[] = {"HostConfig", "NetworkingConfig"};
	const char *key;
	json_t *value;
	void *next;
	json_object_foreach_safe(object, next, key, value) {
		const char *usual = NULL;
		for (size_t i = 0; i < t->n; i++)
			usual = strcasecmp(t->fields[i].name, key) == 0 ? t->fields[i].name : usual;
		for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
			usual = strcasecmp(parts[i], key) == 0 ? parts[i] : usual;
		if (!usual || str_same(usual, key))
			continue;
		json_object_set(object, usual, value);
		json_object_del(object, key);
	}
}

/* A member that must be an object; NULL where it is not given. */
static bool object_member(struct http_request *req, const json_t *body, const char *name, json_t **out) {
	json_t *value = json_object_get(body, name);
	*out = value && !json_is_null(value) ? value : NULL;
	if (!*out || json_is_object(*out))
		return true;
	docker_fail(req, 400, "%s: must be an object", name);
	return false;
}

static bool decode(struct http_request *req, struct docker_create *d) {
	_cleanup_(json_free_ptr) json_t *none = json_object();
	if (!http_body(req).len) {
		docker_fail(req, 400, "config cannot be empty in order to create a container");
		return false;
	}
	d->config = docker_body(req);
	if (!d->config)
		return false;
	if (!json_is_object(d->config)) {
		docker_fail(req, 400, "the body must be an object");
		return false;
	}
	usual_names(d->config, &docker_config_table);
	if (!object_member(req, d->config, "HostConfig", &d->host) ||
	    !object_member(req, d->config, "NetworkingConfig", &d->networking))
		return false;
	usual_names(d->host, &docker_host_table);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (docker_older_create(docker_api(req), d->config, &d->host, d->networking, &err) < 0) {
		fail(req, &err);
		return false;
	}
	docker_widen_lists(d->config, d->host);
	return docker_parse_json(req, &docker_config_table, d->config, &d->c) &&
	       docker_parse_json(req, &docker_host_table, d->host ? d->host : none, &d->h);
}

/* "linux/amd64", as much of it as is given. */
static bool platform_fits(const char *wanted, const struct image *i) {
	_cleanup_(strv_free_ptr) char **parts = strv_split(wanted, '/');
	const char *const have[] = {i->os, i->architecture, i->variant};
	for (size_t k = 0; parts[k]; k++)
		if (k >= ARRAY_SIZE(have) || (have[k] && *parts[k] && !str_same(parts[k], have[k])))
			return false;
	return true;
}

static void no_such_image(struct http_request *req, const char *name) {
	struct image_ref ref;
	_cleanup_(free_ptr) char *shown = text_shown(name);
	bool is_id = str_starts(name, "sha256:") || strspn(name, "0123456789abcdef") == 64;
	if (is_id)
		return docker_fail(req, 404, "No such image: %s", name);
	if (image_ref_parse(name, &ref, NULL) < 0)
		return docker_fail(req, 400, "invalid reference format: %s", shown);
	_cleanup_(free_ptr) char *familiar = image_ref_familiar(&ref);
	image_ref_free(&ref);
	docker_fail(req, 404, "No such image: %s", familiar);
}

static struct image_snap *image_of(struct http_request *req, const struct docker_create *d) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const char *platform = docker_api(req) >= 41 ? http_query(req, "platform") : NULL;
	struct image_snap *image;
	if (!d->c.image || !*d->c.image) {
		docker_fail(req, 400, "Config.Image: an image is needed to create a container");
		return NULL;
	}
	if (image_get(d->core, DOCKER_PROJECT, d->c.image, &image, &err) < 0) {
		if (err.kind == ERROR_NOT_FOUND)
			no_such_image(req, d->c.image);
		else
			fail(req, &err);
		return NULL;
	}
	if (!platform || !*platform || platform_fits(platform, &image->image))
		return image;
	docker_fail(req, 404, "image with reference %s was found but does not match the specified platform: wanted %s, "
		    "actual: %s/%s", d->c.image, platform, image->image.os ? image->image.os : "linux",
		    image->image.architecture ? image->image.architecture : "");
	image_snap_unref(image);
	return NULL;
}

/* The name that is wanted, without Docker's slash. NULL in *name: wabe makes one up. */
static bool name_wanted(struct http_request *req, char **name) {
	const char *given = http_query(req, "name");
	if (!given || !*given)
		return true;
	given += *given == '/';
	if (docker_name_ok(given)) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		_cleanup_(instance_snap_unref_ptr) struct instance_snap *other = NULL;
		if (instance_get(core_of(req), DOCKER_PROJECT, given, &other, &err) == 0 &&
		    str_same(other->instance.spec.name, given)) {
			docker_name_taken(req, "", given);
			return false;
		}
		*name = str_copy(given);
		return true;
	}
	_cleanup_(free_ptr) char *shown = text_shown(given);
	docker_fail(req, 400, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", shown);
	return false;
}

static int fill_spec(struct docker_create *d, struct instance_spec *spec, struct error *err) {
	int r = docker_spec_config(d, spec, err);
	if (r == 0)
		r = docker_spec_host(d, spec, err);
	if (r == 0 && image_is_oci(d->image) && !spec->command && !spec->entrypoint && !d->image->config.command &&
	    !d->image->config.entrypoint)
		r = error_set(err, ERROR_INVALID, "no command specified");
	if (r == 0)
		r = docker_spec_networks(d->core, d->config, d->host, d->networking, spec, err);
	if (r == 0 && d->c.network_disabled && !spec->networks.n)
		spec->network = (free(spec->network), str_copy("none"));
	if (r == 0)
		r = docker_spec_mounts(d->core, d->config, d->host, d->image, spec, err);
	if (r == 0)
		docker_keep_notes(d, spec);
	return r == 0 ? fields_validate(&instance_spec_table, spec, err) : r;
}

static void create_failed(struct http_request *req, const struct docker_create *d, const char *name, struct error *err) {
	if (err->kind == ERROR_NOT_FOUND && str_same(err->field, "image"))
		return no_such_image(req, d->c.image);
	if (err->kind == ERROR_EXISTS && str_same(err->field, "name") && name)
		return docker_name_taken(req, "", name);
	if (err->kind == ERROR_NOT_FOUND && err->field && str_ends(err->field, "_mode")) {
		const char *mode = str_same(err->field, "pid_mode") ? d->h.pid_mode : d->h.ipc_mode;
		return docker_fail(req, 404, "No such container: %s", mode ? mode + strlen("container:") : "");
	}
	bool said = str_starts(error_text(err), "invalid mount config");
	if (err->field && !said)
		error_wrap(err, "%s", err->field);
	fail(req, err);
}

static void create_with_image(struct http_request *req, struct docker_create *d, char *name) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *wanted = name ? str_copy(name) : NULL;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	struct instance_spec spec;
	fields_init(&instance_spec_table, &spec);
	spec.name = name;
	if (fill_spec(d, &spec, &err) < 0) {
		fields_free(&instance_spec_table, &spec);
		return create_failed(req, d, wanted, &err);
	}
	if (json_array_size(json_object_get(d->host, "Mounts")) && json_get_str(d->host, "VolumeDriver") &&
	    *json_get_str(d->host, "VolumeDriver"))
		json_array_append_new(d->warnings, json_string("VolumeDriver has no effect on volumes of Mounts: each has a driver of its own"));
	if (instance_create(d->core, DOCKER_PROJECT, &spec, &snap, &err) < 0)
		return create_failed(req, d, wanted, &err);
	json_t *answer = json_object();
	json_set_str(answer, "Id", snap->instance.id);
	json_object_set(answer, "Warnings", d->warnings);
	docker_reply(req, 201, answer);
}

void docker_create(struct http_request *req) {
	_cleanup_(create_free) struct docker_create d = {.core = core_of(req), .warnings = json_array()};
	_cleanup_(free_ptr) char *name = NULL;
	if (!decode(req, &d))
		return;
	_cleanup_(image_snap_unref_ptr) struct image_snap *image = image_of(req, &d);
	if (!image || !name_wanted(req, &name))
		return;
	d.image = &image->image;
	create_with_image(req, &d, TAKE_PTR(name));
}
