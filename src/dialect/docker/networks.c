/* The routes of networks. Docker's "bridge" is wabe's network "default", which is made when somebody asks for it; "host" and
 * "none" are modes of an instance here, shown as the networks that they are for Docker. */
#include "core/networks.h"
#include "core/workloads.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "dialect/docker/networks-priv.h"


/* ---- what there is ---- */

static json_t *predefined(const char *name, const char *id, const char *driver, int64_t created) {
	struct network n = {.id = (char *)id, .created_at = created};
	fields_init(&network_spec_table, &n.spec);
	free(n.spec.driver);
	n.spec.name = str_copy(name);
	n.spec.driver = str_copy(driver);
	json_t *j = docker_network_json(&n);
	fields_free(&network_spec_table, &n.spec);
	return j;
}

/* All, the predefined ones first, without their containers. */
static json_t *all_networks(struct core *c, struct error *err) {
	_cleanup_(object_snaps_free_ptr) struct object_snap **snaps = NULL;
	_cleanup_(object_snap_unref_ptr) struct object_snap *bridge = NULL;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	if (network_default(c, DOCKER_PROJECT, &bridge, &why) < 0)
		log_warn("the network bridge: %s", error_text(&why));
	if (network_snaps(c, DOCKER_PROJECT, &snaps, err) < 0)
		return NULL;
	int64_t created = bridge ? ((const struct network *)bridge->noun)->created_at : 0;
	json_t *all = json_array();
	for (struct object_snap **s = snaps; *s; s++)
		json_array_append_new(all, docker_network_json((*s)->noun));
	json_array_append_new(all, predefined("host", DOCKER_HOST_NETWORK_ID, "host", created));
	json_array_append_new(all, predefined("none", DOCKER_NONE_NETWORK_ID, "null", created));
	return all;
}

static const char *name_of(const json_t *network) {
	return json_get_str(network, "Name");
}

static const char *id_of(const json_t *network) {
	return json_get_str(network, "Id");
}

static bool is_predefined(const char *name) {
	return str_same(name, "bridge") || str_same(name, "host") || str_same(name, "none");
}

/* By id, name, or the beginning of an id. NULL: an error has been answered. Borrowed from all. */
static const json_t *find_network(struct http_request *req, const json_t *all, const char *wanted) {
	const json_t *one, *found = NULL;
	size_t i, fits = 0;
	json_array_foreach(all, i, one)
		if (str_same(id_of(one), wanted) || str_same(name_of(one), wanted))
			return one;
	json_array_foreach(all, i, one)
		if (*wanted && str_starts(id_of(one), wanted)) {
			found = one;
			fits++;
		}
	_cleanup_(free_ptr) char *shown = text_shown(wanted);
	if (fits > 1)
		docker_fail(req, 400, "network %s is ambiguous (%zu matches found based on ID prefix)", shown, fits);
	else if (!fits)
		docker_fail(req, 404, "network %s not found", shown);
	return fits == 1 ? found : NULL;
}

/* ---- containers ---- */

/* Whether an instance's spec has it on a predefined network without addresses. */
static bool is_on_mode(const struct instance *i, const json_t *network) {
	const char *driver = json_get_str(network, "Driver");
	return str_same(i->spec.network, str_same(driver, "null") ? "none" : driver) && is_predefined(name_of(network));
}

static json_t *endpoint_of(const struct instance *i, const char *network_id, const struct nic *nic) {
	_cleanup_(free_ptr) char *id = docker_endpoint_id(i->id, network_id);
	json_t *e = json_object();
	json_set_str(e, "Name", i->spec.name);
	json_set_str(e, "EndpointID", id);
	json_set_str(e, "MacAddress", nic && nic->mac ? nic->mac : "");
	return e;
}

static void add_address(json_t *endpoint, const char *key, const char *address, const json_t *network) {
	const json_t *config = json_object_get(json_object_get(network, "IPAM"), "Config"), *one;
	size_t i;
	struct ip ip;
	struct cidr c;
	_cleanup_(free_ptr) char *text = NULL;
	json_array_foreach(config, i, one)
		if (address && !text && ip_parse(address, &ip) == 0 && cidr_parse(json_get_str(one, "Subnet"), &c) == 0 &&
		    cidr_contains(&c, &ip))
			text = str_format("%s/%u", address, c.prefix);
	json_set_str(endpoint, key, text ? text : "");
}

