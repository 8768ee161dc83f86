/* The files below /etc that are made for an instance: hostname, hosts, resolv.conf. Its networks say how it is called
 * and who knows names; what its spec says about them wins. */
#include "agent/network-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ETC_MAX ((size_t)1 << 20)

/* --- hosts --- */

static const char *first_address(const nics *list) {
	for (size_t i = 0; i < list->n; i++)
		if (list->items[i].ipv4 || list->items[i].ipv6)
			return list->items[i].ipv4 ? list->items[i].ipv4 : list->items[i].ipv6;
	return NULL;
}

/* The host as the instance reaches it; NULL: it does not. */
static const char *gateway_of(const struct agent *a, const struct instance_spec *spec, const nics *list) {
	for (size_t i = 0; i < list->n; i++) {
		const struct net *net = net_get(a, list->items[i].network_id);
		if (net && !net->damaged && net->network.spec.subnets.n && net->network.spec.subnets.items[0].gateway)
			return net->network.spec.subnets.items[0].gateway;
	}
	return str_same(spec->network, "host") ? "127.0.0.1" : NULL;
}

/* "ID:ALIAS": its address on the first network that both are on. */
static void add_link(const struct agent *a, const char *link, const nics *list, struct buf *out) {
	_cleanup_(free_ptr) char *id = str_copyn(link, strcspn(link, ":"));
	const struct inst *other = inst_get(a, id);
	for (size_t i = 0; other && i < list->n; i++)
		for (size_t k = 0; k < other->nics.n; k++) {
			const struct nic *nic = &other->nics.items[k];
			const char *address = nic->ipv4 ? nic->ipv4 : nic->ipv6;
			if (!str_same(nic->network_id, list->items[i].network_id) || !address)
				continue;
			buf_addf(out, "%s\t%s %.12s\n", address, link + strlen(id) + 1, id);
			return;
		}
}

static void hosts_text(const struct agent *a, const struct msg_instance_create *r, const char *hostname, const nics *list, struct buf *out) {
	const struct instance_spec *spec = &r->instance.spec;
	if (!str_same(spec->network, "host") || fs_read("/etc/hosts", ETC_MAX, out) < 0) {
		const char *address = first_address(list);
		buf_truncate(out, 0);
		buf_adds(out, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
			      "fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n"
			      "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
		buf_addf(out, "%s\t", address ? address : "127.0.1.1");
		if (spec->domainname && *spec->domainname)
			buf_addf(out, "%s.%s ", hostname, spec->domainname);
		buf_addf(out, "%s\n", hostname);
	}
	for (size_t i = 0; spec->extra_hosts && spec->extra_hosts[i]; i++) {
		const char *colon = strchr(spec->extra_hosts[i], ':'); /* name:address, which may hold colons */
		const char *address = colon ? colon + 1 : NULL;
		if (str_same(address, "host-gateway"))
			address = gateway_of(a, spec, list);
		if (address)
			buf_addf(out, "%s\t%.*s\n", address, (int)(colon - spec->extra_hosts[i]), spec->extra_hosts[i]);
	}
	for (char **l = spec->links; l && *l; l++)
		add_link(a, *l, list, out);
}

/* --- resolv.conf --- */

static const struct network *names_of(const struct agent *a, const struct nic *nic) {
	const struct net *net = net_get(a, nic->network_id);
	return net && !net->damaged && net->network.spec.dns && network_has_resolver(&net->network) ? &net->network : NULL;
}

/* The host's servers, but for those that answer on the host itself alone. */
static void add_host_servers(struct buf *out) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read("/etc/resolv.conf", ETC_MAX, &text) < 0)
		return;
	struct str rest = {buf_str(&text), text.len};
	while (rest.len) {
		struct str line = str_cut(&rest, '\n');
		_cleanup_(free_ptr) char *copy = str_copyn(line.p, line.len);
		if (str_starts(copy, "nameserver ") && !str_starts(copy, "nameserver 127.") && !str_starts(copy, "nameserver ::1"))
			buf_addf(out, "%s\n", copy);
	}
}

/* The first network that knows names answers; it asks the others about theirs. */
static void add_servers(const struct agent *a, const nics *list, struct buf *out) {
	const struct network *n = NULL;
	for (size_t i = 0; !n && i < list->n; i++)
		n = names_of(a, &list->items[i]);
	for (size_t i = 0; n && i < n->spec.subnets.n; i++)
		if (n->spec.subnets.items[i].gateway)
			buf_addf(out, "nameserver %s\n", n->spec.subnets.items[i].gateway);
	if (!n && list->n)
		add_host_servers(out);
}

