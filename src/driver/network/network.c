/* The registry of drivers, and what is true of the interfaces of all of them. */
#include "driver/network/network-priv.h"

const struct network_driver *const network_drivers[] = {
	&network_bridge, &network_macvlan, &network_ipvlan, &network_physical, &network_vxlan, NULL,
};

const struct network_driver *network_driver_find(const char *name) {
	for (const struct network_driver *const *d = network_drivers; *d; d++)
		if (strcmp((*d)->name, name) == 0)
			return *d;
	return NULL;
}

int network_tagged(const char *tag, struct tagged_link **out, size_t *n, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	_cleanup_(buf_free) struct buf dump = BUF_INIT;
	struct ifinfomsg all = {0};
	*out = NULL;
	*n = 0;
	int r = netlink_open(-1, &nl, err);
	if (r == 0)
		r = netlink_dump(&nl, RTM_GETLINK, &all, sizeof all, &dump, err);
	const struct nlmsghdr *m;
	for (size_t at = 0; r == 0 && (m = dump_next(&dump, &at));) {
		struct tagged_link found;
		struct link l;
		char its_tag[9];
		if (!link_parse(m, &l) || !alias_parse(l.alias, its_tag, &found, NULL) || strcmp(its_tag, tag) != 0)
			continue;
		memcpy(found.name, l.name, sizeof found.name);
		if ((*n & (*n - 1)) == 0) /* at each power of two */
			*out = alloc_resize(*out, MAX(2 * *n, 1), sizeof **out);
		(*out)[(*n)++] = found;
	}
	return r;
}

int network_link_remove(const char *name, struct error *err) {
	_cleanup_(netlink_close) struct netlink nl = NETLINK_INIT;
	struct link l;
	BATCH(b);
	int r = netlink_open(-1, &nl, err);
	if (r == 0)
		r = link_get(&nl, name, &l, err);
	if (r <= 0)
		return r;
	if (!alias_is(l.alias, NULL, NULL, NULL))
		return error_set(err, ERROR_CONFLICT, "the interface %s was not made by wabe", name);
	if (physical_is(&l))
		return physical_restore(&nl, &l, NULL, err);
	link_remove(&b, name);
	return batch_send(&nl, &b, err);
}
