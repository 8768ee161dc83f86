/* What the guest's agent can do: those commands of QEMU's own agent that make sense here, and what its ps would tell. */
#include "guest/guest-priv.h"

#include "base/fs.h"
#include "base/time.h"
#include "driver/container/processes.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/rtc.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

struct command {
	const char *name;
	int (*run)(struct guest *g, struct execs *x, const json_t *arguments, json_t **out, struct error *err);
	bool silent; /* no answer where it works */
};
static const struct command commands[];

/* --- the channel --- */

static int run_sync(UNUSED struct guest *g, UNUSED struct execs *x, const json_t *arguments, json_t **out, struct error *err) {
	json_t *id = json_object_get(arguments, "id");
	if (!json_is_integer(id))
		return error_set(err, ERROR_INVALID, "id is a number");
	*out = json_incref(id);
	return 0;
}

static int run_ping(UNUSED struct guest *g, UNUSED struct execs *x, UNUSED const json_t *arguments, json_t **out, UNUSED struct error *err) {
	*out = json_object();
	return 0;
}

static int run_info(UNUSED struct guest *g, UNUSED struct execs *x, UNUSED const json_t *arguments, json_t **out, UNUSED struct error *err) {
	json_t *list = json_array();
	for (const struct command *c = commands; c->name; c++)
		json_array_append_new(list, json_pack("{s:s,s:b,s:b}", "name", c->name, "enabled", 1, "success-response", !c->silent));
	*out = json_pack("{s:s,s:o}", "version", "wabe " WABE_VERSION, "supported_commands", list);
	return 0;
}

/* --- processes --- */

static int run_exec(UNUSED struct guest *g, struct execs *x, const json_t *arguments, json_t **out, struct error *err) {
	return execs_start(x, arguments, out, err);
}

static int run_exec_status(UNUSED struct guest *g, struct execs *x, const json_t *arguments, json_t **out, struct error *err) {
	return execs_status(x, arguments, out, err);
}

static json_t *print_process(pid_t pid, const struct process_info *p) {
	_cleanup_(free_ptr) char *user = str_format("%u", p->uid);
	char state[2] = {p->state, '\0'}, started[TIME_TEXT_MAX];
	time_format(p->started_at, started);
	return json_pack("{s:i,s:I,s:s,s:s,s:s,s:I,s:I,s:s}", "pid", (int)pid, "parent", (json_int_t)p->parent, "user", user, "state", state,
			 "command", p->command, "memory", (json_int_t)p->memory, "cpu_ns", (json_int_t)p->cpu_ns, "started_at", started);
}

/* Those of the container: this program, its helpers and the kernel's threads are none. */
static int run_processes(struct guest *g, UNUSED struct execs *x, UNUSED const json_t *arguments, json_t **out, struct error *err) {
	_cleanup_(free_ptr) pid_t *pids = NULL;
	size_t n = 0;
	int r = cgroup_pids(&g->state.cgroup, &pids, &n, err);
	if (r < 0)
		return r;
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++) {
		struct process_info p;
		if (process_look(pids[i], &p) < 0)
			continue;
		json_array_append_new(list, print_process(pids[i], &p));
		free(p.command);
	}
	*out = json_pack("{s:o}", "processes", list);
	return 0;
}

static int run_shutdown(struct guest *g, UNUSED struct execs *x, const json_t *arguments, UNUSED json_t **out, struct error *err) {
	const char *mode = json_get_str(arguments, "mode");
	if (mode && strcmp(mode, "powerdown") != 0 && strcmp(mode, "halt") != 0 && strcmp(mode, "reboot") != 0)
		return error_set(err, ERROR_INVALID, "mode is powerdown, halt or reboot");
	g->reboot = str_same(mode, "reboot");
	guest_stop(g);
	return 0;
}

/* --- file systems: the root is the host's, and nothing else is written to a disk without the container's doing --- */

static int run_freeze_status(UNUSED struct guest *g, UNUSED struct execs *x, UNUSED const json_t *arguments, json_t **out,
			     UNUSED struct error *err) {
	*out = json_string("thawed");
	return 0;
}

/* What is only in memory goes to the host; the number of frozen file systems is 0. */
static int run_freeze(UNUSED struct guest *g, UNUSED struct execs *x, UNUSED const json_t *arguments, json_t **out, UNUSED struct error *err) {
	sync();
	*out = json_integer(0);
	return 0;
}

static int run_thaw(UNUSED struct guest *g, UNUSED struct execs *x, UNUSED const json_t *arguments, json_t **out, UNUSED struct error *err) {
	*out = json_integer(0);
	return 0;
}

/* --- time --- */

static int run_get_time(UNUSED struct guest *g, UNUSED struct execs *x, UNUSED const json_t *arguments, json_t **out, UNUSED struct error *err) {
	*out = json_integer(time_now_ns());
	return 0;
}

static int hardware_time(int64_t *ns, struct error *err) {
	_cleanup_(close_fd) int fd = open("/dev/rtc0", O_RDONLY | O_CLOEXEC);
	struct rtc_time t;
	if (fd < 0 || ioctl(fd, RTC_RD_TIME, &t) < 0)
		return error_errno(err, errno, "cannot read the hardware's clock");
	struct tm tm = {.tm_sec = t.tm_sec, .tm_min = t.tm_min, .tm_hour = t.tm_hour, .tm_mday = t.tm_mday, .tm_mon = t.tm_mon,
			.tm_year = t.tm_year};
	*ns = (int64_t)timegm(&tm) * NS_PER_SEC;
	return 0;
}

