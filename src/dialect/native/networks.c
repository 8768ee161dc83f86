/* Routes of networks, addresses, rule groups and balancers, and of instances on networks. */
#include "core/networks.h"

#include "dialect/native/native-priv.h"

/* ---- what the nouns have in common ---- */

typedef int (*list_verb)(struct core *c, const char *project, char **json, size_t *len, struct error *err);
typedef int (*get_verb)(struct core *c, const char *project, const char *name, struct object_snap **out,
			struct error *err);
typedef int (*patch_verb)(struct core *c, const char *project, const char *name, const json_t *patch,
			  struct object_snap **out, struct error *err);
typedef int (*delete_verb)(struct core *c, const char *project, const char *name, struct error *err);

static void reply_object(struct http_request *req, int status, struct object_snap *snap) {
	reply_text(req, status, snap->json, snap->json_len);
	object_snap_unref(snap);
}

static void list_by(struct http_request *req, list_verb verb) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *text = NULL;
	size_t len;
	if (verb(core_of(req), project_of(req), &text, &len, &err) < 0)
		return fail(req, &err);
	reply_text(req, 200, text, len);
}

static void get_by(struct http_request *req, get_verb verb) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct object_snap *snap;
	if (verb(core_of(req), project_of(req), name_of(req), &snap, &err) < 0)
		return fail(req, &err);
	reply_object(req, 200, snap);
}

static void patch_by(struct http_request *req, patch_verb verb) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *body = http_body_json(req, &err);
	struct object_snap *snap;
	if (!body || verb(core_of(req), project_of(req), name_of(req), body, &snap, &err) < 0)
		return fail(req, &err);
	reply_object(req, 200, snap);
}

static void delete_by(struct http_request *req, delete_verb verb) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (verb(core_of(req), project_of(req), name_of(req), &err) < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

/* ---- networks ---- */

static void networks(struct http_request *req) {
	list_by(req, network_list);
}

static void create_network(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct network_spec spec;
	struct object_snap *snap;
	if (!dto_parse(req, &network_spec_table, &spec, NULL))
		return;
	if (network_create(core_of(req), project_of(req), &spec, &snap, &err) < 0)
		return fail(req, &err);
	reply_object(req, 201, snap);
}

static void get_network(struct http_request *req) {
	get_by(req, network_get);
}

static void patch_network(struct http_request *req) {
	patch_by(req, network_update);
}

static void delete_network(struct http_request *req) {
	delete_by(req, network_delete);
}

static void prune_networks(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(strv_free_ptr) char **deleted = NULL;
	if (network_prune(core_of(req), project_of(req), &deleted, &err) < 0)
		return fail(req, &err);
	_cleanup_(json_free_ptr) json_t *answer = json_object();
	json_object_set_new(answer, "deleted", json_from_strv(deleted));
	http_reply_json(req, 200, answer);
}

/* ---- instances on networks ---- */

static void connect_instance(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct attachment a;
	struct instance_snap *snap;
	if (!dto_parse(req, &attachment_table, &a, NULL))
		return;
	if (network_connect(core_of(req), project_of(req), name_of(req), &a, &snap, &err) < 0)
		return fail(req, &err);
	reply_instance(req, 200, snap);
}

static void disconnect_instance(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct instance_snap *snap;
	if (network_disconnect(core_of(req), project_of(req), name_of(req), http_param(req, "network"), &snap, &err) < 0)
		return fail(req, &err);
	reply_instance(req, 200, snap);
}

/* ---- addresses ---- */

static void addresses(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *text = NULL;
	size_t len;
	if (address_list(core_of(req), project_of(req), http_query(req, "network"), &text, &len, &err) < 0)
		return fail(req, &err);
	reply_text(req, 200, text, len);
}

static void reserve_address(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct address a;
	if (!dto_parse(req, &address_table, &a, NULL))
		return;
	if (address_reserve(core_of(req), project_of(req), &a, &err) < 0)
		fail(req, &err);
	else
		reply_table(req, 201, &address_table, &a);
	fields_free(&address_table, &a);
}

static void release_address(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (address_release(core_of(req), project_of(req), http_param(req, "network"), http_param(req, "address"), &err) < 0)
		return fail(req, &err);
	http_reply_empty(req, 204);
}

/* ---- rule groups ---- */

static void groups(struct http_request *req) {
	list_by(req, rules_list);
}

static void create_group(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct rule_group_spec spec;
	struct object_snap *snap;
	if (!dto_parse(req, &rule_group_spec_table, &spec, NULL))
		return;
	if (rules_create(core_of(req), project_of(req), &spec, &snap, &err) < 0)
		return fail(req, &err);
	reply_object(req, 201, snap);
}

static void get_group(struct http_request *req) {
	get_by(req, rules_get);
}

static void patch_group(struct http_request *req) {
	patch_by(req, rules_update);
}

static void delete_group(struct http_request *req) {
	delete_by(req, rules_delete);
}

static void add_rule(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int64_t number;
	struct rule rule;
	struct object_snap *snap;
	if (!query_int(req, "number", 0, &number) || !dto_parse(req, &rule_table, &rule, NULL))
		return;
	if (rules_add(core_of(req), project_of(req), name_of(req), number, &rule, &snap, &err) < 0)
		return fail(req, &err);
	reply_object(req, 200, snap);
}

static void remove_rule(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct object_snap *snap;
	int64_t number;
	if (str_to_i64(http_param(req, "number"), &number) < 0) {
		error_field(&err, "number", "%.64s is not the number of a rule", http_param(req, "number"));
		return fail(req, &err);
	}
	if (rules_remove(core_of(req), project_of(req), name_of(req), number, &snap, &err) < 0)
		return fail(req, &err);
	reply_object(req, 200, snap);
}

/* ---- balancers ---- */

static void balancers(struct http_request *req) {
	list_by(req, balancer_list);
}

static void create_balancer(struct http_request *req) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct balancer_spec spec;
	struct object_snap *snap;
	if (!dto_parse(req, &balancer_spec_table, &spec, NULL))
		return;
	if (balancer_create(core_of(req), project_of(req), &spec, &snap, &err) < 0)
		return fail(req, &err);
	reply_object(req, 201, snap);
}

