/* The networking of an instance in Docker's words, on its way in: modes, endpoints, names, links. Its ports are in ports.c,
 * the way out is in network-settings.c. */
#include "core/networks.h"

#include "base/str.h"
#include "dialect/docker/networks-priv.h"

#include <strings.h>

/* ---- names ---- */

#define BRIDGE "bridge"
#define OWN_BRIDGE "default"

const char *docker_network_name(const char *own) {
	return str_same(own, OWN_BRIDGE) ? BRIDGE : own;
}

const char *own_network_name(const char *docker) {
	return str_same(docker, BRIDGE) ? OWN_BRIDGE : docker;
}

static bool is_bridge(const char *name) {
	return !name || !*name || str_same(name, BRIDGE) || str_same(name, OWN_BRIDGE);
}

/* ---- endpoints ---- */

static const struct field ipam_fields[] = {
	FIELD_AS("IPv4Address", struct docker_endpoint_ipam, ipv4, FIELD_STRING),
	FIELD_AS("IPv6Address", struct docker_endpoint_ipam, ipv6, FIELD_STRING),
	FIELD_AS("LinkLocalIPs", struct docker_endpoint_ipam, link_local, FIELD_STRINGS),
};
static const struct field_table ipam_table = {
	"EndpointIPAMConfig", "", sizeof(struct docker_endpoint_ipam), ipam_fields, ARRAY_SIZE(ipam_fields),
};

static const struct field endpoint_fields[] = {
	FIELD_AS("IPAMConfig", struct docker_endpoint, ipam, FIELD_OBJECT, .sub = &ipam_table),
	FIELD_AS("Links", struct docker_endpoint, links, FIELD_STRINGS),
	FIELD_AS("Aliases", struct docker_endpoint, aliases, FIELD_STRINGS),
	FIELD_AS("MacAddress", struct docker_endpoint, mac, FIELD_STRING),
	FIELD_AS("DriverOpts", struct docker_endpoint, options, FIELD_PAIRS),
	FIELD_AS("GwPriority", struct docker_endpoint, gateway_priority, FIELD_INT, .min = INT64_MIN),
};
const struct field_table docker_endpoint_table = {
	"EndpointSettings", "", sizeof(struct docker_endpoint), endpoint_fields, ARRAY_SIZE(endpoint_fields),
};

static const char *text_or_null(const char *text) {
	return text && *text ? text : NULL;
}

static int check_address(const char *text, int family, struct error *err) {
	struct ip ip;
	if (!text || (ip_parse(text, &ip) == 0 && ip.family == family))
		return 0;
	_cleanup_(free_ptr) char *shown = text_shown(text);
	return error_set(err, ERROR_INVALID, "invalid IPv%c address: %s", family == AF_INET ? '4' : '6', shown);
}

static int check_endpoint(const struct docker_endpoint *e, bool bridge, struct error *err) {
	const char *ipv4 = text_or_null(e->ipam.ipv4), *ipv6 = text_or_null(e->ipam.ipv6);
	int r = check_address(ipv4, AF_INET, err);
	if (r == 0)
		r = check_address(ipv6, AF_INET6, err);
	if (r < 0)
		return r;
	if (e->ipam.link_local)
		return error_set(err, ERROR_UNSUPPORTED, "IPAMConfig.LinkLocalIPs: link-local addresses cannot be given");
	for (size_t i = 0; i < e->options.n; i++) {
		const char *key = e->options.items[i].key;
		if (!str_same(key, DOCKER_ENDPOINT_INTERFACE) && !str_same(key, DOCKER_ENDPOINT_SYSCTLS))
			return error_set(err, ERROR_UNSUPPORTED, "DriverOpts: there is no option %s of an endpoint", key);
	}
	if (bridge && (ipv4 || ipv6))
		return error_set(err, ERROR_INVALID, "user specified IP address is supported on user defined networks only");
	if (bridge && e->aliases)
		return error_set(err, ERROR_INVALID,
				 "network-scoped alias is supported only for containers in user defined networks");
	return 0;
}

