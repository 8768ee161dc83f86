/* The resolver of a network: one dnsmasq, its configuration and its process. Its files with names it watches itself
 * (inotify: added, changed and removed in well under a millisecond); for the rest it is told by SIGHUP. A process is ours when
 * its command line names our configuration: so it is found by an agent that knows nothing but the directory. */
#include "driver/network/resolver.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/network/resolver-priv.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define START_WAIT (10 * NS_PER_SEC)
#define STOP_WAIT_MS 5000
#define CONF_MAX ((size_t)1 << 20)

char *resolver_path(const struct resolver *r, const char *name) {
	return str_format("%s/%s", r->run, name);
}

/* ---- its process ---- */

static bool runs_ours(pid_t pid, const char *conf) {
	_cleanup_(free_ptr) char *path = str_format("/proc/%d/cmdline", pid), *argument = str_format("--conf-file=%s", conf);
	_cleanup_(buf_free) struct buf line = BUF_INIT;
	if (fs_read(path, CONF_MAX, &line) < 0)
		return false;
	size_t first = strlen(buf_str(&line)) + 1; /* behind the name of the program */
	return first < line.len && strcmp(line.data + first, argument) == 0;
}

static pid_t read_pid(const struct resolver *r) {
	_cleanup_(free_ptr) char *path = resolver_path(r, "pid");
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int64_t pid = 0;
	if (fs_read(path, 64, &text) < 0)
		return 0;
	buf_truncate(&text, strcspn(buf_str(&text), "\n"));
	return str_to_i64(buf_str(&text), &pid) == 0 && pid > 0 && pid < INT32_MAX ? (pid_t)pid : 0;
}

int resolver_find(const struct resolver *r) {
	_cleanup_(free_ptr) char *conf = resolver_path(r, "dnsmasq.conf");
	pid_t pid = read_pid(r);
	if (!pid)
		return -1;
	/* opened first: what is seen then belongs to this process, as long as it has not ended */
	_cleanup_(close_fd) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd ended = {fd, POLLIN, 0};
	if (fd < 0 || !runs_ours(pid, conf) || poll(&ended, 1, 0) != 0)
		return -1;
	return TAKE_FD(fd);
}

static int send_signal(int pidfd, int signo) {
	return (int)syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0);
}

static int stop_process(const struct resolver *r, struct error *err) {
	_cleanup_(close_fd) int fd = resolver_find(r);
	struct pollfd ended = {fd, POLLIN, 0};
	if (fd < 0)
		return 0;
	for (int i = 0; i < 2; i++) {
		send_signal(fd, i == 0 ? SIGTERM : SIGKILL);
		if (RETRY_EINTR(poll(&ended, 1, STOP_WAIT_MS)) == 1)
			return 0;
	}
	return error_set(err, ERROR_TIMEOUT, "the resolver of network %s does not end", r->network->spec.name);
}

int resolver_reload(const struct resolver *r) {
	_cleanup_(close_fd) int fd = resolver_find(r);
	return fd < 0 ? 0 : send_signal(fd, SIGHUP);
}

/* ---- its configuration ---- */

static const char *user_name(void) {
	return getpwnam("dnsmasq") ? "dnsmasq" : "nobody";
}

static void add_subnet(const struct resolver *r, const struct subnet *s, struct buf *out) {
	struct cidr c;
	char first[46];
	if (cidr_parse(s->cidr, &c) < 0)
		return;
	ip_format(&c.ip, first);
	buf_addf(out, "rev-server=%s\n", s->cidr); /* unknown addresses of ours are nobody else's */
	if (!r->network->spec.dhcp)
		return;
	if (c.ip.family == AF_INET) {
		buf_addf(out, "dhcp-range=%s,static,%u.%u.%u.%u,1h\n", first, MASK_BYTE(c.prefix, 0), MASK_BYTE(c.prefix, 1),
			 MASK_BYTE(c.prefix, 2), MASK_BYTE(c.prefix, 3));
		if (r->network->spec.internal)
			buf_adds(out, "dhcp-option=option:router\n"); /* there is no way out */
	} else if (c.prefix >= 64) {
		buf_addf(out, "dhcp-range=%s,static,%u,1h\nenable-ra\n", first, c.prefix);
		if (r->network->spec.internal)
			buf_addf(out, "ra-param=%s,60,0\n", r->interface);
	}
}