static char **search_of(const struct agent *a, const nics *list) {
	char **search = NULL;
	for (size_t i = 0; i < list->n; i++) {
		const struct network *n = names_of(a, &list->items[i]);
		if (n && n->spec.domain && !strv_has(search, n->spec.domain))
			strv_add(&search, n->spec.domain);
	}
	return search;
}

static void resolv_text(const struct agent *a, const struct msg_instance_create *r, const nics *list, struct buf *out) {
	const struct instance_spec *spec = &r->instance.spec;
	if (str_same(spec->network, "host") && !spec->dns && !spec->dns_search && !spec->dns_options) {
		fs_read("/etc/resolv.conf", ETC_MAX, out);
		return;
	}
	if (!spec->dns) /* as dockerd: before the search list, and given ones behind it */
		add_servers(a, list, out);
	_cleanup_(strv_free_ptr) char **own = spec->dns_search ? strv_copy(spec->dns_search) : search_of(a, list);
	if (strv_has(own, ".")) { /* none */
		strv_free(own);
		own = NULL;
	}
	_cleanup_(free_ptr) char *search = strv_join(own, " ");
	_cleanup_(free_ptr) char *options = strv_join(spec->dns_options, " ");
	if (own)
		buf_addf(out, "search %s\n", search);
	for (size_t i = 0; spec->dns && spec->dns[i]; i++)
		buf_addf(out, "nameserver %s\n", spec->dns[i]);
	if (spec->dns_options)
		buf_addf(out, "options %s\n", options);
}

/* --- writing --- */

/* The file belongs to the container's root, which may edit it; so it is overwritten in place by name only
 * here, where nobody else can put a link. */
static int write_etc(const struct agent *a, const struct msg_instance_create *r, const char *name,
		     const struct buf *text, struct error *err) {
	_cleanup_(free_ptr) char *path = instance_path(a, r->instance.id, name);
	int result = file_replace(path, buf_str(text), text->len, 0644);
	if (result < 0)
		return error_errno(err, result, "cannot write %s", path);
	uid_t owner = (uid_t)r->instance.uid_base;
	if (chown(path, owner, owner) < 0)
		return error_errno(err, errno, "cannot give %s to user %u", path, owner);
	return 0;
}

int config_files_write(const struct agent *a, const struct msg_instance_create *r, struct error *err) {
	_cleanup_(free_ptr) char *hostname = config_hostname(r);
	_cleanup_(buf_free) struct buf name = BUF_INIT, hosts = BUF_INIT, resolv = BUF_INIT;
	buf_addf(&name, "%s\n", hostname);
	hosts_text(a, r, hostname, &r->instance.nics, &hosts);
	resolv_text(a, r, &r->instance.nics, &resolv);
	int result = write_etc(a, r, "hostname", &name, err);
	if (result == 0)
		result = write_etc(a, r, "hosts", &hosts, err);
	if (result == 0)
		result = write_etc(a, r, "resolv.conf", &resolv, err);
	return result;
}

/* The container has the very file mounted: it changes in place, and only as long as it is what was made for it. */
static void refresh(const struct agent *a, const char *id, const char *name, const struct buf *was, const struct buf *is) {
	_cleanup_(free_ptr) char *path = instance_path(a, id, name);
	_cleanup_(close_fd) int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fd < 0 || fs_read_fd(fd, ETC_MAX, &text) < 0 || strcmp(buf_str(&text), buf_str(was)) != 0 ||
	    strcmp(buf_str(was), buf_str(is)) == 0)
		return;
	if (lseek(fd, 0, SEEK_SET) < 0 || fs_write_all(fd, buf_str(is), is->len) < 0 || ftruncate(fd, (off_t)is->len) < 0)
		log_warn("instance %.12s: %s could not be changed", id, path);
}

void etc_refresh(const struct agent *a, const struct msg_instance_create *r, const nics *before) {
	_cleanup_(free_ptr) char *hostname = config_hostname(r);
	_cleanup_(buf_free) struct buf hosts = BUF_INIT, hosts_now = BUF_INIT, resolv = BUF_INIT, resolv_now = BUF_INIT;
	hosts_text(a, r, hostname, before, &hosts);
	hosts_text(a, r, hostname, &r->instance.nics, &hosts_now);
	resolv_text(a, r, before, &resolv);
	resolv_text(a, r, &r->instance.nics, &resolv_now);
	refresh(a, r->instance.id, "hosts", &hosts, &hosts_now);
	refresh(a, r->instance.id, "resolv.conf", &resolv, &resolv_now);
}
