/* Swarm: founding, leaving and changing it; what its other files share; their routes. */
#include "dialect/docker/swarm-priv.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>

#define NOT_A_MANAGER                                                                                               \
	"This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to " \
	"swarm and try again."
#define NO_SWARM "This node is not part of a swarm"
#define PORT "2377"

/* ---- what is shared ---- */

bool swarm_active(struct http_request *req, struct noun **out) {
	if (cluster_get(core_of(req), out, NULL) == 0)
		return true;
	docker_fail(req, 503, NOT_A_MANAGER);
	return false;
}

bool swarm_version(struct http_request *req, const char *what, int64_t *out) {
	const char *text = http_query(req, "version");
	if (text && str_to_i64(text, out) == 0 && *out >= 0)
		return true;
	_cleanup_(free_ptr) char *shown = text_shown(text ? text : "");
	docker_fail(req, 400, "invalid %s version '%s': strconv.ParseUint: parsing \"%s\": invalid syntax", what, shown, shown);
	return false;
}

void swarm_set_id(json_t *object, const char *key, const char *id) {
	_cleanup_(free_ptr) char *text = str_copyn(id, strnlen(id, SWARM_ID_LEN));
	json_set_str(object, key, text);
}

json_t *swarm_object(const char *id, int64_t version, int64_t created_at, int64_t updated_at) {
	json_t *o = json_object();
	swarm_set_id(o, "ID", id);
	json_object_set_new(o, "Version", json_pack("{sI}", "Index", (json_int_t)version));
	json_object_set_new(o, "CreatedAt", docker_time(created_at));
	json_object_set_new(o, "UpdatedAt", docker_time(updated_at));
	return o;
}

void swarm_fail(struct http_request *req, const char *what, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(name ? name : "");
	if (err->kind == ERROR_NOT_FOUND && !err->field)
		return docker_fail(req, 404, "%s %s not found", what, shown);
	if (str_same(error_text(err), "update out of sequence"))
		return docker_fail(req, 500, "rpc error: code = Unknown desc = update out of sequence");
	if (err->kind == ERROR_EXISTS)
		return docker_fail(req, 409, "rpc error: code = AlreadyExists desc = name conflicts with an existing object: %s %s already "
				   "exists", what, shown);
	if (err->kind == ERROR_INVALID || err->kind == ERROR_CONFLICT || err->kind == ERROR_NOT_FOUND)
		return docker_fail(req, 400, "rpc error: code = InvalidArgument desc = %s%s%s", err->field ? err->field : "",
				   err->field ? ": " : "", error_text(err));
	fail(req, err);
}

struct prefix_of {
	const char *text;
};

static bool has_prefix(const char *value, const void *arg) {
	return str_starts(((const struct prefix_of *)arg)->text, value);
}

bool swarm_fits(const json_t *filters, const char *id, const char *name, const struct pairs *labels) {
	return docker_filter_any(filters, "id", has_prefix, &(struct prefix_of){id}) &&
	       docker_filter_any(filters, "name", has_prefix, &(struct prefix_of){name}) && docker_filter_labels(filters, labels);
}

const json_t *swarm_origin(const json_t *origin) {
	return json_object_get(origin, "docker");
}

json_t *swarm_keep_origin(const json_t *body) {
	return json_pack("{so}", "docker", json_deep_copy(body));
}

/* ---- the swarm ---- */

/* An address of the host that is none of its loopback; of one interface (NULL: any). Free it; NULL: there is none. */
static char *host_address(const char *interface) {
	struct ifaddrs *all = NULL;
	char text[INET6_ADDRSTRLEN] = "";
	if (getifaddrs(&all) < 0)
		return NULL;
	for (struct ifaddrs *a = all; a && !*text; a = a->ifa_next)
		if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET && (interface || !(a->ifa_flags & IFF_LOOPBACK)) &&
		    (!interface || str_same(a->ifa_name, interface)))
			inet_ntop(AF_INET, &((struct sockaddr_in *)a->ifa_addr)->sin_addr, text, sizeof text);
	freeifaddrs(all);
	return *text ? str_copy(text) : NULL;
}