static void get_balancer(struct http_request *req) {
	get_by(req, balancer_get);
}

static void patch_balancer(struct http_request *req) {
	patch_by(req, balancer_update);
}

static void delete_balancer(struct http_request *req) {
	delete_by(req, balancer_delete);
}

#define P "/v1/projects/{project}"
const struct native_route network_routes[] = {
	{"GET", P "/networks", networks, .summary = "Lists networks", .what = "{\"revision\":N,\"networks\":[network…]}", .status = 200},
	{"POST", P "/networks", create_network, .summary = "Makes a network; subnets are picked where none are given",
	 .request = &network_spec_table, .reply = &network_table, .status = 201},
	{"POST", P "/networks/prune", prune_networks, .summary = "Removes networks that nothing refers to",
	 .what = "{\"deleted\":[name…]}", .status = 200},
	{"GET", P "/networks/{name}", get_network, .summary = "One network", .reply = &network_table, .status = 200},
	{"PATCH", P "/networks/{name}", patch_network, .summary = "Changes the spec by a JSON merge patch, for what runs too",
	 .request = &network_spec_table, .reply = &network_table, .status = 200},
	{"DELETE", P "/networks/{name}", delete_network, .summary = "Removes a network that nothing refers to", .status = 204},
	{"POST", P "/instances/{name}/networks", connect_instance, .request = &attachment_table, .reply = &instance_table,
	 .summary = "Puts an instance, running or not, on a network; if it is on it, changes aliases, rules and rates", .status = 200},
	{"DELETE", P "/instances/{name}/networks/{network}", disconnect_instance, .summary = "Takes an instance off a network",
	 .reply = &instance_table, .status = 200},
	{"GET", P "/addresses", addresses, .summary = "Addresses that are taken, of one network or all", .query = "network",
	 .what = "{\"revision\":N,\"addresses\":[address…]}", .status = 200},
	{"POST", P "/addresses", reserve_address, .summary = "Keeps an address for an instance that asks for it",
	 .request = &address_table, .reply = &address_table, .status = 201},
	{"DELETE", P "/addresses/{network}/{address}", release_address, .summary = "Gives a reserved address back", .status = 204},
	{"GET", P "/rules", groups, .summary = "Lists rule groups", .what = "{\"revision\":N,\"rules\":[rule_group…]}", .status = 200},
	{"POST", P "/rules", create_group, .summary = "Makes a rule group", .request = &rule_group_spec_table,
	 .reply = &rule_group_table, .status = 201},
	{"GET", P "/rules/{name}", get_group, .summary = "One rule group", .reply = &rule_group_table, .status = 200},
	{"PATCH", P "/rules/{name}", patch_group, .summary = "Changes the spec by a JSON merge patch; rules are replaced as a whole",
	 .request = &rule_group_spec_table, .reply = &rule_group_table, .status = 200},
	{"DELETE", P "/rules/{name}", delete_group, .summary = "Removes a rule group that nothing refers to", .status = 204},
	{"POST", P "/rules/{name}/rules", add_rule, .summary = "Adds one rule: as number (from 1), or behind all", .query = "number",
	 .request = &rule_table, .reply = &rule_group_table, .status = 200},
	{"DELETE", P "/rules/{name}/rules/{number}", remove_rule, .summary = "Removes one rule, by its number from 1",
	 .reply = &rule_group_table, .status = 200},
	{"GET", P "/balancers", balancers, .summary = "Lists balancers", .what = "{\"revision\":N,\"balancers\":[balancer…]}", .status = 200},
	{"POST", P "/balancers", create_balancer, .summary = "Spreads connections to a port over instances",
	 .request = &balancer_spec_table, .reply = &balancer_table, .status = 201},
	{"GET", P "/balancers/{name}", get_balancer, .summary = "One balancer", .reply = &balancer_table, .status = 200},
	{"PATCH", P "/balancers/{name}", patch_balancer, .summary = "Changes the spec by a JSON merge patch",
	 .request = &balancer_spec_table, .reply = &balancer_table, .status = 200},
	{"DELETE", P "/balancers/{name}", delete_balancer, .summary = "Removes a balancer", .status = 204},
	{0},
};
