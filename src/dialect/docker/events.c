/* Events: wabe's, under Docker's names, with Docker's attributes, filters and times. */
#include "dialect/docker/images-priv.h"
#include "dialect/docker/inside.h"

#include "base/time.h"
#include "core/events.h"

/* ---- names ---- */

static const struct {
	const char *own, *docker;
} type_names[] = {
	{"instance", "container"}, {"image", "image"}, {"network", "network"}, {"volume", "volume"}, {"workload", "service"},
	{"secret", "secret"}, {"config", "config"},
};

static const char *docker_type_of(const char *own) {
	for (size_t i = 0; i < ARRAY_SIZE(type_names); i++)
		if (str_same(type_names[i].own, own))
			return type_names[i].docker;
	return NULL;
}

/* Where Docker has another word for it; type NULL: any. */
static const struct {
	const char *type, *own, *docker;
} action_names[] = {
	{"network", "delete", "destroy"}, {"volume", "delete", "destroy"}, {"workload", "delete", "remove"},
	{"secret", "delete", "remove"}, {"config", "delete", "remove"}, {"instance", "archive_get", "archive-path"},
	{"instance", "archive_put", "extract-to-dir"},
};

static bool is_of(const char *action, const char *const *list) {
	for (; *list; list++)
		if (str_same(action, *list))
			return true;
	return false;
}

/* Those of instances and networks that Docker has no event for are left out: NULL. Free it. */
static char *docker_action(const struct event *e) {
	static const char *const commands[] = {"exec_create", "exec_start", NULL}, *const own[] = {"snapshot", "restore", NULL};
	const char *detail = pairs_get(&e->attributes, str_same(e->action, "health") ? "health" : "command");
	if (str_same(e->type, "instance") && is_of(e->action, commands))
		return str_format("%s: %s%s", e->action, detail ? detail : "", detail && strchr(detail, ' ') ? "" : " ");
	if (str_same(e->type, "instance") && str_same(e->action, "health"))
		return str_format("health_status: %s", detail ? detail : "");
	if (str_same(e->type, "instance") && str_same(e->action, "restart") && pairs_get(&e->attributes, "cause"))
		return str_copy("start"); /* the policy's doing: to dockerd a start like any other */
	if (pairs_get(&e->attributes, "snapshot") || is_of(e->action, own))
		return NULL;
	if (str_same(e->type, "network") && str_same(e->action, "create") && str_same(e->name, own_network_name("bridge")))
		return NULL; /* made when it is first wanted; to dockerd's clients it has always been there */
	for (size_t i = 0; i < ARRAY_SIZE(action_names); i++)
		if (str_same(action_names[i].type, e->type) && str_same(action_names[i].own, e->action))
			return str_copy(action_names[i].docker);
	return str_copy(e->action);
}

/* ---- attributes ---- */

static const struct {
	const char *own, *docker;
} attribute_names[] = {
	{"exit_code", "exitCode"}, {"exec_id", "execID"}, {"image_id", "imageID"}, {"rows", "height"}, {"columns", "width"},
	{"instance", "container"}, {"target", "destination"}, {"driver", "type"},
};

static void add_attribute(json_t *attributes, const char *key, const char *value) {
	static const char *const inner[] = {"command", "health", "cause", "path", "read_only", NULL};
	if (is_of(key, inner))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(attribute_names); i++)
		if (str_same(attribute_names[i].own, key))
			key = attribute_names[i].docker;
	json_object_set_new(attributes, key, json_from_str(value));
}

/* Docker's number of a signal that may have come as a name. */
static void add_signal(json_t *attributes, const char *signal) {
	int number = signal ? signal_from_name(signal) : 0;
	_cleanup_(free_ptr) char *text = str_format("%d", number);
	if (number > 0)
		json_set_str(attributes, "signal", text);
}

static void name_of_image(json_t *attributes, const struct event *e) {
	static const char *const transfers[] = {"pull", "push", NULL}, *const by_id[] = {"untag", "delete", "load", "save", "import", "create", NULL};
	const char *full = e->name ? e->name : "";
	_cleanup_(free_ptr) char *name = is_of(e->action, transfers) ? docker_familiar_name(full) : docker_familiar(full);
	json_object_set_new(attributes, "name", json_from_str(is_of(e->action, by_id) && e->id ? e->id : name));
}

