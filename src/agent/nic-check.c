/* May an instance have these interfaces and ports? Looked at in the agent, which knows what every other instance has
 * been promised. */
#include "agent/network-priv.h"

#include "base/str.h"

#include <ctype.h>
#include <stdio.h>
#include <sys/socket.h>

#define NICS_MAX 32

static const struct subnet *subnet_of(const struct network_spec *spec, int family, struct cidr *cidr) {
	for (size_t i = 0; i < spec->subnets.n; i++)
		if (cidr_parse(spec->subnets.items[i].cidr, cidr) == 0 && cidr->ip.family == family)
			return &spec->subnets.items[i];
	return NULL;
}

static bool is_broadcast(const struct cidr *cidr, const struct ip *ip) {
	struct ip last;
	return ip->family == AF_INET && cidr->prefix < 31 && cidr_nth(cidr, cidr_size(cidr) - 1, &last) &&
	       memcmp(last.bytes, ip->bytes, 4) == 0;
}

static bool is_first(const struct cidr *cidr, const struct ip *ip) {
	return cidr->prefix < (ip->family == AF_INET ? 31 : 127) &&
	       memcmp(cidr->ip.bytes, ip->bytes, ip->family == AF_INET ? 4 : 16) == 0;
}

/* One address of a nic: of the right family, the network's, free to be used; in its one form afterwards. */
static int check_address(const struct network *n, char **address, int family, const char *field, struct error *err) {
	struct ip ip;
	struct cidr cidr;
	char text[46];
	if (!*address)
		return 0;
	if (ip_parse(*address, &ip) < 0 || ip.family != family)
		return error_field(err, field, "%s is no %s address", *address, family == AF_INET ? "IPv4" : "IPv6");
	const struct subnet *s = subnet_of(&n->spec, family, &cidr);
	if (!s)
		return error_field(err, field, "network %s has no %s addresses", n->spec.name,
				   family == AF_INET ? "IPv4" : "IPv6");
	ip_format(&ip, text);
	if (!cidr_contains(&cidr, &ip))
		return error_field(err, field, "%s is not in %s, the subnet of network %s", text, s->cidr, n->spec.name);
	if (is_first(&cidr, &ip) || is_broadcast(&cidr, &ip))
		return error_field(err, field, "%s is the %s address of %s", text, is_first(&cidr, &ip) ? "network's own" : "broadcast",
				   s->cidr);
	struct ip gateway;
	if (s->gateway && ip_parse(s->gateway, &gateway) == 0 && memcmp(gateway.bytes, ip.bytes, sizeof ip.bytes) == 0)
		return error_field(err, field, "%s is the gateway of network %s", text, n->spec.name);
	free(*address);
	*address = str_copy(text);
	return 0;
}

static bool needs_mac(const struct network *n) {
	return str_same(n->spec.driver, "bridge") || str_same(n->spec.driver, "vxlan");
}

static int check_one(const struct agent *a, struct nic *nic, struct error *err) {
	const struct net *net = net_get(a, nic->network_id);
	if (!net || net->creating || net->deleting) {
		error_set(err, ERROR_NOT_FOUND, "the agent has no network %s", nic->network_id);
		error_in_field(err, "network_id");
		return -ERROR_NOT_FOUND;
	}
	if (net->damaged)
		return error_set(err, ERROR_CORRUPT, "network %.12s: %s", nic->network_id, net->network.status.error);
	int r = check_address(&net->network, &nic->ipv4, AF_INET, "ipv4", err);
	if (r == 0)
		r = check_address(&net->network, &nic->ipv6, AF_INET6, "ipv6", err);
	if (r < 0)
		return r;
	if (!nic->mac && needs_mac(&net->network))
		return error_field(err, "mac", "is required on network %s", net->network.spec.name);
	for (char *c = nic->mac; c && *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (!nic->interface || str_same(nic->interface, "lo"))
		return error_field(err, "interface", "a name other than lo is required");
	for (size_t i = 0; nic->rules && nic->rules[i]; i++)
		if (!group_exists(a, nic->rules[i]))
			return error_field(err, "rules", "the agent has no rule group %s", nic->rules[i]);
	return 0;
}

/* What two interfaces of one instance must not share. */
static int check_pair(const struct nic *one, const struct nic *other, struct error *err) {
	if (str_same(one->network_id, other->network_id))
		return error_field(err, "network_id", "it is on network %s twice", one->network);
	if (str_same(one->interface, other->interface))
		return error_field(err, "interface", "two interfaces are called %s", one->interface);
	return 0;
}

static bool both(const char *a, const char *b) {
	return a && b && strcmp(a, b) == 0;
}

static int taken(const struct inst *other, const struct nic *nic, const char *field, const char *what, struct error *err) {
	error_set(err, ERROR_CONFLICT, "instance %.12s has %s on network %s already", other->id, what, nic->network);
	error_in_field(err, field);
	return -ERROR_CONFLICT;
}

static int check_others(const struct agent *a, const char *id, const struct nic *nic, bool starts, struct error *err) {
	void *value;
	for (size_t at = 0; map_next(a->insts, &at, NULL, &value);) {
		const struct inst *i = value;
		bool up = state_bit(i->status.state) & S_UP;
		for (size_t k = 0; k < i->nics.n; k++) {
			const struct nic *has = &i->nics.items[k];
			if (!str_same(has->network_id, nic->network_id) || strcmp(i->id, id) == 0 ||
			    (!up && (starts || (has->share && nic->share))))
				continue;
			if (both(has->ipv4, nic->ipv4))
				return taken(i, nic, "ipv4", nic->ipv4, err);
			if (both(has->ipv6, nic->ipv6))
				return taken(i, nic, "ipv6", nic->ipv6, err);
			if (both(has->mac, nic->mac))
				return taken(i, nic, "mac", nic->mac, err);
		}
	}
	return 0;
}

int nics_check_others(const struct agent *a, const char *id, const nics *list, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < list->n; i++)
		r = check_others(a, id, &list->items[i], true, err);
	return r;
}

