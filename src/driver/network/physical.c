/* The driver physical: an interface of the host is one instance's alone, with the MAC that it has. While it is away, its alias says
 * whose it is and what it was before: "wabe <tag> <network> <instance> physical <name> up|down <its own alias>".
 *
 * When a name space ends, the kernel gives hardware back under the name that it had inside, or another; the alias tells us.
 * An instance that may administrate its network can write the alias: so the name is taken from the network's spec, where there
 * is one. Interfaces without hardware end with the name space: they are given back only by a detach before. */
#include "driver/network/network-priv.h"

#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* So long is waited for the kernel to clean up after a name space that has ended. */
#define RETURN_WAIT (2 * NS_PER_SEC)

static int probe(UNUSED struct error *err) {
	return 0;
}

/* An instance may have it at the moment, or nobody does: that is told when one wants it. */
static int up(const char *tag, const struct network *n, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	struct link uplink;
	int r = netlink_open(-1, &nl, err);
	if (r == 0)
		r = link_get(&nl, n->spec.parent, &uplink, err);
	if (r <= 0 || !n->spec.vlan)
		return r;
	return uplink_get(&nl, tag, n, &uplink, err);
}

/* ---- giving back ---- */

struct before {
	char name[16];
	bool up;
	const char *alias;
};

static bool before_parse(const char *alias, struct before *out) {
	struct tagged_link ids;
	char tag[9];
	const char *rest;
	if (!alias_parse(alias, tag, &ids, &rest))
		return false;
	struct str s = str_view(rest), word = str_cut(&s, ' '), name = str_cut(&s, ' '), state = str_cut(&s, ' ');
	if (!str_is(word, "physical") || !name.len || name.len >= sizeof out->name)
		return false;
	snprintf(out->name, sizeof out->name, "%.*s", (int)name.len, name.p);
	out->up = str_is(state, "up");
	out->alias = s.len ? s.p : "";
	return true;
}

bool physical_is(const struct link *l) {
	struct before was;
	return before_parse(l->alias, &was);
}

int physical_restore(struct netlink *nl, const struct link *l, const char *name, struct error *err) {
	struct before was;
	struct ifinfomsg i = {.ifi_index = l->index};
	BATCH(b);
	if (!before_parse(l->alias, &was))
		return 0;
	if (name)
		snprintf(was.name, sizeof was.name, "%s", name);
	if (strcmp(l->name, was.name) != 0) {
		struct nlmsghdr *m = batch_add(&b, "give an interface its old name", 0, RTM_NEWLINK, 0, &i, sizeof i);
		mnl_attr_put_strz(m, IFLA_IFNAME, was.name);
		int r = batch_send(nl, &b, err);
		if (r < 0)
			return error_wrap(err, "%s, which was %s", l->name, was.name);
	}
	link_alias(&b, was.name, was.alias);
	if (was.up)
		link_up(&b, l->index);
	return batch_send(nl, &b, err);
}

/* What is on the host and was lent to the instance: 1, 0, an error. */
static int find_returned(struct netlink *nl, const char *tag, const struct network *n, const char *instance,
			 struct link *out, struct error *err) {
	_cleanup_(buf_free) struct buf dump = BUF_INIT;
	struct ifinfomsg all = {0};
	int r = netlink_dump(nl, RTM_GETLINK, &all, sizeof all, &dump, err);
	const struct nlmsghdr *m;
	for (size_t at = 0; r == 0 && (m = dump_next(&dump, &at));)
		if (link_parse(m, out) && alias_is(out->alias, tag, n->id, instance) && physical_is(out))
			r = 1;
	return r;
}

static int take_returned(const char *tag, const struct network *n, const char *instance, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT, events = NETLINK_INIT;
	int64_t until = time_mono_ns() + RETURN_WAIT;
	struct link l;
	int r = netlink_open(-1, &nl, err);
	if (r == 0)
		r = events_open(&events, err);
	while (r == 0) {
		r = find_returned(&nl, tag, n, instance, &l, err);
		if (r > 0)
			return physical_restore(&nl, &l, n->spec.vlan ? NULL : n->spec.parent, err);
		if (r == 0)
			r = link_get(&nl, n->spec.parent, &l, err); /* it is back already */
		if (r == 0 && (n->spec.vlan || !events_wait(&events, until)))
			break;
	}
	return MIN(r, 0);
}

static int give_back(struct netlink *inside, const struct network *n, const struct link *own, struct error *err) {
	_cleanup_(close_fd) int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	struct ifinfomsg i = {.ifi_index = own->index};
	struct before was;
	BATCH(b);
	if (here < 0)
		return error_errno(err, errno, "cannot open the host's network name space");
	if (!before_parse(own->alias, &was))
		return 0;
	struct nlmsghdr *m = batch_add(&b, "give an interface back to the host", 0, RTM_NEWLINK, 0, &i, sizeof i);
	mnl_attr_put_u32(m, IFLA_NET_NS_FD, (uint32_t)here);
	mnl_attr_put_strz(m, IFLA_IFNAME, n->spec.vlan ? was.name : n->spec.parent);
	return batch_send(inside, &b, err);
}

