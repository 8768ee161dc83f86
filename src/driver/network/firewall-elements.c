/* Sets and maps: what they hold, and the quick way to change them. A script that only puts elements in and takes them out, as most
 * that come with an instance do, is sent to the kernel as it is, in one message each: libnftables would first read all
 * tables, chains and sets of the host. */
#include "driver/network/firewall-priv.h"

#include "base/str.h"
#include "driver/network/netlink-priv.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#define SCRIPT_MAX ((size_t)64 << 10) /* what is longer is for libnftables */
#define MESSAGE_MAX 512
#define KEY_MAX 64

/* "address" is of the table's own family. A number is 16 bytes of a packet: nft 1.0.6 has no name for the target of a neighbour's message. */
static const struct set {
	const char *family; /* "nat": ip and ip6 */
	const char *name, *key, *value; /* value NULL: a set */
} sets[] = {
	{"bridge", "guarded", "ifname", NULL},
	{"bridge", "macs", "ifname . ether_addr", NULL},
	{"bridge", "ipv4", "ifname . ipv4_addr", NULL},
	{"bridge", "ipv6", "ifname . ipv6_addr", NULL},
	{"bridge", "targets", "ifname . number", NULL},
	{"bridge", "hairpins", "ifname . ifname", NULL},
	{"inet", "bridges", "ifname", NULL},
	{"inet", "within", "ifname . ifname", NULL},    /* each bridge and itself */
	{"inet", "internal", "ifname", NULL},
	{"inet", "isolated", "ifname . ifname", NULL},
	{"inet", "gateways4", "ifname . ipv4_addr", NULL},
	{"inet", "gateways6", "ifname . ipv6_addr", NULL},
	{"inet", "egress", "ifname", "verdict"},       /* networks with rules, … */
	{"inet", "egress4", "ifname . ipv4_addr", "verdict"}, /* … and instances */
	{"inet", "egress6", "ifname . ipv6_addr", "verdict"},
	{"inet", "ingress", "ifname", "verdict"},
	{"inet", "ingress4", "ifname . ipv4_addr", "verdict"},
	{"inet", "ingress6", "ifname . ipv6_addr", "verdict"},
	{"nat", "near", "ifname", NULL},               /* bridges, and the way back from the detour */
	{"nat", "bridges", "ifname", NULL},
	{"nat", "nat", "ifname", NULL},                /* bridges of networks with nat */
	{"nat", "within", "ifname . ifname", NULL},
	{"nat", "self", "address . address", NULL},    /* each instance's address and itself */
	{"nat", "host", "address . inet_proto . inet_service", NULL},
	{"nat", "host_any", "inet_proto . inet_service", NULL},
	{"nat", "publish", "address . inet_proto . inet_service", "address . inet_service"},
	{"nat", "publish_any", "inet_proto . inet_service", "address . inet_service"},
	{"nat", "inside", "address", "verdict"},       /* balancers' addresses on networks */
	{"nat", "balance", "address . inet_proto . inet_service", "verdict"},
	{"nat", "balance_any", "inet_proto . inet_service", "verdict"},
};

static bool is_of(const struct set *s, const char *family) {
	return strcmp(s->family, family) == 0 || (strcmp(s->family, "nat") == 0 && str_starts(family, "ip"));
}

/* ---- as text ---- */

/* A type in nft's words. */
static void add_type(struct buf *out, const char *type, const char *family) {
	const char *address = strcmp(family, "ip6") == 0 ? "ipv6_addr" : "ipv4_addr";
	struct str rest = str_view(type);
	for (const char *before = ""; rest.len; before = " . ") {
		struct str word = str_cut(&rest, ' ');
		if (str_is(word, "."))
			continue;
		if (str_is(word, "address"))
			buf_addf(out, "%s%s", before, address);
		else
			buf_addf(out, "%s%.*s", before, (int)word.len, word.p);
	}
}

void script_sets(struct script *c, const char *family) {
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		if (!is_of(&sets[i], family))
			continue;
		buf_addf(c->out, "\t%s %s { ", sets[i].value ? "map" : "set", sets[i].name);
		if (strstr(sets[i].key, "number")) {
			buf_adds(c->out, "typeof iifname . @th,64,128");
		} else {
			buf_adds(c->out, "type ");
			add_type(c->out, sets[i].key, family);
		}
		if (sets[i].value) {
			buf_adds(c->out, " : ");
			add_type(c->out, sets[i].value, family);
		}
		buf_adds(c->out, "; }\n");
	}
}

/* ---- as bytes ---- */

struct key {
	uint8_t bytes[KEY_MAX];
	size_t n;
};

static bool put_hex(const char *text, uint8_t *to, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (sscanf(text + 2 * i, "%2hhx", &to[i]) != 1)
			return false;
	return true;
}

static bool put_mac(const char *text, uint8_t *to) {
	return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &to[0], &to[1], &to[2], &to[3], &to[4], &to[5]) == 6;
}

