/* The routes of volumes. What Docker calls the options of the driver local is a volume that mounts something. */
#include "core/volumes.h"

#include "base/str.h"
#include "base/time.h"
#include "build/build.h"
#include "dialect/docker/networks-priv.h"


#define NOTE "docker."
#define OWN_ANONYMOUS "wabe.anonymous"
#define ANONYMOUS "com.docker.volume.anonymous"

/* ---- the driver's options ---- */

int docker_volume_driver_check(const char *name, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(name ? name : "");
	if (!name || !*name || str_same(name, "local"))
		return 0;
	return error_set(err, ERROR_INVALID, "error looking up volume plugin %s: plugin \"%s\" not found", shown, shown);
}

/* "addr=10.0.0.1,rw": each one text, but for what says what the mount is. */
static void take_options(const char *text, struct volume_mount_spec *m, char **address, bool *bind) {
	_cleanup_(strv_free_ptr) char **words = strv_split(text, ',');
	for (char **w = words; *w; w++) {
		bool deep = str_same(*w, "rbind");
		*bind = *bind || deep || str_same(*w, "bind");
		if (deep)
			strv_add(&m->options, *w);
		else if (str_same(*w, "bind"))
			continue;
		else if (str_starts(*w, "addr="))
			*address = *address ? *address : str_copy(*w + strlen("addr="));
		else if (**w)
			strv_add(&m->options, *w);
	}
}

static int known_options(const char *name, const struct pairs *options, struct error *err) {
	static const char *const known[] = {"type", "device", "o"};
	for (size_t i = 0; i < options->n; i++) {
		_cleanup_(free_ptr) char *shown = text_shown(options->items[i].key);
		bool is_known = false;
		for (size_t k = 0; k < ARRAY_SIZE(known); k++)
			is_known = is_known || str_same(options->items[i].key, known[k]);
		if (!is_known)
			return error_set(err, ERROR_INVALID, "create %s: invalid option: \"%s\"", name, shown);
	}
	return 0;
}

/* type, device and o as mount(8) has them. */
static int mount_of(const char *name, const struct pairs *options, struct volume_mount_spec *m, struct error *err) {
	const char *type = pairs_get(options, "type"), *device = pairs_get(options, "device"), *o = pairs_get(options, "o");
	_cleanup_(free_ptr) char *address = NULL;
	bool bind = false;
	int r = known_options(name, options, err);
	if (r < 0 || !options->n)
		return r;
	take_options(o ? o : "", m, &address, &bind);
	if (!type && !bind)
		return error_set(err, ERROR_INVALID, "missing required option: \"type\"");
	if (!device)
		return error_set(err, ERROR_INVALID, "missing required option: \"device\"");
	m->type = str_copy(bind ? "bind" : type);
	if (address && device[0] == ':')
		m->device = str_format("%s%s", address, device);
	else if (!str_same(type, "tmpfs"))
		m->device = str_copy(device);
	r = fields_validate(&volume_mount_spec_table, m, err);
	return r < 0 ? error_wrap(err, "DriverOpts: %s", err && err->field ? err->field : "mount") : 0;
}

/* ---- making ---- */

static int make(struct core *c, const char *name, const struct docker_volume_driver *driver, const struct pairs *labels,
		struct noun **out, struct error *err) {
	struct volume_spec spec;
	fields_init(&volume_spec_table, &spec);
	spec.name = name && *name ? str_copy(name) : random_hex(32);
	pairs_add(&spec.labels, labels);
	if (!name || !*name)
		pairs_set(&spec.labels, OWN_ANONYMOUS, "true");
	_cleanup_(json_free_ptr) json_t *options = pairs_print(&driver->options);
	_cleanup_(free_ptr) char *text = json_print(options);
	if (driver->options.n)
		pairs_set(&spec.annotations, NOTE "options", text);
	int r = mount_of(spec.name, &driver->options, &spec.mount, err);
	if (r == 0)
		return volume_create(c, DOCKER_PROJECT, &spec, out, err);
	fields_free(&volume_spec_table, &spec);
	return r;
}

