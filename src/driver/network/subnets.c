/* Subnets that a network may have on this host: picked, or checked against the host's routes and addresses. */
#include "driver/network/network-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>

/* A shorter prefix is a default route in disguise (0.0.0.0/1), or all that there is (2000::/3). */
#define PREFIX_MIN 8

struct taken {
	struct cidr cidr;
	char what[96]; /* "the route 10.0.0.0/8 on tun0" */
};
struct taken_list {
	struct taken *items;
	size_t n, room;
};

static void taken_free(struct taken_list *l) {
	free(l->items);
}

static struct taken *taken_add(struct taken_list *l, const struct cidr *c) {
	if (l->n == l->room) {
		l->room = MAX(2 * l->room, 32);
		l->items = alloc_resize(l->items, l->room, sizeof *l->items);
	}
	struct taken *t = &l->items[l->n++];
	*t = (struct taken){.cidr = *c};
	return t;
}

static void clear_host_bits(struct cidr *c) {
	for (unsigned bit = c->prefix; bit < 128; bit++)
		c->ip.bytes[bit / 8] &= (uint8_t)~(0x80 >> bit % 8);
}

/* Whose network it is: of its own links nothing counts. */
struct own_links {
	int index[8];
	size_t n;
};

static bool is_own(const struct own_links *own, int index) {
	for (size_t i = 0; i < own->n; i++)
		if (own->index[i] == index)
			return true;
	return false;
}

static int find_own(struct netlink *nl, const char *id, struct own_links *out, struct error *err) {
	_cleanup_(buf_free) struct buf dump = BUF_INIT;
	struct ifinfomsg all = {0};
	int r = netlink_dump(nl, RTM_GETLINK, &all, sizeof all, &dump, err);
	const struct nlmsghdr *m;
	for (size_t at = 0; r == 0 && (m = dump_next(&dump, &at));) {
		struct tagged_link ids;
		struct link l;
		char tag[9];
		if (link_parse(m, &l) && alias_parse(l.alias, tag, &ids, NULL) && strcmp(ids.network, id) == 0 &&
		    !ids.instance[0] && out->n < ARRAY_SIZE(out->index))
			out->index[out->n++] = l.index;
	}
	return r;
}

static void note_route(const struct nlmsghdr *m, const struct own_links *own, struct taken_list *out) {
	const struct rtmsg *rt = mnl_nlmsg_get_payload(m);
	const struct nlattr *a[RTA_TABLE + 1];
	attrs_parse(m, sizeof *rt, a, RTA_TABLE);
	uint32_t table = a[RTA_TABLE] ? mnl_attr_get_u32(a[RTA_TABLE]) : rt->rtm_table;
	int index = a[RTA_OIF] ? (int)mnl_attr_get_u32(a[RTA_OIF]) : 0;
	struct cidr c = {.ip.family = rt->rtm_family, .prefix = rt->rtm_dst_len};
	bool link_local = rt->rtm_family == AF_INET6 && a[RTA_DST] && ((const uint8_t *)mnl_attr_get_payload(a[RTA_DST]))[0] >= 0xfe;
	if (table == RT_TABLE_LOCAL || !a[RTA_DST] || c.prefix < PREFIX_MIN || link_local || (index && is_own(own, index)))
		return;
	memcpy(c.ip.bytes, mnl_attr_get_payload(a[RTA_DST]), rt->rtm_family == AF_INET ? 4 : 16);
	char text[50], name[IF_NAMESIZE] = "";
	cidr_format(&c, text);
	if (index)
		if_indextoname((unsigned)index, name);
	snprintf(taken_add(out, &c)->what, sizeof out->items->what, "the host's route %s%s%s", text, name[0] ? " on " : "", name);
}

