/* Flows of UDP that the kernel remembers: as long as packets come, one goes where it went first, also when the port leads
 * elsewhere since, or nowhere. So those of a port that changes are forgotten. By ctnetlink: a dump that the kernel
 * filters by protocol, then one message for each flow. */
#include "driver/network/firewall-priv.h"

#include "base/str.h"
#include "driver/network/netlink-priv.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <unistd.h>

#define FILTER_PROTOCOL (1u << 3) /* of CTA_FILTER_ORIG_FLAGS; the kernel has no name for it in its headers */
#define ANSWER_MAX ((size_t)64 << 10)

struct wanted {
	const char *address;
	int64_t port, count;
	char *const *keep;
	struct buf found; /* messages that delete, one behind the other */
};

struct flow {
	struct ip destination; /* as the sender addressed it */
	uint16_t port;
	struct ip receiver;    /* who answers it in truth */
	const struct nlattr *original, *id;
};

static struct nlmsghdr *message_begin(void *room, uint16_t type, uint16_t flags, int family) {
	struct nlmsghdr *m = mnl_nlmsg_put_header(room);
	m->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
	m->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(m, sizeof *g);
	*g = (struct nfgenmsg){.nfgen_family = (uint8_t)family, .version = NFNETLINK_V0};
	return m;
}

static const struct nlattr *inner(const struct nlattr *nest, uint16_t type) {
	const struct nlattr *table[CTA_MAX + 1];
	attrs_parse_nested(nest, table, CTA_MAX);
	return table[type];
}

static bool take_address(const struct nlattr *tuple, int family, bool source, struct ip *out) {
	uint16_t v4 = source ? CTA_IP_V4_SRC : CTA_IP_V4_DST, v6 = source ? CTA_IP_V6_SRC : CTA_IP_V6_DST;
	const struct nlattr *attr = inner(inner(tuple, CTA_TUPLE_IP), family == AF_INET ? v4 : v6);
	size_t n = family == AF_INET ? 4 : 16;
	if (!attr || mnl_attr_get_payload_len(attr) < n)
		return false;
	*out = (struct ip){.family = family};
	memcpy(out->bytes, mnl_attr_get_payload(attr), n);
	return true;
}

static bool flow_parse(const struct nlmsghdr *m, struct flow *f) {
	const struct nfgenmsg *g = mnl_nlmsg_get_payload(m);
	const struct nlattr *table[CTA_MAX + 1];
	attrs_parse(m, sizeof *g, table, CTA_MAX);
	*f = (struct flow){.original = table[CTA_TUPLE_ORIG], .id = table[CTA_ID]};
	const struct nlattr *protocol = inner(f->original, CTA_TUPLE_PROTO);
	const struct nlattr *number = inner(protocol, CTA_PROTO_NUM), *port = inner(protocol, CTA_PROTO_DST_PORT);
	if (!number || mnl_attr_get_u8(number) != IPPROTO_UDP || !port)
		return false;
	f->port = ntohs(mnl_attr_get_u16(port));
	return take_address(f->original, g->nfgen_family, false, &f->destination) &&
	       take_address(table[CTA_TUPLE_REPLY], g->nfgen_family, true, &f->receiver);
}

/* An address that a socket can have is the host's. */
static bool is_local(const struct ip *ip) {
	_cleanup_(close_fd) int fd = socket(ip->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	memcpy(&v4.sin_addr, ip->bytes, 4);
	memcpy(&v6.sin6_addr, ip->bytes, 16);
	bool is_v4 = ip->family == AF_INET;
	return bind(fd, is_v4 ? (void *)&v4 : (void *)&v6, is_v4 ? sizeof v4 : sizeof v6) == 0;
}

static bool is_wanted(const struct wanted *w, const struct flow *f) {
	char text[46];
	if (f->port < w->port || f->port >= w->port + w->count)
		return false;
	ip_format(&f->receiver, text);
	if (w->keep && strv_has(w->keep, text))
		return false;
	ip_format(&f->destination, text);
	return w->address ? strcmp(text, w->address) == 0 : is_local(&f->destination);
}

static int note_flow(const struct nlmsghdr *m, void *arg) {
	char bytes[1024] __attribute__((aligned(8)));
	const struct nfgenmsg *g = mnl_nlmsg_get_payload(m);
	struct wanted *w = arg;
	struct flow f;
	if (!flow_parse(m, &f) || !is_wanted(w, &f) || f.original->nla_len > 512)
		return MNL_CB_OK;
	struct nlmsghdr *d = message_begin(bytes, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, g->nfgen_family);
	mnl_attr_put(d, CTA_TUPLE_ORIG | NLA_F_NESTED, mnl_attr_get_payload_len(f.original), mnl_attr_get_payload(f.original));
	if (f.id)
		mnl_attr_put_u32(d, CTA_ID, mnl_attr_get_u32(f.id));
	buf_add(&w->found, d, MNL_ALIGN(d->nlmsg_len));
	return MNL_CB_OK;
}

/* Reads answers until the last. */
static int receive(struct mnl_socket *s, mnl_cb_t fn, void *arg) {
	_cleanup_(free_ptr) char *answer = alloc_array(1, ANSWER_MAX);
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(s, answer, ANSWER_MAX);
		int r = n < 0 ? -1 : mnl_cb_run(answer, (size_t)n, 0, mnl_socket_get_portid(s), fn, arg);
		if (r <= MNL_CB_STOP)
			return r < 0 ? -errno : 0;
	}
}

static int find_flows(struct mnl_socket *s, int family, struct wanted *w) {
	char bytes[256] __attribute__((aligned(8)));
	struct nlmsghdr *m = message_begin(bytes, IPCTNL_MSG_CT_GET, NLM_F_DUMP, family);
	struct nlattr *tuple = mnl_attr_nest_start(m, CTA_TUPLE_ORIG), *protocol = mnl_attr_nest_start(m, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(m, CTA_PROTO_NUM, IPPROTO_UDP);
	mnl_attr_nest_end(m, protocol);
	mnl_attr_nest_end(m, tuple);
	struct nlattr *filter = mnl_attr_nest_start(m, CTA_FILTER);
	mnl_attr_put_u32(m, CTA_FILTER_ORIG_FLAGS, FILTER_PROTOCOL);
	mnl_attr_nest_end(m, filter);
	return mnl_socket_sendto(s, m, m->nlmsg_len) < 0 ? -errno : receive(s, note_flow, w);
}

static int delete_flows(struct mnl_socket *s, const struct wanted *w) {
	int r = 0;
	for (size_t at = 0; r == 0 && at < w->found.len;) {
		const struct nlmsghdr *m = (const void *)(w->found.data + at);
		at += MNL_ALIGN(m->nlmsg_len);
		r = mnl_socket_sendto(s, m, m->nlmsg_len) < 0 ? -errno : receive(s, NULL, NULL);
		if (r == -ENOENT) /* it has ended meanwhile */
			r = 0;
	}
	return r;
}

int conntrack_forget(const char *address, int64_t port, int64_t count, char *const *keep, struct error *err) {
	struct wanted w = {.address = address, .port = port, .count = MAX(count, 1), .keep = keep};
	struct mnl_socket *s = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	int r = s && mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) == 0 ? 0 : -errno;
	if (r == 0)
		r = find_flows(s, AF_INET, &w);
	if (r == 0)
		r = find_flows(s, AF_INET6, &w);
	if (r == 0)
		r = delete_flows(s, &w);
	if (s)
		mnl_socket_close(s);
	buf_free(&w.found);
	return r < 0 ? error_errno(err, r, "cannot make the kernel forget the flows to port %lld/udp", (long long)port) : 0;
}