static char *copy_given(const char *text) {
	return text_or_null(text) ? str_copy(text) : NULL;
}

/* "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.forwarding=1": the docker client writes it small. */
static int take_sysctls(const char *text, struct pairs *out, struct error *err) {
	_cleanup_(strv_free_ptr) char **all = text && *text ? strv_split(text, ',') : NULL;
	for (char **one = all; one && *one; one++) {
		_cleanup_(free_ptr) char *key = str_copyn(*one, strcspn(*one, "=")), *shown = text_shown(*one);
		const char *value = *one + strlen(key);
		char *name = strstr(key, ".ifname.");
		if (name)
			memcpy(name, ".IFNAME.", strlen(".IFNAME."));
		if (nic_sysctl_check(key, NULL) < 0)
			return error_set(err, ERROR_INVALID,
					 "invalid endpoint settings:\nunrecognised network interface sysctl '%s'; represent "
					 "'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'",
					 shown);
		if (!*value)
			return error_set(err, ERROR_INVALID, "expected sysctl '%s' to have format name=value", shown);
		pairs_set(out, key, value + 1);
	}
	return 0;
}

int docker_attachment(const struct docker_endpoint *e, const char *network, struct attachment *out, struct error *err) {
	fields_init(&attachment_table, out);
	int r = check_endpoint(e, str_same(network, OWN_BRIDGE), err);
	if (r < 0)
		return r;
	out->network = str_copy(network);
	out->share = true; /* one and the one that takes its place */
	out->ipv4 = copy_given(e->ipam.ipv4);
	out->ipv6 = copy_given(e->ipam.ipv6);
	out->mac = copy_given(e->mac);
	out->interface = copy_given(pairs_get(&e->options, DOCKER_ENDPOINT_INTERFACE));
	out->gateway_priority = e->gateway_priority;
	for (char **alias = e->aliases; alias && *alias; alias++)
		if (!strv_has(out->aliases, *alias))
			strv_add(&out->aliases, *alias);
	r = take_sysctls(pairs_get(&e->options, DOCKER_ENDPOINT_SYSCTLS), &out->sysctls, err);
	if (r == 0)
		r = fields_validate(&attachment_table, out, err);
	if (r < 0 && err && err->field)
		error_wrap(err, "EndpointsConfig: %s", err->field);
	return r;
}

/* ---- links ---- */

/* "name", "name:alias", "/name:/container/alias" */
int docker_links_add(struct core *c, char *const *links, char ***out, struct error *err) {
	for (; links && *links; links++) {
		_cleanup_(free_ptr) char *shown = text_shown(*links);
		const char *name = **links == '/' ? *links + 1 : *links, *colon = strchr(name, ':');
		_cleanup_(free_ptr) char *target = str_copyn(name, strcspn(name, ":"));
		const char *alias = colon ? colon + 1 : target;
		alias = strrchr(alias, '/') ? strrchr(alias, '/') + 1 : alias;
		if (!*target || !*alias || strchr(alias, ':') || strchr(target, '/'))
			return error_set(err, ERROR_INVALID, "bad format for links: %s", shown);
		_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
		if (instance_get(c, DOCKER_PROJECT, target, &snap, NULL) < 0)
			return error_set(err, ERROR_INVALID, "could not get container for %s: No such container: %s", target, target);
		strv_take(out, str_format("%s:%s", snap->instance.id, alias));
	}
	return 0;
}

/* ---- the bodies ---- */

struct config_body {
	char *hostname, *mac;
	json_t *exposed;
};
static const struct field config_fields[] = {
	FIELD_AS("Hostname", struct config_body, hostname, FIELD_STRING),
	FIELD_AS("MacAddress", struct config_body, mac, FIELD_STRING),
	FIELD_AS("ExposedPorts", struct config_body, exposed, FIELD_JSON),
};
static const struct field_table config_table = {
	"Config", "", sizeof(struct config_body), config_fields, ARRAY_SIZE(config_fields),
};

