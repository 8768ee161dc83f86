/* Sockets, batches and dumps of rtnetlink. */
#include "driver/network/netlink-priv.h"

#include "base/fs.h"
#include "base/time.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* A dump that the kernel could not finish undisturbed is done again, so many times. */
#define DUMP_TRIES 20
#define DUMP_MAX ((size_t)256 << 20)

int netns_call(int netns, int (*fn)(void *arg, struct error *err), void *arg, struct error *err) {
	_cleanup_(close_fd) int own = -1;
	if (netns < 0)
		return fn(arg, err);
	own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (own < 0 || setns(netns, CLONE_NEWNET) < 0)
		return error_errno(err, errno, "cannot enter a network name space");
	int r = fn(arg, err);
	if (setns(own, CLONE_NEWNET) < 0)
		abort(); /* nothing more may be done in the wrong place */
	return r;
}

static int open_here(void *arg, struct error *err) {
	struct netlink *nl = arg;
	static const int on = 1, space = 1 << 20;
	_cleanup_(close_fd) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct sockaddr_nl any = {.nl_family = AF_NETLINK};
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any) < 0)
		return error_errno(err, errno, "cannot open a socket to the kernel's network tables");
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
	setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &space, sizeof space);
	*nl = (struct netlink){.fd = TAKE_FD(fd)};
	return 0;
}

int netlink_open(int netns, struct netlink *nl, struct error *err) {
	*nl = NETLINK_INIT;
	return netns_call(netns, open_here, nl, err);
}

void netlink_close(struct netlink *nl) {
	close_fd(&nl->fd);
}

/* ---- batches ---- */

struct nlmsghdr *batch_add(struct batch *b, const char *what, int ignored, uint16_t type, uint16_t flags,
			   const void *body, size_t n) {
	struct nlmsghdr *last = b->n ? b->messages[b->n - 1] : NULL;
	char *at = last ? (char *)last + MNL_ALIGN(last->nlmsg_len) : b->bytes;
	if (batch_full(b))
		abort(); /* who adds so many asks before */
	struct nlmsghdr *m = mnl_nlmsg_put_header(at);
	m->nlmsg_type = type;
	m->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	memcpy(mnl_nlmsg_put_extra_header(m, n), body, n);
	b->what[b->n] = what;
	b->ignored[b->n] = ignored;
	b->messages[b->n++] = m;
	return m;
}

bool batch_full(const struct batch *b) {
	const struct nlmsghdr *last = b->n ? b->messages[b->n - 1] : NULL;
	size_t used = last ? (size_t)((const char *)last - b->bytes) + last->nlmsg_len : 0;
	return b->n == BATCH_MESSAGES || BATCH_BYTES - used < 1024;
}