static bool put_protocol(const char *text, uint8_t *to) {
	*to = strcmp(text, "tcp") == 0 ? IPPROTO_TCP : strcmp(text, "udp") == 0 ? IPPROTO_UDP : strcmp(text, "sctp") == 0 ? IPPROTO_SCTP : 0;
	return *to != 0;
}

static bool put_port(const char *text, uint8_t *to) {
	uint64_t n;
	if (str_to_u64(text, 10, &n) < 0 || n > 65535)
		return false;
	to[0] = (uint8_t)(n >> 8);
	to[1] = (uint8_t)n;
	return true;
}

/* The name of an interface, in quotes. */
static bool put_name(const char *text, uint8_t *to) {
	size_t n = strlen(text);
	if (n < 3 || n > 17 || text[0] != '"' || text[n - 1] != '"')
		return false;
	memcpy(to, text + 1, n - 2);
	return true;
}

/* One part of a key, at 4 bytes' alignment. False: this is no such text. */
static bool key_add(struct key *k, struct str type, const char *family, const char *text) {
	uint8_t *to = k->bytes + k->n;
	bool v6 = str_is(type, "ipv6_addr") || (str_is(type, "address") && strcmp(family, "ip6") == 0);
	if (k->n > KEY_MAX - 16)
		return false;
	if (v6 || str_is(type, "number") || str_is(type, "ifname")) {
		k->n += 16;
		return v6 ? inet_pton(AF_INET6, text, to) == 1 : str_is(type, "ifname") ? put_name(text, to) : put_hex(text + 2, to, 16);
	}
	k->n += str_is(type, "ether_addr") ? 8 : 4;
	if (str_is(type, "ether_addr"))
		return put_mac(text, to);
	if (str_is(type, "inet_proto"))
		return put_protocol(text, to);
	return str_is(type, "inet_service") ? put_port(text, to) : inet_pton(AF_INET, text, to) == 1;
}

/* "A . B . C" by a type of as many parts. */
static bool key_parse(struct str text, const char *type, const char *family, struct key *k) {
	struct str types = str_view(type);
	*k = (struct key){0};
	while (types.len && text.len) {
		struct str t = str_cut(&types, ' '), word = str_cut(&text, ' ');
		_cleanup_(free_ptr) char *part = str_copyn(word.p, word.len);
		if (str_is(t, ".") ? !str_is(word, ".") : !key_add(k, t, family, part))
			return false;
	}
	return !types.len && !text.len;
}

/* ---- as messages ---- */

struct batch_text {
	struct buf out;
	uint32_t n; /* messages, numbered by line */
};

static struct nlmsghdr *message_begin(char room[MESSAGE_MAX], uint16_t type, uint16_t flags, uint32_t seq, uint8_t family, uint16_t resource) {
	struct nlmsghdr *m = mnl_nlmsg_put_header(room);
	m->nlmsg_type = type;
	m->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	m->nlmsg_seq = seq;
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(m, sizeof *g);
	*g = (struct nfgenmsg){.nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(resource)};
	return m;
}

static void put_key(struct nlmsghdr *m, uint16_t type, const struct key *k) {
	struct nlattr *nest = mnl_attr_nest_start(m, type);
	mnl_attr_put(m, NFTA_DATA_VALUE, k->n, k->bytes);
	mnl_attr_nest_end(m, nest);
}

/* "goto CHAIN" */
static bool put_verdict(struct nlmsghdr *m, struct str text) {
	struct str verb = str_cut(&text, ' ');
	_cleanup_(free_ptr) char *chain = str_copyn(text.p, text.len);
	if (!str_is(verb, "goto") || text.len > 200)
		return false;
	struct nlattr *data = mnl_attr_nest_start(m, NFTA_SET_ELEM_DATA), *verdict = mnl_attr_nest_start(m, NFTA_DATA_VERDICT);
	mnl_attr_put_u32(m, NFTA_VERDICT_CODE, htonl((uint32_t)NFT_GOTO));
	mnl_attr_put_strz(m, NFTA_VERDICT_CHAIN, chain);
	mnl_attr_nest_end(m, verdict);
	mnl_attr_nest_end(m, data);
	return true;
}

static bool put_element(struct nlmsghdr *m, const struct set *s, const char *family, struct str key, struct str value) {
	struct key k;
	bool ok = key_parse(key, s->key, family, &k);
	struct nlattr *list = mnl_attr_nest_start(m, NFTA_SET_ELEM_LIST_ELEMENTS), *element = mnl_attr_nest_start(m, NFTA_LIST_ELEM);
	put_key(m, NFTA_SET_ELEM_KEY, &k);
	if (ok && s->value && strcmp(s->value, "verdict") == 0) {
		ok = put_verdict(m, value);
	} else if (ok && s->value) {
		ok = key_parse(value, s->value, family, &k);
		put_key(m, NFTA_SET_ELEM_DATA, &k);
	}
	mnl_attr_nest_end(m, element);
	mnl_attr_nest_end(m, list);
	return ok;
}