static void note_address(const struct nlmsghdr *m, const struct own_links *own, struct taken_list *out) {
	const struct ifaddrmsg *i = mnl_nlmsg_get_payload(m);
	const struct nlattr *a[IFA_LOCAL + 1];
	attrs_parse(m, sizeof *i, a, IFA_LOCAL);
	const struct nlattr *address = a[IFA_LOCAL] ? a[IFA_LOCAL] : a[IFA_ADDRESS];
	if (!address || is_own(own, (int)i->ifa_index) || i->ifa_scope >= RT_SCOPE_LINK)
		return;
	struct cidr c = {.ip.family = i->ifa_family, .prefix = i->ifa_prefixlen};
	memcpy(c.ip.bytes, mnl_attr_get_payload(address), i->ifa_family == AF_INET ? 4 : 16);
	char text[50], name[IF_NAMESIZE] = "";
	cidr_format(&c, text);
	if_indextoname(i->ifa_index, name);
	clear_host_bits(&c);
	snprintf(taken_add(out, &c)->what, sizeof out->items->what, "the host's address %s on %s", text, name);
}

static int list_taken(const char *id, struct taken_list *out, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	_cleanup_(buf_free) struct buf routes = BUF_INIT, addresses = BUF_INIT;
	struct rtmsg all_routes = {0};
	struct ifaddrmsg all_addresses = {0};
	struct own_links own = {0};
	int r = netlink_open(-1, &nl, err);
	if (r == 0)
		r = find_own(&nl, id, &own, err);
	if (r == 0)
		r = netlink_dump(&nl, RTM_GETROUTE, &all_routes, sizeof all_routes, &routes, err);
	if (r == 0)
		r = netlink_dump(&nl, RTM_GETADDR, &all_addresses, sizeof all_addresses, &addresses, err);
	const struct nlmsghdr *m;
	for (size_t at = 0; r == 0 && (m = dump_next(&routes, &at));)
		note_route(m, &own, out);
	for (size_t at = 0; r == 0 && (m = dump_next(&addresses, &at));)
		note_address(m, &own, out);
	return r;
}

static const struct taken *find_overlap(const struct taken_list *l, const struct cidr *c) {
	for (size_t i = 0; i < l->n; i++)
		if (cidr_overlap(&l->items[i].cidr, c))
			return &l->items[i];
	return NULL;
}

/* ---- picking ---- */

/* Where in a pool a network begins to look: elsewhere than others, that other daemons may be making at the same time. */
static uint64_t first_number(const char *id) {
	char digits[9] = "";
	strncat(digits, id, 8);
	return strtoull(digits, NULL, 16);
}

static bool pick_from(const char *id, const char *text, unsigned prefix, const struct taken_list *taken, struct cidr *out) {
	struct cidr pool;
	cidr_parse(text, &pool);
	uint64_t count = UINT64_C(1) << (prefix - pool.prefix), first = first_number(id);
	out->prefix = prefix;
	for (uint64_t i = 0; i < count; i++) {
		cidr_nth(&pool, (first + i) % count << (32 - prefix), &out->ip);
		if (!find_overlap(taken, out))
			return true;
	}
	return false;
}

static int pick_ipv4(const char *id, const struct taken_list *taken, struct cidr *out, struct error *err) {
	if (pick_from(id, "10.64.0.0/10", 20, taken, out) || pick_from(id, "172.16.0.0/12", 24, taken, out) ||
	    pick_from(id, "192.168.0.0/16", 24, taken, out))
		return 0;
	return error_set(err, ERROR_CONFLICT, "no private IPv4 subnet is free on this host; give one with --subnet");
}

/* fd, and 56 bits of the id; of other places in it while that is taken. */
static int pick_ipv6(const char *id, const struct taken_list *taken, struct cidr *out, struct error *err) {
	size_t digits = strlen(id);
	for (size_t at = 0; at + 14 <= digits; at++) {
		*out = (struct cidr){.ip = {.family = AF_INET6, .bytes = {0xfd}}, .prefix = 64};
		for (size_t i = 0; i < 7; i++) {
			char byte[3] = {id[at + 2 * i], id[at + 2 * i + 1], 0};
			out->ip.bytes[i + 1] = (uint8_t)strtoul(byte, NULL, 16);
		}
		if (!find_overlap(taken, out))
			return 0;
	}
	return error_set(err, ERROR_CONFLICT, "no unique local IPv6 subnet is free on this host; give one with --subnet");
}