int nics_check(const struct agent *a, const char *id, const nics *list, struct error *err) {
	if (list->n > NICS_MAX)
		return error_field(err, "nics", "an instance is on at most %d networks", NICS_MAX);
	for (size_t i = 0; i < list->n; i++) {
		int r = check_one(a, &list->items[i], err);
		for (size_t k = 0; r == 0 && k < i; k++)
			r = check_pair(&list->items[i], &list->items[k], err);
		if (r == 0)
			r = check_others(a, id, &list->items[i], false, err);
		if (r < 0) {
			char in[32];
			snprintf(in, sizeof in, "nics[%zu]", i);
			error_in_field(err, in);
			return r;
		}
	}
	return 0;
}

static bool is_any(const char *address, int family) {
	return !address || (family == AF_INET && strcmp(address, "0.0.0.0") == 0) ||
	       (family == AF_INET6 && strcmp(address, "::") == 0);
}

/* Do two addresses of the host, NULL being all, have one in common? */
static bool addresses_meet(const char *a, const char *b) {
	struct ip one = {0}, other = {0};
	if (!a || !b || ip_parse(a, &one) < 0 || ip_parse(b, &other) < 0)
		return true;
	return one.family == other.family && (is_any(a, one.family) || is_any(b, one.family) ||
					      memcmp(one.bytes, other.bytes, sizeof one.bytes) == 0);
}

static bool ports_meet(const struct port *a, const struct port *b) {
	return str_same(a->protocol, b->protocol) && a->host_port < b->host_port + b->count &&
	       b->host_port < a->host_port + a->count && addresses_meet(a->address, b->address);
}

static int port_taken(const struct agent *a, const struct inst *by, const struct port *p, int64_t number, struct error *err) {
	struct msg_instance_create record;
	bool known = record_load(a, by->id, &record, NULL) == 0;
	error_set(err, ERROR_CONFLICT, "port %lld/%s of the host is published by instance %s (%.12s)", (long long)number,
		  p->protocol, known ? record.instance.spec.name : "", by->id);
	if (known)
		record_free(&record);
	error_in_field(err, "ports");
	return -ERROR_CONFLICT;
}

int ports_check_others(const struct agent *a, const char *id, const ports *wanted, struct error *err) {
	void *value;
	for (size_t at = 0; map_next(a->insts, &at, NULL, &value);) {
		const struct inst *i = value;
		if (strcmp(i->id, id) == 0 || !(state_bit(i->status.state) & S_UP))
			continue;
		for (size_t k = 0; k < i->ports.n * wanted->n; k++) {
			const struct port *has = &i->ports.items[k / wanted->n], *p = &wanted->items[k % wanted->n];
			if (ports_meet(has, p))
				return port_taken(a, i, p, MAX(p->host_port, has->host_port), err);
		}
	}
	return 0;
}

int ports_check(const struct agent *a, const nics *list, const ports *wanted, struct error *err) {
	for (size_t i = 0; i < wanted->n; i++)
		if (wanted->items[i].host_port < 1)
			return error_field(err, "ports", "port %lld has no port of the host", (long long)wanted->items[i].port);
	for (size_t i = 0; i < list->n; i++) {
		const struct net *net = net_get(a, list->items[i].network_id);
		const struct network_driver *d = net ? network_driver_find(net->network.spec.driver) : NULL;
		if (d && d->ports)
			return 0;
	}
	bool between = !list->n; /* networks: it has left one and goes to another */
	return wanted->n && !between ? error_field(err, "ports", "none of the instance's networks can publish ports") : 0;
}