static json_t *attributes_of(const struct event *e) {
	json_t *attributes = json_object();
	bool instance = str_same(e->type, "instance"), volume = str_same(e->type, "volume"), network = str_same(e->type, "network");
	for (size_t i = 0; i < e->labels.n; i++)
		json_object_set_new(attributes, e->labels.items[i].key, json_from_str(e->labels.items[i].value));
	for (size_t i = 0; i < e->attributes.n; i++)
		add_attribute(attributes, e->attributes.items[i].key, e->attributes.items[i].value);
	if (instance) {
		const char *old = pairs_get(&e->attributes, "old_name");
		_cleanup_(free_ptr) char *slashed = str_format("/%s", old ? old : "");
		json_object_del(attributes, "old_name");
		json_set_str(attributes, "oldName", old ? slashed : NULL);
		if (pairs_get(&e->attributes, "signal"))
			add_signal(attributes, pairs_get(&e->attributes, "signal"));
	}
	if (volume) {
		const char *read_only = pairs_get(&e->attributes, "read_only");
		json_object_del(attributes, "name");
		json_set_str(attributes, "driver", "local");
		if (read_only && str_same(e->action, "mount")) {
			json_set_str(attributes, "read/write", str_same(read_only, "true") ? "false" : "true");
			json_set_str(attributes, "propagation", "");
		} else {
			json_object_del(attributes, "destination");
		}
	} else if (str_same(e->type, "image")) {
		name_of_image(attributes, e);
	} else {
		json_set_str(attributes, "name", network && e->name ? docker_network_name(e->name) : e->name);
	}
	if (network && !json_object_get(attributes, "type"))
		json_set_str(attributes, "type", "bridge");
	return attributes;
}

static char *actor_of(const struct event *e) {
	static const char *const transfers[] = {"pull", "push", NULL};
	if (str_same(e->type, "volume"))
		return str_copy(e->name ? e->name : "");
	if (str_same(e->type, "image") && is_of(e->action, transfers))
		return docker_familiar(e->name ? e->name : "");
	return str_copy(e->id ? e->id : "");
}

static bool is_swarms(const char *type) {
	static const char *const swarm[] = {"service", "secret", "config", "node", NULL};
	return is_of(type, swarm);
}

/* NULL: Docker has none such. */
static json_t *event_print(const struct event *e) {
	const char *type = docker_type_of(e->type);
	_cleanup_(free_ptr) char *action = type ? docker_action(e) : NULL, *id = actor_of(e);
	if (!action)
		return NULL;
	json_t *o = json_object(), *actor = json_object(), *attributes = attributes_of(e);
	bool old = str_same(type, "container") || str_same(type, "image");
	if (old) {
		json_object_set_new(o, "status", json_from_str(action));
		json_object_set_new(o, "id", json_from_str(id));
		json_set_str(o, "from", json_get_str(attributes, "image"));
	}
	json_object_set_new(o, "Type", json_string(type));
	json_object_set_new(o, "Action", json_from_str(action));
	json_object_set_new(actor, "ID", json_from_str(id));
	json_object_set_new(actor, "Attributes", attributes);
	json_object_set_new(o, "Actor", actor);
	json_set_str(o, "scope", is_swarms(type) ? "swarm" : "local");
	json_set_int(o, "time", e->time / NS_PER_SEC);
	json_set_int(o, "timeNano", e->time);
	return o;
}

/* ---- filters ---- */

static bool same(const char *value, const void *arg) {
	return str_same(value, arg);
}

static bool begins(const char *value, const void *arg) {
	return arg && str_starts(arg, value);
}

static bool fits_action(const char *value, const void *arg) {
	const char *action = arg, *colon = strchr(action, ':');
	if (str_same(value, action))
		return true;
	return colon && strlen(value) == (size_t)(colon - action) && str_starts(action, value);
}

struct named {
	const char *id, *name;
};

static bool fits_named(const char *value, const void *arg) {
	const struct named *n = arg;
	return begins(value, n->id) || begins(value, n->name);
}

static bool same_without_tag(const char *value, const char *name) {
	const char *colon = name ? strrchr(name, ':') : NULL;
	if (str_same(value, name))
		return true;
	return colon && !strchr(colon, '/') && strlen(value) == (size_t)(colon - name) && str_starts(name, value);
}

static bool fits_image(const char *value, const void *arg) {
	const struct named *n = arg;
	return same_without_tag(value, n->id) || same_without_tag(value, n->name);
}

static const char *const known_filters[] = {"config", "container", "daemon", "event", "image", "label", "network", "node", "plugin",
					    "scope", "secret", "service", "type", "volume", NULL};

