/* GET /containers/json and POST /containers/prune: which containers, and what is told of each. A list is made from the
 * states in memory alone; only sizes are asked of the agent. */
#include "dialect/docker/containers.h"

#include "base/map.h"
#include "base/time.h"

/* ---- filters ---- */

struct wanted {
	json_t *filters;
	struct core *core;
	int64_t before, since; /* created at; 0: any */
	char **images;         /* ids of ancestors */
	char **networks;       /* ids */
	bool all, ancestors;
};

static void wanted_free(struct wanted *w) {
	json_decref(w->filters);
	strv_free(w->images);
	strv_free(w->networks);
}

static bool has(const struct wanted *w, const char *name) {
	return json_array_size(json_object_get(w->filters, name)) > 0;
}

static bool fits_prefix(const char *value, const void *arg) {
	return str_starts(arg, value);
}

static bool fits_text(const char *value, const void *arg) {
	return str_same(value, arg);
}

/* A name fits where the filter is a part of it, as a regular expression, with or without Docker's slash. */
static bool fits_name(const char *value, const void *arg) {
	_cleanup_(free_ptr) char *slashed = str_format("/%s", (const char *)arg);
	return docker_text_fits(value, slashed) || docker_text_fits(value, arg);
}

static bool fits_exit(const char *value, const void *arg) {
	const struct instance *i = arg;
	int64_t code;
	return !docker_runs(i) && i->status.started_at && str_to_i64(value, &code) == 0 && code == i->status.exit_code;
}

static bool fits_health(const char *value, const void *arg) {
	const char *health = arg;
	return str_same(value, health ? health : "none");
}

static bool fits_bool(const char *value, UNUSED const void *arg) {
	return str_same(value, "false") || str_same(value, "0") || str_same(value, "False"); /* none is a swarm's task */
}

static bool fits_volume(const char *value, const void *arg) {
	const struct instance *i = arg;
	for (size_t k = 0; k < i->spec.mounts.n; k++)
		if (str_same(value, i->spec.mounts.items[k].source) || str_same(value, i->spec.mounts.items[k].target))
			return true;
	return false;
}

static bool fits_network(const char *value, const void *arg) {
	const struct instance *i = arg;
	const char *own = own_network_name(value);
	for (size_t k = 0; k < i->nics.n; k++)
		if (str_same(own, i->nics.items[k].network) || str_starts(i->nics.items[k].network_id, value))
			return true;
	return str_same(i->spec.network, value);
}

/* "80", "80/tcp", "8000-8010/udp" */
struct port_range {
	int64_t first, last;
	const char *protocol;
};

static bool port_range_parse(const char *text, char **copy, struct port_range *out) {
	*copy = str_copy(text);
	char *slash = strchr(*copy, '/'), *dash;
	*out = (struct port_range){.protocol = slash ? slash + 1 : "tcp"};
	if (slash)
		*slash = '\0';
	dash = strchr(*copy, '-');
	if (dash)
		*dash = '\0';
	return str_to_i64(*copy, &out->first) == 0 && str_to_i64(dash ? dash + 1 : *copy, &out->last) == 0 &&
	       out->first <= out->last && out->first >= 0 && out->last <= 65535;
}

static bool in_range(const struct port_range *r, int64_t port, const char *protocol) {
	return port >= r->first && port <= r->last && str_same(r->protocol, protocol ? protocol : "tcp");
}

/* host: by its port of the host. */
static bool has_published(const struct instance *i, const struct port_range *r, bool host) {
	for (size_t k = 0; k < i->ports.n; k++) {
		const struct port *p = &i->ports.items[k];
		for (int64_t n = 0; n < MAX(p->count, 1); n++)
			if (in_range(r, (host ? p->host_port : p->port) + n, p->protocol))
				return true;
	}
	return false;
}

static bool fits_publish(const char *value, const void *arg) {
	_cleanup_(free_ptr) char *copy = NULL;
	struct port_range r;
	return port_range_parse(value, &copy, &r) && has_published(arg, &r, true);
}

static bool fits_expose(const char *value, const void *arg) {
	const struct instance *i = arg;
	_cleanup_(free_ptr) char *copy = NULL;
	struct port_range r, have;
	if (!port_range_parse(value, &copy, &r))
		return false;
	for (char *const *e = i->exposed; e && *e; e++) {
		_cleanup_(free_ptr) char *other = NULL;
		if (port_range_parse(*e, &other, &have) && in_range(&r, have.first, have.protocol))
			return true;
	}
	return has_published(i, &r, false);
}