struct host_body {
	char *mode;
	json_t *bindings;
	bool publish_all;
	char **links, **dns, **dns_options, **dns_search, **extra_hosts;
};
static const struct field host_fields[] = {
	FIELD_AS("NetworkMode", struct host_body, mode, FIELD_STRING),
	FIELD_AS("PortBindings", struct host_body, bindings, FIELD_JSON),
	FIELD_AS("PublishAllPorts", struct host_body, publish_all, FIELD_BOOL),
	FIELD_AS("Links", struct host_body, links, FIELD_STRINGS),
	FIELD_AS("Dns", struct host_body, dns, FIELD_STRINGS),
	FIELD_AS("DnsOptions", struct host_body, dns_options, FIELD_STRINGS),
	FIELD_AS("DnsSearch", struct host_body, dns_search, FIELD_STRINGS),
	FIELD_AS("ExtraHosts", struct host_body, extra_hosts, FIELD_STRINGS),
};
static const struct field_table host_table = {
	"HostConfig", "", sizeof(struct host_body), host_fields, ARRAY_SIZE(host_fields),
};

/* ---- modes ---- */

static bool is_shared(const char *mode) {
	return str_starts(mode, "container:");
}

static int conflict(const char *what, struct error *err) {
	return error_set(err, ERROR_INVALID, "conflicting options: %s", what);
}

/* What does not go together with another one's, or the host's, networks. */
static int check_mode(const char *mode, const struct config_body *config, const struct host_body *host, struct error *err) {
	static const char links[] = "can't be used with links. This would result in undefined behavior";
	bool shared = is_shared(mode), of_host = str_same(mode, "host");
	if (shared && text_or_null(config->hostname))
		return conflict("hostname and the network mode", err);
	if ((shared || of_host) && host->links)
		return error_set(err, ERROR_INVALID, "conflicting options: %s %s",
				 of_host ? "host type networking" : "container type network", links);
	if (shared && host->dns)
		return conflict("dns and the network mode", err);
	if (shared && host->extra_hosts)
		return conflict("custom host-to-IP mapping and the network mode", err);
	if ((shared || of_host) && text_or_null(config->mac))
		return conflict("mac-address and the network mode", err);
	if (shared && (json_object_size(host->bindings) || host->publish_all))
		return conflict("port publishing and the container type network mode", err);
	if (shared && json_object_size(config->exposed))
		return conflict("port exposing and the container type network mode", err);
	return 0;
}

static int spec_mode(struct core *c, const char *mode, struct instance_spec *spec, struct error *err) {
	free(spec->network);
	if (!is_shared(mode)) {
		spec->network = str_copy(str_same(mode, "host") || str_same(mode, "none") ? mode : "private");
		return 0;
	}
	const char *name = mode + strlen("container:");
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	spec->network = str_copy("private");
	if (instance_get(c, DOCKER_PROJECT, name, &snap, NULL) < 0)
		return error_set(err, ERROR_INVALID, "No such container: %s", name);
	free(spec->network);
	spec->network = str_format("instance:%s", snap->instance.id);
	return 0;
}

/* ---- networks ---- */

/* Not found is a bad request here: for a client, 404 means that the image is not there. */
static int find_network(struct core *c, const char *name, char **own, struct error *err) {
	_cleanup_(object_snap_unref_ptr) struct object_snap *snap = NULL;
	if (is_bridge(name)) {
		*own = str_copy(OWN_BRIDGE);
		return 0;
	}
	if (network_get(c, DOCKER_PROJECT, name, &snap, NULL) < 0)
		return error_set(err, ERROR_INVALID, "network %s not found", name);
	*own = str_copy(((const struct network *)snap->noun)->spec.name);
	return 0;
}

static struct attachment *attachment_on(struct instance_spec *spec, const char *network) {
	for (size_t i = 0; i < spec->networks.n; i++)
		if (str_same(spec->networks.items[i].network, network))
			return &spec->networks.items[i];
	return NULL;
}

static struct attachment *attachment_add(struct instance_spec *spec) {
	attachments *all = &spec->networks;
	all->items = alloc_resize(all->items, all->n + 1, sizeof *all->items);
	fields_init(&attachment_table, &all->items[all->n]);
	return &all->items[all->n++];
}