static int detach(const char *tag, const struct network *n, const char *instance, const struct nic *nic, int netns,
		  struct error *err) {
	_cleanup_(netlink_close) struct netlink inside = NETLINK_INIT;
	struct link own;
	char rates[16];
	BATCH(b);
	if (netns < 0)
		return take_returned(tag, n, instance, err);
	int r = netlink_open(netns, &inside, err);
	if (r == 0)
		r = link_get(&inside, nic->interface, &own, err);
	if (r > 0 && alias_is(own.alias, tag, n->id, instance)) {
		rates_link_name(nic->interface, rates);
		link_remove(&b, rates);
		batch_send(&inside, &b, NULL);
		r = give_back(&inside, n, &own, err);
	}
	return r < 0 ? r : take_returned(tag, n, instance, err);
}

/* ---- lending ---- */

static int lend(struct netlink *host, const struct link *uplink, const struct nic *nic, const char *alias, int netns,
		struct error *err) {
	struct ifinfomsg i = {.ifi_index = uplink->index};
	BATCH(b);
	link_alias(&b, uplink->name, alias);
	struct nlmsghdr *m = batch_add(&b, "move an interface into the instance", 0, RTM_NEWLINK, 0, &i, sizeof i);
	mnl_attr_put_u32(m, IFLA_NET_NS_FD, (uint32_t)netns);
	mnl_attr_put_strz(m, IFLA_IFNAME, nic->interface);
	int r = batch_send(host, &b, err);
	if (r < 0) {
		link_alias(&b, uplink->name, uplink->alias);
		batch_send(host, &b, NULL);
	}
	return r;
}

/* The interface on the host, free to be lent. */
static int free_uplink(struct netlink *host, const char *tag, const struct network *n, struct link *out,
		       struct error *err) {
	int r = uplink_get(host, tag, n, out, err);
	if (r == -ERROR_NOT_FOUND)
		return error_set(err, ERROR_CONFLICT, "the host has no interface %s now; an instance may have it", n->spec.parent);
	if (r == 0 && out->master)
		return error_set(err, ERROR_CONFLICT, "%s is a port of another interface; take it out there first", out->name);
	return r < 0 ? r : link_unaddressed(host, out, err);
}

static int alias_lent(const char *tag, const struct network *n, const char *instance, const struct link *l,
		      char out[ALIAS_MAX], struct error *err) {
	char ours[ALIAS_MAX];
	alias_make(tag, n->id, instance, ours);
	_cleanup_(free_ptr) char *all = str_format("%s physical %s %s %s", ours, l->name, l->flags & IFF_UP ? "up" : "down",
						   l->alias);
	if (strlen(all) >= ALIAS_MAX)
		return error_set(err, ERROR_CONFLICT, "the alias of %s is too long to be kept: shorten it to 80 characters", l->name);
	memcpy(out, all, strlen(all) + 1);
	return 0;
}

static int attach(const char *tag, const struct network *n, const char *instance, const struct nic *nic, bool gateway,
		  int netns, struct error *err) {
	_cleanup_(netlink_close) struct netlink host = NETLINK_INIT, inside = NETLINK_INIT;
	struct link uplink, own;
	char alias[ALIAS_MAX];
	int r = netlink_open(-1, &host, err);
	if (r == 0)
		r = netlink_open(netns, &inside, err);
	if (r == 0)
		r = link_get(&inside, nic->interface, &own, err);
	if (r > 0 && !alias_is(own.alias, tag, n->id, instance))
		return nic_taken(nic, err);
	bool lent = r == 0;
	if (lent)
		r = free_uplink(&host, tag, n, &uplink, err);
	if (lent && r == 0)
		r = alias_lent(tag, n, instance, &uplink, alias, err);
	if (lent && r == 0)
		r = lend(&host, &uplink, nic, alias, netns, err);
	if (r >= 0)
		r = nic_configure(&inside, n, nic, NULL, gateway, err);
	if (r == 0 && (nic->ingress_rate || nic->egress_rate || !lent) && link_get(&inside, nic->interface, &own, NULL) > 0)
		r = rates_set(&inside, &own, nic->egress_rate, nic->ingress_rate, err);
	if (r < 0 && lent)
		detach(tag, n, instance, nic, netns, NULL);
	return r;
}

const struct network_driver network_physical = {
	.name = "physical",
	.probe = probe,
	.up = up,
	.down = uplink_down,
	.attach = attach,
	.detach = detach,
};