/* One of that name that is there is fine, whatever its options. */
static int make_or_find(struct core *c, const char *name, const struct docker_volume_driver *driver,
			const struct pairs *labels, struct noun **out, struct error *err) {
	struct error why = ERROR_INIT;
	int r = docker_volume_driver_check(driver->name, err);
	if (r < 0)
		return name && *name ? error_wrap(err, "create %s", name) : r;
	if (name && *name && (r = docker_volume_name_check(name, err)) < 0)
		return r;
	r = make(c, name, driver, labels, out, &why);
	if (r == -ERROR_EXISTS) {
		error_free(&why);
		return volume_find(c, DOCKER_PROJECT, name, out, err);
	}
	return r < 0 ? error_move(err, &why) : 0;
}

int docker_volume_make(struct core *c, const char *name, const struct docker_volume_driver *driver, const struct pairs *labels,
		       char **made, struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = make_or_find(c, name, driver, labels, &o, err);
	*made = r == 0 ? str_copy(((const struct volume *)o->of)->spec.name) : NULL;
	return r;
}

/* ---- out ---- */

static json_t *labels_json(const struct volume_spec *s) {
	json_t *labels = pairs_print(&s->labels);
	if (json_object_del(labels, OWN_ANONYMOUS) == 0)
		json_set_str(labels, ANONYMOUS, "");
	if (json_object_size(labels))
		return labels;
	json_decref(labels);
	return json_null();
}

static json_t *options_json(const struct volume_spec *s) {
	const char *text = pairs_get(&s->annotations, NOTE "options");
	json_t *options = text ? json_parse(text, strlen(text), NULL) : NULL;
	return options ? options : json_null();
}

/* To the second, as dockerd has it. */
static json_t *created_json(int64_t ns) {
	char text[TIME_TEXT_MAX];
	time_format(ns, text);
	_cleanup_(free_ptr) char *seconds = str_format("%.19sZ", text);
	return json_from_str(seconds);
}

json_t *docker_volume_json(const struct volume *v) {
	json_t *j = json_object();
	json_object_set_new(j, "CreatedAt", created_json(v->created_at));
	json_set_str(j, "Driver", "local");
	json_object_set_new(j, "Labels", labels_json(&v->spec));
	json_set_str(j, "Mountpoint", v->path ? v->path : "");
	json_set_str(j, "Name", v->spec.name);
	json_object_set_new(j, "Options", options_json(&v->spec));
	json_set_str(j, "Scope", "local");
	return j;
}

/* ---- who uses what ---- */

/* Ids of the containers that mount it, running or not. */
static char **users_of(struct instance_snap *const *all, const char *volume_id) {
	char **ids = NULL;
	for (; *all; all++) {
		const struct instance *i = &(*all)->instance;
		for (size_t k = 0; k < i->volumes.n; k++)
			if (str_same(i->volumes.items[k].volume_id, volume_id) && !strv_has(ids, i->id))
				strv_add(&ids, i->id);
	}
	return ids;
}

static void snaps_free(struct instance_snap ***all) {
	for (struct instance_snap **s = *all; s && *s; s++)
		instance_snap_unref(*s);
	free(*all);
}

static int all_instances(struct core *c, struct instance_snap ***out, struct error *err) {
	const struct instance_filter all = {.all = true};
	return instance_snaps(c, DOCKER_PROJECT, &all, out, err);
}

static bool is_used(struct instance_snap *const *all, const char *volume_id) {
	_cleanup_(strv_free_ptr) char **users = users_of(all, volume_id);
	return users != NULL;
}

/* ---- list ---- */

static bool labels_fit(const json_t *filters, const struct volume_spec *s) {
	struct pairs labels = {0};
	for (size_t i = 0; i < s->labels.n; i++) {
		bool own = str_same(s->labels.items[i].key, OWN_ANONYMOUS);
		pairs_set(&labels, own ? ANONYMOUS : s->labels.items[i].key, own ? "" : s->labels.items[i].value);
	}
	bool fit = docker_filter_labels(filters, &labels);
	pairs_free(&labels);
	return fit;
}

/* What the builder has for itself is none of Docker's volumes. */
static bool is_builders(const struct volume *v) {
	return v->transient || pairs_get(&v->spec.labels, BUILD_CACHE_LABEL);
}

