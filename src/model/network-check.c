/* Checks of the tables in network.c, and the texts of their flags. */
#include "base/str.h"
#include "model/instance.h"
#include "model/network-priv.h"

#include <ctype.h>
#include <sys/socket.h>

static int invalid(struct error *err, const char *what, const char *text) {
	_cleanup_(free_ptr) char *shown = text_shown(text);
	return error_set(err, ERROR_INVALID, "\"%s\" is not %s", shown, what);
}

int cidr_check(const char *text, struct error *err) {
	struct cidr c;
	return cidr_parse(text, &c) == 0 ? 0 : invalid(err, "a subnet such as 10.84.0.0/20 (host bits zero)", text);
}

int ip_check(const char *text, struct error *err) {
	struct ip ip;
	return ip_parse(text, &ip) == 0 ? 0 : invalid(err, "an IP address", text);
}

int network_name_check(const char *name, struct error *err) {
	_cleanup_(free_ptr) char *plain = str_copy(name);
	for (char *p = plain; *p; p++)
		if (*p == '/' && p > plain)
			*p = '_';
	return instance_name_check(plain, NULL) == 0 ? 0 : invalid(err, "a name: letters, digits, \"_\", \".\", \"-\", \"/\", a letter or digit first, "
								       "at most 128", name);
}

int interface_check(const char *name, struct error *err) {
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.@";
	size_t n = strlen(name);
	if (n == 0 || n > 15 || name[0] == '-' || name[strspn(name, allowed)] || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return invalid(err, "the name of a network interface", name);
	return 0;
}

static bool is_label(const char *p, size_t n) {
	if (n == 0 || n > 63 || p[0] == '-' || p[n - 1] == '-')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)p[i]) && p[i] != '-')
			return false;
	return true;
}

int dns_label_check(const char *name, struct error *err) {
	return is_label(name, strlen(name)) ? 0 : invalid(err, "a DNS label: at most 63 letters, digits and hyphens", name);
}

int domain_check(const char *name, struct error *err) {
	struct str rest = str_view(name);
	if (!rest.len || rest.p[rest.len - 1] == '.' || rest.len > 253)
		return invalid(err, "a domain name", name);
	while (rest.len) {
		struct str label = str_cut(&rest, '.');
		if (!is_label(label.p, label.len))
			return invalid(err, "a domain name", name);
	}
	return 0;
}

/* Both stand in a line of the resolver's configuration, where a comma parts what belongs to the next option. */
static bool is_boot_path(const char *text) {
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-_.+/:@~%?=&", *p))
			return false;
	return !strstr(text, "/../") && !str_starts(text, "../") && !str_ends(text, "/..");
}

int boot_file_check(const char *name, struct error *err) {
	return *name && is_boot_path(name) ? 0 : invalid(err, "the name of a file or a URL, of letters, digits and -_.+/:@~%?=&", name);
}

int boot_dir_check(const char *path, struct error *err) {
	return *path == '/' && is_boot_path(path) ? 0 : invalid(err, "an absolute path of letters, digits and -_.+/:@~%?=&", path);
}

int mac_check(const char *mac, struct error *err) {
	for (size_t i = 0; i < 17; i++)
		if (i % 3 == 2 ? mac[i] != ':' : !isxdigit((unsigned char)mac[i]))
			return invalid(err, "a MAC address such as 02:00:00:00:00:01", mac);
	char first[3] = {mac[0], mac[1], 0};
	if (mac[17] || strtoul(first, NULL, 16) & 1)
		return invalid(err, "a unicast MAC address such as 02:00:00:00:00:01", mac);
	return 0;
}

/* "net.ipv4.conf.IFNAME.log_martians" */
int nic_sysctl_check(const char *key, struct error *err) {
	static const char *const families[] = {"net.ipv4.", "net.ipv6.", "net.mpls."};
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-", name[] = ".IFNAME.";
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		const char *kind = key + strlen(families[i]), *rest = str_starts(key, families[i]) ? kind + strspn(kind, letters) : "";
		if (rest > kind && str_starts(rest, name) && rest[strlen(name)] && !rest[strlen(name) + strspn(rest + strlen(name), letters)])
			return 0;
	}
	return invalid(err, "a parameter of an interface such as net.ipv4.conf.IFNAME.log_martians", key);
}

int protocol_check(const char *name, struct error *err) {
	static const char *const known[] = {"any", "tcp", "udp", "sctp", "icmp"};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(name, known[i]) == 0)
			return 0;
	uint64_t number;
	if (str_to_u64(name, 10, &number) == 0 && number > 0 && number < 256)
		return 0;
	return invalid(err, "any, tcp, udp, sctp, icmp or the number of a protocol", name);
}

