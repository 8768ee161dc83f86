/* Who has a port: the kernel's lists of sockets give an inode, /proc/PID/fd who holds it. A socket of TCP that is bound but
 * does not listen is in no list; those are what wabe reserves ports with, so the shims' sockets are asked one by one. */
#include "driver/network/ports-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LIST_MAX ((size_t)64 << 20)
enum { STATE_TIME_WAIT = 6, STATE_CLOSE = 7, STATE_LISTEN = 10 };

/* The inode of the first socket in a list of /proc/net with this port and state; 0: none. -1 stands for TIME_WAIT, which has no inode. */
static long find_in(const char *list, uint16_t port, unsigned state) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	_cleanup_(free_ptr) char *path = str_format("/proc/net/%s", list);
	if (fs_read(path, LIST_MAX, &b) < 0)
		return 0;
	struct str rest = {b.data, b.len};
	while (rest.len) {
		struct str line = str_cut(&rest, '\n');
		_cleanup_(free_ptr) char *text = str_copyn(line.p, line.len);
		unsigned local, now;
		long inode = 0;
		if (sscanf(text, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*d %*d %ld", &local, &now, &inode) >= 2 &&
		    local == port && now == state)
			return inode ? inode : -1;
	}
	return 0;
}

static long find_socket(const char *protocol, uint16_t port, unsigned state) {
	_cleanup_(free_ptr) char *v6 = str_format("%s6", protocol);
	long inode = find_in(protocol, port, state);
	return inode ? inode : find_in(v6, port, state);
}

bool port_lingers(uint16_t port) {
	return find_socket("tcp", port, STATE_TIME_WAIT) != 0;
}

/* ---- processes ---- */

static bool next_number(DIR *d, int *out) {
	for (struct dirent *e; d && (e = readdir(d));)
		if (isdigit((unsigned char)e->d_name[0])) {
			*out = atoi(e->d_name);
			return true;
		}
	return false;
}

static void command_of(int pid, struct buf *out) {
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/comm", pid);
	fs_read(path, 64, out);
	if (out->len && out->data[out->len - 1] == '\n')
		buf_truncate(out, out->len - 1);
}

/* What follows an option in a process's arguments, or NULL. */
static char *argument_of(int pid, const char *option) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/cmdline", pid);
	if (fs_read(path, 1 << 20, &b) < 0)
		return NULL;
	for (size_t at = 0; at < b.len; at += strlen(b.data + at) + 1)
		if (strcmp(b.data + at, option) == 0 && at + strlen(option) + 1 < b.len)
			return str_copy(b.data + at + strlen(option) + 1);
	return NULL;
}

static char *name_of(int pid) {
	_cleanup_(buf_free) struct buf comm = BUF_INIT;
	command_of(pid, &comm);
	_cleanup_(free_ptr) char *id = strcmp(buf_str(&comm), "wabe-shim") == 0 ? argument_of(pid, "--id") : NULL;
	_cleanup_(free_ptr) char *dir = id ? argument_of(pid, "--dir") : NULL;
	if (id)
		return str_format("the instance %s (%s)", id, dir ? dir : "of another daemon");
	return str_format("%s (pid %d)", comm.len ? buf_str(&comm) : "a program", pid);
}

static bool holds_inode(int pid, int fd, long inode) {
	char path[64], target[64], wanted[64];
	snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
	snprintf(wanted, sizeof wanted, "socket:[%ld]", inode);
	ssize_t n = readlink(path, target, sizeof target - 1);
	target[MAX(n, 0)] = 0;
	return strcmp(target, wanted) == 0;
}

static bool is_protocol(int fd, const char *protocol) {
	int number = 0;
	socklen_t n = sizeof number;
	getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &number, &n);
	return number == (strcmp(protocol, "udp") == 0 ? IPPROTO_UDP : strcmp(protocol, "sctp") == 0 ? IPPROTO_SCTP : IPPROTO_TCP);
}

/* Is a socket of our own network name space? */
static bool is_near(int fd) {
	struct stat own, other;
	_cleanup_(close_fd) int ns = ioctl(fd, SIOCGSKNS);
	return ns >= 0 && fstat(ns, &other) == 0 && stat("/proc/thread-self/ns/net", &own) == 0 && own.st_ino == other.st_ino;
}

/* Whether a descriptor of another process is a socket with this port. */
static bool holds_port(int pidfd, int fd, const char *protocol, uint16_t port) {
	struct sockaddr_storage a = {0};
	socklen_t n = sizeof a;
	_cleanup_(close_fd) int copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (copy < 0 || getsockname(copy, (struct sockaddr *)&a, &n) < 0 || !is_protocol(copy, protocol) ||
	    !is_near(copy))
		return false;
	in_port_t own = a.ss_family == AF_INET ? ((struct sockaddr_in *)&a)->sin_port
			: a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port : 0;
	return own == htons(port);
}

struct search {
	long inode; /* 0: a shim with the port */
	const char *protocol;
	uint16_t port;
};

static bool process_has(int pid, const struct search *s) {
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/fd", pid);
	_cleanup_(buf_free) struct buf comm = BUF_INIT;
	_cleanup_(close_fd) int pidfd = -1;
	bool found = false;
	if (!s->inode) {
		command_of(pid, &comm);
		if (strcmp(buf_str(&comm), "wabe-shim") != 0)
			return false;
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	}
	DIR *d = opendir(path);
	for (int fd; !found && next_number(d, &fd);)
		found = s->inode ? holds_inode(pid, fd, s->inode) : holds_port(pidfd, fd, s->protocol, s->port);
	if (d)
		closedir(d);
	return found;
}

static char *find_process(const struct search *s) {
	DIR *d = opendir("/proc");
	char *name = NULL;
	for (int pid; !name && next_number(d, &pid);)
		if (process_has(pid, s))
			name = name_of(pid);
	if (d)
		closedir(d);
	return name;
}

char *port_owner(const char *protocol, uint16_t port) {
	struct search s = {.protocol = protocol, .port = port};
	if (strcmp(protocol, "sctp") != 0)
		s.inode = find_socket(protocol, port, strcmp(protocol, "udp") == 0 ? STATE_CLOSE : STATE_LISTEN);
	s.inode = MAX(s.inode, 0);
	return find_process(&s);
}