int docker_volume_snaps(struct core *c, struct noun ***out, struct error *err) {
	int r = volume_snaps(c, DOCKER_PROJECT, out, err);
	size_t n = 0;
	for (struct noun **o = *out; r == 0 && *o; o++)
		if (is_builders((*o)->of))
			noun_unref(*o);
		else
			(*out)[n++] = *o;
	if (r == 0)
		(*out)[n] = NULL;
	return r;
}

/* dangling 2: not asked for. */
static bool fits(const json_t *filters, const struct volume *v, int dangling, struct instance_snap *const *all) {
	return docker_filter_any(filters, "driver", docker_same_text, "local") &&
	       docker_filter_any(filters, "name", docker_text_fits, v->spec.name) && labels_fit(filters, &v->spec) &&
	       (dangling == 2 || is_used(all, v->id) != (dangling == 1));
}

static void list(struct http_request *req) {
	static const char *const known[] = {"dangling", "driver", "label", "label!", "name", NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, known);
	_cleanup_(nouns_unref_ptr) struct noun **volumes = NULL;
	_cleanup_(snaps_free) struct instance_snap **instances = NULL;
	if (!filters)
		return;
	int dangling = json_object_get(filters, "dangling") ? docker_filter_bool(req, filters, "dangling", false) : 2;
	if (dangling < 0)
		return;
	if (docker_volume_snaps(core_of(req), &volumes, &err) < 0 || all_instances(core_of(req), &instances, &err) < 0)
		return fail(req, &err);
	json_t *shown = json_array(), *answer = json_object();
	for (struct noun **v = volumes; *v; v++)
		if (fits(filters, (*v)->of, dangling, instances))
			json_array_append_new(shown, docker_volume_json((*v)->of));
	json_object_set_new(answer, "Volumes", shown);
	json_object_set_new(answer, "Warnings", json_null());
	docker_reply(req, 200, answer);
}

/* ---- one ---- */

/* By its whole name alone. NULL: an error has been answered. */
static struct noun *find(struct http_request *req, const char *name) {
	struct noun *o = NULL;
	_cleanup_(free_ptr) char *shown = text_shown(name);
	if (volume_find(core_of(req), DOCKER_PROJECT, name, &o, NULL) == 0 &&
	    str_same(((const struct volume *)o->of)->spec.name, name))
		return o;
	noun_unref(o);
	docker_fail(req, 404, "get %s: no such volume", shown);
	return NULL;
}

static void inspect(struct http_request *req) {
	_cleanup_(noun_unref_ptr) struct noun *o = find(req, http_param(req, "name"));
	if (o)
		docker_reply(req, 200, docker_volume_json(o->of));
}

struct create_body {
	char *name, *driver;
	struct pairs options, labels;
	json_t *cluster;
};
static const struct field create_fields[] = {
	FIELD_AS("Name", struct create_body, name, FIELD_STRING),
	FIELD_AS("Driver", struct create_body, driver, FIELD_STRING),
	FIELD_AS("DriverOpts", struct create_body, options, FIELD_PAIRS),
	FIELD_AS("Labels", struct create_body, labels, FIELD_PAIRS),
	FIELD_AS("ClusterVolumeSpec", struct create_body, cluster, FIELD_JSON),
};
static const struct field_table create_table = {
	"VolumeCreateOptions", "", sizeof(struct create_body), create_fields, ARRAY_SIZE(create_fields),
};

static void create(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	struct create_body b;
	if (!docker_parse(req, &create_table, &b))
		return;
	struct docker_volume_driver driver = {b.driver, b.options};
	_cleanup_(free_ptr) char *shown = b.name && *b.name ? text_shown(b.name) : random_hex(32);
	if (docker_volume_driver_check(b.driver, &err) < 0)
		docker_fail(req, 404, "create %s: %s", shown, error_text(&err));
	else if (b.cluster)
		docker_fail(req, 503, "ClusterVolumeSpec: volumes of a cluster are not there");
	else if (make_or_find(core_of(req), b.name, &driver, &b.labels, &o, &err) < 0)
		fail(req, &err);
	else
		docker_reply(req, 201, docker_volume_json(o->of));
	fields_free(&create_table, &b);
}

static void update(struct http_request *req) {
	docker_fail(req, 503, "volume update only valid for cluster volumes, but swarm is unavailable");
}