/* Machines with UEFI tell so (RFC 4578: 7 and 9 are x86-64's). iPXE, which QEMU's cards have, takes a URL as well. */
static void add_boot(const struct network_spec *s, struct buf *out) {
	static const int uefi[] = {7, 9};
	for (size_t i = 0; i < ARRAY_SIZE(uefi); i++)
		buf_addf(out, "dhcp-match=set:uefi,option:client-arch,%d\n", uefi[i]);
	if (s->boot_file)
		buf_addf(out, "dhcp-boot=tag:!uefi,%s\n", s->boot_file);
	buf_addf(out, "dhcp-boot=tag:uefi,%s\n", s->boot_file_uefi ? s->boot_file_uefi : s->boot_file);
	if (s->boot_dir)
		buf_addf(out, "enable-tftp\ntftp-root=%s\ntftp-no-fail\n", s->boot_dir);
}

void resolver_config(const struct resolver *r, struct buf *out) {
	const struct network_spec *s = &r->network->spec;
	buf_addf(out, "interface=%s\nexcept-interface=lo\nbind-interfaces\nuser=%s\n", r->interface, user_name());
	buf_addf(out, "pid-file=%s/pid\nno-hosts\nhostsdir=%s/hosts\nservers-file=%s/servers\n", r->run, r->run, r->run);
	buf_addf(out, "domain=%s\nlocal=/%s/\ndomain-needed\ncache-size=1000\n", s->domain, s->domain);
	if (s->internal)
		buf_adds(out, "no-resolv\n");
	if (!s->dns)
		buf_adds(out, "port=0\n");
	if (s->dhcp)
		buf_addf(out, "dhcp-hostsdir=%s/dhcp\ndhcp-leasefile=%s\ndhcp-authoritative\nquiet-dhcp\nquiet-dhcp6\nquiet-ra\n",
			 r->run, r->leases);
	if (s->dhcp && s->mtu)
		buf_addf(out, "dhcp-option=option:mtu,%lld\n", (long long)s->mtu);
	if (s->dhcp)
		buf_addf(out, "dhcp-option=option:domain-search,%s\n", s->domain);
	if (s->dhcp && (s->boot_file || s->boot_file_uefi))
		add_boot(s, out);
	for (size_t i = 0; i < s->subnets.n; i++)
		add_subnet(r, &s->subnets.items[i], out);
}

static bool same_file(const char *path, const struct buf *text) {
	_cleanup_(buf_free) struct buf there = BUF_INIT;
	return fs_read(path, CONF_MAX, &there) == 0 && strcmp(buf_str(&there), buf_str(text)) == 0;
}

/* ---- starting ---- */

/* Readable for the user that it becomes, also when the umask says else. */
static int make_dir(const struct resolver *r, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *path = name ? resolver_path(r, name) : str_copy(r->run);
	int e = fs_mkdir_p(path, 0755);
	if (e == 0 && chmod(path, 0755) < 0)
		e = -errno;
	return e < 0 ? error_errno(err, e, "cannot make %s", path) : 0;
}

/* It reads names when it is root no more: told here, or they would be missing without a word. */
static int check_reach(const char *network, const char *path, const char *other, struct error *err) {
	for (const char *slash = path; slash; slash = strchr(slash + 1, '/')) {
		_cleanup_(free_ptr) char *parent = str_copyn(path, (size_t)(slash - path));
		struct stat st;
		if (*parent && stat(parent, &st) == 0 && !(st.st_mode & S_IXOTH))
			return error_set(err, ERROR_DENIED, "the resolver of network %s, which is not root, cannot reach %s: let others "
					 "search it (chmod o+x), or use another %s", network, parent, other);
	}
	return 0;
}