static int take_port(struct str s, uint64_t *out) {
	_cleanup_(free_ptr) char *text = str_copyn(s.p, s.len);
	return str_to_u64(text, 10, out) == 0 && *out > 0 && *out < 65536 ? 0 : -EINVAL;
}

int port_list_check(const char *list, struct error *err) {
	struct str rest = str_view(list);
	if (!rest.len || rest.p[rest.len - 1] == ',')
		return invalid(err, "a list of ports such as 80,8000-8010", list);
	while (rest.len) {
		struct str last = str_cut(&rest, ','), first = str_cut(&last, '-');
		uint64_t from = 0, to = 0;
		if (take_port(first, &from) < 0 || (last.len && take_port(last, &to) < 0) || (last.len && to < from))
			return invalid(err, "a list of ports such as 80,8000-8010", list);
	}
	return 0;
}

static bool is_label_selector(const char *text) {
	const char *equals = strchr(text, '=');
	return text_check(text, NULL) == 0 && (!equals ? *text : equals != text);
}

int target_check(const char *target, struct error *err) {
	if (str_starts(target, "label:") && is_label_selector(target + strlen("label:")))
		return 0;
	if (str_starts(target, "instance:"))
		return instance_name_check(target + strlen("instance:"), err);
	return invalid(err, "label:KEY=VALUE or instance:NAME", target);
}

int peer_check(const char *peer, struct error *err) {
	if (str_starts(peer, "group:"))
		return instance_name_check(peer + strlen("group:"), err);
	if (str_starts(peer, "network:"))
		return network_name_check(peer + strlen("network:"), err);
	if (str_starts(peer, "label:") && is_label_selector(peer + strlen("label:")))
		return 0;
	struct ip ip;
	struct cidr cidr;
	if (ip_parse(peer, &ip) == 0 || cidr_parse(peer, &cidr) == 0)
		return 0;
	return invalid(err, "an address, a subnet, label:KEY=VALUE, group:NAME or network:NAME", peer);
}

/* ---- several fields ---- */

int subnet_validate(const void *object, struct error *err) {
	const struct subnet *s = object;
	struct cidr all, range;
	struct ip gateway;
	if (!s->cidr || cidr_parse(s->cidr, &all) < 0)
		return 0; /* told by the field's own check */
	if (all.prefix > (all.ip.family == AF_INET ? 30u : 126u) || all.prefix < 8)
		return error_field(err, "cidr", "%s must have a prefix of 8 to %d", s->cidr, all.ip.family == AF_INET ? 30 : 126);
	if (all.ip.family == AF_INET && (all.ip.bytes[0] == 127 || all.ip.bytes[0] >= 224 || all.ip.bytes[0] == 0))
		return error_field(err, "cidr", "%s cannot be a network's: it is loopback, multicast or reserved", s->cidr);
	if (s->gateway && ip_parse(s->gateway, &gateway) == 0 && !cidr_contains(&all, &gateway))
		return error_field(err, "gateway", "%s is not in %s", s->gateway, s->cidr);
	for (size_t i = 0; i < s->aside.n; i++)
		if (ip_parse(s->aside.items[i].value, &gateway) < 0 || !cidr_contains(&all, &gateway))
			return error_field(err, "aside", "the address of %s is not in %s", s->aside.items[i].key, s->cidr);
	if (s->range && cidr_parse(s->range, &range) == 0 &&
	    (range.prefix < all.prefix || !cidr_contains(&all, &range.ip)))
		return error_field(err, "range", "%s is not part of %s", s->range, s->cidr);
	return 0;
}

static bool is(const char *a, const char *b) {
	return a && strcmp(a, b) == 0;
}

static int vxlan_validate(const struct network_spec *s, struct error *err) {
	if (!is(s->driver, "vxlan"))
		return s->vni || s->peers || s->local
			       ? error_field(err, s->vni ? "vni" : s->local ? "local" : "peers", "is for the driver vxlan alone")
			       : 0;
	return s->vni ? 0 : error_field(err, "vni", "is required by the driver vxlan");
}

static int parent_validate(const struct network_spec *s, struct error *err) {
	bool on_parent = is(s->driver, "macvlan") || is(s->driver, "ipvlan") || is(s->driver, "physical");
	if (on_parent && !s->parent)
		return error_field(err, "parent", "is required by the driver %s", s->driver);
	if (s->vlan && !s->parent)
		return error_field(err, "vlan", "needs a parent");
	bool l = is(s->mode, "l2") || is(s->mode, "l3");
	if (s->mode && !(is(s->driver, "ipvlan") ? l : is(s->driver, "macvlan") && !l))
		return error_field(err, "mode", "%s is no mode of the driver %s", s->mode, s->driver);
	return 0;
}