/* The text that the kernel may have added to an error. */
static void note_why(struct netlink *nl, const struct nlmsghdr *m) {
	const struct nlattr *a[NLMSGERR_ATTR_MSG + 1];
	nl->why[0] = 0;
	if (!(m->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	attrs_parse(m, sizeof(struct nlmsgerr), a, NLMSGERR_ATTR_MSG); /* the request itself is left out: NETLINK_CAP_ACK */
	if (a[NLMSGERR_ATTR_MSG] && mnl_attr_validate(a[NLMSGERR_ATTR_MSG], MNL_TYPE_NUL_STRING) == 0)
		snprintf(nl->why, sizeof nl->why, "%s", mnl_attr_get_str(a[NLMSGERR_ATTR_MSG]));
}

/* Reads the answers to the requests first … first + n - 1 and gives which one failed first (n: none). */
static int read_acks(struct netlink *nl, const struct batch *b, uint32_t first, size_t *failed) {
	char answer[MNL_SOCKET_BUFFER_SIZE];
	int error = 0;
	*failed = b->n;
	for (size_t answered = 0; answered < b->n;) {
		ssize_t got = RETRY_EINTR(recv(nl->fd, answer, sizeof answer, 0));
		if (got < 0)
			return -errno;
		int left = (int)got;
		for (const struct nlmsghdr *m = (void *)answer; mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
			size_t which = m->nlmsg_seq - first;
			if (m->nlmsg_type != NLMSG_ERROR || which >= b->n)
				continue;
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(m);
			answered++;
			if (e->error == 0 || e->error == -b->ignored[which] || error)
				continue;
			error = e->error;
			*failed = which;
			note_why(nl, m);
		}
	}
	return error;
}

int batch_send(struct netlink *nl, struct batch *b, struct error *err) {
	if (b->n == 0)
		return 0;
	const struct nlmsghdr *last = b->messages[b->n - 1];
	size_t bytes = (size_t)((const char *)last - b->bytes) + MNL_ALIGN(last->nlmsg_len), failed = 0;
	uint32_t first = nl->seq + 1;
	for (size_t i = 0; i < b->n; i++)
		b->messages[i]->nlmsg_seq = ++nl->seq;
	nl->why[0] = 0;
	int r = send(nl->fd, b->bytes, bytes, 0) < 0 ? -errno : read_acks(nl, b, first, &failed);
	nl->errnum = -r;
	if (r < 0) {
		r = error_errno(err, r, "cannot %s", b->what[MIN(failed, b->n - 1)]);
		if (nl->why[0] && err) {
			char *text = str_format("%s (%s)", err->message, nl->why);
			free(err->message);
			err->message = text;
		}
	}
	b->n = 0;
	return r;
}

/* ---- reading ---- */

int netlink_ask(struct netlink *nl, struct nlmsghdr *message) {
	char answer[MNL_SOCKET_BUFFER_SIZE * 4];
	message->nlmsg_flags |= NLM_F_REQUEST;
	message->nlmsg_seq = ++nl->seq;
	if (send(nl->fd, message, message->nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t got = RETRY_EINTR(recv(nl->fd, answer, sizeof answer, 0));
		if (got < 0)
			return -errno;
		const struct nlmsghdr *m = (void *)answer;
		if (!mnl_nlmsg_ok(m, (int)got) || m->nlmsg_seq != nl->seq)
			continue;
		if (m->nlmsg_type == NLMSG_ERROR)
			return ((const struct nlmsgerr *)mnl_nlmsg_get_payload(m))->error;
		if (m->nlmsg_len > MNL_SOCKET_BUFFER_SIZE)
			return -EMSGSIZE;
		memcpy(message, m, m->nlmsg_len);
		return 0;
	}
}

/* One dump, whole. -EINTR: something changed meanwhile. */
static int read_dump(struct netlink *nl, struct buf *out) {
	bool disturbed = false;
	for (;;) {
		char *room = buf_room(out, (size_t)1 << 17);
		ssize_t got = room ? RETRY_EINTR(recv(nl->fd, room, (size_t)1 << 17, 0)) : -1;
		if (got < 0)
			return room ? -errno : -EFBIG;
		buf_grown(out, (size_t)got);
		int left = (int)got;
		for (const struct nlmsghdr *m = (void *)room; mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
			disturbed |= (m->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
			if (m->nlmsg_seq != nl->seq)
				continue;
			if (m->nlmsg_type == NLMSG_ERROR)
				return ((const struct nlmsgerr *)mnl_nlmsg_get_payload(m))->error;
			if (m->nlmsg_type == NLMSG_DONE)
				return disturbed ? -EINTR : 0;
		}
	}
}

int netlink_dump(struct netlink *nl, uint16_t type, const void *body, size_t n, struct buf *out, struct error *err) {
	char bytes[512] __attribute__((aligned(8)));
	struct nlmsghdr *m = mnl_nlmsg_put_header(bytes);
	m->nlmsg_type = type;
	m->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	memcpy(mnl_nlmsg_put_extra_header(m, n), body, n);
	if (type == RTM_GETLINK)
		mnl_attr_put_u32(m, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	out->max = DUMP_MAX;
	int r = -EINTR;
	for (int i = 0; r == -EINTR && i < DUMP_TRIES; i++) {
		buf_truncate(out, 0);
		m->nlmsg_seq = ++nl->seq;
		r = send(nl->fd, m, m->nlmsg_len, 0) < 0 ? -errno : read_dump(nl, out);
	}
	return r < 0 ? error_errno(err, r, "cannot list the kernel's network tables") : 0;
}

const struct nlmsghdr *dump_next(const struct buf *dump, size_t *at) {
	while (*at < dump->len) {
		const struct nlmsghdr *m = (const void *)(dump->data + *at);
		if (!mnl_nlmsg_ok(m, (int)(dump->len - *at)))
			return NULL;
		*at += MNL_ALIGN(m->nlmsg_len);
		if (m->nlmsg_type >= NLMSG_MIN_TYPE)
			return m;
	}
	return NULL;
}

/* ---- events ---- */

int events_open(struct netlink *nl, struct error *err) {
	static const int group = RTNLGRP_LINK;
	int r = netlink_open(-1, nl, err);
	if (r == 0 && setsockopt(nl->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
		r = error_errno(err, errno, "cannot watch the interfaces of the host");
	return r;
}

bool events_wait(struct netlink *nl, int64_t until) {
	char bytes[MNL_SOCKET_BUFFER_SIZE * 4];
	struct pollfd p = {nl->fd, POLLIN, 0};
	int64_t left = until - time_mono_ns();
	if (left <= 0 || RETRY_EINTR(poll(&p, 1, (int)(left / NS_PER_MS + 1))) <= 0)
		return false;
	while (recv(nl->fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
		;
	return true;
}

/* ---- attributes ---- */

static void attrs_collect(const struct nlattr *a, const void *end, const struct nlattr *table[], uint16_t max) {
	memset(table, 0, sizeof table[0] * (max + 1u));
	for (; mnl_attr_ok(a, (int)((const char *)end - (const char *)a)); a = mnl_attr_next(a))
		if (mnl_attr_get_type(a) <= max)
			table[mnl_attr_get_type(a)] = a;
}

void attrs_parse(const struct nlmsghdr *m, size_t body, const struct nlattr *table[], uint16_t max) {
	attrs_collect(mnl_nlmsg_get_payload_offset(m, body), mnl_nlmsg_get_payload_tail(m), table, max);
}

void attrs_parse_nested(const struct nlattr *nest, const struct nlattr *table[], uint16_t max) {
	const char *start = nest ? mnl_attr_get_payload(nest) : NULL;
	attrs_collect((const void *)start, start + (nest ? mnl_attr_get_payload_len(nest) : 0), table, max);
}