static void add_container(json_t *containers, const struct instance *i, const json_t *network) {
	const struct nic *nic = NULL;
	for (size_t k = 0; k < i->nics.n; k++)
		if (str_same(i->nics.items[k].network_id, id_of(network)))
			nic = &i->nics.items[k];
	if (!docker_has_networks(i) || (!nic && !is_on_mode(i, network)))
		return;
	json_t *e = endpoint_of(i, id_of(network), nic);
	add_address(e, "IPv4Address", nic ? nic->ipv4 : NULL, network);
	add_address(e, "IPv6Address", nic ? nic->ipv6 : NULL, network);
	json_object_set_new(containers, i->id, e);
}

static int add_containers(struct core *c, json_t *networks, struct error *err) {
	const struct instance_filter running = {0};
	struct instance_snap **snaps;
	json_t *one;
	size_t i;
	int r = instance_snaps(c, DOCKER_PROJECT, &running, &snaps, err);
	if (r < 0)
		return r;
	for (struct instance_snap **s = snaps; *s; s++) {
		json_array_foreach(networks, i, one)
			add_container(json_object_get(one, "Containers"), &(*s)->instance, one);
		instance_snap_unref(*s);
	}
	free(snaps);
	return 0;
}

/* ---- filters ---- */

static bool labels_fit(const json_t *filters, const json_t *network) {
	struct pairs labels = {0};
	pairs_read(&labels, json_object_get(network, "Labels"));
	bool fit = docker_filter_labels(filters, &labels);
	pairs_free(&labels);
	return fit;
}

static bool fits(const json_t *filters, const json_t *network, int dangling) {
	const char *type = is_predefined(name_of(network)) ? "builtin" : "custom";
	bool unused = json_object_size(json_object_get(network, "Containers")) == 0 && !is_predefined(name_of(network));
	return docker_filter_any(filters, "driver", docker_same_text, json_get_str(network, "Driver")) &&
	       docker_filter_any(filters, "name", docker_text_fits, name_of(network)) &&
	       docker_filter_any(filters, "id", docker_text_fits, id_of(network)) &&
	       docker_filter_any(filters, "scope", docker_same_text, json_get_str(network, "Scope")) &&
	       docker_filter_any(filters, "type", docker_same_text, type) && labels_fit(filters, network) &&
	       (dangling == 2 || unused == (dangling == 1));
}

/* The first of ?type= that is none; NULL. */
static const char *bad_type(const json_t *filters) {
	const json_t *one;
	size_t i;
	json_array_foreach(json_object_get(filters, "type"), i, one)
		if (!str_same(json_string_value(one), "custom") && !str_same(json_string_value(one), "builtin"))
			return json_string_value(one);
	return NULL;
}

/* 0, 1, 2: not asked for, -1: an error has been answered. */
static int check_filters(struct http_request *req, const json_t *filters) {
	const char *type = bad_type(filters);
	if (type) {
		_cleanup_(free_ptr) char *shown = text_shown(type);
		docker_fail(req, 400, "invalid filter: 'type'='%s'", shown);
		return -1;
	}
	return json_object_get(filters, "dangling") ? docker_filter_bool(req, filters, "dangling", false) : 2;
}

/* ---- list, inspect ---- */

static void list(struct http_request *req) {
	static const char *const known[] = {"dangling", "driver", "id", "label", "label!", "name", "scope", "type", NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, known), *all = NULL;
	json_t *answer, *one;
	size_t i;
	int dangling = filters ? check_filters(req, filters) : -1;
	if (dangling < 0)
		return;
	all = all_networks(core_of(req), &err);
	if (!all || (dangling != 2 && add_containers(core_of(req), all, &err) < 0))
		return fail(req, &err);
	answer = json_array();
	json_array_foreach(all, i, one)
		if (fits(filters, one, dangling)) {
			json_object_set_new(one, "Containers", json_object());
			json_array_append(answer, one);
		}
	docker_reply(req, 200, answer);
}

static bool swarm_is_on(struct core *c) {
	_cleanup_(json_free_ptr) json_t *swarm = docker_swarm_info(c);
	return json_get_bool(swarm, "ControlAvailable");
}