static int check_boot_file(const struct network_spec *s, const char *field, const char *name, struct error *err) {
	struct stat st;
	if (!name || !s->boot_dir || strstr(name, "://"))
		return 0;
	_cleanup_(free_ptr) char *path = str_format("%s/%s", s->boot_dir, name);
	int r = check_reach(s->name, path, "directory", err);
	if (r == 0 && stat(path, &st) < 0)
		r = error_set(err, ERROR_NOT_FOUND, "%s: %s", path, strerror(errno));
	else if (r == 0 && (!S_ISREG(st.st_mode) || !(st.st_mode & S_IROTH)))
		r = error_set(err, ERROR_DENIED, "%s is no file that everybody may read (chmod o+r)", path);
	if (r < 0)
		error_in_field(err, field);
	return r;
}

int resolver_boot_check(const struct network_spec *s, struct error *err) {
	int r = check_boot_file(s, "spec.boot_file", s->boot_file, err);
	return r < 0 ? r : check_boot_file(s, "spec.boot_file_uefi", s->boot_file_uefi, err);
}

static int write_servers(const struct resolver *r, bool *changed, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	_cleanup_(free_ptr) char *path = resolver_path(r, "servers");
	for (char *const *n = r->neighbours; n && *n; n++) {
		struct str server = str_view(*n), domain = str_cut(&server, ' ');
		buf_addf(&text, "server=/%.*s/%.*s\n", (int)domain.len, domain.p, (int)server.len, server.p);
	}
	*changed = !same_file(path, &text);
	return *changed ? resolver_write(r, "servers", &text, err) : 0;
}

static int start_process(const struct resolver *r, const char *conf, struct error *err) {
	_cleanup_(free_ptr) char *argument = str_format("--conf-file=%s", conf);
	char *argv[] = {"dnsmasq", argument, NULL};
	struct proc p = {.argv = argv, .deadline_ns = START_WAIT};
	/* it returns once it serves, or says why it cannot */
	int e = proc_run_ok(&p, err);
	if (e < 0 && p.status == 127)
		return error_set(err, ERROR_UNSUPPORTED, "names and DHCP on a network need dnsmasq: install the package dnsmasq-base");
	return e < 0 ? error_wrap(err, "the resolver of network %s does not start", r->network->spec.name) : 0;
}

static int start_with(const struct resolver *r, const char *conf, const struct buf *text, struct error *err) {
	bool same = same_file(conf, text);
	_cleanup_(close_fd) int running = same ? resolver_find(r) : -1;
	if (running >= 0)
		return 0;
	int e = stop_process(r, err);
	if (e == 0 && !same)
		e = resolver_write(r, "dnsmasq.conf", text, err);
	return e < 0 ? e : start_process(r, conf, err);
}

int resolver_start(const struct resolver *r, int *pidfd, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	_cleanup_(free_ptr) char *conf = resolver_path(r, "dnsmasq.conf");
	bool servers = false;
	int e = make_dir(r, NULL, err);
	if (e == 0)
		e = make_dir(r, "hosts", err);
	if (e == 0)
		e = make_dir(r, "dhcp", err);
	if (e == 0)
		e = check_reach(r->network->spec.name, r->run, "run directory", err);
	if (e == 0)
		e = write_servers(r, &servers, err);
	if (e < 0)
		return e;
	resolver_config(r, &text);
	e = start_with(r, conf, &text, err);
	if (e == 0 && servers)
		resolver_reload(r);
	if (e < 0 || !pidfd)
		return e;
	*pidfd = resolver_find(r);
	return *pidfd >= 0 ? 0 : error_set(err, ERROR_UNAVAILABLE, "the resolver of network %s has ended at once", r->network->spec.name);
}

int resolver_stop(const struct resolver *r, struct error *err) {
	int e = stop_process(r, err);
	if (e < 0)
		return e;
	e = fs_remove_tree(r->run);
	return e < 0 ? error_errno(err, e, "cannot remove %s", r->run) : 0;
}
