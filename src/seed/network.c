/* A machine's interfaces, as its guest shall configure them. */
#include "seed/seed-priv.h"

#include "base/str.h"

#include <arpa/inet.h>

static bool is_ipv6(const char *address) {
	return strchr(address, ':') != NULL;
}

/* --- version 2: https://cloudinit.readthedocs.io/en/22.4.2/reference/network-config-format-v2.html --- */

static json_t *routes_v2(char *const *gateways) {
	json_t *routes = json_array();
	for (; gateways && *gateways; gateways++)
		json_array_append_new(routes, json_pack("{s:s,s:s}", "to", is_ipv6(*gateways) ? "::/0" : "0.0.0.0/0", "via", *gateways));
	return routes;
}

static json_t *nic_v2(const struct seed_nic *n) {
	json_t *o = json_pack("{s:{s:s},s:s}", "match", "macaddress", n->mac, "set-name", n->interface);
	if (n->mtu)
		json_object_set_new(o, "mtu", json_integer(n->mtu));
	if (!strv_len(n->addresses)) {
		json_object_set_new(o, "dhcp4", json_true());
		return o;
	}
	json_object_set_new(o, "addresses", json_from_strv(n->addresses));
	if (strv_len(n->gateways))
		json_object_set_new(o, "routes", routes_v2(n->gateways));
	if (strv_len(n->dns) || strv_len(n->search)) {
		json_t *names = json_pack("{s:o}", "addresses", json_from_strv(n->dns));
		if (strv_len(n->search))
			json_object_set_new(names, "search", json_from_strv(n->search));
		json_object_set_new(o, "nameservers", names);
	}
	return o;
}

json_t *network_v2(const struct seed *s) {
	json_t *ethernets = json_object();
	for (size_t i = 0; i < s->n_nics; i++)
		json_object_set_new(ethernets, s->nics[i].interface, nic_v2(&s->nics[i]));
	json_t *o = json_pack("{s:i}", "version", 2);
	if (s->n_nics)
		json_object_set(o, "ethernets", ethernets);
	json_decref(ethernets);
	return o;
}

/* --- OpenStack: https://docs.openstack.org/nova/2023.1/user/metadata.html --- */

static char *netmask(const char *prefix) {
	uint64_t bits = 32;
	char text[INET_ADDRSTRLEN];
	str_to_u64(prefix, 10, &bits);
	struct in_addr mask = {htonl(bits ? ~(uint32_t)0 << (32 - MIN(bits, (uint64_t)32)) : 0)};
	return str_copy(inet_ntop(AF_INET, &mask, text, sizeof text));
}

/* "10.84.0.5/20" as the two texts that it is there; IPv6 keeps its prefix. */
static json_t *address_openstack(const struct seed_nic *n, const char *address) {
	bool v6 = is_ipv6(address);
	const char *slash = strchr(address, '/');
	_cleanup_(free_ptr) char *ip = v6 || !slash ? str_copy(address) : str_copyn(address, (size_t)(slash - address));
	_cleanup_(free_ptr) char *mask = v6 ? NULL : netmask(slash ? slash + 1 : "32");
	json_t *o = json_pack("{s:s,s:s,s:s}", "type", v6 ? "ipv6" : "ipv4", "link", n->interface, "ip_address", ip);
	json_t *routes = json_array();
	json_set_str(o, "netmask", mask);
	for (char **g = n->gateways; g && *g; g++)
		if (is_ipv6(*g) == v6)
			json_array_append_new(routes, json_pack("{s:s,s:s,s:s}", "network", v6 ? "::" : "0.0.0.0", "netmask",
								v6 ? "::" : "0.0.0.0", "gateway", *g));
	json_object_set_new(o, "routes", routes);
	return o;
}

static void networks_add(json_t *networks, const struct seed_nic *n) {
	if (!strv_len(n->addresses))
		json_array_append_new(networks, json_pack("{s:s,s:s}", "type", "ipv4_dhcp", "link", n->interface));
	for (char **a = n->addresses; a && *a; a++)
		json_array_append_new(networks, address_openstack(n, *a));
}

json_t *network_openstack(const struct seed *s) {
	json_t *links = json_array(), *networks = json_array(), *services = json_array();
	_cleanup_(strv_free_ptr) char **known = NULL;
	for (size_t i = 0; i < s->n_nics; i++) {
		const struct seed_nic *n = &s->nics[i];
		json_t *link = json_pack("{s:s,s:s,s:s}", "id", n->interface, "type", "phy", "ethernet_mac_address", n->mac);
		if (n->mtu)
			json_object_set_new(link, "mtu", json_integer(n->mtu));
		json_array_append_new(links, link);
		networks_add(networks, n);
		for (char **d = n->dns; d && *d; d++)
			if (!strv_has(known, *d)) {
				strv_add(&known, *d);
				json_array_append_new(services, json_pack("{s:s,s:s}", "type", "dns", "address", *d));
			}
	}
	for (size_t i = 0; i < json_array_size(networks); i++) {
		_cleanup_(free_ptr) char *id = str_format("network%zu", i);
		json_set_str(json_array_get(networks, i), "id", id);
	}
	return json_pack("{s:o,s:o,s:o}", "links", links, "networks", networks, "services", services);
}
