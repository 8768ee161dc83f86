/* Limits of bandwidth: a token bucket on each direction. What leaves a link waits in a bucket of its own; what comes from it is
 * led through another interface (ifb) whose bucket it waits in, so that TCP finds its rate instead of losing packets. */
#include "driver/network/network-priv.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/ethernet.h>
#include <stdio.h>

/* A bucket holds what comes in so long a time, and packets wait at most so long. */
#define BURST_PER_SECOND 100
#define LATENCY_PER_SECOND 20
#define BURST_MIN 16384
#define BURST_MAX (64 << 20)

void rates_link_name(const char *link, char out[16]) {
	if (str_starts(link, "wv"))
		snprintf(out, 16, "wi%s", link + 2);
	else
		link_name("wi", 10, link, NULL, NULL, out);
}

static void bucket_set(struct batch *b, int index, int64_t bits) {
	uint64_t rate = MAX((uint64_t)bits / 8, 1);
	uint64_t burst = MIN(MAX(rate / BURST_PER_SECOND, BURST_MIN), BURST_MAX);
	struct tcmsg t = {.tcm_ifindex = index, .tcm_parent = TC_H_ROOT, .tcm_handle = 1u << 16};
	struct tc_tbf_qopt q = {
		.rate.rate = (uint32_t)MIN(rate, UINT32_MAX),
		.rate.linklayer = TC_LINKLAYER_ETHERNET,
		.limit = (uint32_t)MIN(rate / LATENCY_PER_SECOND + burst, UINT32_MAX),
	};
	struct nlmsghdr *m = batch_add(b, "limit the rate of an interface", 0, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, &t,
				       sizeof t);
	mnl_attr_put_strz(m, TCA_KIND, "tbf");
	struct nlattr *options = mnl_attr_nest_start(m, TCA_OPTIONS);
	mnl_attr_put(m, TCA_TBF_PARMS, sizeof q, &q);
	mnl_attr_put_u32(m, TCA_TBF_BURST, (uint32_t)burst);
	if (rate > UINT32_MAX)
		mnl_attr_put_u64(m, TCA_TBF_RATE64, rate);
	mnl_attr_nest_end(m, options);
}

static void queue_remove(struct batch *b, int index, uint32_t parent) {
	struct tcmsg t = {.tcm_ifindex = index, .tcm_parent = parent};
	batch_add(b, "remove a queue of an interface", ENOENT, RTM_DELQDISC, 0, &t, sizeof t);
}

void link_redirect(struct batch *b, const char *what, int index, int to) {
	struct tcmsg q = {.tcm_ifindex = index, .tcm_parent = TC_H_INGRESS, .tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0)};
	struct tcmsg f = {.tcm_ifindex = index, .tcm_parent = TC_H_MAKE(TC_H_INGRESS, 0),
			  .tcm_info = TC_H_MAKE(1u << 16, htons(ETH_P_ALL))};
	struct {
		struct tc_u32_sel sel;
		struct tc_u32_key key; /* of no bits: fits always */
	} all = {.sel = {.flags = TC_U32_TERMINAL, .nkeys = 1}};
	struct tc_mirred mirred = {.action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = (uint32_t)to};
	queue_remove(b, index, TC_H_INGRESS); /* a half-made one too */
	struct nlmsghdr *m = batch_add(b, what, 0, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &q, sizeof q);
	mnl_attr_put_strz(m, TCA_KIND, "ingress");
	m = batch_add(b, what, 0, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &f, sizeof f);
	mnl_attr_put_strz(m, TCA_KIND, "u32");
	struct nlattr *options = mnl_attr_nest_start(m, TCA_OPTIONS);
	mnl_attr_put(m, TCA_U32_SEL, sizeof all, &all);
	struct nlattr *actions = mnl_attr_nest_start(m, TCA_U32_ACT);
	struct nlattr *first = mnl_attr_nest_start(m, 1);
	mnl_attr_put_strz(m, TCA_ACT_KIND, "mirred");
	struct nlattr *action = mnl_attr_nest_start(m, TCA_ACT_OPTIONS);
	mnl_attr_put(m, TCA_MIRRED_PARMS, sizeof mirred, &mirred);
	mnl_attr_nest_end(m, action);
	mnl_attr_nest_end(m, first);
	mnl_attr_nest_end(m, actions);
	mnl_attr_nest_end(m, options);
}

/* The interface beside l, made if need be. */
static int side_get(struct netlink *nl, const struct link *l, struct link *out, struct error *err) {
	char name[16];
	BATCH(b);
	rates_link_name(l->name, name);
	int r = link_get(nl, name, out, err);
	if (r != 0)
		return MIN(r, 0);
	r = link_probe("ifb", "ifb", err);
	if (r < 0)
		return error_wrap(err, "a rate from an instance cannot be limited");
	mnl_attr_put_u32(link_new(&b, "make an interface for a limit", name, "ifb"), IFLA_MTU, l->mtu);
	link_alias(&b, name, l->alias);
	r = batch_send(nl, &b, err);
	if (r == 0)
		r = link_get(nl, name, out, err);
	return r == 0 ? error_set(err, ERROR_CONFLICT, "%s was removed just now", name) : MIN(r, 0);
}

static int limit_from(struct netlink *nl, const struct link *l, int64_t bits, struct error *err) {
	struct link side;
	BATCH(b);
	int r = side_get(nl, l, &side, err);
	if (r < 0)
		return r;
	bucket_set(&b, side.index, bits);
	link_up(&b, side.index);
	link_redirect(&b, "limit the rate of an interface", l->index, side.index);
	return batch_send(nl, &b, err);
}

static int unlimit_from(struct netlink *nl, const struct link *l, struct error *err) {
	char name[16];
	struct link side;
	BATCH(b);
	rates_link_name(l->name, name);
	int r = link_get(nl, name, &side, err);
	if (r <= 0)
		return r;
	queue_remove(&b, l->index, TC_H_INGRESS);
	link_remove(&b, name);
	return batch_send(nl, &b, err);
}

int rates_set(struct netlink *nl, const struct link *l, int64_t to_instance, int64_t from_instance, struct error *err) {
	BATCH(b);
	if (to_instance)
		bucket_set(&b, l->index, to_instance);
	else
		queue_remove(&b, l->index, TC_H_ROOT);
	int r = batch_send(nl, &b, err);
	if (r < 0)
		return r;
	return from_instance ? limit_from(nl, l, from_instance, err) : unlimit_from(nl, l, err);
}

int network_rates(const char *link, int64_t to_instance, int64_t from_instance, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	struct link l;
	int r = netlink_open(-1, &nl, err);
	if (r == 0)
		r = link_get(&nl, link, &l, err);
	else
		return r;
	if (r == 0)
		return error_set(err, ERROR_NOT_FOUND, "there is no interface %s", link);
	return r < 0 ? r : rates_set(&nl, &l, to_instance, from_instance, err);
}