static void inspect(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	bool verbose; /* adds what networks of several hosts have */
	if (!docker_query_flag(req, "verbose", &verbose))
		return;
	_cleanup_(json_free_ptr) json_t *all = all_networks(core_of(req), &err);
	const char *scope = http_query(req, "scope");
	if (!all || add_containers(core_of(req), all, &err) < 0)
		return fail(req, &err);
	bool swarm = str_same(scope, "swarm") && swarm_is_on(core_of(req)); /* services may be on any network */
	if (scope && *scope && !swarm && !str_same(scope, "local"))
		return docker_fail(req, 404, "network %s not found", http_param(req, "id"));
	const json_t *found = find_network(req, all, http_param(req, "id"));
	if (!found)
		return;
	if (swarm)
		json_set_str((json_t *)found, "Scope", "swarm");
	http_reply_json(req, 200, found);
}

/* ---- create ---- */

/* Whether there can be one more such network; else an error has been answered. */
static bool may_create(struct http_request *req, const struct docker_network *d) {
	const char *driver = d->driver ? d->driver : "", *name = d->name ? d->name : "";
	_cleanup_(free_ptr) char *shown = text_shown(driver);
	static const char *const drivers[] = {"", "default", "bridge", "macvlan", "ipvlan", "overlay", NULL};
	bool known = false;
	for (size_t i = 0; drivers[i]; i++)
		known = known || str_same(driver, drivers[i]);
	if (is_predefined(name) || str_same(name, "default"))
		docker_fail(req, 403, "operation is not permitted on predefined %s network ", name);
	else if (str_same(driver, "host") || str_same(driver, "null"))
		docker_fail(req, 403, "only one instance of \"%s\" network is allowed", driver);
	else if ((str_same(driver, "overlay") || str_same(d->scope, "swarm")) && !swarm_is_on(core_of(req)))
		docker_fail(req, 503, "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect "
				      "this node to swarm and try again.");
	else if (!known)
		docker_fail(req, 404, "plugin \"%s\" not found", shown);
	else if (!*name)
		docker_fail(req, 400, "invalid name: name is empty");
	else
		return true;
	return false;
}

static void fail_create(struct http_request *req, const char *name, const struct error *err) {
	if (err->kind == ERROR_EXISTS)
		docker_fail(req, 409, "network with name %s already exists", name);
	else if (err->kind == ERROR_CONFLICT && strstr(error_text(err), "overlaps"))
		docker_fail(req, 403, "Pool overlaps with other one on this address space: %s", error_text(err));
	else
		fail(req, err);
}

static void create(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(object_snap_unref_ptr) struct object_snap *made = NULL;
	struct docker_network d;
	struct network_spec spec;
	if (!docker_parse(req, &docker_network_table, &d))
		return;
	if (may_create(req, &d)) {
		int r = docker_network_spec(&d, &spec, &err);
		if (r == 0)
			r = network_create(core_of(req), DOCKER_PROJECT, &spec, &made, &err);
		else
			fields_free(&network_spec_table, &spec);
		if (r == 0)
			docker_reply(req, 201, json_pack("{s:s, s:s}", "Id", ((const struct network *)made->noun)->id, "Warning", ""));
		else
			fail_create(req, d.name, &err);
	}
	fields_free(&docker_network_table, &d);
}

/* ---- remove ---- */

/* Instances that do not run do not keep it. */
static int remove_network(struct core *c, const char *id, struct error *err) {
	int r = network_empty(c, DOCKER_PROJECT, id, err);
	return r < 0 ? r : network_delete(c, DOCKER_PROJECT, id, err);
}

static void remove_one(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	workloads_await_leaving(core_of(req), DOCKER_PROJECT, http_param(req, "id"));
	_cleanup_(json_free_ptr) json_t *all = all_networks(core_of(req), &err);
	if (!all || add_containers(core_of(req), all, &err) < 0)
		return fail(req, &err);
	const json_t *found = find_network(req, all, http_param(req, "id"));
	if (!found)
		return;
	if (is_predefined(name_of(found)))
		return docker_fail(req, 403, "%s is a pre-defined network and cannot be removed", name_of(found));
	if (json_object_size(json_object_get(found, "Containers")))
		return docker_fail(req, 403, "error while removing network: network %s id %s has active endpoints", name_of(found),
				   id_of(found));
	if (remove_network(core_of(req), id_of(found), &err) == 0)
		http_reply_empty(req, 204);
	else if (err.kind == ERROR_CONFLICT)
		docker_fail(req, 403, "error while removing network: %s", error_text(&err));
	else
		fail(req, &err);
}