static bool has_family(const struct network *n, int family) {
	struct cidr c;
	for (size_t i = 0; i < n->spec.subnets.n; i++)
		if (cidr_parse(n->spec.subnets.items[i].cidr, &c) == 0 && c.ip.family == family)
			return true;
	return false;
}

static void subnet_append(struct network *n, const struct cidr *c) {
	char text[50];
	cidr_format(c, text);
	n->spec.subnets.items = alloc_resize(n->spec.subnets.items, n->spec.subnets.n + 1, sizeof(struct subnet));
	n->spec.subnets.items[n->spec.subnets.n++] = (struct subnet){.cidr = str_copy(text)};
}

static int pick_missing(struct network *n, const struct taken_list *taken, struct error *err) {
	struct cidr c;
	int r = 0;
	if (n->spec.subnets.n == 0) {
		r = pick_ipv4(n->id, taken, &c, err);
		if (r == 0)
			subnet_append(n, &c);
	}
	if (r == 0 && n->spec.ipv6 && !has_family(n, AF_INET6)) {
		r = pick_ipv6(n->id, taken, &c, err);
		if (r == 0)
			subnet_append(n, &c);
	}
	return r;
}

static int check_given(const struct network *n, const struct taken_list *taken, struct error *err) {
	for (size_t i = 0; i < n->spec.subnets.n; i++) {
		struct cidr c;
		if (cidr_parse(n->spec.subnets.items[i].cidr, &c) < 0)
			return error_field(err, "subnets", "\"%s\" is not a subnet such as 10.84.0.0/20", n->spec.subnets.items[i].cidr);
		const struct taken *t = find_overlap(taken, &c);
		if (t)
			return error_set(err, ERROR_CONFLICT, "subnet %s overlaps %s; give another one, or none", n->spec.subnets.items[i].cidr,
					 t->what);
	}
	return 0;
}

int subnets_free(const struct network *n, struct error *err) {
	_cleanup_(taken_free) struct taken_list list = {0};
	int r = list_taken(n->id, &list, err);
	return r < 0 ? r : check_given(n, &list, err);
}

static void fill_rest(struct network *n) {
	for (size_t i = 0; i < n->spec.subnets.n; i++) {
		struct subnet *s = &n->spec.subnets.items[i];
		struct cidr c;
		struct ip first;
		char text[46];
		if (s->gateway || cidr_parse(s->cidr, &c) < 0 || !cidr_nth(&c, 1, &first))
			continue;
		ip_format(&first, text);
		s->gateway = str_copy(text);
	}
	if (!n->spec.domain)
		n->spec.domain = str_format("%s.wabe", n->spec.name);
}

int network_complete(struct network *n, const struct cidr *taken, size_t n_taken, struct error *err) {
	_cleanup_(taken_free) struct taken_list list = {0};
	const struct network_driver *d = network_driver_find(n->spec.driver);
	if (!d)
		return error_field(err, "driver", "there is no driver %s of networks", n->spec.driver);
	int r = d->needs_subnet ? list_taken(n->id, &list, err) : 0;
	for (size_t i = 0; d->needs_subnet && i < n_taken; i++) {
		char text[50];
		cidr_format(&taken[i], text);
		snprintf(taken_add(&list, &taken[i])->what, sizeof list.items->what, "%s of another network", text);
	}
	if (r == 0)
		r = check_given(n, &list, err);
	if (r == 0 && d->needs_subnet)
		r = pick_missing(n, &list, err);
	if (r == 0)
		fill_rest(n);
	return r;
}
