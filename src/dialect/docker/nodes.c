/* Nodes: there is one, this host. */
#include "dialect/docker/swarm-priv.h"

#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

static json_t *description(const struct utsname *u) {
	struct sysinfo s = {0};
	sysinfo(&s);
	json_t *d = json_object();
	json_set_str(d, "Hostname", u->nodename);
	json_object_set_new(d, "Platform", json_pack("{ss,ss}", "Architecture", u->machine, "OS", "linux"));
	json_object_set_new(d, "Resources", json_pack("{sI,sI}", "NanoCPUs", (json_int_t)(sysconf(_SC_NPROCESSORS_ONLN) * NANO), "MemoryBytes",
						      (json_int_t)((int64_t)s.totalram * s.mem_unit)));
	json_object_set_new(d, "Engine", json_pack("{ss,s{},s[]}", "EngineVersion", WABE_VERSION, "Labels", "Plugins"));
	json_object_set_new(d, "TLSInfo", json_object());
	return d;
}

static json_t *node_json(const struct cluster *k) {
	const struct node *n = &k->node;
	const char *colon = strrchr(k->spec.address, ':');
	_cleanup_(free_ptr) char *host = str_copyn(k->spec.address, (size_t)(colon - k->spec.address));
	struct utsname u;
	uname(&u);
	json_t *o = swarm_object(n->id, n->version, n->created_at, n->updated_at), *spec = json_object();
	json_set_str(spec, "Name", n->spec.name);
	json_object_set_new(spec, "Labels", pairs_print(&n->spec.labels));
	json_set_str(spec, "Role", n->spec.role);
	json_set_str(spec, "Availability", n->spec.availability);
	json_object_set_new(o, "Spec", spec);
	json_object_set_new(o, "Description", description(&u));
	json_object_set_new(o, "Status", json_pack("{ss,ss}", "State", "ready", "Addr", host));
	json_object_set_new(o, "ManagerStatus",
			    json_pack("{sb,ss,ss}", "Leader", 1, "Reachability", "reachable", "Addr", k->spec.address));
	return o;
}

/* By id or its beginning, name, host name, or "self"; false: an error has been answered. */
static bool is_node(struct http_request *req, const struct cluster *k) {
	const char *name = http_param(req, "id");
	struct utsname u;
	uname(&u);
	if (str_same(name, "self") || str_same(name, u.nodename) || (k->node.spec.name && str_same(name, k->node.spec.name)) ||
	    (*name && strlen(name) <= SWARM_ID_LEN && str_starts(k->node.id, name)))
		return true;
	_cleanup_(free_ptr) char *shown = text_shown(name);
	docker_fail(req, 404, "node %s not found", shown);
	return false;
}

static bool equals(const char *value, const void *arg) {
	return strcasecmp(value, arg) == 0;
}

static bool is_one_of(struct http_request *req, const json_t *filters, const char *name, const char *a, const char *b) {
	size_t i;
	json_t *value;
	json_array_foreach(json_object_get(filters, name), i, value) {
		const char *text = json_string_value(value);
		if (!*text || strcasecmp(text, a) == 0 || strcasecmp(text, b) == 0)
			continue;
		_cleanup_(free_ptr) char *shown = text_shown(text);
		docker_fail(req, 500, "Invalid %s filter: '%s'", name, shown);
		return false;
	}
	return true;
}

static bool fits(const json_t *filters, const struct cluster *k) {
	struct utsname u;
	uname(&u);
	_cleanup_(json_free_ptr) json_t *by_label = json_object();
	json_t *labels = json_object_get(filters, "node.label");
	if (labels)
		json_object_set(by_label, "label", labels);
	_cleanup_(free_ptr) char *id = str_copyn(k->node.id, SWARM_ID_LEN);
	/* "label" is of the engine, which has none */
	return swarm_fits(filters, id, u.nodename, &(struct pairs){0}) && docker_filter_labels(by_label, &k->node.spec.labels) &&
	       docker_filter_any(filters, "role", equals, k->node.spec.role) &&
	       docker_filter_any(filters, "membership", equals, "accepted");
}

void nodes_list(struct http_request *req) {
	static const char *const known[] = {"name", "id", "label", "role", "membership", "node.label", NULL};
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	if (!swarm_active(req, &cluster))
		return;
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, known);
	if (!filters || !is_one_of(req, filters, "role", "manager", "worker") ||
	    !is_one_of(req, filters, "membership", "accepted", "pending"))
		return;
	json_t *list = json_array();
	if (fits(filters, cluster->of))
		json_array_append_new(list, node_json(cluster->of));
	docker_reply(req, 200, list);
}

void node_inspect(struct http_request *req) {
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	if (swarm_active(req, &cluster) && is_node(req, cluster->of))
		docker_reply(req, 200, node_json(cluster->of));
}

struct node_request {
	char *name, *role, *availability;
	struct pairs labels;
};
static const struct field node_fields[] = {
	FIELD_AS("Name", struct node_request, name, FIELD_STRING, .doc = "Name"),
	FIELD_AS("Role", struct node_request, role, FIELD_STRING, .doc = "Role"),
	FIELD_AS("Availability", struct node_request, availability, FIELD_STRING, .doc = "Availability"),
	FIELD_AS("Labels", struct node_request, labels, FIELD_PAIRS, .doc = "Labels"),
};
static const struct field_table node_request_table = {"node_request", "", sizeof(struct node_request), node_fields,
						      ARRAY_SIZE(node_fields)};

/* All labels are replaced: those that are not there any more are null in the patch. */
static json_t *patch_of(const struct node_request *r, const struct node *old) {
	json_t *patch = json_object(), *labels = pairs_print(&r->labels);
	for (size_t i = 0; i < old->spec.labels.n; i++)
		if (!pairs_get(&r->labels, old->spec.labels.items[i].key))
			json_object_set_new(labels, old->spec.labels.items[i].key, json_null());
	json_object_set_new(patch, "labels", labels);
	if (r->availability && *r->availability)
		json_set_str(patch, "availability", r->availability);
	if (r->name)
		json_set_str(patch, "name", r->name);
	return patch;
}

void node_update(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL, *changed = NULL;
	struct cluster_change change = {.version = ANY_CLUSTER_VERSION};
	struct node_request r;
	if (!swarm_active(req, &cluster) || !is_node(req, cluster->of) || !swarm_version(req, "node", &change.node_version) ||
	    !docker_parse(req, &node_request_table, &r))
		return;
	const struct node *old = &((const struct cluster *)cluster->of)->node;
	_cleanup_(json_free_ptr) json_t *patch = patch_of(&r, old);
	bool demoted = str_same(r.role, "worker");
	fields_free(&node_request_table, &r);
	if (demoted)
		return docker_fail(req, 400, "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm");
	change.node = patch;
	if (cluster_update(core_of(req), &change, &changed, &err) < 0)
		return swarm_fail(req, "node", http_param(req, "id"), &err);
	http_reply_empty(req, 200);
}

void node_remove(struct http_request *req) {
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	if (!swarm_active(req, &cluster) || !is_node(req, cluster->of))
		return;
	_cleanup_(free_ptr) char *id = str_copyn(((const struct cluster *)cluster->of)->node.id, SWARM_ID_LEN);
	docker_fail(req, 400, "rpc error: code = FailedPrecondition desc = node %s is a cluster manager and is a member of the raft cluster. "
		    "It must be demoted to worker before removal", id);
}