/* A time, seconds since the epoch, or how long ago; false: an error has been answered. */
static bool filter_until(struct http_request *req, const json_t *filters, int64_t *until) {
	const json_t *values = json_object_get(filters, "until");
	const char *text = json_string_value(json_array_get(values, 0));
	_cleanup_(free_ptr) char *shown = text_shown(text ? text : "");
	int64_t value;
	*until = INT64_MAX;
	if (!text)
		return true;
	if (json_array_size(values) > 1)
		docker_fail(req, 400, "more than one until filter specified");
	else if (time_parse(text, until) == 0)
		return true;
	else if (str_to_duration(text, &value) == 0)
		*until = time_now_ns() - value;
	else
		docker_fail(req, 400, "failed to parse value as a timestamp or a duration: \"%s\"", shown);
	return *until != INT64_MAX;
}

static void prune(struct http_request *req) {
	static const char *const known[] = {"label", "label!", "until", NULL};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *filters = docker_filters(req, known), *all = NULL;
	json_t *deleted = json_null(), *one;
	size_t i;
	int64_t until = INT64_MAX;
	if (!filters || !filter_until(req, filters, &until))
		return;
	all = all_networks(core_of(req), &err);
	if (!all || add_containers(core_of(req), all, &err) < 0)
		return fail(req, &err);
	json_array_foreach(all, i, one) {
		_cleanup_(error_free) struct error why = ERROR_INIT;
		_cleanup_(object_snap_unref_ptr) struct object_snap *snap = NULL;
		if (is_predefined(name_of(one)) || json_object_size(json_object_get(one, "Containers")) || !labels_fit(filters, one) ||
		    network_get(core_of(req), DOCKER_PROJECT, id_of(one), &snap, NULL) < 0 ||
		    ((const struct network *)snap->noun)->created_at > until ||
		    remove_network(core_of(req), id_of(one), &why) < 0)
			continue;
		deleted = json_is_array(deleted) ? deleted : json_array();
		json_array_append_new(deleted, json_from_str(name_of(one)));
	}
	json_t *answer = json_object();
	json_object_set_new(answer, "NetworksDeleted", deleted);
	docker_reply(req, 200, answer);
}

/* ---- connect, disconnect ---- */

struct attach_body {
	char *container;
	struct docker_endpoint endpoint;
	bool force;
};
static const struct field attach_fields[] = {
	FIELD_AS("Container", struct attach_body, container, FIELD_STRING),
	FIELD_AS("EndpointConfig", struct attach_body, endpoint, FIELD_OBJECT, .sub = &docker_endpoint_table),
	FIELD_AS("Force", struct attach_body, force, FIELD_BOOL),
};
static const struct field_table attach_table = {
	"NetworkConnectRequest", "", sizeof(struct attach_body), attach_fields, ARRAY_SIZE(attach_fields),
};

static bool is_on(const struct instance *i, const char *network_id) {
	for (size_t k = 0; k < i->nics.n; k++)
		if (str_same(i->nics.items[k].network_id, network_id))
			return true;
	return false;
}

/* Why the instance's networks cannot change; NULL: they can. */
static const char *why_not(const struct instance *i, const char *network) {
	if (str_same(network, "host") || str_same(i->spec.network, "host"))
		return "container cannot be disconnected from host network or connected to host network";
	if (str_starts(i->spec.network, "instance:"))
		return "container sharing network namespace with another container or host cannot be connected to any other network";
	if (str_same(network, "none") || str_same(i->spec.network, "none"))
		return "container cannot be connected to multiple networks with one of the networks in private (none) mode";
	return NULL;
}

/* What both begin with: the network, the container as it is. false: an error has been answered. */
static bool find_both(struct http_request *req, const struct attach_body *b, json_t **network, struct instance_snap **snap) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *all = all_networks(core_of(req), &err);
	const char *container = b->container ? b->container : "";
	_cleanup_(free_ptr) char *shown = text_shown(container);
	if (!all) {
		fail(req, &err);
		return false;
	}
	const json_t *found = find_network(req, all, http_param(req, "id"));
	if (!found)
		return false;
	if (instance_get(core_of(req), DOCKER_PROJECT, container, snap, NULL) < 0) {
		docker_fail(req, 404, "No such container: %s", shown);
		return false;
	}
	const char *why = why_not(&(*snap)->instance, name_of(found));
	if (why) {
		docker_fail(req, 403, "%s", why);
		return false;
	}
	*network = json_incref((json_t *)found);
	return true;
}