/* The network of the host, of nobody or of another container: it is there as it is. */
static int check_foreign(const char *name, const char *mode, const json_t *json, struct error *err) {
	struct docker_endpoint e;
	if (!str_same(name, mode))
		return error_set(err, ERROR_INVALID, "EndpointsConfig: %s does not go with the network mode %s", name, mode);
	int r = docker_parse_part(&docker_endpoint_table, json_is_null(json) ? NULL : json, &e, err);
	if (r == 0) {
		r = check_endpoint(&e, true, err);
		fields_free(&docker_endpoint_table, &e);
	}
	return r;
}

/* One member of EndpointsConfig; the first attachment is that of NetworkMode, empty as yet. */
static int add_endpoint(struct core *c, const char *name, const json_t *json, struct instance_spec *spec, struct error *err) {
	_cleanup_(free_ptr) char *own = NULL;
	struct docker_endpoint e;
	int r = find_network(c, name, &own, err);
	if (r == 0)
		r = docker_parse_part(&docker_endpoint_table, json_is_null(json) ? NULL : json, &e, err);
	if (r < 0)
		return r;
	struct attachment *a = attachment_on(spec, own);
	if (a && a != spec->networks.items) {
		r = error_set(err, ERROR_INVALID, "EndpointsConfig: network %s is given twice", docker_network_name(own));
	} else {
		a = a ? a : attachment_add(spec);
		fields_free(&attachment_table, a);
		r = docker_attachment(&e, own, a, err);
	}
	if (r == 0)
		r = docker_links_add(c, e.links, &spec->links, err);
	fields_free(&docker_endpoint_table, &e);
	return r;
}

