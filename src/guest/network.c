/* The guest's interfaces: found by their MACs, named, with the addresses and routes that they are to have. */
#include "guest/guest-priv.h"

#include "base/fs.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <stdio.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct in6_ifreq { /* <linux/ipv6.h>, which <netinet/in.h> does not stand beside */
	struct in6_addr address;
	uint32_t prefix;
	int index;
};

struct address {
	int family;
	union {
		struct in_addr v4;
		struct in6_addr v6;
	};
	unsigned prefix;
};

static int address_parse(const char *text, struct address *out, struct error *err) {
	struct str rest = str_view(text), ip = str_cut(&rest, '/');
	_cleanup_(free_ptr) char *address = str_copyn(ip.p, ip.len);
	uint64_t prefix = 0;
	out->family = strchr(address, ':') ? AF_INET6 : AF_INET;
	unsigned most = out->family == AF_INET6 ? 128 : 32;
	_cleanup_(free_ptr) char *bits = str_copyn(rest.p, rest.len);
	if (inet_pton(out->family, address, &out->v6) != 1 || (*bits && (str_to_u64(bits, 10, &prefix) < 0 || prefix > most)))
		return error_set(err, ERROR_INVALID, "\"%s\" is no address", text);
	out->prefix = *bits ? (unsigned)prefix : most;
	return 0;
}

static int request(int fd, unsigned long what, void *arg, const char *interface, const char *doing, struct error *err) {
	return ioctl(fd, what, arg) < 0 ? error_errno(err, errno, "cannot %s %s", doing, interface) : 0;
}

static struct ifreq named(const char *interface) {
	struct ifreq q = {0};
	memcpy(q.ifr_name, interface, MIN(strlen(interface), sizeof q.ifr_name - 1));
	return q;
}

static int set_up(int fd, const char *interface, struct error *err) {
	struct ifreq q = named(interface);
	int r = request(fd, SIOCGIFFLAGS, &q, interface, "look at", err);
	q.ifr_flags |= IFF_UP;
	return r < 0 ? r : request(fd, SIOCSIFFLAGS, &q, interface, "bring up", err);
}

/* --- addresses and routes --- */

static int add_v4(int fd, const char *interface, const struct address *a, size_t nth, struct error *err) {
	char label[IFNAMSIZ + 8];
	snprintf(label, sizeof label, nth ? "%.10s:%zu" : "%s", interface, nth); /* further ones have labels */
	struct ifreq q = named(label);
	struct sockaddr_in *sin = (struct sockaddr_in *)&q.ifr_addr;
	*sin = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = a->v4};
	int r = request(fd, SIOCSIFADDR, &q, interface, "set the address of", err);
	sin->sin_addr.s_addr = htonl(a->prefix ? ~(uint32_t)0 << (32 - a->prefix) : 0);
	return r < 0 ? r : request(fd, SIOCSIFNETMASK, &q, interface, "set the netmask of", err);
}

static int add_v6(const char *interface, const struct address *a, struct error *err) {
	_cleanup_(close_fd) int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct in6_ifreq q = {a->v6, a->prefix, (int)if_nametoindex(interface)};
	return request(fd, SIOCSIFADDR, &q, interface, "set the address of", err);
}

static int add_gateway(int fd, const char *interface, const char *text, struct error *err) {
	struct address a;
	int r = address_parse(text, &a, err);
	if (r < 0)
		return r;
	if (a.family == AF_INET6) {
		_cleanup_(close_fd) int fd6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		struct in6_rtmsg route = {.rtmsg_gateway = a.v6, .rtmsg_flags = RTF_UP | RTF_GATEWAY, .rtmsg_metric = 1024,
					  .rtmsg_ifindex = (int)if_nametoindex(interface)};
		return request(fd6, SIOCADDRT, &route, interface, "set the gateway of", err);
	}
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = (char *)interface};
	*(struct sockaddr_in *)&route.rt_dst = (struct sockaddr_in){.sin_family = AF_INET};
	*(struct sockaddr_in *)&route.rt_genmask = (struct sockaddr_in){.sin_family = AF_INET};
	*(struct sockaddr_in *)&route.rt_gateway = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = a.v4};
	return request(fd, SIOCADDRT, &route, interface, "set the gateway of", err);
}

/* The host knows that nobody else has them: what would be asked about them first would only take time. */
static void no_detection(const char *interface) {
	_cleanup_(free_ptr) char *path = str_format("/proc/sys/net/ipv6/conf/%s/accept_dad", interface);
	fs_write_value(path, "0");
}

static int configure(int fd, const struct guest_nic *n, struct error *err) {
	struct ifreq q = named(n->interface);
	size_t v4 = 0;
	q.ifr_mtu = (int)n->mtu;
	int r = n->mtu ? request(fd, SIOCSIFMTU, &q, n->interface, "set the MTU of", err) : 0;
	no_detection(n->interface);
	if (r == 0)
		r = set_up(fd, n->interface, err);
	for (char **text = n->addresses; r == 0 && text && *text; text++) {
		struct address a;
		r = address_parse(*text, &a, err);
		if (r == 0)
			r = a.family == AF_INET ? add_v4(fd, n->interface, &a, v4++, err) : add_v6(n->interface, &a, err);
	}
	for (char **g = n->gateways; r == 0 && g && *g; g++)
		r = add_gateway(fd, n->interface, *g, err);
	return r;
}

/* --- names --- */

/* The interface that has this MAC, as it is called now; NULL. */
static char *find(const char *mac) {
	_cleanup_(strv_free_ptr) char **names = NULL;
	_cleanup_(close_fd) int dir = open("/sys/class/net", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fs_names(dir, &names) < 0)
		return NULL;
	for (char **n = names; n && *n; n++) {
		_cleanup_(free_ptr) char *path = str_format("%s/address", *n);
		_cleanup_(buf_free) struct buf text = BUF_INIT;
		if (fs_read_at(dir, path, 256, &text) >= 0 && strncasecmp(buf_str(&text), mac, strlen(mac)) == 0)
			return str_copy(*n);
	}
	return NULL;
}

static int name_it(int fd, const char *from, const char *to, struct error *err) {
	struct ifreq q = named(from);
	memcpy(q.ifr_newname, to, MIN(strlen(to), sizeof q.ifr_newname - 1));
	return str_same(from, to) ? 0 : request(fd, SIOCSIFNAME, &q, to, "name", err);
}

/* Two steps, for one may have the name that another is to get. */
static int name_all(int fd, const struct guest_config *c, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < c->nics.n; i++) {
		_cleanup_(free_ptr) char *now = find(c->nics.items[i].mac), *meanwhile = str_format("wabe%zu", i);
		r = now ? name_it(fd, now, meanwhile, err)
			: error_set(err, ERROR_NOT_FOUND, "there is no network card %s", c->nics.items[i].mac);
	}
	for (size_t i = 0; r == 0 && i < c->nics.n; i++) {
		_cleanup_(free_ptr) char *meanwhile = str_format("wabe%zu", i);
		r = name_it(fd, meanwhile, c->nics.items[i].interface, err);
	}
	return r;
}

int network_up(const struct guest_config *c, struct error *err) {
	_cleanup_(close_fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r = fd < 0 ? error_errno(err, errno, "cannot open a socket") : set_up(fd, "lo", err);
	if (r == 0)
		r = name_all(fd, c, err);
	for (size_t i = 0; r == 0 && i < c->nics.n; i++)
		r = configure(fd, &c->nics.items[i], err);
	return r;
}