/* "ADDRESS", "ADDRESS:PORT", "INTERFACE", "INTERFACE:PORT" → "ADDRESS:PORT" */
static char *address_of(const char *given) {
	const char *colon = strrchr(given, ':');
	bool bare6 = colon && strchr(given, ':') != colon && given[0] != '[';
	_cleanup_(free_ptr) char *host = colon && !bare6 ? str_copyn(given, (size_t)(colon - given)) : str_copy(given);
	const char *port = colon && !bare6 ? colon + 1 : PORT;
	struct ip ip;
	if (given[0] == '[' || ip_parse(host, &ip) == 0)
		return str_format(bare6 ? "[%s]:%s" : "%s:%s", host, port);
	_cleanup_(free_ptr) char *found = host_address(host);
	return found ? str_format("%s:%s", found, port) : NULL;
}

struct init_request {
	char *listen, *advertise, *data_path, *availability;
	bool force, autolock;
	int64_t data_path_port, subnet_size;
	char **pools;
	json_t *spec;
};
#define INIT(json_, member_, kind_) FIELD_AS(json_, struct init_request, member_, kind_, .doc = json_)
static const struct field init_fields[] = {
	INIT("ListenAddr", listen, FIELD_STRING),	    INIT("AdvertiseAddr", advertise, FIELD_STRING),
	INIT("DataPathAddr", data_path, FIELD_STRING),	    INIT("Availability", availability, FIELD_STRING),
	INIT("ForceNewCluster", force, FIELD_BOOL),	    INIT("AutoLockManagers", autolock, FIELD_BOOL),
	INIT("DataPathPort", data_path_port, FIELD_INT),    INIT("SubnetSize", subnet_size, FIELD_INT),
	INIT("DefaultAddrPool", pools, FIELD_STRINGS),	    INIT("Spec", spec, FIELD_JSON),
};
static const struct field_table init_table = {"swarm_init", "", sizeof(struct init_request), init_fields, ARRAY_SIZE(init_fields)};

/* What a swarm of this host cannot have. */
static int check_spec(const json_t *spec, struct error *err) {
	const json_t *ca = json_object_get(spec, "CAConfig");
	if (json_get_bool(json_object_get(spec, "EncryptionConfig"), "AutoLockManagers"))
		return error_set(err, ERROR_UNSUPPORTED, "Spec.EncryptionConfig.AutoLockManagers: wabe's store is not locked by a key");
	if (json_array_size(json_object_get(ca, "ExternalCAs")))
		return error_set(err, ERROR_UNSUPPORTED, "Spec.CAConfig.ExternalCAs: comes with wabe's cluster, which has one node for now");
	if (json_get_str(ca, "SigningCACert") && *json_get_str(ca, "SigningCACert"))
		return error_set(err, ERROR_UNSUPPORTED, "Spec.CAConfig.SigningCACert: comes with wabe's cluster, which has one node for now");
	const char *name = json_get_str(spec, "Name");
	if (name && *name && !str_same(name, "default"))
		return error_set(err, ERROR_INVALID, "rpc error: code = InvalidArgument desc = swarm spec must be named \"default\"");
	return 0;
}

static int64_t history_of(const json_t *spec) {
	const json_t *limit = json_object_get(json_object_get(spec, "Orchestration"), "TaskHistoryRetentionLimit");
	return json_is_integer(limit) ? MIN(MAX(json_integer_value(limit) - 1, 0), 100) : 4;
}

