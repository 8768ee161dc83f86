/* Image configurations (image-spec/config.md, and Docker's, which adds Healthcheck): to and from struct
 * image. Every type is checked; null is the same as absent, as the programs that write them mean it. */
#include "image/manifest.h"

#include "base/str.h"
#include "base/time.h"
#include "image/artifact.h"

#define LIST_MAX 4096

static const json_t *member(const json_t *o, const char *key) {
	const json_t *v = json_object_get(o, key);
	return json_is_null(v) ? NULL : v;
}

static int take_str(const json_t *o, const char *key, char **out, struct error *err) {
	const json_t *v = member(o, key);
	if (!v)
		return 0;
	if (!json_is_string(v))
		return error_field(err, key, "%s must be a string", key);
	if (json_string_length(v))
		*out = str_copy(json_string_value(v));
	return 0;
}

static int take_strv(const json_t *o, const char *key, char ***out, struct error *err) {
	const json_t *v = member(o, key), *item;
	if (!v)
		return 0;
	size_t i, n = json_array_size(v);
	if (!json_is_array(v) || n > LIST_MAX)
		return error_field(err, key, "%s must be a list of at most %d strings", key, LIST_MAX);
	if (!n)
		return 0;
	*out = alloc_array(n + 1, sizeof **out);
	json_array_foreach(v, i, item) {
		if (!json_is_string(item))
			return error_field(err, key, "%s must be a list of strings", key);
		(*out)[i] = str_copy(json_string_value(item));
	}
	return 0;
}

/* {"80/tcp": {}}: the keys. */
static int take_keys(const json_t *o, const char *key, char ***out, struct error *err) {
	json_t *v = json_object_get(o, key), *item;
	if (!v || json_is_null(v))
		return 0;
	size_t i = 0;
	if (!json_is_object(v) || json_object_size(v) > LIST_MAX)
		return error_field(err, key, "%s must be an object of at most %d members", key, LIST_MAX);
	if (!json_object_size(v))
		return 0;
	*out = alloc_array(json_object_size(v) + 1, sizeof **out);
	const char *name;
	json_object_foreach(v, name, item)
		(*out)[i++] = str_copy(name);
	return 0;
}

static int take_pairs(const json_t *o, const char *key, struct pairs *out, struct error *err) {
	json_t *v = json_object_get(o, key), *item;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_object(v) || json_object_size(v) > LIST_MAX)
		return error_field(err, key, "%s must be an object of at most %d members", key, LIST_MAX);
	out->items = alloc_array(json_object_size(v), sizeof *out->items);
	const char *name;
	json_object_foreach(v, name, item) {
		if (!json_is_string(item))
			return error_field(err, key, "%s must be an object of strings", key);
		out->items[out->n++] = (struct pair){str_copy(name), str_copy(json_string_value(item))};
	}
	return 0;
}

static int take_int(const json_t *o, const char *key, int64_t *out, struct error *err) {
	const json_t *v = member(o, key);
	if (!v)
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return error_field(err, key, "%s must be a number that is not negative", key);
	*out = json_integer_value(v);
	return 0;
}

static int parse_health(const json_t *h, struct health_check *out, struct error *err) {
	if (!h)
		return 0;
	if (!json_is_object(h))
		return error_set(err, ERROR_INVALID, "Healthcheck must be an object");
	int r = take_strv(h, "Test", &out->command, err);
	if (r == 0)
		r = take_int(h, "Interval", &out->interval, err);
	if (r == 0)
		r = take_int(h, "Timeout", &out->timeout, err);
	if (r == 0)
		r = take_int(h, "StartPeriod", &out->start_period, err);
	if (r == 0)
		r = take_int(h, "StartInterval", &out->start_interval, err);
	if (r == 0)
		r = take_int(h, "Retries", &out->retries, err);
	return r;
}

static int parse_process(const json_t *c, struct image_config *out, struct error *err) {
	if (!c)
		return 0;
	if (!json_is_object(c))
		return error_set(err, ERROR_INVALID, "config must be an object");
	static const struct {
		const char *key;
		size_t offset;
	} strings[] = {
		{"User", offsetof(struct image_config, user)},
		{"WorkingDir", offsetof(struct image_config, workdir)},
		{"StopSignal", offsetof(struct image_config, stop_signal)},
	}, lists[] = {
		{"Entrypoint", offsetof(struct image_config, entrypoint)},
		{"Cmd", offsetof(struct image_config, command)},
		{"Env", offsetof(struct image_config, env)},
		{"Shell", offsetof(struct image_config, shell)},
		{"OnBuild", offsetof(struct image_config, on_build)},
	};
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(strings); i++)
		r = take_str(c, strings[i].key, (char **)((char *)out + strings[i].offset), err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(lists); i++)
		r = take_strv(c, lists[i].key, (char ***)((char *)out + lists[i].offset), err);
	if (r == 0)
		r = take_keys(c, "Volumes", &out->volumes, err);
	if (r == 0)
		r = take_keys(c, "ExposedPorts", &out->exposed_ports, err);
	if (r == 0)
		r = take_pairs(c, "Labels", &out->labels, err);
	return r < 0 ? r : parse_health(member(c, "Healthcheck"), &out->health, err);
}

static int parse_diff_ids(const json_t *rootfs, char ***diff_ids, struct error *err) {
	if (!json_is_object(rootfs))
		return error_set(err, ERROR_INVALID, "rootfs must be an object");
	if (!str_same(json_get_str(rootfs, "type"), "layers"))
		return error_field(err, "rootfs.type", "rootfs.type must be \"layers\"");
	int r = take_strv(rootfs, "diff_ids", diff_ids, err);
	for (size_t i = 0; r == 0 && *diff_ids && (*diff_ids)[i]; i++)
		r = digest_check((*diff_ids)[i], err);
	if (r < 0)
		error_in_field(err, "rootfs");
	return r;
}