static bool fits(const struct wanted *w, const struct instance *i) {
	bool up = docker_runs(i);
	if ((!w->all && !up) || (w->before && i->created_at >= w->before) || (w->since && i->created_at <= w->since))
		return false;
	if (w->ancestors && !strv_has(w->images, i->image_id))
		return false;
	return docker_filter_any(w->filters, "id", fits_prefix, i->id) &&
	       docker_filter_any(w->filters, "name", fits_name, i->spec.name) &&
	       docker_filter_any(w->filters, "status", fits_text, docker_state(i)) &&
	       docker_filter_any(w->filters, "exited", fits_exit, i) &&
	       docker_filter_any(w->filters, "health", fits_health, i->status.health) &&
	       docker_filter_any(w->filters, "is-task", fits_bool, NULL) &&
	       docker_filter_any(w->filters, "volume", fits_volume, i) &&
	       docker_filter_any(w->filters, "network", fits_network, i) &&
	       docker_filter_any(w->filters, "publish", fits_publish, i) &&
	       docker_filter_any(w->filters, "expose", fits_expose, i) && docker_filter_labels(w->filters, &i->spec.labels);
}

/* ---- reading them ---- */

static bool check_values(struct http_request *req, const struct wanted *w, const char *name, bool (*good)(const char *)) {
	const json_t *value;
	size_t i;
	json_array_foreach(json_object_get(w->filters, name), i, value)
		if (!good(json_string_value(value))) {
			_cleanup_(free_ptr) char *shown = text_shown(json_string_value(value));
			docker_fail(req, 400, "invalid filter '%s=%s'", name, shown);
			return false;
		}
	return true;
}

static bool is_state(const char *text) {
	static const char *const states[] = {"created", "running", "paused", "restarting", "removing", "exited", "dead", NULL};
	return strv_has((char *const *)states, text);
}

static bool is_health(const char *text) {
	static const char *const states[] = {"none", "starting", "healthy", "unhealthy", NULL};
	return strv_has((char *const *)states, text);
}

static bool is_number(const char *text) {
	int64_t n;
	return str_to_i64(text, &n) == 0;
}

static bool is_ports(const char *text) {
	_cleanup_(free_ptr) char *copy = NULL;
	struct port_range r;
	return port_range_parse(text, &copy, &r);
}

/* The time of the one container that "before" or "since" names. */
static bool mark_of(struct http_request *req, const struct wanted *w, const char *name, int64_t *at) {
	const json_t *value;
	size_t i;
	json_array_foreach(json_object_get(w->filters, name), i, value) {
		_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
		if (!docker_container(req, json_string_value(value), &snap))
			return false;
		*at = snap->instance.created_at;
	}
	return true;
}

/* Every image that is one of the ancestors or has all its layers. */
static void find_ancestors(struct wanted *w) {
	const json_t *value;
	size_t i;
	w->ancestors = has(w, "ancestor");
	json_array_foreach(json_object_get(w->filters, "ancestor"), i, value) {
		_cleanup_(image_snap_unref_ptr) struct image_snap *image = NULL;
		if (image_get(w->core, DOCKER_PROJECT, json_string_value(value), &image, NULL) == 0)
			strv_take(&w->images, str_copy(image->image.id));
	}
}

static bool read_filters(struct http_request *req, struct wanted *w) {
	static const char *const known[] = {"ancestor", "before", "expose", "exited", "health", "id", "isolation", "is-task",
					    "label", "name", "network", "publish", "since", "status", "volume", NULL};
	w->core = core_of(req);
	w->filters = docker_filters(req, known);
	if (!w->filters || !check_values(req, w, "status", is_state) || !check_values(req, w, "health", is_health) ||
	    !check_values(req, w, "exited", is_number) || !check_values(req, w, "publish", is_ports) ||
	    !check_values(req, w, "expose", is_ports) || !mark_of(req, w, "before", &w->before) ||
	    !mark_of(req, w, "since", &w->since))
		return false;
	find_ancestors(w);
	return true;
}

/* ---- one line of a list ---- */

/* Images are looked up once for each list. */
struct images {
	struct core *core;
	struct map *by_id;   /* image_snap, or a mark for none */
	struct map *by_name; /* id of what a name means now */
};
static char no_image;