static int init_specs(const struct init_request *r, struct cluster_spec *spec, struct node_spec *node, struct error *err) {
	int result = check_spec(r->spec, err);
	if (result < 0)
		return result;
	if (r->autolock)
		return error_set(err, ERROR_UNSUPPORTED, "AutoLockManagers: wabe's store is not locked by a key");
	if (r->availability && *r->availability) {
		free(node->availability);
		node->availability = str_copy(r->availability);
	}
	bool given = r->advertise && *r->advertise;
	_cleanup_(free_ptr) char *own = host_address(NULL);
	spec->address = given ? address_of(r->advertise) : str_format("%s:" PORT, own ? own : "127.0.0.1");
	if (!spec->address)
		return error_set(err, ERROR_INVALID, "advertise address must be a non-zero IP address or network interface (with optional "
				 "port number)");
	pairs_read(&spec->labels, json_object_get(r->spec, "Labels"));
	spec->history = history_of(r->spec);
	spec->origin = swarm_keep_origin(r->spec ? r->spec : json_null());
	return 0;
}

static void swarm_init(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *made = NULL;
	struct init_request r;
	_cleanup_(json_free_ptr) json_t *body = swarm_body(req, swarm_init_shape);
	if (!body || !docker_parse_json(req, &init_table, body, &r))
		return;
	struct cluster_spec spec;
	struct node_spec node;
	fields_init(&cluster_spec_table, &spec);
	fields_init(&node_spec_table, &node);
	int result = init_specs(&r, &spec, &node, &err);
	fields_free(&init_table, &r);
	if (result == 0)
		result = cluster_init(core_of(req), &spec, &node, &made, &err);
	fields_free(&cluster_spec_table, &spec);
	fields_free(&node_spec_table, &node);
	if (result < 0 && err.kind == ERROR_CONFLICT)
		return docker_fail(req, 503, "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and "
				   "join another one.");
	if (result < 0)
		return fail(req, &err);
	_cleanup_(free_ptr) char *id = str_copyn(((const struct cluster *)made->of)->node.id, SWARM_ID_LEN);
	docker_reply(req, 200, json_string(id));
}

static void swarm_join(struct http_request *req) {
	_cleanup_(json_free_ptr) json_t *body = docker_body(req);
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	if (!body)
		return;
	if (cluster_get(core_of(req), &cluster, NULL) == 0)
		return docker_fail(req, 503, "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and "
				   "join another one.");
	docker_fail(req, 501, "joining the swarm of another node comes with wabe's cluster, which has one node for now: use \"docker swarm "
		    "init\" for a swarm of this node");
}

static void swarm_leave(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	if (cluster_get(core_of(req), &cluster, NULL) < 0)
		return docker_fail(req, 503, NO_SWARM);
	if (!docker_query_bool(req, "force"))
		return docker_fail(req, 503, "You are attempting to leave the swarm on a node that is participating as a manager. Removing "
				   "the last manager erases all current state of the swarm. Use `--force` to ignore this message. ");
	if (cluster_leave(core_of(req), &err) < 0)
		return fail(req, &err);
	http_reply_empty(req, 200);
}

/* A member that Docker prints also where it was not given. */
static void fill(json_t *to, const json_t *from, const char *name, json_t *otherwise) {
	json_t *value = json_object_get(from, name);
	bool same = value && json_typeof(value) == json_typeof(otherwise);
	json_object_set_new(to, name, same ? json_deep_copy(value) : json_incref(otherwise));
	if (same && json_is_object(value)) {
		_cleanup_(json_free_ptr) json_t *all = json_deep_copy(otherwise);
		json_object_update(all, value);
		json_object_set(to, name, all);
	}
	json_decref(otherwise);
}

static json_t *swarm_spec(const struct cluster *k) {
	const json_t *given = swarm_origin(k->spec.origin);
	json_t *s = json_object();
	json_set_str(s, "Name", k->spec.name);
	json_object_set_new(s, "Labels", pairs_print(&k->spec.labels));
	fill(s, given, "Orchestration", json_pack("{sI}", "TaskHistoryRetentionLimit", (json_int_t)(k->spec.history + 1)));
	fill(s, given, "Raft", json_pack("{si,si,si,si,si}", "SnapshotInterval", 10000, "KeepOldSnapshots", 0,
					 "LogEntriesForSlowFollowers", 500, "ElectionTick", 10, "HeartbeatTick", 1));
	fill(s, given, "Dispatcher", json_pack("{sI}", "HeartbeatPeriod", (json_int_t)(5 * NANO)));
	fill(s, given, "CAConfig", json_pack("{sI}", "NodeCertExpiry", (json_int_t)(90 * 86400 * NANO)));
	fill(s, given, "TaskDefaults", json_object());
	json_object_set_new(s, "EncryptionConfig", json_pack("{sb}", "AutoLockManagers", 0));
	return s;
}