static int add_links(struct core *c, const struct instance *i, char *const *links, struct error *err) {
	_cleanup_(strv_free_ptr) char **all = strv_copy(i->spec.links);
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *changed = NULL;
	int r = links ? docker_links_add(c, links, &all, err) : 0;
	if (r < 0 || !links)
		return r;
	_cleanup_(json_free_ptr) json_t *patch = json_object();
	json_object_set_new(patch, "links", json_from_strv(all));
	return instance_update(c, DOCKER_PROJECT, i->id, patch, &changed, err);
}

static void connect_found(struct http_request *req, const struct attach_body *b, const json_t *network,
			  const struct instance *i) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *changed = NULL;
	struct attachment a;
	if (is_on(i, id_of(network)) && docker_has_networks(i)) /* of one that does not run it is what it will have */
		return docker_fail(req, 403, "endpoint with name %s already exists in network %s", i->spec.name, name_of(network));
	if (b->endpoint.gateway_priority && docker_has_networks(i))
		return docker_fail(req, 501, "EndpointConfig.GwPriority: the default route of a container that runs stays as it is");
	int r = docker_attachment(&b->endpoint, own_network_name(name_of(network)), &a, &err);
	if (r == 0)
		r = add_links(core_of(req), i, b->endpoint.links, &err);
	if (r == 0)
		r = network_connect(core_of(req), DOCKER_PROJECT, i->id, &a, &changed, &err);
	else
		fields_free(&attachment_table, &a);
	if (r == 0)
		http_reply(req, 200, JSON_TYPE, "", 0);
	else
		fail(req, &err);
}

static void disconnect_found(struct http_request *req, UNUSED const struct attach_body *b, const json_t *network,
			     const struct instance *i) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *changed = NULL;
	if (!is_on(i, id_of(network)))
		return docker_fail(req, 500, "container %s is not connected to network %s", i->id, name_of(network));
	if (network_disconnect(core_of(req), DOCKER_PROJECT, i->id, id_of(network), &changed, &err) == 0)
		http_reply(req, 200, JSON_TYPE, "", 0);
	else
		fail(req, &err);
}

/* Decodes the body, finds the network and the container, and has fn do it. */
static void attach_change(struct http_request *req, void (*fn)(struct http_request *req, const struct attach_body *b,
							       const json_t *network, const struct instance *i)) {
	struct attach_body b;
	_cleanup_(json_free_ptr) json_t *network = NULL;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	if (!docker_parse(req, &attach_table, &b))
		return;
	if (find_both(req, &b, &network, &snap))
		fn(req, &b, network, &snap->instance);
	fields_free(&attach_table, &b);
}

static void connect_one(struct http_request *req) {
	attach_change(req, connect_found);
}

static void disconnect_one(struct http_request *req) {
	attach_change(req, disconnect_found);
}

const struct docker_route docker_network_routes[] = {
	{"GET", "/networks", list, 0, DOCKER_WORKS, NULL},
	{"GET", "/networks/", list, 0, DOCKER_WORKS, NULL},
	{"GET", "/networks/{id...}", inspect, 0, DOCKER_WORKS, NULL},
	{"DELETE", "/networks/{id...}", remove_one, 0, DOCKER_DIFFERS, "a stopped container that was on it is on no network afterwards"},
	{"POST", "/networks/create", create, 0, DOCKER_DIFFERS,
	 "drivers bridge, macvlan, ipvlan; one subnet of each family; a bridge's gateway_mode is nat alone; "
	 "ConfigOnly, ConfigFrom and Ingress are refused, EnableIPv4 must be true"},
	{"POST", "/networks/{id...}/connect", connect_one, 0, DOCKER_DIFFERS, "LinkLocalIPs are refused, of DriverOpts all but com.docker.network.endpoint.ifname and .sysctls, GwPriority and Links for a container that runs"},
	{"POST", "/networks/{id...}/disconnect", disconnect_one, 0, DOCKER_WORKS, NULL},
	{"POST", "/networks/prune", prune, 0, DOCKER_WORKS, NULL},
	{0},
};
