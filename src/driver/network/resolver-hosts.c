/* Who has which names and addresses on a network: one file for each instance in hosts/, and one in dhcp/. */
#include "base/fs.h"
#include "base/str.h"
#include "driver/network/resolver-priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int resolver_write(const struct resolver *r, const char *name, const struct buf *text, struct error *err) {
	_cleanup_(free_ptr) char *path = resolver_path(r, name), *temporary = str_format("%s/.new-%d", r->run, getpid());
	unlink(temporary);
	_cleanup_(close_fd) int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int e = fd < 0 ? -errno : fs_write_all(fd, buf_str(text), text->len);
	if (e == 0 && (fchmod(fd, 0644) < 0 || rename(temporary, path) < 0))
		e = -errno;
	if (e < 0)
		unlink(temporary);
	return e < 0 ? error_errno(err, e, "cannot write %s", path) : 0;
}

/* What somebody has chosen as a further name, such as tasks.web or db.example.org, stands for itself as well. */
static void add_name(const struct resolver *r, const char *name, bool chosen, struct buf *out) {
	buf_addf(out, " %s.%s", name, r->network->spec.domain);
	if (chosen || !strchr(name, '.'))
		buf_addf(out, " %s", name);
}

static void add_line(const struct resolver *r, const char *address, const char *instance, const char *name,
		     const struct nic *nic, struct buf *out) {
	if (!address)
		return;
	buf_adds(out, address);
	add_name(r, name, false, out); /* the first is what the address resolves to */
	for (char **alias = nic->aliases; alias && *alias; alias++)
		add_name(r, *alias, true, out);
	_cleanup_(free_ptr) char *short_id = str_copyn(instance, 12);
	add_name(r, short_id, false, out);
	buf_addc(out, '\n');
}

void resolver_host_lines(const struct resolver *r, const char *instance, const char *name, const struct nic *nic,
			 struct buf *out) {
	add_line(r, nic->ipv4, instance, name, nic, out);
	add_line(r, nic->ipv6, instance, name, nic, out);
}

void resolver_lease_line(const char *name, const struct nic *nic, struct buf *out) {
	if (!nic->mac || (!nic->ipv4 && !nic->ipv6))
		return;
	buf_adds(out, nic->mac);
	if (nic->ipv4)
		buf_addf(out, ",%s", nic->ipv4);
	if (nic->ipv6)
		buf_addf(out, ",[%s]", nic->ipv6);
	if (dns_label_check(name, NULL) == 0)
		buf_addf(out, ",%s", name);
	buf_addc(out, '\n');
}

static bool is_there(const struct resolver *r, const char *name) {
	_cleanup_(free_ptr) char *path = resolver_path(r, name);
	return fs_exists(path);
}

int resolver_host_set(const struct resolver *r, const char *instance, const char *name, const struct nic *nic,
		      struct error *err) {
	_cleanup_(buf_free) struct buf host = BUF_INIT, lease = BUF_INIT;
	_cleanup_(free_ptr) char *hosts = str_format("hosts/%s", instance), *dhcp = str_format("dhcp/%s", instance);
	bool again = is_there(r, dhcp);
	resolver_host_lines(r, instance, name, nic, &host);
	resolver_lease_line(name, nic, &lease);
	int e = resolver_write(r, hosts, &host, err);
	if (e < 0 || !r->network->spec.dhcp)
		return e;
	e = resolver_write(r, dhcp, &lease, err);
	if (e == 0 && again) /* it reads what is new by itself, but keeps what was */
		resolver_reload(r);
	return e;
}

int resolver_names_set(const struct resolver *r, const char *owner, const char *address, char *const *names, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	_cleanup_(free_ptr) char *file = str_format("hosts/%s", owner);
	buf_adds(&text, names && *names ? address : "");
	for (; names && *names; names++)
		add_name(r, *names, true, &text);
	buf_addc(&text, '\n');
	return resolver_write(r, file, &text, err);
}

int resolver_host_remove(const struct resolver *r, const char *instance, struct error *err) {
	_cleanup_(free_ptr) char *hosts = str_format("%s/hosts/%s", r->run, instance),
				 *dhcp = str_format("%s/dhcp/%s", r->run, instance);
	if (unlink(hosts) < 0 && errno != ENOENT)
		return error_errno(err, errno, "cannot remove %s", hosts);
	if (unlink(dhcp) < 0)
		return errno == ENOENT ? 0 : error_errno(err, errno, "cannot remove %s", dhcp);
	resolver_reload(r);
	return 0;
}