static void remove_one(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	_cleanup_(snaps_free) struct instance_snap **instances = NULL;
	const char *name = http_param(req, "name");
	if (docker_query_bool(req, "force") && volume_find(core_of(req), DOCKER_PROJECT, name, &o, NULL) < 0)
		return http_reply_empty(req, 204);
	noun_unref(TAKE_PTR(o));
	o = find(req, name);
	if (!o)
		return;
	if (volume_delete(core_of(req), DOCKER_PROJECT, ((const struct volume *)o->of)->id, &err) == 0)
		return http_reply_empty(req, 204);
	if (err.kind != ERROR_CONFLICT || all_instances(core_of(req), &instances, NULL) < 0)
		return fail(req, &err);
	_cleanup_(strv_free_ptr) char **users = users_of(instances, ((const struct volume *)o->of)->id);
	_cleanup_(free_ptr) char *shown = strv_join(users, ", ");
	docker_fail(req, 409, "remove %s: volume is in use - [%s]", name, shown);
}

/* ---- prune ---- */

/* Bytes that its removal has freed, -1: it stays. */
static int64_t prune_one(struct core *c, const struct volume *v) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int64_t used = volume_get(c, DOCKER_PROJECT, v->id, &o, NULL) == 0 ? ((const struct volume *)o->of)->used : 0;
	return volume_delete(c, DOCKER_PROJECT, v->id, NULL) == 0 ? used : -1;
}

int docker_prune_build_caches(struct core *c, json_t *deleted, uint64_t *freed, struct error *err) {
	_cleanup_(nouns_unref_ptr) struct noun **volumes = NULL;
	int r = volume_snaps(c, DOCKER_PROJECT, &volumes, err);
	for (struct noun **o = volumes; r == 0 && *o; o++) {
		const struct volume *v = (*o)->of;
		int64_t size = pairs_get(&v->spec.labels, BUILD_CACHE_LABEL) ? prune_one(c, v) : -1;
		if (size < 0)
			continue;
		*freed += (uint64_t)size;
		json_array_append_new(deleted, json_from_str(v->spec.name));
	}
	return r;
}

static void prune(struct http_request *req) {
	static const char *const known[] = {"all", "label", "label!", NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, known);
	_cleanup_(nouns_unref_ptr) struct noun **volumes = NULL;
	_cleanup_(snaps_free) struct instance_snap **instances = NULL;
	int all = filters ? docker_filter_bool(req, filters, "all", docker_api(req) < 42) : -1;
	int64_t freed = 0;
	if (all < 0)
		return;
	if (docker_volume_snaps(core_of(req), &volumes, &err) < 0 || all_instances(core_of(req), &instances, &err) < 0)
		return fail(req, &err);
	json_t *deleted = json_array(), *answer = json_object();
	for (struct noun **o = volumes; *o; o++) {
		const struct volume *v = (*o)->of;
		bool wanted = all || pairs_get(&v->spec.labels, OWN_ANONYMOUS);
		int64_t size = wanted && labels_fit(filters, &v->spec) && !is_used(instances, v->id) ? prune_one(core_of(req), v) : -1;
		if (size < 0)
			continue;
		freed += size;
		json_array_append_new(deleted, json_from_str(v->spec.name));
	}
	json_object_set_new(answer, "VolumesDeleted", deleted);
	json_set_int(answer, "SpaceReclaimed", freed);
	docker_reply(req, 200, answer);
}

const struct docker_route docker_volume_routes[] = {
	{"GET", "/volumes", list, 0, DOCKER_WORKS, NULL},
	{"GET", "/volumes/{name}", inspect, 0, DOCKER_WORKS, NULL},
	{"POST", "/volumes/create", create, 0, DOCKER_DIFFERS,
	 "driver local, with type bind, tmpfs, nfs, nfs4 and cifs (nfs and cifs, and tmpfs before Linux 6.3, cannot be given an "
	 "instance's ids: with --userns=host); no volumes of a cluster"},
	{"PUT", "/volumes/{name}", update, 0, DOCKER_MISSING, "there are no volumes of a cluster"},
	{"DELETE", "/volumes/{name}", remove_one, 0, DOCKER_WORKS, NULL},
	{"POST", "/volumes/prune", prune, 0, DOCKER_WORKS, NULL},
	{0},
};
