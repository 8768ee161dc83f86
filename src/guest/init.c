/* wabe-init: the first process of a machine whose root is a container image's. It makes the machine a place to run that one
 * container, tells its end to the host, and powers off. */
#include "guest/guest-priv.h"

#include "base/fs.h"
#include "model/instance.h"

#include <fcntl.h>
#include <linux/input.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS_FILE GUEST_HOST "/exit"

struct context {
	struct guest *guest;
	int uevents;
	struct execs *execs;
	struct guest_agent *agent;
};

/* --- the end --- */

/* The console is the container's: the kernel has said what it had to, and keeps its last words to itself. */
static void console_take(void) {
	_cleanup_(buf_free) struct buf name = BUF_INIT;
	if (fs_read("/sys/class/tty/console/active", 64, &name) < 0 || !name.len)
		return;
	_cleanup_(free_ptr) char *path = str_format("/sys/class/tty/%.*s/console", (int)strcspn(buf_str(&name), " \n"), buf_str(&name));
	fs_write_value(path, "N");
}

void guest_power_off(void) {
	sync();
	reboot(RB_POWER_OFF);
	_exit(1); /* a panic, which the host sees too */
}

__attribute__((noreturn)) static void guest_reboot(void) {
	sync();
	reboot(RB_AUTOBOOT);
	_exit(1);
}

static void write_status(int status) {
	char text[16];
	int n = snprintf(text, sizeof text, "%d\n", status);
	fs_replace(STATUS_FILE, text, (size_t)n, 0644);
}

/* As wabe says of a container that could not be started. */
static int failure_status(enum error_kind kind) {
	return kind == ERROR_NO_COMMAND ? 127 : kind == ERROR_NO_EXEC ? 126 : 125;
}

static void finish(const struct guest *g) {
	console_drain();
	console_take();
	write_status(g->status);
	if (g->reboot)
		guest_reboot();
	guest_power_off();
}

void guest_stop(struct guest *g) {
	int signo = g->config.stop_signal ? signal_from_name(g->config.stop_signal) : SIGTERM;
	container_kill(&g->state, signo > 0 ? signo : SIGTERM, false, NULL);
}

/* --- events --- */

static void on_children(UNUSED int signo, void *arg) {
	struct context *x = arg;
	struct guest *g = x->guest;
	int how;
	for (pid_t pid; (pid = waitpid(-1, &how, WNOHANG)) > 0;) {
		if (pid == g->state.pid) {
			g->ended = true;
			g->status = WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
		} else if (pid == g->output) {
			g->drained = true;
		} else {
			execs_ended(x->execs, pid, how);
		}
	}
	if (g->ended && g->drained)
		loop_stop(g->loop);
}

/* The kernel tells of what has come; nothing is wanted of it but that the agent's port may be there now, or one for an exec. */
static void on_uevent(UNUSED struct loop_source *s, UNUSED uint32_t events, void *arg) {
	struct context *x = arg;
	char message[8192];
	while (recv(x->uevents, message, sizeof message, MSG_DONTWAIT) >= 0 || errno == ENOBUFS)
		;
	guest_agent_look(x->agent);
	sessions_look(x->guest);
}

static int watch_uevents(struct context *x, struct error *err) {
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK, .nl_groups = 1};
	x->uevents = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
	if (x->uevents < 0 || bind(x->uevents, (struct sockaddr *)&kernel, sizeof kernel) < 0)
		return error_errno(err, errno, "cannot listen to the kernel's events");
	loop_add_fd(x->guest->loop, x->uevents, EPOLLIN, on_uevent, x);
	return 0;
}

struct button {
	struct guest *guest;
	int fd;
};

static void on_button(struct loop_source *s, UNUSED uint32_t events, void *arg) {
	struct button *b = arg;
	struct input_event e;
	ssize_t n = read(b->fd, &e, sizeof e);
	if (n == (ssize_t)sizeof e && e.type == EV_KEY && e.code == KEY_POWER && e.value == 1)
		guest_stop(b->guest);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		loop_remove(s);
}