static int add_endpoints(struct core *c, const char *mode, const json_t *endpoints, struct instance_spec *spec,
			 struct error *err) {
	bool own = str_same(spec->network, "private");
	const char *name;
	json_t *json;
	int r = 0;
	json_object_foreach((json_t *)endpoints, name, json) {
		r = own ? add_endpoint(c, name, json, spec, err) : check_foreign(name, mode, json, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The container's own MAC is that of its main network. */
static int add_mac(const char *mac, struct instance_spec *spec, struct error *err) {
	struct attachment *main = spec->networks.items;
	if (!text_or_null(mac) || !str_same(spec->network, "private"))
		return 0;
	if (main->mac && strcasecmp(main->mac, mac) != 0)
		return error_set(err, ERROR_INVALID, "the container-wide MAC address must match the endpoint-specific MAC address for "
				 "the main network, or be left empty");
	free(main->mac);
	main->mac = str_copy(mac);
	int r = fields_validate(&attachment_table, main, err);
	return r < 0 ? error_wrap(err, "MacAddress") : 0;
}

static bool is_on(const struct instance *i, const char *network) {
	if (!i->spec.networks.n && str_same(i->spec.network, "private"))
		return str_same(network, OWN_BRIDGE);
	for (size_t k = 0; k < i->spec.networks.n; k++)
		if (str_same(i->spec.networks.items[k].network, network))
			return true;
	return false;
}

/* On the default network names are known by links alone, so both ends must be there. */
static int check_links(struct core *c, const struct instance_spec *spec, struct error *err) {
	if (!spec->networks.n || !str_same(spec->networks.items[0].network, OWN_BRIDGE))
		return 0;
	for (char **l = spec->links; l && *l; l++) {
		_cleanup_(free_ptr) char *id = str_copyn(*l, strcspn(*l, ":"));
		_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
		if (instance_get(c, DOCKER_PROJECT, id, &snap, NULL) == 0 && !is_on(&snap->instance, OWN_BRIDGE))
			return error_set(err, ERROR_INVALID, "Cannot link to /%s, as it does not belong to the default network",
					 snap->instance.spec.name);
	}
	return 0;
}

static bool is_plain(const struct attachment *a) {
	return str_same(a->network, OWN_BRIDGE) && !a->mac && !a->interface && !a->gateway_priority && !a->sysctls.n;
}

static int add_networks(struct core *c, const char *mode, const char *mac, const json_t *endpoints,
			struct instance_spec *spec, struct error *err) {
	int r = 0;
	if (str_same(spec->network, "private"))
		r = find_network(c, mode, &attachment_add(spec)->network, err);
	if (r == 0)
		r = add_endpoints(c, mode, endpoints, spec, err);
	if (r == 0)
		r = add_mac(mac, spec, err);
	if (r == 0)
		r = check_links(c, spec, err);
	if (r == 0 && spec->networks.n == 1 && is_plain(spec->networks.items)) { /* what wabe does by itself */
		fields_free(&attachment_table, spec->networks.items);
		spec->networks.n = 0;
	}
	return r;
}

/* ---- names of hosts ---- */

static int add_extra_host(const char *entry, struct instance_spec *spec, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(entry);
	size_t n = strcspn(entry, ":=");
	_cleanup_(free_ptr) char *name = str_copyn(entry, n), *address = str_copy(entry[n] ? entry + n + 1 : "");
	size_t len = strlen(address);
	struct ip ip;
	if (!n || !len)
		return error_set(err, ERROR_INVALID, "bad format for add-host: \"%s\"", shown);
	if (len > 2 && address[0] == '[' && address[len - 1] == ']') {
		memmove(address, address + 1, len - 2);
		address[len - 2] = '\0';
	}
	if (!str_same(address, "host-gateway") && ip_parse(address, &ip) < 0)
		return error_set(err, ERROR_INVALID, "invalid IP address in add-host: \"%s\"", shown);
	strv_take(&spec->extra_hosts, str_format("%s:%s", name, address));
	return 0;
}

static int add_names(const struct host_body *host, struct instance_spec *spec, struct error *err) {
	struct ip ip;
	for (char **s = host->dns; s && *s; s++)
		if (ip_parse(*s, &ip) < 0) {
			_cleanup_(free_ptr) char *shown = text_shown(*s);
			return error_set(err, ERROR_INVALID, "HostConfig.Dns: \"%s\" is not an IP address", shown);
		}
	spec->dns = strv_copy(host->dns);
	spec->dns_options = strv_copy(host->dns_options);
	spec->dns_search = strv_copy(host->dns_search);
	int r = 0;
	for (char **h = host->extra_hosts; r == 0 && h && *h; h++)
		r = add_extra_host(*h, spec, err);
	return r;
}

/* ---- all of it ---- */

static int spec_networks(struct core *c, const struct config_body *config, const struct host_body *host,
			 const json_t *endpoints, struct instance_spec *spec, struct error *err) {
	const char *mode = text_or_null(host->mode) ? host->mode : "default";
	int r = check_mode(mode, config, host, err);
	if (r == 0)
		r = spec_mode(c, mode, spec, err);
	if (r == 0)
		r = docker_links_add(c, host->links, &spec->links, err);
	if (r == 0)
		r = add_networks(c, mode, config->mac, endpoints, spec, err);
	if (r == 0)
		r = add_names(host, spec, err);
	if (r == 0)
		r = docker_ports_parse(host->bindings, config->exposed, spec, err);
	/* without a network of its own nothing is published, as in dockerd */
	spec->publish_all = host->publish_all && str_same(spec->network, "private");
	return r;
}

int docker_spec_networks(struct core *c, const json_t *config, const json_t *host, const json_t *networking,
			 struct instance_spec *spec, struct error *err) {
	struct config_body cb;
	struct host_body hb;
	const json_t *endpoints = json_object_get(networking, "EndpointsConfig");
	if (endpoints && !json_is_object(endpoints) && !json_is_null(endpoints))
		return error_set(err, ERROR_INVALID, "NetworkingConfig.EndpointsConfig: must be an object");
	int r = docker_parse_part(&config_table, config, &cb, err);
	if (r < 0)
		return r;
	r = docker_parse_part(&host_table, host, &hb, err);
	if (r == 0) {
		r = spec_networks(c, &cb, &hb, endpoints, spec, err);
		fields_free(&host_table, &hb);
	}
	fields_free(&config_table, &cb);
	return r;
}