static json_t *cluster_json(const struct cluster *k) {
	json_t *o = swarm_object(k->id, k->version, k->created_at, k->updated_at);
	json_object_set_new(o, "Spec", swarm_spec(k));
	json_object_set_new(o, "TLSInfo", json_object());
	json_object_set_new(o, "RootRotationInProgress", json_false());
	json_object_set_new(o, "DefaultAddrPool", json_pack("[s]", "10.0.0.0/8"));
	json_object_set_new(o, "SubnetSize", json_integer(24));
	json_object_set_new(o, "DataPathPort", json_integer(4789));
	return o;
}

static void swarm_inspect(struct http_request *req) {
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	if (!swarm_active(req, &cluster))
		return;
	const struct cluster *k = cluster->of;
	json_t *o = cluster_json(k);
	json_object_set_new(o, "JoinTokens", json_pack("{ss,ss}", "Worker", k->worker_token, "Manager", k->manager_token));
	docker_reply(req, 200, o);
}

static void swarm_update(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL, *changed = NULL;
	struct cluster_change change = {.node_version = ANY_CLUSTER_VERSION};
	bool unlock;
	_cleanup_(json_free_ptr) json_t *body = swarm_body(req, swarm_spec_shape);
	if (!body || !swarm_version(req, "swarm", &change.version) ||
	    !docker_query_flag(req, "rotateWorkerToken", &change.new_worker_token) ||
	    !docker_query_flag(req, "rotateManagerToken", &change.new_manager_token) ||
	    !docker_query_flag(req, "rotateManagerUnlockKey", &unlock) || !swarm_active(req, &cluster))
		return;
	if (check_spec(body, &err) < 0)
		return fail(req, &err);
	struct pairs labels = {0};
	pairs_read(&labels, json_object_get(body, "Labels"));
	_cleanup_(json_free_ptr) json_t *patch = json_pack("{so,sI,so}", "labels", pairs_print(&labels), "history",
							   (json_int_t)history_of(body), "origin", swarm_keep_origin(body));
	pairs_free(&labels);
	change.spec = patch;
	if (cluster_update(core_of(req), &change, &changed, &err) < 0)
		return swarm_fail(req, "swarm", "", &err);
	http_reply_empty(req, 200);
}

static void swarm_unlock_key(struct http_request *req) {
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	if (swarm_active(req, &cluster))
		docker_reply(req, 200, json_pack("{ss}", "UnlockKey", ""));
}

static void swarm_unlock(struct http_request *req) {
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	if (cluster_get(core_of(req), &cluster, NULL) < 0)
		return docker_fail(req, 503, NO_SWARM);
	docker_fail(req, 409, "swarm is not locked");
}

json_t *docker_swarm_info(struct core *c) {
	_cleanup_(noun_unref_ptr) struct noun *cluster = NULL;
	if (cluster_get(c, &cluster, NULL) < 0)
		return json_pack("{ss,ss,ss,sb,ss,sn}", "NodeID", "", "NodeAddr", "", "LocalNodeState", "inactive", "ControlAvailable", 0,
				 "Error", "", "RemoteManagers");
	const struct cluster *k = cluster->of;
	const char *colon = strrchr(k->spec.address, ':');
	_cleanup_(free_ptr) char *host = str_copyn(k->spec.address, (size_t)(colon - k->spec.address));
	json_t *o = json_object(), *manager = json_object();
	swarm_set_id(o, "NodeID", k->node.id);
	swarm_set_id(manager, "NodeID", k->node.id);
	json_set_str(o, "NodeAddr", host);
	json_set_str(manager, "Addr", k->spec.address);
	json_set_str(o, "LocalNodeState", "active");
	json_object_set_new(o, "ControlAvailable", json_true());
	json_set_str(o, "Error", "");
	json_object_set_new(o, "RemoteManagers", json_pack("[o]", manager));
	json_set_int(o, "Nodes", 1);
	json_set_int(o, "Managers", 1);
	json_object_set_new(o, "Cluster", cluster_json(k));
	return o;
}