static void drop_image(void *value) {
	if (value != &no_image)
		image_snap_unref(value);
}

static const struct image *image_of(struct images *all, const struct instance *i) {
	if (!i->image_id)
		return NULL;
	void *found = map_get(all->by_id, i->image_id);
	if (!found) {
		struct image_snap *snap = instance_image(all->core, i);
		found = snap ? (void *)snap : &no_image;
		map_set(all->by_id, i->image_id, found);
	}
	return found == &no_image ? NULL : &((struct image_snap *)found)->image;
}

/* The name that it was made from for as long as that still means the same image. */
static const char *image_text(struct images *all, const struct instance *i) {
	const char *known = map_get(all->by_name, i->spec.image);
	if (!known) {
		_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
		image_get(all->core, DOCKER_PROJECT, i->spec.image, &snap, NULL);
		map_set(all->by_name, i->spec.image, str_copy(snap ? snap->image.id : "-"));
		known = map_get(all->by_name, i->spec.image);
	}
	return str_same(known, i->image_id) ? i->spec.image : i->image_id;
}

static json_t *command_text(const struct instance *i, const struct image *image) {
	_cleanup_(free_ptr) const char **argv = docker_argv(i, image ? &image->config : NULL);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	for (size_t k = 0; argv[k]; k++) {
		bool quote = k && strchr(argv[k], ' ');
		buf_addf(&text, "%s%s%s%s", k ? " " : "", quote ? "'" : "", argv[k], quote ? "'" : "");
	}
	return json_from_str(buf_str(&text));
}

static json_t *host_part(const struct instance *i, int api) {
	_cleanup_(free_ptr) char *mode = docker_network_mode(i);
	json_t *o = json_pack("{ss}", "NetworkMode", mode), *notes = json_object();
	for (size_t k = 0; api >= 46 && k < i->spec.annotations.n; k++)
		if (!str_starts(i->spec.annotations.items[k].key, NOTE_PREFIX))
			json_object_set_new(notes, i->spec.annotations.items[k].key, json_from_str(i->spec.annotations.items[k].value));
	if (json_object_size(notes))
		json_object_set(o, "Annotations", notes);
	json_decref(notes);
	return o;
}

static void set_sizes(struct core *c, json_t *o, const struct instance *i, const struct image *image) {
	int64_t size = 0;
	if (instance_size(c, i->project, i->id, &size, NULL) < 0)
		size = 0;
	json_set_int(o, "SizeRw", size);
	json_set_int(o, "SizeRootFs", size + (image ? image->size : 0));
}

static json_t *summary(struct images *all, const struct instance *i, bool size, int64_t now, int api) {
	const struct image *image = image_of(all, i);
	_cleanup_(free_ptr) char *name = str_format("/%s", i->spec.name), *status = docker_status_text(i, now);
	json_t *o = json_object();
	set_text(o, "Id", i->id);
	json_object_set_new(o, "Names", json_pack("[s]", name));
	set_text(o, "Image", image_text(all, i));
	set_text(o, "ImageID", i->image_id);
	json_object_set_new(o, "Command", command_text(i, image));
	json_set_int(o, "Created", i->created_at / NS_PER_SEC);
	json_object_set_new(o, "Ports", docker_ports(i));
	if (size)
		set_sizes(all->core, o, i, image);
	json_object_set_new(o, "Labels", pairs_print(&i->spec.labels));
	set_text(o, "State", docker_state(i));
	set_text(o, "Status", status);
	json_object_set_new(o, "HostConfig", host_part(i, api));
	json_object_set_new(o, "NetworkSettings", docker_network_settings_short(all->core, i, api));
	json_object_set_new(o, "Mounts", docker_mounts(all->core, i));
	return o;
}

json_t *docker_container_rows(struct core *c, struct instance_snap *const *snaps, int api) {
	struct images all = {c, map_new(drop_image), map_new(free)};
	int64_t now = time_now_ns();
	json_t *list = json_array();
	for (; *snaps; snaps++)
		json_array_append_new(list, summary(&all, &(*snaps)->instance, true, now, api));
	map_free(all.by_id);
	map_free(all.by_name);
	return list;
}

