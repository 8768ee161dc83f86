/* A network in Docker's words: the body of networks/create becomes a spec, a network becomes what list and inspect show. What wabe
 * has no word for is kept as annotations, so that it is shown as it was given. */
#include "core/networks.h"

#include "base/str.h"
#include "dialect/docker/networks-priv.h"

#define NOTE "docker."

/* ---- the body ---- */

static const struct field config_fields[] = {
	FIELD_AS("Subnet", struct docker_ipam_config, subnet, FIELD_STRING),
	FIELD_AS("IPRange", struct docker_ipam_config, range, FIELD_STRING),
	FIELD_AS("Gateway", struct docker_ipam_config, gateway, FIELD_STRING),
	FIELD_AS("AuxiliaryAddresses", struct docker_ipam_config, aside, FIELD_PAIRS),
};
static const struct field_table config_table = {
	"IPAMConfig", "", sizeof(struct docker_ipam_config), config_fields, ARRAY_SIZE(config_fields),
};

static const struct field ipam_fields[] = {
	FIELD_AS("Driver", struct docker_ipam, driver, FIELD_STRING),
	FIELD_AS("Config", struct docker_ipam, config, FIELD_LIST, .sub = &config_table),
	FIELD_AS("Options", struct docker_ipam, options, FIELD_PAIRS),
};
static const struct field_table ipam_table = {
	"IPAM", "", sizeof(struct docker_ipam), ipam_fields, ARRAY_SIZE(ipam_fields),
};

static const struct field from_fields[] = {
	FIELD_AS("Network", struct docker_config_from, network, FIELD_STRING),
};
static const struct field_table from_table = {
	"ConfigFrom", "", sizeof(struct docker_config_from), from_fields, ARRAY_SIZE(from_fields),
};

static const struct field network_fields[] = {
	FIELD_AS("Name", struct docker_network, name, FIELD_STRING),
	FIELD_AS("Driver", struct docker_network, driver, FIELD_STRING),
	FIELD_AS("Scope", struct docker_network, scope, FIELD_STRING),
	FIELD_AS("Internal", struct docker_network, internal, FIELD_BOOL),
	FIELD_AS("Attachable", struct docker_network, attachable, FIELD_BOOL),
	FIELD_AS("Ingress", struct docker_network, ingress, FIELD_BOOL),
	FIELD_AS("ConfigOnly", struct docker_network, config_only, FIELD_BOOL),
	FIELD_AS("ConfigFrom", struct docker_network, config_from, FIELD_OBJECT, .sub = &from_table),
	FIELD_AS("EnableIPv4", struct docker_network, ipv4, FIELD_BOOL, .def = "true"),
	FIELD_AS("EnableIPv6", struct docker_network, ipv6, FIELD_BOOL),
	FIELD_AS("IPAM", struct docker_network, ipam, FIELD_OBJECT, .sub = &ipam_table),
	FIELD_AS("Options", struct docker_network, options, FIELD_PAIRS),
	FIELD_AS("Labels", struct docker_network, labels, FIELD_PAIRS),
};
const struct field_table docker_network_table = {
	"NetworkCreateRequest", "", sizeof(struct docker_network), network_fields, ARRAY_SIZE(network_fields),
};

static bool given(const char *text) {
	return text && *text;
}

static char *copy_given(const char *text) {
	return given(text) ? str_copy(text) : NULL;
}

/* ---- options ---- */

static int bad_option(const char *key, const char *value, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(value);
	return error_set(err, ERROR_INVALID, "Options: invalid value for %s: \"%s\"", key, shown);
}

static int option_bool(const char *key, const char *value, bool *out, struct error *err) {
	bool yes = str_same(value, "true") || str_same(value, "1"), no = str_same(value, "false") || str_same(value, "0");
	*out = yes;
	return yes || no ? 0 : bad_option(key, value, err);
}

/* "eth0.50" is VLAN 50 of eth0. */
static int set_parent(const char *value, struct network_spec *s, struct error *err) {
	const char *dot = strrchr(value, '.');
	free(s->parent);
	s->parent = str_copyn(value, dot ? (size_t)(dot - value) : strlen(value));
	return dot && str_to_i64(dot + 1, &s->vlan) < 0 ? bad_option("parent", value, err) : 0;
}

