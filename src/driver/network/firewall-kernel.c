/* Small questions to the kernel's nftables, by netlink: which tables and sets there are, and that something has changed. */
#include "driver/network/firewall-priv.h"

#include "base/str.h"
#include "driver/network/netlink-priv.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <unistd.h>

#define ANSWER_MAX ((size_t)64 << 10)

struct question {
	char bytes[512] __attribute__((aligned(8)));
	struct nlmsghdr *header;
};

static void question_begin(struct question *q, uint16_t type, uint16_t flags, uint8_t family) {
	q->header = mnl_nlmsg_put_header(q->bytes);
	q->header->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	q->header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(q->header, sizeof *g);
	*g = (struct nfgenmsg){.nfgen_family = family, .version = NFNETLINK_V0};
}

/* Sends it, and calls fn for each message of the answer. */
static int ask(const struct question *q, mnl_cb_t fn, void *arg) {
	char *answer = alloc_array(1, ANSWER_MAX);
	struct mnl_socket *s = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	int r = s && mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) == 0 && mnl_socket_sendto(s, q->header, q->header->nlmsg_len) >= 0
			? 1
			: -errno;
	while (r > 0) {
		ssize_t n = mnl_socket_recvfrom(s, answer, ANSWER_MAX);
		r = n < 0 ? -errno : mnl_cb_run(answer, (size_t)n, 0, mnl_socket_get_portid(s), fn, arg);
		if (r < 0 && n >= 0)
			r = -errno;
	}
	if (s)
		mnl_socket_close(s);
	free(answer);
	return r;
}

static uint8_t family_number(const char *family) {
	static const struct { const char *name; uint8_t number; } known[] = {
		{"inet", NFPROTO_INET}, {"ip", NFPROTO_IPV4}, {"ip6", NFPROTO_IPV6}, {"bridge", NFPROTO_BRIDGE}};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(known[i].name, family) == 0)
			return known[i].number;
	abort();
}

/* A table that was flushed of its chains as well counts as none. */
static int note_table(const struct nlmsghdr *m, void *arg) {
	const struct nlattr *a[NFTA_TABLE_MAX + 1];
	attrs_parse(m, sizeof(struct nfgenmsg), a, NFTA_TABLE_MAX);
	*(bool *)arg = a[NFTA_TABLE_USE] && ntohl(mnl_attr_get_u32(a[NFTA_TABLE_USE])) > 0;
	return MNL_CB_STOP;
}

bool nft_table_exists(const char *family, const char *table) {
	struct question q;
	bool found = false;
	question_begin(&q, NFT_MSG_GETTABLE, 0, family_number(family));
	mnl_attr_put_strz(q.header, NFTA_TABLE_NAME, table);
	ask(&q, note_table, &found);
	return found;
}

static int note_use(const struct nlmsghdr *m, void *arg) {
	const struct nlattr *a[NFTA_CHAIN_MAX + 1];
	attrs_parse(m, sizeof(struct nfgenmsg), a, NFTA_CHAIN_MAX);
	*(int64_t *)arg = a[NFTA_CHAIN_USE] ? ntohl(mnl_attr_get_u32(a[NFTA_CHAIN_USE])) : 0;
	return MNL_CB_STOP;
}

int64_t nft_chain_use(const char *family, const char *table, const char *chain) {
	struct question q;
	int64_t use = -1;
	question_begin(&q, NFT_MSG_GETCHAIN, 0, family_number(family));
	mnl_attr_put_strz(q.header, NFTA_CHAIN_TABLE, table);
	mnl_attr_put_strz(q.header, NFTA_CHAIN_NAME, chain);
	ask(&q, note_use, &use);
	return use;
}

/* ---- sets ---- */

struct set_names {
	const char *table;
	char **names;
};

static int note_set(const struct nlmsghdr *m, void *arg) {
	struct set_names *s = arg;
	const struct nlattr *a[NFTA_SET_MAX + 1];
	attrs_parse(m, sizeof(struct nfgenmsg), a, NFTA_SET_MAX);
	if (a[NFTA_SET_NAME] && a[NFTA_SET_TABLE] && strcmp(mnl_attr_get_str(a[NFTA_SET_TABLE]), s->table) == 0)
		strv_add(&s->names, mnl_attr_get_str(a[NFTA_SET_NAME]));
	return MNL_CB_OK;
}

int nft_set_names(const char *tag, char ***names, struct error *err) {
	struct question q;
	_cleanup_(free_ptr) char *table = str_format("wabe_%s", tag);
	struct set_names found = {.table = table};
	question_begin(&q, NFT_MSG_GETSET, NLM_F_DUMP, NFPROTO_INET);
	mnl_attr_put_strz(q.header, NFTA_SET_TABLE, table);
	int r = ask(&q, note_set, &found);
	*names = found.names;
	return r < 0 ? error_errno(err, r, "cannot list the sets of nftables") : 0;
}

/* ---- changes ---- */

int firewall_watch_open(struct error *err) {
	_cleanup_(close_fd) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	struct sockaddr_nl any = {.nl_family = AF_NETLINK};
	int group = NFNLGRP_NFTABLES;
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any) < 0 ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
		return error_errno(err, errno, "cannot watch nftables");
	return TAKE_FD(fd);
}

static bool is_our_table(const struct nlmsghdr *m, const char *table) {
	const struct nlattr *a[NFTA_TABLE_MAX + 1];
	if (m->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE))
		return false;
	attrs_parse(m, sizeof(struct nfgenmsg), a, NFTA_TABLE_MAX);
	return a[NFTA_TABLE_NAME] && strcmp(mnl_attr_get_str(a[NFTA_TABLE_NAME]), table) == 0;
}

int firewall_watch_read(int fd, const char *tag) {
	_cleanup_(free_ptr) char *table = str_format("wabe_%s", tag), *bytes = alloc_array(1, ANSWER_MAX);
	bool suspicious = false;
	for (;;) {
		ssize_t n = RETRY_EINTR(recv(fd, bytes, ANSWER_MAX, 0));
		if (n < 0 && errno == ENOBUFS) { /* more than the socket holds: anything may have happened */
			suspicious = true;
			continue;
		}
		if (n <= 0)
			break;
		int left = (int)n;
		for (const struct nlmsghdr *m = (void *)bytes; mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left))
			suspicious |= is_our_table(m, table);
	}
	/* a table that we replaced was removed too, but is there */
	return suspicious && !firewall_present(tag) ? 1 : 0;
}