static uint8_t family_number(const char *family) {
	return strcmp(family, "bridge") == 0 ? NFPROTO_BRIDGE
	       : strcmp(family, "inet") == 0 ? NFPROTO_INET
	       : strcmp(family, "ip") == 0   ? NFPROTO_IPV4
					     : NFPROTO_IPV6;
}

static const struct set *find_set(const char *family, struct str name) {
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		if (is_of(&sets[i], family) && str_is(name, sets[i].name))
			return &sets[i];
	return NULL;
}

/* "add element FAMILY TABLE SET { KEY }", or "{ KEY : VALUE }". False: a line of another kind. */
static bool add_message(struct batch_text *b, struct str line) {
	char room[MESSAGE_MAX] __attribute__((aligned(8)));
	struct str verb = str_cut(&line, ' '), what = str_cut(&line, ' '), family = str_cut(&line, ' '), table = str_cut(&line, ' '),
		   name = str_cut(&line, ' ');
	bool removing = str_is(verb, "delete");
	_cleanup_(free_ptr) char *family_text = str_copyn(family.p, family.len), *table_text = str_copyn(table.p, table.len);
	const struct set *s = find_set(family_text, name);
	if ((!removing && !str_is(verb, "add")) || !str_is(what, "element") || !s || line.len < 5 || table.len > 32)
		return false;
	struct str key = {line.p + 2, line.len - 4}, value = {0};
	const char *colon = s->value ? memmem(key.p, key.len, " : ", 3) : NULL;
	if (colon) {
		value = (struct str){colon + 3, key.len - (size_t)(colon - key.p) - 3};
		key.len = (size_t)(colon - key.p);
	}
	struct nlmsghdr *m = message_begin(room, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | (removing ? NFT_MSG_DELSETELEM : NFT_MSG_NEWSETELEM)),
					   (uint16_t)(NLM_F_ACK | (removing ? 0 : NLM_F_CREATE)), ++b->n, family_number(family_text), 0);
	mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_TABLE, table_text);
	mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_SET, s->name);
	if (!put_element(m, s, family_text, key, value))
		return false;
	buf_add(&b->out, m, MNL_ALIGN(m->nlmsg_len));
	return true;
}

static void add_bracket(struct batch_text *b, uint16_t type) {
	char room[MESSAGE_MAX] __attribute__((aligned(8)));
	struct nlmsghdr *m = message_begin(room, type, 0, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	buf_add(&b->out, m, MNL_ALIGN(m->nlmsg_len));
}

/* Reads as many answers as there were messages; gives which one failed first. */
static int read_answers(int fd, uint32_t n, uint32_t *failed) {
	_cleanup_(free_ptr) char *bytes = alloc_array(1, SCRIPT_MAX);
	int error = 0;
	for (uint32_t answered = 0; answered < n;) {
		ssize_t got = RETRY_EINTR(recv(fd, bytes, SCRIPT_MAX, 0));
		if (got < 0)
			return -errno;
		int left = (int)got;
		for (const struct nlmsghdr *m = (void *)bytes; mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
			if (m->nlmsg_type != NLMSG_ERROR)
				continue;
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(m);
			answered++;
			if (e->error && !error) {
				error = e->error;
				*failed = m->nlmsg_seq;
			}
			if (m->nlmsg_seq == 0) /* of the whole */
				return error;
		}
	}
	return error;
}

static int send_batch(const struct batch_text *b, uint32_t *failed) {
	static const int space = 1 << 22, on = 1;
	_cleanup_(close_fd) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	if (fd < 0 || bind(fd, (struct sockaddr *)&kernel, sizeof kernel) < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &space, sizeof space);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &space, sizeof space);
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
	if (sendto(fd, b->out.data, b->out.len, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0)
		return -errno;
	return read_answers(fd, b->n, failed);
}

static struct str line_of(const struct buf *script, uint32_t n) {
	struct str rest = {script->data, script->len}, line = {0};
	while (n-- && rest.len)
		line = str_cut(&rest, '\n');
	return line;
}

bool nft_run_elements(const struct buf *script, int *result, struct error *err) {
	struct batch_text b = {0};
	struct str rest = {script->data, script->len};
	uint32_t failed = 0;
	bool simple = script->len && script->len < SCRIPT_MAX;
	add_bracket(&b, NFNL_MSG_BATCH_BEGIN);
	while (simple && rest.len)
		simple = add_message(&b, str_cut(&rest, '\n'));
	add_bracket(&b, NFNL_MSG_BATCH_END);
	if (simple) {
		*result = send_batch(&b, &failed);
		struct str line = line_of(script, failed);
		if (*result < 0)
			*result = error_errno(err, *result, "nftables refuses \"%.*s\"", (int)line.len, line.p);
	}
	buf_free(&b.out);
	return simple;
}