/* Each as text at once: what was built for one serves the next. */
static void reply_list(struct http_request *req, struct instance_snap *const *snaps, const struct wanted *w, int64_t limit) {
	struct images all = {w->core, map_new(drop_image), map_new(free)};
	bool size = docker_query_bool(req, "size");
	int64_t now = time_now_ns(), left = limit > 0 ? limit : INT64_MAX;
	struct buf text = BUF_INIT;
	buf_addc(&text, '[');
	for (size_t k = 0; snaps[k] && left > 0; k++) {
		if (!fits(w, &snaps[k]->instance))
			continue;
		_cleanup_(json_free_ptr) json_t *one = summary(&all, &snaps[k]->instance, size, now, docker_api(req));
		_cleanup_(free_ptr) char *printed = json_print(one);
		if (text.len > 1)
			buf_addc(&text, ',');
		buf_adds(&text, printed);
		left--;
	}
	buf_addc(&text, ']');
	map_free(all.by_id);
	map_free(all.by_name);
	size_t len = text.len;
	char *data = buf_steal(&text);
	http_reply_shared(req, 200, JSON_TYPE, data, len, free, data);
}

static void snaps_free(struct instance_snap ***snaps) {
	for (size_t k = 0; *snaps && (*snaps)[k]; k++)
		instance_snap_unref((*snaps)[k]);
	free(*snaps);
}

static bool all_snaps(struct http_request *req, struct instance_snap ***out) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const struct instance_filter f = {.all = true};
	if (instance_snaps(core_of(req), DOCKER_PROJECT, &f, out, &err) == 0)
		return true;
	fail(req, &err);
	return false;
}

void docker_list(struct http_request *req) {
	_cleanup_(wanted_free) struct wanted w = {0};
	_cleanup_(snaps_free) struct instance_snap **snaps = NULL;
	int64_t limit;
	if (!docker_query_int(req, "limit", 0, &limit) || !read_filters(req, &w))
		return;
	w.all = docker_query_bool(req, "all") || limit > 0 || has(&w, "status") || has(&w, "exited") || w.before || w.since;
	if (all_snaps(req, &snaps))
		reply_list(req, snaps, &w, limit);
}

/* ---- prune ---- */

/* Those that were made before this; false: an error has been answered. */
static bool read_until(struct http_request *req, const json_t *filters, int64_t *until) {
	const json_t *values = json_object_get(filters, "until");
	const char *text = json_string_value(json_array_get(values, 0));
	int64_t ago;
	*until = INT64_MAX;
	if (!text)
		return true;
	if (json_array_size(values) > 1) {
		docker_fail(req, 400, "more than one until filter specified");
		return false;
	}
	if (strspn(text, "0123456789.") != strlen(text) && str_to_duration(text, &ago) == 0) {
		*until = time_now_ns() - ago;
		return true;
	}
	if (time_parse(text, until) == 0)
		return true;
	_cleanup_(free_ptr) char *shown = text_shown(text);
	docker_fail(req, 400, "until: \"%s\" is neither a time nor a length of time", shown);
	return false;
}

static void prune_one(struct core *c, const struct instance *i, json_t *deleted, int64_t *freed) {
	int64_t size = 0;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (instance_size(c, DOCKER_PROJECT, i->id, &size, NULL) < 0)
		size = 0;
	if (instance_delete(c, DOCKER_PROJECT, i->id, false, &err) < 0)
		return; /* it runs again, or somebody else was quicker */
	*freed += size;
	json_array_append_new(deleted, json_string(i->id));
}

void docker_prune(struct http_request *req) {
	static const char *const known[] = {"until", "label", "label!", NULL};
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, known);
	_cleanup_(snaps_free) struct instance_snap **snaps = NULL;
	int64_t until, freed = 0;
	if (!filters || !read_until(req, filters, &until) || !all_snaps(req, &snaps))
		return;
	json_t *deleted = json_array();
	for (size_t k = 0; snaps[k]; k++) {
		const struct instance *i = &snaps[k]->instance;
		if (!docker_runs(i) && i->created_at < until && docker_filter_labels(filters, &i->spec.labels))
			prune_one(core_of(req), i, deleted, &freed);
	}
	json_t *answer = json_object();
	json_object_set_new(answer, "ContainersDeleted", json_array_size(deleted) ? json_incref(deleted) : json_null());
	json_decref(deleted);
	json_set_int(answer, "SpaceReclaimed", freed);
	docker_reply(req, 200, answer);
}