/* Names and ids of one kind of thing: the filter lets nothing else pass. */
static bool fits_things(const json_t *filters, const char *type, const struct named *n) {
	static const char *const things[] = {"config", "container", "daemon", "network", "node", "plugin", "secret", "service",
					     "volume", NULL};
	for (size_t i = 0; things[i]; i++)
		if (json_object_get(filters, things[i]) &&
		    !(str_same(things[i], type) && docker_filter_any(filters, things[i], fits_named, n)))
			return false;
	return true;
}

static bool fits_labels(const json_t *filters, const json_t *attributes) {
	const json_t *wanted = json_object_get(filters, "label"), *value;
	size_t i;
	json_array_foreach(wanted, i, value) {
		const char *text = json_string_value(value), *equals = strchrnul(text, '=');
		_cleanup_(free_ptr) char *key = str_copyn(text, (size_t)(equals - text));
		const char *have = json_get_str(attributes, key);
		if (!have || (*equals && !str_same(have, equals + 1)))
			return false;
	}
	return true;
}

static bool passes(const json_t *filters, const json_t *event) {
	const json_t *actor = json_object_get(event, "Actor"), *attributes = json_object_get(actor, "Attributes");
	const char *type = json_get_str(event, "Type");
	struct named thing = {json_get_str(actor, "ID"), json_get_str(attributes, "name")};
	struct named image = {thing.id, str_same(type, "image") ? thing.name : json_get_str(attributes, "image")};
	return docker_filter_any(filters, "event", fits_action, json_get_str(event, "Action")) &&
	       docker_filter_any(filters, "type", same, type) &&
	       docker_filter_any(filters, "scope", same, json_get_str(event, "scope")) && fits_things(filters, type, &thing) &&
	       docker_filter_any(filters, "image", fits_image, &image) && fits_labels(filters, attributes);
}

/* ---- the stream ---- */

struct event_stream {
	struct line_stream *lines;
	json_t *filters;
	int api;
};

/* Of a build; clients before 1.46 know none such. */
static bool is_news(const struct event *e, int api) {
	return api < 46 && str_same(e->type, "image") && str_same(e->action, "create");
}

static void stream_begin(void *arg) {
	line_stream_begin(((struct event_stream *)arg)->lines);
}

static int stream_event(void *arg, const struct event *e, UNUSED const char *json, UNUSED size_t len) {
	struct event_stream *s = arg;
	_cleanup_(json_free_ptr) json_t *event = is_news(e, s->api) ? NULL : event_print(e);
	if (!event || !passes(s->filters, event))
		return 0;
	_cleanup_(free_ptr) char *text = json_print(event);
	return line_stream_push(s->lines, text, strlen(text));
}

static bool stream_gone(void *arg) {
	return line_stream_gone(((struct event_stream *)arg)->lines);
}

static void stream_free(struct event_stream *s) {
	json_decref(s->filters);
	free(s);
}

static void stream_end(void *arg, bool complete) {
	struct event_stream *s = arg;
	line_stream_end(s->lines, complete);
	stream_free(s);
}

static bool time_of(struct http_request *req, const char *name, int64_t *out) {
	const char *text = http_query(req, name);
	*out = 0;
	if (!text || !*text || time_parse(text, out) == 0)
		return true;
	_cleanup_(free_ptr) char *shown = text_shown(text);
	docker_fail(req, 400, "failed to parse value as time: \"%s\" (%s)", shown, name);
	return false;
}

void docker_events(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct event_filter filter = {.project = DOCKER_PROJECT};
	if (!time_of(req, "since", &filter.since) || !time_of(req, "until", &filter.until))
		return;
	if (filter.since && filter.until && filter.since > filter.until)
		return docker_fail(req, 400, "`since` time (%s) cannot be after `until` time (%s)", http_query(req, "since"),
				   http_query(req, "until"));
	json_t *filters = docker_filters(req, known_filters);
	if (!filters)
		return;
	struct event_stream *s = NEW(struct event_stream);
	*s = (struct event_stream){line_stream_new(req, "application/json"), filters, docker_api(req)};
	const struct event_sink sink = {
		.begin = stream_begin, .event = stream_event, .gone = stream_gone, .end = stream_end, .arg = s};
	bool follow = !filter.until || filter.until > time_now_ns();
	if (events_follow(core_of(req), &filter, follow, &sink, &err) < 0) {
		line_stream_free(s->lines);
		stream_free(s);
		fail(req, &err);
	}
}