static int bridge_option(const char *key, const char *value, struct network_spec *s, struct error *err) {
	static const char prefix[] = "com.docker.network.bridge.";
	bool yes;
	if (!str_starts(key, prefix))
		return 0; /* kept, as dockerd does */
	const char *what = key + strlen(prefix);
	if (str_same(what, "default_bridge"))
		return option_bool(key, value, &yes, err) < 0 || yes ? bad_option(key, value, err) : 0;
	int r = 0;
	if (str_same(what, "enable_icc")) {
		r = option_bool(key, value, &yes, err);
		s->isolated = !yes;
	} else if (str_same(what, "enable_ip_masquerade")) {
		r = option_bool(key, value, &s->nat, err);
	} else if (str_same(what, "host_binding_ipv4")) {
		s->publish_address = copy_given(value);
	} else if (str_same(what, "name")) {
		s->interface = copy_given(value);
	} else if (str_same(what, "inhibit_ipv4")) {
		r = option_bool(key, value, &yes, err);
		r = r == 0 && yes ? error_set(err, ERROR_UNSUPPORTED, "Options: %s: a bridge has its gateway's address", key) : r;
	} else if (given(value) && !((str_same(what, "gateway_mode_ipv4") || str_same(what, "gateway_mode_ipv6")) && str_same(value, "nat"))) {
		r = error_set(err, ERROR_UNSUPPORTED, "Options: %s cannot be chosen", key);
	}
	return r;
}

static int set_option(const char *key, const char *value, struct network_spec *s, struct error *err) {
	if (str_same(key, "com.docker.network.driver.mtu") || str_same(key, "mtu"))
		return str_to_i64(value, &s->mtu) < 0 ? bad_option(key, value, err) : 0;
	if (str_same(key, "com.docker.network.container_iface_prefix")) {
		s->interface_prefix = copy_given(value);
		return 0;
	}
	bool on_parent = str_same(s->driver, "macvlan") || str_same(s->driver, "ipvlan");
	if (on_parent && str_same(key, "parent"))
		return set_parent(value, s, err);
	if (on_parent && (str_same(key, "macvlan_mode") || str_same(key, "ipvlan_mode"))) {
		free(s->mode);
		s->mode = str_copy(value);
		return 0;
	}
	return on_parent ? 0 : bridge_option(key, value, s, err);
}

/* ---- addresses ---- */

/* "172.28.0.1/16" is 172.28.0.0/16. */
static int check_subnet(const char *text, struct error *err) {
	struct cidr c;
	_cleanup_(free_ptr) char *shown = text_shown(text);
	return cidr_parse(text, &c) == 0 ? 0 : error_set(err, ERROR_INVALID, "invalid subnet %s: an address and a prefix without "
							  "host bits are wanted", shown);
}

static int add_subnet(const struct docker_ipam_config *from, struct network_spec *s, struct error *err) {
	if (!given(from->subnet))
		return given(from->gateway) || given(from->range) || from->aside.n
			       ? error_set(err, ERROR_INVALID, "invalid network config: IPAM.Config: Subnet is required with the rest")
			       : 0;
	int r = check_subnet(from->subnet, err);
	if (r == 0 && given(from->range))
		r = check_subnet(from->range, err);
	if (r < 0)
		return r;
	s->subnets.items = alloc_resize(s->subnets.items, s->subnets.n + 1, sizeof *s->subnets.items);
	struct subnet *to = &s->subnets.items[s->subnets.n++];
	*to = (struct subnet){.cidr = str_copy(from->subnet), .gateway = copy_given(from->gateway), .range = copy_given(from->range)};
	pairs_add(&to->aside, &from->aside);
	return 0;
}

static int set_addresses(const struct docker_ipam *ipam, struct network_spec *s, struct error *err) {
	if (given(ipam->driver) && !str_same(ipam->driver, "default"))
		return error_set(err, ERROR_INVALID, "IPAM.Driver: there is no driver %s", ipam->driver);
	int r = 0;
	for (size_t i = 0; r == 0 && i < ipam->config.n; i++)
		r = add_subnet(&ipam->config.items[i], s, err);
	return r;
}

/* ---- all of it ---- */

static void note_pairs(struct network_spec *s, const char *key, const struct pairs *p) {
	_cleanup_(json_free_ptr) json_t *json = pairs_print(p);
	_cleanup_(free_ptr) char *text = json_print(json);
	if (p->n)
		pairs_set(&s->annotations, key, text);
}