static int run_set_time(UNUSED struct guest *g, UNUSED struct execs *x, const json_t *arguments, json_t **out, struct error *err) {
	int64_t ns = json_get_int(arguments, "time");
	int r = json_object_get(arguments, "time") ? 0 : hardware_time(&ns, err);
	if (r < 0)
		return r;
	struct timespec t = {ns / NS_PER_SEC, ns % NS_PER_SEC};
	if (ns < 0 || clock_settime(CLOCK_REALTIME, &t) < 0)
		return error_errno(err, ns < 0 ? EINVAL : errno, "cannot set the clock");
	*out = json_object();
	return 0;
}

/* --- what the guest is --- */

static int run_host_name(struct guest *g, UNUSED struct execs *x, UNUSED const json_t *arguments, json_t **out, UNUSED struct error *err) {
	*out = json_pack("{s:s}", "host-name", g->config.hostname ? g->config.hostname : "");
	return 0;
}

static int run_osinfo(UNUSED struct guest *g, UNUSED struct execs *x, UNUSED const json_t *arguments, json_t **out, UNUSED struct error *err) {
	struct utsname u;
	uname(&u);
	*out = json_pack("{s:s,s:s,s:s}", "kernel-release", u.release, "kernel-version", u.version, "machine", u.machine);
	return 0;
}

static unsigned prefix_of(const uint8_t *mask, size_t n) {
	unsigned bits = 0;
	for (size_t i = 0; i < n; i++)
		bits += (unsigned)__builtin_popcount(mask[i]);
	return bits;
}

static json_t *print_address(const struct ifaddrs *a) {
	bool v6 = a->ifa_addr->sa_family == AF_INET6;
	char text[INET6_ADDRSTRLEN];
	const void *address = v6 ? (const void *)&((const struct sockaddr_in6 *)a->ifa_addr)->sin6_addr
				 : (const void *)&((const struct sockaddr_in *)a->ifa_addr)->sin_addr;
	const void *mask = v6 ? (const void *)&((const struct sockaddr_in6 *)a->ifa_netmask)->sin6_addr
			      : (const void *)&((const struct sockaddr_in *)a->ifa_netmask)->sin_addr;
	inet_ntop(a->ifa_addr->sa_family, address, text, sizeof text);
	return json_pack("{s:s,s:s,s:i}", "ip-address", text, "ip-address-type", v6 ? "ipv6" : "ipv4", "prefix",
			 (int)prefix_of(mask, v6 ? 16 : 4));
}

static json_t *interface_of(json_t *list, const char *label) {
	_cleanup_(free_ptr) char *name = str_copyn(label, strcspn(label, ":")); /* "eth0:1" is an address of eth0 */
	json_t *o;
	size_t i;
	json_array_foreach(list, i, o)
		if (str_same(json_get_str(o, "name"), name))
			return o;
	_cleanup_(free_ptr) char *path = str_format("/sys/class/net/%s/address", name);
	_cleanup_(buf_free) struct buf mac = BUF_INIT;
	o = json_pack("{s:s,s:[]}", "name", name, "ip-addresses");
	if (fs_read(path, 64, &mac) >= 0 && mac.len > 1) {
		buf_truncate(&mac, mac.len - 1);
		json_set_str(o, "hardware-address", buf_str(&mac));
	}
	json_array_append_new(list, o);
	return o;
}

static int run_interfaces(UNUSED struct guest *g, UNUSED struct execs *x, UNUSED const json_t *arguments, json_t **out, struct error *err) {
	struct ifaddrs *all;
	if (getifaddrs(&all) < 0)
		return error_errno(err, errno, "cannot list the addresses");
	*out = json_array();
	for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
		json_t *o = interface_of(*out, a->ifa_name);
		if (a->ifa_addr && a->ifa_netmask && (a->ifa_addr->sa_family == AF_INET || a->ifa_addr->sa_family == AF_INET6))
			json_array_append_new(json_object_get(o, "ip-addresses"), print_address(a));
	}
	freeifaddrs(all);
	return 0;
}

/* --- the table --- */

static const struct command commands[] = {
	{"guest-sync", run_sync, false},
	{"guest-sync-delimited", run_sync, false},
	{"guest-ping", run_ping, false},
	{"guest-info", run_info, false},
	{"guest-exec", run_exec, false},
	{"guest-exec-status", run_exec_status, false},
	{"io.wabe-processes", run_processes, false},
	{"guest-shutdown", run_shutdown, true},
	{"guest-fsfreeze-status", run_freeze_status, false},
	{"guest-fsfreeze-freeze", run_freeze, false},
	{"guest-fsfreeze-thaw", run_thaw, false},
	{"guest-get-time", run_get_time, false},
	{"guest-set-time", run_set_time, false},
	{"guest-get-host-name", run_host_name, false},
	{"guest-get-osinfo", run_osinfo, false},
	{"guest-network-get-interfaces", run_interfaces, false},
	{0},
};

int command_run(struct guest *g, struct execs *x, const char *name, const json_t *arguments, json_t **out, struct error *err) {
	for (const struct command *c = commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c->run(g, x, arguments, out, err);
	return error_set(err, ERROR_UNSUPPORTED, "the command %.80s has not been found", name);
}
