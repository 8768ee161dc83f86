/* Talking to rtnetlink in one network name space: requests that are sent together in one system call, and dumps. On top of
 * libmnl's building of messages; the rest of this room builds on it. Blocking. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

struct netlink {
	int fd;
	uint32_t seq;
	int errnum;    /* of the batch that was sent last: of its first request that failed, or 0 */
	char why[128]; /* what the kernel said about it, or "" */
};
#define NETLINK_INIT ((struct netlink){.fd = -1})

/* A socket in a name space (a descriptor; -1: in the caller's own), where the socket stays. */
int netlink_open(int netns, struct netlink *nl, struct error *err);
void netlink_close(struct netlink *nl);
/* Calls fn in the name space, and comes back. Gives fn's result, or a negative kind. */
int netns_call(int netns, int (*fn)(void *arg, struct error *err), void *arg, struct error *err);

#define BATCH_MESSAGES 16
#define BATCH_BYTES 8192
/* Requests on their way to the kernel: it works through all of them in one call, also behind one that failed. Fields after `bytes`
 * are zero in an empty one. */
struct batch {
	char bytes[BATCH_BYTES] __attribute__((aligned(8)));
	size_t n;
	struct nlmsghdr *messages[BATCH_MESSAGES];
	const char *what[BATCH_MESSAGES]; /* "add the address": for errors */
	int ignored[BATCH_MESSAGES];      /* an errno that is no failure */
};
#define BATCH(name)      \
	struct batch name; \
	(name).n = 0

/* Begins another request: a header, then `body`. `flags` besides NLM_F_REQUEST | NLM_F_ACK. Attributes are put on what is
 * given back, before the next one begins. */
struct nlmsghdr *batch_add(struct batch *b, const char *what, int ignored, uint16_t type, uint16_t flags,
			   const void *body, size_t n);
bool batch_full(const struct batch *b);
/* The error is that of the first that failed, "cannot WHAT: why"; nl->errnum says which. The batch is empty afterwards. */
int batch_send(struct netlink *nl, struct batch *b, struct error *err);

/* All answers to a request for a dump, one after the other, and consistent. */
int netlink_dump(struct netlink *nl, uint16_t type, const void *body, size_t n, struct buf *out, struct error *err);
/* for (size_t at = 0; (m = dump_next(&d, &at));) */
const struct nlmsghdr *dump_next(const struct buf *dump, size_t *at);
/* The answer to one request, built as by mnl_nlmsg_put_header in `message` (at least MNL_SOCKET_BUFFER_SIZE bytes), which
 * it replaces. 0 or -errno. */
int netlink_ask(struct netlink *nl, struct nlmsghdr *message);
/* A socket that hears of every change of a link of the caller's name space; true when there was one before `until`
 * (time_mono_ns). */
int events_open(struct netlink *nl, struct error *err);
bool events_wait(struct netlink *nl, int64_t until);
/* Attributes by their type; those above max are left out. */
void attrs_parse(const struct nlmsghdr *m, size_t body, const struct nlattr *table[], uint16_t max);
void attrs_parse_nested(const struct nlattr *nest, const struct nlattr *table[], uint16_t max);
