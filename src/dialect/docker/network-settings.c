/* The networking of an instance in Docker's words, on its way out: NetworkSettings, and what HostConfig says of it. */
#include "core/networks.h"

#include "base/str.h"
#include "dialect/docker/networks-priv.h"

/* ---- ids ---- */

/* Two ids make a third: neither is a secret, both are random. */
static char *combine(const char *a, const char *b) {
	static const char digits[] = "0123456789abcdef";
	char *out = str_copy(a);
	for (size_t i = 0; out[i] && b[i]; i++) {
		const char *x = strchr(digits, a[i]), *y = strchr(digits, b[i]);
		out[i] = x && y ? digits[(x - digits) ^ (y - digits)] : '0';
	}
	return out;
}

char *docker_endpoint_id(const char *instance_id, const char *network_id) {
	return combine(instance_id, network_id);
}

bool docker_has_networks(const struct instance *i) {
	return str_same(i->status.state, "running") || str_same(i->status.state, "paused");
}

int64_t docker_prefix_len(const struct network *n, const char *address) {
	struct ip ip;
	struct cidr c;
	if (!address || ip_parse(address, &ip) < 0)
		return 0;
	for (size_t i = 0; i < n->spec.subnets.n; i++)
		if (cidr_parse(n->spec.subnets.items[i].cidr, &c) == 0 && cidr_contains(&c, &ip))
			return c.prefix;
	return 0;
}

static const char *gateway_of(const struct network *n, int family) {
	struct cidr c;
	for (size_t i = 0; i < n->spec.subnets.n; i++)
		if (cidr_parse(n->spec.subnets.items[i].cidr, &c) == 0 && c.ip.family == family)
			return n->spec.subnets.items[i].gateway;
	return NULL;
}

/* ---- one endpoint ---- */

static const struct attachment *attachment_of(const struct instance *i, const struct nic *nic) {
	for (size_t k = 0; k < i->spec.networks.n; k++) {
		const char *name = i->spec.networks.items[k].network;
		if (str_same(name, nic->network) || str_starts(nic->network_id, name))
			return &i->spec.networks.items[k];
	}
	return NULL;
}

static json_t *ipam_config(const struct attachment *a) {
	if (!a || (!a->ipv4 && !a->ipv6))
		return json_null();
	json_t *ipam = json_object();
	json_set_str(ipam, "IPv4Address", a->ipv4);
	json_set_str(ipam, "IPv6Address", a->ipv6);
	return ipam;
}

static void set_text(json_t *to, const char *key, const char *value) {
	json_set_str(to, key, value ? value : "");
}

/* "/target:/name/alias" of the links that lead over it; null for none. */
static json_t *links_of(struct core *c, const struct instance *i, bool *any) {
	json_t *list = json_array();
	for (char **l = i->spec.links; l && *l; l++) {
		_cleanup_(free_ptr) char *id = str_copyn(*l, strcspn(*l, ":"));
		_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
		const char *target = instance_get(c, DOCKER_PROJECT, id, &snap, NULL) == 0 ? snap->instance.spec.name : id;
		_cleanup_(free_ptr) char *text = str_format("/%s:/%s/%s", target, i->spec.name, *l + strlen(id) + 1);
		json_array_append_new(list, json_from_str(text));
	}
	*any = json_array_size(list);
	return list;
}

json_t *docker_links(struct core *c, const struct instance *i) {
	bool any;
	json_t *list = links_of(c, i, &any);
	if (any)
		return list;
	json_decref(list);
	return json_null();
}

/* The names that a network knows it by, with its own and the short id; or the aliases that were given alone. */
static json_t *names_of(const struct instance *i, const struct nic *nic, bool own, bool short_one) {
	_cleanup_(free_ptr) char *short_id = str_copyn(i->id, 12);
	if (str_same(nic->network, "default") || (!own && !short_one && !nic->aliases))
		return json_null();
	json_t *names = json_array();
	if (own)
		json_array_append_new(names, json_from_str(i->spec.name));
	for (char **a = nic->aliases; a && *a; a++)
		json_array_append_new(names, json_from_str(*a));
	if (short_one)
		json_array_append_new(names, json_from_str(short_id));
	return names;
}

static void set_addresses(json_t *to, const struct nic *nic, const struct network *n, bool up) {
	set_text(to, "Gateway", up && nic->ipv4 ? gateway_of(n, AF_INET) : NULL);
	set_text(to, "IPAddress", up ? nic->ipv4 : NULL);
	json_set_int(to, "IPPrefixLen", up ? docker_prefix_len(n, nic->ipv4) : 0);
	set_text(to, "IPv6Gateway", up && nic->ipv6 ? gateway_of(n, AF_INET6) : NULL);
	set_text(to, "GlobalIPv6Address", up ? nic->ipv6 : NULL);
	json_set_int(to, "GlobalIPv6PrefixLen", up ? docker_prefix_len(n, nic->ipv6) : 0);
	set_text(to, "MacAddress", up ? nic->mac : NULL);
}