#define ONE_NODE "one node for now: nothing listens for others"
const struct docker_route docker_swarm_routes[] = {
	{"POST", "/swarm/init", swarm_init, 0, DOCKER_DIFFERS, ONE_NODE},
	{"POST", "/swarm/join", swarm_join, 0, DOCKER_MISSING, "joining another node comes with the cluster"},
	{"POST", "/swarm/leave", swarm_leave, 0, DOCKER_WORKS, NULL},
	{"GET", "/swarm", swarm_inspect, 0, DOCKER_DIFFERS, "no TLSInfo: there is no certificate of the swarm's own"},
	{"POST", "/swarm/update", swarm_update, 0, DOCKER_DIFFERS, "Raft, Dispatcher and CAConfig are kept and have no effect"},
	{"GET", "/swarm/unlockkey", swarm_unlock_key, 0, DOCKER_DIFFERS, "always empty: a swarm is never locked"},
	{"POST", "/swarm/unlock", swarm_unlock, 0, DOCKER_DIFFERS, "a swarm is never locked"},
	{"GET", "/services", services_list, 0, DOCKER_WORKS, NULL},
	{"POST", "/services/create", service_create, 0, DOCKER_DIFFERS, "what comes by a virtual IP has the address of the network's gateway; where a network has no bridge (macvlan, ipvlan) the name resolves to the tasks"},
	{"GET", "/services/{id}", service_inspect, 0, DOCKER_WORKS, NULL},
	{"POST", "/services/{id}/update", service_update, 0, DOCKER_WORKS, NULL},
	{"DELETE", "/services/{id}", service_remove, 0, DOCKER_WORKS, NULL},
	{"GET", "/services/{id}/logs", service_logs, 0, DOCKER_WORKS, NULL},
	{"GET", "/tasks", tasks_list, 0, DOCKER_WORKS, NULL},
	{"GET", "/tasks/{id}", task_inspect, 0, DOCKER_WORKS, NULL},
	{"GET", "/tasks/{id}/logs", task_logs, 0, DOCKER_WORKS, NULL},
	{"GET", "/nodes", nodes_list, 0, DOCKER_DIFFERS, "one node for now"},
	{"GET", "/nodes/{id}", node_inspect, 0, DOCKER_WORKS, NULL},
	{"POST", "/nodes/{id}/update", node_update, 0, DOCKER_WORKS, NULL},
	{"DELETE", "/nodes/{id}", node_remove, 0, DOCKER_DIFFERS, "the only node cannot go"},
	{"GET", "/secrets", secrets_list, 0, DOCKER_WORKS, NULL},
	{"POST", "/secrets/create", secret_create, 0, DOCKER_DIFFERS, "no drivers and no templates"},
	{"GET", "/secrets/{id}", secret_inspect, 0, DOCKER_WORKS, NULL},
	{"POST", "/secrets/{id}/update", secret_update, 0, DOCKER_WORKS, NULL},
	{"DELETE", "/secrets/{id}", secret_remove, 0, DOCKER_WORKS, NULL},
	{"GET", "/configs", configs_list, 0, DOCKER_WORKS, NULL},
	{"POST", "/configs/create", config_create, 0, DOCKER_DIFFERS, "no templates"},
	{"GET", "/configs/{id}", config_inspect, 0, DOCKER_WORKS, NULL},
	{"POST", "/configs/{id}/update", config_update, 0, DOCKER_WORKS, NULL},
	{"DELETE", "/configs/{id}", config_remove, 0, DOCKER_WORKS, NULL},
	{0},
};