int docker_network_spec(const struct docker_network *d, struct network_spec *s, struct error *err) {
	fields_init(&network_spec_table, s);
	s->name = str_copy(d->name ? d->name : "");
	free(s->driver);
	bool overlay = str_same(d->driver, "overlay"); /* on one node it is a bridge */
	s->driver = str_copy(given(d->driver) && !str_same(d->driver, "default") && !overlay ? d->driver : "bridge");
	s->internal = d->internal;
	s->ipv6 = d->ipv6;
	if (!d->ipv4)
		return error_set(err, ERROR_UNSUPPORTED, "EnableIPv4: networks without IPv4 addresses are not supported");
	if (d->ingress || d->config_only || given(d->config_from.network))
		return error_set(err, ERROR_UNSUPPORTED, "%s: such networks are not there",
				 d->ingress ? "Ingress" : d->config_only ? "ConfigOnly" : "ConfigFrom");
	int r = set_addresses(&d->ipam, s, err);
	for (size_t i = 0; r == 0 && i < d->options.n; i++)
		r = set_option(d->options.items[i].key, d->options.items[i].value, s, err);
	pairs_add(&s->labels, &d->labels);
	if (overlay || str_same(d->scope, "swarm"))
		pairs_set(&s->annotations, NOTE "driver", overlay ? "overlay" : s->driver);
	if (d->attachable)
		pairs_set(&s->annotations, NOTE "attachable", "true");
	note_pairs(s, NOTE "options", &d->options);
	note_pairs(s, NOTE "ipam-options", &d->ipam.options);
	return r;
}

/* ---- out ---- */

static json_t *noted(const struct network_spec *s, const char *key) {
	const char *text = pairs_get(&s->annotations, key);
	json_t *json = text ? json_parse(text, strlen(text), NULL) : NULL;
	return json ? json : json_object();
}

/* Those that were given; of a network that was not made by docker, what they would have been. */
static json_t *options_of(const struct network_spec *s) {
	json_t *options = noted(s, NOTE "options");
	_cleanup_(free_ptr) char *mtu = str_format("%lld", (long long)s->mtu);
	if (json_object_size(options))
		return options;
	if (s->mtu)
		json_set_str(options, "com.docker.network.driver.mtu", mtu);
	if (s->isolated)
		json_set_str(options, "com.docker.network.bridge.enable_icc", "false");
	if (!s->nat)
		json_set_str(options, "com.docker.network.bridge.enable_ip_masquerade", "false");
	json_set_str(options, "com.docker.network.bridge.name", s->interface);
	json_set_str(options, "com.docker.network.container_iface_prefix", s->interface_prefix);
	json_set_str(options, "parent", s->parent);
	return options;
}

static json_t *ipam_of(const struct network_spec *s) {
	json_t *ipam = json_object(), *config = json_array(), *options = noted(s, NOTE "ipam-options");
	for (size_t i = 0; i < s->subnets.n; i++) {
		const struct subnet *n = &s->subnets.items[i];
		json_t *one = json_object();
		json_set_str(one, "Subnet", n->cidr);
		json_set_str(one, "IPRange", n->range);
		json_set_str(one, "Gateway", n->gateway);
		if (n->aside.n)
			json_object_set_new(one, "AuxiliaryAddresses", pairs_print(&n->aside));
		json_array_append_new(config, one);
	}
	json_set_str(ipam, "Driver", "default");
	json_object_set(ipam, "Options", json_object_size(options) ? options : json_null());
	json_object_set_new(ipam, "Config", config);
	json_decref(options);
	return ipam;
}

json_t *docker_network_json(const struct network *n) {
	const struct network_spec *s = &n->spec;
	json_t *j = json_object();
	json_set_str(j, "Name", docker_network_name(s->name));
	json_set_str(j, "Id", n->id);
	json_object_set_new(j, "Created", docker_time(n->created_at));
	const char *driver = pairs_get(&s->annotations, NOTE "driver"); /* of one that was made for the swarm */
	json_set_str(j, "Scope", driver ? "swarm" : "local");
	json_set_str(j, "Driver", driver ? driver : s->driver);
	json_set_bool(j, "EnableIPv4", true);
	json_set_bool(j, "EnableIPv6", s->ipv6);
	json_object_set_new(j, "IPAM", ipam_of(s));
	json_set_bool(j, "Internal", s->internal);
	json_set_bool(j, "Attachable", pairs_get(&s->annotations, NOTE "attachable") != NULL);
	json_set_bool(j, "Ingress", false);
	json_object_set_new(j, "ConfigFrom", json_pack("{s:s}", "Network", ""));
	json_set_bool(j, "ConfigOnly", false);
	json_object_set_new(j, "Containers", json_object());
	json_object_set_new(j, "Options", options_of(s));
	json_object_set_new(j, "Labels", pairs_print(&s->labels));
	return j;
}
