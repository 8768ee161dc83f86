/* Published ports: one element of a map for each port of the host, in the families that the instance has addresses of, and
 * one of a set for those whose network's policy is `host`. */
#include "driver/network/firewall-priv.h"

#include "base/str.h"
#include "driver/network/network.h"

bool network_publishes_open(const struct network *n) {
	return str_same(n->spec.publish, "open");
}

const struct nic *publish_nic(const struct firewall_state *s, const struct firewall_instance *i) {
	for (size_t k = 0; k < i->n_nics; k++) {
		const struct network *n = script_network(s, i->nics[k].network_id);
		if (n && network_driver_find(n->spec.driver ? n->spec.driver : "bridge")->ports)
			return &i->nics[k];
	}
	return NULL;
}

bool publish_needs_detour(const struct firewall_state *s, const struct firewall_instance *i) {
	const struct nic *nic = i->n_ports ? publish_nic(s, i) : NULL;
	return nic && !network_publishes_open(script_network(s, nic->network_id));
}

void publish_policy(struct script *c, const struct family *f, const char *address, const char *protocol, int64_t port,
		    bool open) {
	if (open)
		return;
	if (address)
		script_element(c, f->name, "host", "%s . %s . %lld", address, protocol, (long long)port);
	else
		script_element(c, f->name, "host_any", "%s . %lld", protocol, (long long)port);
}

static void publish_port(struct script *c, const struct family *f, const struct port *p, const char *to, bool open) {
	char buffer[46];
	const char *protocol = p->protocol ? p->protocol : "tcp", *address = ip_of(p->address, f->af, buffer);
	if (p->address && !address)
		return; /* of the other family */
	for (int64_t i = 0; i < MAX(p->count, 1); i++) {
		long long outside = p->host_port + i, inside = p->port + i;
		if (address)
			script_element(c, f->name, "publish", "%s . %s . %lld : %s . %lld", address, protocol, outside, to, inside);
		else
			script_element(c, f->name, "publish_any", "%s . %lld : %s . %lld", protocol, outside, to, inside);
		publish_policy(c, f, address, protocol, outside, open);
	}
}

void publish_instance(struct script *c, const struct firewall_instance *i) {
	const struct nic *nic = publish_nic(c->s, i);
	for (size_t k = 0; nic && k < ARRAY_SIZE(families); k++) {
		char buffer[46];
		const struct family *f = &families[k];
		const char *to = ip_of(f->af == AF_INET ? nic->ipv4 : nic->ipv6, f->af, buffer);
		for (size_t p = 0; to && p < i->n_ports; p++)
			publish_port(c, f, &i->ports[p], to, network_publishes_open(script_network(c->s, nic->network_id)));
	}
}