static int parse(const json_t *o, struct image *out, char ***diff_ids, struct error *err) {
	if (!json_is_object(o))
		return error_set(err, ERROR_INVALID, "it must be an object");
	_cleanup_(free_ptr) char *created = NULL;
	int r = take_str(o, "architecture", &out->architecture, err);
	if (r == 0)
		r = take_str(o, "os", &out->os, err);
	if (r == 0)
		r = take_str(o, "variant", &out->variant, err);
	if (r == 0)
		r = take_str(o, "created", &created, err);
	if (r < 0)
		return r;
	if (!out->os || !out->architecture)
		return error_set(err, ERROR_INVALID, "os and architecture are missing");
	if (created && time_parse(created, &out->created_at) < 0)
		out->created_at = 0; /* the year 1 of images that are built to be reproducible */
	r = take_int(o, "virtual_size", &out->virtual_size, err);
	if (r == 0)
		r = parse_process(member(o, "config"), &out->config, err);
	if (r < 0)
		return r;
	r = fields_validate(&image_config_table, &out->config, err);
	if (r < 0)
		return error_wrap(err, "%s", err && err->field ? err->field : "config");
	const json_t *machine = member(o, "machine");
	r = machine ? fields_parse(&machine_hardware_table, machine, 0, &out->machine, err) : 0;
	if (r < 0) {
		error_in_field(err, "machine");
		return r;
	}
	return parse_diff_ids(json_object_get(o, "rootfs"), diff_ids, err);
}

int config_parse(const char *text, size_t n, struct image *out, char ***diff_ids, struct error *err) {
	*diff_ids = NULL;
	_cleanup_(json_free_ptr) json_t *o = json_parse(text, n, err);
	int r = o ? parse(o, out, diff_ids, err) : -ERROR_INVALID;
	if (r < 0) {
		error_wrap(err, "the image's config is not valid");
		strv_free(*diff_ids);
		*diff_ids = NULL;
	}
	return r;
}

int image_from_parts(const struct manifest *m, const char *manifest_digest, const char *config, size_t n,
		     struct image *out, struct error *err) {
	fields_init(&image_table, out);
	_cleanup_(strv_free_ptr) char **diff_ids = NULL;
	int r = config_parse(config, n, out, &diff_ids, err);
	if (r == 0 && strv_len(diff_ids) != m->items.n)
		r = error_set(err, ERROR_INVALID, "the image's manifest has %zu layers, its config %zu", m->items.n,
			      strv_len(diff_ids));
	if (r < 0) {
		fields_free(&image_table, out);
		return r;
	}
	out->id = str_copy(m->config.digest);
	out->digest = str_copy(manifest_digest);
	out->media_type = str_copy(m->media_type);
	out->layers.items = alloc_array(m->items.n, sizeof *out->layers.items);
	out->layers.n = m->items.n;
	for (size_t i = 0; i < m->items.n; i++) {
		const struct descriptor *d = &m->items.items[i];
		out->layers.items[i] = (struct image_layer){str_copy(d->digest), str_copy(diff_ids[i]),
							     str_copy(d->media_type), d->size};
		if (__builtin_add_overflow(out->size, d->size, &out->size))
			out->size = INT64_MAX;
	}
	if (str_same(m->config.media_type, TYPE_ARTIFACT_CONFIG)) {
		const char *kind;
		r = blobs_check(out, &kind, err);
		out->kind = r == 0 ? str_copy(kind) : NULL;
	} else {
		out->virtual_size = 0;
		fields_free(&machine_hardware_table, &out->machine);
	}
	if (r == 0)
		r = fields_validate(&image_table, out, err);
	if (r < 0) {
		error_wrap(err, "the image's config is not valid");
		fields_free(&image_table, out);
	}
	return r;
}

static void print_strv(json_t *o, const char *key, char *const *v) {
	if (v && v[0])
		json_object_set_new(o, key, json_from_strv(v));
}

static void print_keys(json_t *o, const char *key, char *const *v) {
	if (!v || !v[0])
		return;
	json_t *keys = json_object();
	for (size_t i = 0; v[i]; i++)
		json_object_set_new(keys, v[i], json_object());
	json_object_set_new(o, key, keys);
}

static void print_health(json_t *o, const struct health_check *h) {
	if (!h->command || !h->command[0])
		return;
	json_t *health = json_object();
	print_strv(health, "Test", h->command);
	const struct {
		const char *key;
		int64_t value;
	} numbers[] = {
		{"Interval", h->interval},
		{"Timeout", h->timeout},
		{"StartPeriod", h->start_period},
		{"StartInterval", h->start_interval},
		{"Retries", h->retries},
	};
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (numbers[i].value)
			json_set_int(health, numbers[i].key, numbers[i].value);
	json_object_set_new(o, "Healthcheck", health);
}

json_t *config_print(const struct image_config *c) {
	json_t *o = json_object();
	json_set_str(o, "User", c->user);
	print_keys(o, "ExposedPorts", c->exposed_ports);
	print_strv(o, "Env", c->env);
	print_strv(o, "Entrypoint", c->entrypoint);
	print_strv(o, "Cmd", c->command);
	print_keys(o, "Volumes", c->volumes);
	json_set_str(o, "WorkingDir", c->workdir);
	json_set_str(o, "StopSignal", c->stop_signal);
	if (c->labels.n)
		json_object_set_new(o, "Labels", pairs_print(&c->labels));
	print_health(o, &c->health);
	print_strv(o, "Shell", c->shell);
	print_strv(o, "OnBuild", c->on_build);
	return o;
}