static int interface_validate(const struct network_spec *s, struct error *err) {
	if (!s->interface)
		return 0;
	if (!is(s->driver, "bridge") && !is(s->driver, "vxlan"))
		return error_field(err, "interface", "is the name of a bridge, which the driver %s has not", s->driver);
	if (is(s->interface, "lo") || (s->parent && is(s->interface, s->parent)))
		return error_field(err, "interface", "%s is the name of another interface", s->interface);
	return 0;
}

static int boot_validate(const struct network_spec *s, struct error *err) {
	if ((s->boot_file || s->boot_file_uefi) && !s->dhcp)
		return error_field(err, "boot_file", "is told by DHCP, which this network has not");
	if (s->boot_dir && !s->boot_file && !s->boot_file_uefi)
		return error_field(err, "boot_dir", "is of no use without a boot file in it");
	if (s->boot_file && !is(s->driver, "bridge") && !is(s->driver, "vxlan"))
		return error_field(err, "boot_file", "needs a network with a resolver of its own (bridge, vxlan)");
	return 0;
}

int network_spec_validate(const void *object, struct error *err) {
	const struct network_spec *s = object;
	struct cidr a, b;
	if (s->mtu && s->mtu < 576)
		return error_field(err, "mtu", "must be at least 576");
	if (s->subnets.n == 2 && cidr_parse(s->subnets.items[0].cidr, &a) == 0 &&
	    cidr_parse(s->subnets.items[1].cidr, &b) == 0 && a.ip.family == b.ip.family)
		return error_field(err, "subnets", "one of each family at most");
	int r = vxlan_validate(s, err);
	if (r == 0)
		r = interface_validate(s, err);
	if (r == 0)
		r = boot_validate(s, err);
	return r == 0 ? parent_validate(s, err) : r;
}

int attachment_validate(const void *object, struct error *err) {
	const struct attachment *a = object;
	struct ip ip;
	if (a->ipv4 && ip_parse(a->ipv4, &ip) == 0 && ip.family != AF_INET)
		return error_field(err, "ipv4", "%s is not an IPv4 address", a->ipv4);
	if (a->ipv6 && ip_parse(a->ipv6, &ip) == 0 && ip.family != AF_INET6)
		return error_field(err, "ipv6", "%s is not an IPv6 address", a->ipv6);
	return 0;
}

int port_validate(const void *object, struct error *err) {
	const struct port *p = object;
	if (p->port + p->count > 65536 || (p->host_port && p->host_port + p->count > 65536))
		return error_field(err, "count", "%lld ports from %lld on go past 65535", (long long)p->count,
				   (long long)MAX(p->port, p->host_port));
	if (p->host_last && (!p->host_port || p->host_last < p->host_port || p->count != 1))
		return error_field(err, "host_last", "is the end of a range that begins with host_port, for one port");
	return 0;
}

int balancer_spec_validate(const void *object, struct error *err) {
	const struct balancer_spec *s = object;
	if (!s->inside)
		return s->names ? error_field(err, "names", "are for an address inside a network") : 0;
	if (!s->network)
		return error_field(err, "network", "is required inside");
	return s->host_port ? error_field(err, "host_port", "is for a port of the host: inside, all ports lead to the targets") : 0;
}

int rule_validate(const void *object, struct error *err) {
	const struct rule *r = object;
	bool ports = is(r->protocol, "tcp") || is(r->protocol, "udp") || is(r->protocol, "sctp");
	if (r->ports && !ports)
		return error_field(err, "ports", "is for tcp, udp and sctp: say which as protocol");
	if (r->source && is(r->direction, "egress"))
		return error_field(err, "source", "is for ingress: egress has a destination");
	if (r->destination && !is(r->direction, "egress"))
		return error_field(err, "destination", "is for egress: ingress has a source");
	return 0;
}

/* ---- flags ---- */

static void replace(char **member, struct str value) {
	free(*member);
	*member = str_copyn(value.p, value.len);
}

int parse_subnet(const char *text, void *to, struct error *err) {
	struct subnet *s = to;
	struct str rest = str_view(text);
	replace(&s->cidr, str_cut(&rest, ','));
	while (rest.len) {
		struct str value = str_cut(&rest, ','), key = str_cut(&value, '=');
		if (str_is(key, "gateway"))
			replace(&s->gateway, value);
		else if (str_is(key, "range"))
			replace(&s->range, value);
		else
			return error_set(err, ERROR_INVALID, "must be written CIDR[,gateway=IP][,range=CIDR]");
	}
	return 0;
}

int parse_target(const char *text, void *to, UNUSED struct error *err) {
	struct balancer_spec *s = to;
	char *target = peer_text(text);
	free(s->target);
	s->target = target;
	return 0;
}