/* A machine without one (microvm) is stopped through the agent. */
static void watch_buttons(struct guest *g) {
	_cleanup_(close_fd) int dir = open("/dev/input", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	if (dir < 0 || fs_names(dir, &names) < 0)
		return;
	for (char **n = names; n && *n; n++) {
		int fd = str_starts(*n, "event") ? openat(dir, *n, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
		if (fd < 0)
			continue;
		struct button *b = NEW(struct button);
		*b = (struct button){g, fd};
		loop_add_fd(g->loop, fd, EPOLLIN, on_button, b);
	}
}

/* --- the start --- */

static int read_config(struct guest_config *c, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int r = fs_read(GUEST_HOST "/config", GUEST_CONFIG_MAX, &text);
	if (r < 0)
		return error_errno(err, r, "cannot read what the host wants");
	_cleanup_(json_free_ptr) json_t *o = json_parse(buf_str(&text), text.len, err);
	if (!o)
		return error_wrap(err, "what the host wants");
	if (json_get_int(o, "version") != GUEST_VERSION)
		return error_set(err, ERROR_UNSUPPORTED, "this kernel's image is of another version of wabe: make it anew by \"wabe image "
							 "bootstrap --kernel\"");
	return fields_parse(&guest_config_table, o, 0, c, err);
}

static int boot(struct guest *g, struct error *err) {
	static const char *const modules[] = {"virtio_pci", "virtiofs", "virtio_console"};
	int r = boot_mounts(g, err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(modules); i++)
		r = boot_module(g, modules[i], err);
	if (r == 0)
		r = boot_share(err);
	unlink(STATUS_FILE); /* of a run before a reboot */
	if (r == 0)
		r = read_config(&g->config, err);
	if (r == 0 && g->config.nics.n)
		r = boot_module(g, "virtio_net", err);
	if (r == 0)
		r = network_up(&g->config, err);
	return r < 0 ? r : boot_sysctls(&g->config, err);
}

static int start_container(struct guest *g, struct error *err) {
	struct container_stdio io;
	struct container_defaults d = {.privileged = true, .shm_size = g->config.shm_size, .seccomp = "unconfined"};
	container_describe(&g->config, &g->container);
	int r = boot_disks(g, &g->container, err);
	if (r == 0)
		r = container_apply_defaults(&g->container, &d, err);
	if (r == 0)
		r = console_open(g, &io, err);
	if (r == 0)
		r = container_create(&g->container, &io, &g->state, err);
	if (r == 0)
		r = console_relay(g, &io, err);
	return r < 0 ? r : container_start(&g->state, err);
}

/* What comes after the first process has begun: none of it keeps that waiting. */
static int serve(struct guest *g, struct error *err) {
	struct context x = {.guest = g, .execs = execs_new(g)};
	x.agent = guest_agent_new(g, x.execs);
	loop_add_signal(g->loop, SIGCHLD, on_children, &x);
	int r = watch_uevents(&x, err);
	if (r < 0)
		return r;
	guest_agent_look(x.agent);
	sessions_look(g);
	if (boot_module(g, "button", NULL) == 0 && boot_module(g, "evdev", NULL) == 0)
		watch_buttons(g);
	static const char *const later[] = {"pvpanic_mmio", "virtio_balloon", "virtio_rng", "virtio_mem"};
	for (size_t i = 0; i < ARRAY_SIZE(later); i++)
		boot_module(g, later[i], NULL); /* nothing ends for want of them */
	on_children(SIGCHLD, &x); /* whoever has ended before */
	if (!(g->ended && g->drained))
		loop_run(g->loop);
	return 0;
}

static int run(struct guest *g, struct error *err) {
	int r = boot(g, err);
	if (r == 0)
		r = start_container(g, err);
	return r < 0 ? r : serve(g, err);
}

int main(void) {
	struct guest g = {.initramfs = -1, .input = -1};
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (getpid() != 1) {
		fputs("wabe-init: it is the first process of a machine\n", stderr);
		return 1;
	}
	g.loop = loop_new();
	if (run(&g, &err) < 0) {
		g.status = failure_status(err.kind);
		fprintf(stderr, "wabe: %s\n", error_text(&err));
	}
	finish(&g);
	return 0;
}
