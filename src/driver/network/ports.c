/* Reserving ports of the host: a bound socket for each. Nothing comes in by them (packets are translated before), they only keep
 * the number from others. */
#include "driver/network/firewall.h"

#include "base/str.h"
#include "driver/network/ports-priv.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

union endpoint {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

struct sockets {
	int *fds;
	size_t n;
};

static void sockets_close(struct sockets *s) {
	for (size_t i = 0; i < s->n; i++)
		close(s->fds[i]);
	free(s->fds);
	*s = (struct sockets){0};
}

static const char *protocol_of(const struct port *p) {
	return p->protocol ? p->protocol : "tcp";
}

/* One socket of IPv6 has the port of IPv4 too, where no address is given. */
static socklen_t fill_address(const struct port *p, uint16_t port, bool v6, union endpoint *out) {
	struct ip ip = {.family = v6 ? AF_INET6 : AF_INET};
	if (p->address)
		ip_parse(p->address, &ip); /* checked by the port's table */
	*out = (union endpoint){0};
	if (ip.family == AF_INET6) {
		out->v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
		memcpy(&out->v6.sin6_addr, ip.bytes, 16);
		return sizeof out->v6;
	}
	out->v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
	memcpy(&out->v4.sin_addr, ip.bytes, 4);
	return sizeof out->v4;
}

static int open_socket(const struct port *p, int family) {
	static const struct { const char *name; int type, number; } known[] = {
		{"tcp", SOCK_STREAM, IPPROTO_TCP}, {"udp", SOCK_DGRAM, IPPROTO_UDP}, {"sctp", SOCK_STREAM, IPPROTO_SCTP}};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(known[i].name, protocol_of(p)) == 0) {
			int fd = socket(family, known[i].type | SOCK_CLOEXEC, known[i].number);
			return fd < 0 ? -errno : fd;
		}
	return -EPROTONOSUPPORT;
}

/* What is left of a server that has just ended does not count. Whoever binds the port with SO_REUSEADDR after us fails at
 * listen, since our own socket has it off again. */
static int bind_anyway(int fd, const union endpoint *a, socklen_t n) {
	static const int on = 1, off = 0;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	int r = bind(fd, &a->any, n) < 0 ? -errno : 0;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &off, sizeof off);
	return r;
}

/* A bound socket, or -errno. */
static int reserve(const struct port *p, uint16_t port, bool v6) {
	static const int both = 0, small = 1;
	union endpoint a;
	socklen_t n = fill_address(p, port, v6, &a);
	_cleanup_(close_fd) int fd = open_socket(p, a.any.sa_family);
	if (fd < 0)
		return TAKE_FD(fd);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small); /* nobody will read */
	if (a.any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &both, sizeof both) < 0)
		return -errno;
	int r = bind(fd, &a.any, n) < 0 ? -errno : 0;
	if (r == -EADDRINUSE && strcmp(protocol_of(p), "tcp") == 0 && port_lingers(port)) {
		_cleanup_(free_ptr) char *owner = port_owner("tcp", port);
		r = owner ? r : bind_anyway(fd, &a, n);
	}
	return r < 0 ? r : TAKE_FD(fd);
}

static int refuse(const struct port *p, uint16_t port, int errnum, struct error *err) {
	const char *at = p->address ? p->address : "all addresses";
	_cleanup_(free_ptr) char *owner = errnum == -EADDRINUSE ? port_owner(protocol_of(p), port) : NULL;
	switch (errnum) {
	case -EADDRINUSE:
		return error_set(err, ERROR_CONFLICT, "port %u/%s of the host (%s) is taken by %s", port, protocol_of(p), at,
				 owner ? owner : "another program");
	case -EADDRNOTAVAIL:
		return error_set(err, ERROR_INVALID, "port %u/%s cannot be published on %s: the host does not have this address", port,
				 protocol_of(p), at);
	case -EMFILE:
	case -ENFILE:
		return error_set(err, ERROR_QUOTA, "too many ports: no more files can be opened to reserve %u/%s", port, protocol_of(p));
	}
	return error_errno(err, errnum, "cannot reserve port %u/%s of the host (%s)", port, protocol_of(p), at);
}

static int reserve_range(const struct port *p, struct sockets *s, struct error *err) {
	for (int64_t i = 0; i < MAX(p->count, 1); i++) {
		uint16_t port = (uint16_t)(p->host_port + i);
		int fd = reserve(p, port, true);
		if (fd == -EAFNOSUPPORT) /* a kernel without IPv6 */
			fd = reserve(p, port, false);
		if (fd == -EPROTONOSUPPORT || fd == -ESOCKTNOSUPPORT)
			return 0; /* SCTP on a kernel without it: nobody can take such a port */
		if (fd < 0)
			return refuse(p, port, fd, err);
		s->fds = alloc_resize(s->fds, s->n + 1, sizeof *s->fds);
		s->fds[s->n++] = fd;
	}
	return 0;
}

int ports_reserve(const struct port *ports, size_t n, int **fds, size_t *n_fds, struct error *err) {
	_cleanup_(sockets_close) struct sockets s = {0};
	for (size_t i = 0; i < n; i++) {
		int r = reserve_range(&ports[i], &s, err);
		if (r < 0) {
			_cleanup_(free_ptr) char *field = str_format("ports[%zu]", i);
			error_in_field(err, field);
			return r;
		}
	}
	*fds = TAKE_PTR(s.fds);
	*n_fds = s.n;
	s.n = 0;
	return 0;
}