char *peer_text(const char *text) {
	static const char *const kinds[] = {"label=", "instance=", "group=", "network="};
	char *copy = str_copy(text);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (str_starts(copy, kinds[i]))
			copy[strlen(kinds[i]) - 1] = ':';
	return copy;
}

static int set_attachment_entry(struct attachment *a, struct str entry, struct error *err) {
	struct str value = entry, key = str_cut(&value, '=');
	_cleanup_(free_ptr) char *text = str_copyn(value.p, value.len);
	struct ip ip;
	if (str_is(key, "ip")) {
		bool v6 = ip_parse(text, &ip) == 0 && ip.family == AF_INET6;
		replace(v6 ? &a->ipv6 : &a->ipv4, value);
	} else if (str_is(key, "mac")) {
		replace(&a->mac, value);
	} else if (str_is(key, "alias")) {
		strv_add(&a->aliases, text);
	} else if (str_is(key, "interface")) {
		replace(&a->interface, value);
	} else if (str_is(key, "rules")) {
		strv_add(&a->rules, text);
	} else if (str_is(key, "ingress") || str_is(key, "egress")) {
		return rate_parse(text, str_is(key, "ingress") ? &a->ingress_rate : &a->egress_rate, err);
	} else if (str_is(entry, "allow-spoofing")) {
		a->allow_spoofing = true;
	} else {
		return error_set(err, ERROR_INVALID, "must be written NAME[,ip=IP][,mac=MAC][,alias=NAME][,interface=NAME]"
						     "[,rules=GROUP][,ingress=RATE][,egress=RATE][,allow-spoofing]");
	}
	return 0;
}

int attachment_parse(const char *text, struct attachment *a, struct error *err) {
	struct str rest = str_view(text);
	replace(&a->network, str_cut(&rest, ','));
	int r = 0;
	while (r == 0 && rest.len)
		r = set_attachment_entry(a, str_cut(&rest, ','), err);
	return r;
}

int rate_parse(const char *text, int64_t *bits, struct error *err) {
	char *end;
	double value = strtod(text, &end);
	double unit = 1;
	if (end != text + strspn(text, "0123456789.") || !isdigit((unsigned char)text[0]) || value > 1e12)
		return error_set(err, ERROR_INVALID, "must be a rate such as 100mbit");
	switch (tolower((unsigned char)*end)) {
	case 'k': unit = 1e3; end++; break;
	case 'm': unit = 1e6; end++; break;
	case 'g': unit = 1e9; end++; break;
	}
	if ((*end && strcmp(end, "bit") != 0) || value * unit > 1e12)
		return error_set(err, ERROR_INVALID, "must be a rate such as 100mbit, at most 1000gbit");
	*bits = (int64_t)(value * unit);
	return 0;
}

/* "8080", "8080-8090", "" → first and count. */
static int take_ports(struct str s, int64_t *first, int64_t *count) {
	uint64_t from = 0, to = 0;
	struct str last = s, start = str_cut(&last, '-');
	if (take_port(start, &from) < 0 || (last.len && take_port(last, &to) < 0))
		return -EINVAL;
	if (!last.len)
		to = from;
	*first = (int64_t)from;
	*count = (int64_t)to - (int64_t)from + 1;
	return *count >= 1 ? 0 : -EINVAL;
}

/* Cuts the last piece that is behind a colon off s, which becomes what is before it. */
static struct str cut_last(struct str *s, bool *found) {
	size_t n = s->len;
	while (n && s->p[n - 1] != ':')
		n--;
	struct str last = {s->p + n, s->len - n};
	*found = n > 0;
	s->len = n ? n - 1 : 0;
	return last;
}

int port_parse(const char *text, struct port *p, struct error *err) {
	static const char how[] = "must be written [[ADDRESS:]HOSTPORT[-END]:]PORT[-END][/PROTOCOL]";
	struct str protocol = str_view(text), rest = str_cut(&protocol, '/');
	bool more = false, address = false;
	struct str inside = cut_last(&rest, &more), host = {0};
	int64_t count = 1;
	if (take_ports(inside, &p->port, &p->count) < 0)
		return error_set(err, ERROR_INVALID, "%s", how);
	if (more)
		host = cut_last(&rest, &address);
	if (host.len && (take_ports(host, &p->host_port, &count) < 0 || count != p->count))
		return error_set(err, ERROR_INVALID, "%s, with as many ports outside as inside", how);
	if (address) {
		if (rest.len >= 2 && rest.p[0] == '[' && rest.p[rest.len - 1] == ']')
			rest = (struct str){rest.p + 1, rest.len - 2};
		replace(&p->address, rest);
	}
	if (protocol.len)
		replace(&p->protocol, protocol);
	return 0;
}