static json_t *driver_options(const struct attachment *a) {
	_cleanup_(strv_free_ptr) char **sysctls = NULL;
	for (size_t i = 0; a && i < a->sysctls.n; i++)
		strv_take(&sysctls, str_format("%s=%s", a->sysctls.items[i].key, a->sysctls.items[i].value));
	if (!a || (!a->interface && !sysctls))
		return json_null();
	_cleanup_(free_ptr) char *joined = strv_join(sysctls, ",");
	json_t *o = json_object();
	if (a->interface)
		json_set_str(o, DOCKER_ENDPOINT_INTERFACE, a->interface);
	if (sysctls)
		json_set_str(o, DOCKER_ENDPOINT_SYSCTLS, joined);
	return o;
}

static json_t *endpoint_settings(struct core *c, const struct instance *i, const struct nic *nic, const struct network *n,
				 int api) {
	bool up = docker_has_networks(i);
	_cleanup_(free_ptr) char *id = docker_endpoint_id(i->id, nic->network_id);
	json_t *e = json_object();
	json_object_set_new(e, "IPAMConfig", ipam_config(attachment_of(i, nic)));
	json_object_set_new(e, "Links", str_same(nic->network, "default") ? json_null() : docker_links(c, i));
	json_object_set_new(e, "Aliases", names_of(i, nic, false, api < 45));
	json_set_str(e, "NetworkID", nic->network_id);
	set_text(e, "EndpointID", up ? id : NULL);
	set_addresses(e, nic, n, up);
	json_object_set_new(e, "DriverOpts", driver_options(attachment_of(i, nic)));
	if (api >= 48)
		json_set_int(e, "GwPriority", nic->gateway_priority);
	json_object_set_new(e, "DNSNames", names_of(i, nic, true, true));
	return e;
}

/* Of a predefined network that has no addresses. */
static json_t *bare_endpoint(const struct instance *i, const char *network_id, int api) {
	static const struct network none;
	struct nic nic = {.network_id = (char *)network_id, .network = (char *)"default"};
	return endpoint_settings(NULL, i, &nic, &none, api);
}

/* ---- all ---- */

static json_t *networks_of(struct core *c, const struct instance *i, int api) {
	json_t *all = json_object();
	for (size_t k = 0; k < i->nics.n; k++) {
		const struct nic *nic = &i->nics.items[k];
		_cleanup_(object_snap_unref_ptr) struct object_snap *snap = NULL;
		if (network_get(c, DOCKER_PROJECT, nic->network_id, &snap, NULL) == 0)
			json_object_set_new(all, docker_network_name(nic->network), endpoint_settings(c, i, nic, snap->noun, api));
	}
	if (str_same(i->spec.network, "host"))
		json_object_set_new(all, "host", bare_endpoint(i, DOCKER_HOST_NETWORK_ID, api));
	if (str_same(i->spec.network, "none"))
		json_object_set_new(all, "none", bare_endpoint(i, DOCKER_NONE_NETWORK_ID, api));
	return all;
}

/* What older clients look at: the default network's, at the top. */
static void add_bridge(json_t *settings, const json_t *networks) {
	static const char *const texts[] = {"EndpointID", "Gateway", "GlobalIPv6Address", "IPAddress", "IPv6Gateway", "MacAddress"};
	static const char *const numbers[] = {"GlobalIPv6PrefixLen", "IPPrefixLen"};
	const json_t *bridge = json_object_get(networks, "bridge");
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		set_text(settings, texts[i], json_get_str(bridge, texts[i]));
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		json_set_int(settings, numbers[i], json_get_int(bridge, numbers[i]));
}

json_t *docker_network_settings(struct core *c, const struct instance *i, int api) {
	bool own = docker_has_networks(i) && !str_starts(i->spec.network, "instance:");
	_cleanup_(free_ptr) char *sandbox = combine(i->id, DOCKER_NONE_NETWORK_ID);
	_cleanup_(free_ptr) char *key = str_format("/proc/%lld/ns/net", (long long)i->status.pid);
	json_t *s = json_object(), *networks = networks_of(c, i, api);
	json_set_str(s, "Bridge", "");
	set_text(s, "SandboxID", own ? sandbox : NULL);
	set_text(s, "SandboxKey", own ? key : NULL);
	json_object_set_new(s, "Ports", docker_port_map(i));
	json_set_bool(s, "HairpinMode", false);
	json_set_str(s, "LinkLocalIPv6Address", "");
	json_set_int(s, "LinkLocalIPv6PrefixLen", 0);
	json_object_set_new(s, "SecondaryIPAddresses", json_null());
	json_object_set_new(s, "SecondaryIPv6Addresses", json_null());
	add_bridge(s, networks);
	json_object_set_new(s, "Networks", networks);
	return s;
}

json_t *docker_network_settings_short(struct core *c, const struct instance *i, int api) {
	json_t *s = json_object();
	json_object_set_new(s, "Networks", networks_of(c, i, api));
	return s;
}
