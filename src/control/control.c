/* Starting and stopping control: sockets and directories as root, then the confinement, then the core and
 * the HTTP server over it. */
#include "control/control.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/time.h"
#include "control/confine.h"
#include "control/workloads.h"
#include "core/core.h"
#include "dialect/docker/docker.h"
#include "dialect/native/native.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define CERTS_MAX 8
#define AGENT_WAIT (15 * NS_PER_SEC)

static const struct dialect_socket {
	const struct http_route *(*routes)(void);
	void (*render_error)(struct http_request *req, int status, const struct error *e);
	const int *statuses;
	size_t (*prefix)(const char *path);
	int (*check)(const char *path, struct error *err);
	size_t max_body;
	const char *const (*headers)[2];
} sockets[CONTROL_SOCKETS] = {
	[CONTROL_NATIVE] = {native_routes, native_render_error, native_statuses, NULL, NULL, 0, NULL},
	[CONTROL_DOCKER] = {docker_routes, docker_render_error, docker_statuses, docker_prefix, docker_check,
			    DOCKER_BODY_MAX, docker_headers},
};

int control_directories(const struct control_options *o, struct error *err) {
	_cleanup_(free_ptr) char *own = str_format("%s/control", o->state);
	int r = fs_mkdir_p(o->state, 0755);
	if (r == 0 && mkdir(own, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0 && lchown(own, o->uid, o->gid) < 0)
		r = -errno;
	return r < 0 ? error_errno(err, r, "making %s", own) : 0;
}

/* Directories of registries' certificates: opened by root, for those above them may be closed to others. */
static void open_certificates(const struct control_options *o, int fds[CERTS_MAX + 1]) {
	size_t n = 0;
	for (char *const *c = o->certs; c && *c && n < CERTS_MAX; c++) {
		fds[n] = open(*c, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fds[n] >= 0)
			n++;
		else if (errno != ENOENT)
			log_warn("registries' certificates in %s are left out: %s", *c, strerror(errno));
	}
	fds[n] = -1;
}

static int confine(const struct control_options *o, const char *own, const int *certs, struct error *err) {
	char links[CERTS_MAX][FD_PATH_MAX];
	struct confine_path paths[CERTS_MAX + 32] = {
		{own, true},
		{"/dev/null", true},
		{"/dev/urandom"},
		/* programs' libraries (name services, cryptography) and certificates */
		{"/usr/lib"}, {"/usr/lib64"}, {"/usr/share/ca-certificates"}, {"/usr/local/share/ca-certificates"},
		{"/usr/share/p11-kit"}, {"/usr/share/zoneinfo"}, {"/etc/ld.so.cache"}, {"/etc/ssl"}, {"/etc/gnutls"},
		{"/etc/pkcs11"}, {"/etc/localtime"},
		/* names of hosts */
		{"/etc/resolv.conf"}, {"/run/systemd/resolve"}, {"/etc/hosts"}, {"/etc/nsswitch.conf"}, {"/etc/host.conf"},
		{"/etc/gai.conf"}, {"/etc/services"}, {"/etc/protocols"},
	};
	size_t n = 0;
	while (paths[n].path)
		n++;
	for (size_t i = 0; certs[i] >= 0; i++)
		paths[n++].path = fd_path(certs[i], links[i]);
	int r = confine_user(o->uid, o->gid, err);
	if (r < 0)
		return r;
	if (access(own, R_OK | W_OK | X_OK) < 0)
		return error_errno(err, errno, "the user wabe cannot use %s: every directory above it must be open to others (mode o+x)", own);
	r = confine_files(paths, n, err);
	if (r == -ERROR_UNSUPPORTED) {
		log_warn("%s: what control can open is limited by its user alone", error_text(err));
		error_free(err);
		r = 0;
	}
	return r < 0 ? r : confine_calls(err);
}

static void on_shutdown(void *arg) {
	uint64_t one = 1;
	if (write(*(int *)arg, &one, sizeof one) < 0)
		log_error("the daemon does not hear of its end");
}

static void say_ready(int *fd) {
	if (*fd < 0)
		return;
	if (fs_write_all(*fd, "ready\n", 6) < 0)
		log_debug("nobody wants to know that control is ready");
	close_fd(fd);
}

/* Waits for a signal or for the event; the process has blocked the signals. */
static int wait_end(int signals, int shutdown) {
	struct pollfd fds[2] = {{signals, POLLIN, 0}, {shutdown, POLLIN, 0}};
	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	return fds[1].revents ? CONTROL_SHUTDOWN : CONTROL_SIGNAL;
}

static int servers_start(struct core *core, int fds[CONTROL_SOCKETS], struct http_server *servers[CONTROL_SOCKETS],
			 struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < CONTROL_SOCKETS; i++) {
		struct http_config http = {
			.routes = sockets[i].routes(),
			.max_body = sockets[i].max_body,
			.context = core,
			.render_error = sockets[i].render_error,
			.statuses = sockets[i].statuses,
			.prefix = sockets[i].prefix,
			.check = sockets[i].check,
			.headers = sockets[i].headers,
		};
		r = http_server_start(TAKE_FD(fds[i]), &http, &servers[i], err);
	}
	return r;
}

static void servers_stop(struct http_server *servers[CONTROL_SOCKETS]) {
	for (size_t i = 0; i < CONTROL_SOCKETS; i++)
		if (servers[i])
			http_server_stop(servers[i]);
}

static int serve(const struct control_options *o, const char *own, const int *certs, int fds[CONTROL_SOCKETS], int signals,
		 struct error *err) {
	_cleanup_(free_ptr) char *agent = str_format("%s/agent.sock", o->run);
	_cleanup_(close_fd) int shutdown = eventfd(0, EFD_CLOEXEC);
	struct core *core;
	struct http_server *servers[CONTROL_SOCKETS] = {0};
	struct core_config config = {
		.state = own,
		.agent_socket = agent,
		.mirrors = o->mirrors,
		.certificates = certs,
		.on_shutdown = on_shutdown,
		.arg = &shutdown,
	};
	int ready = o->ready_fd;
	int r = core_open(&config, &core, err);
	if (r < 0)
		return r;
	if (!core_wait_agent(core, AGENT_WAIT))
		log_warn("the agent cannot be reached at %s; going on without it", agent);
	struct workloads *workloads = NULL;
	r = workloads_start(core, &workloads, err);
	if (r == 0)
		r = servers_start(core, fds, servers, err);
	if (r == 0) {
		say_ready(&ready);
		log_info("serving on %s/wabe.sock and docker.sock", o->run);
		r = wait_end(signals, shutdown);
	}
	core_stop_following(core);
	servers_stop(servers);
	workloads_stop(workloads);
	core_close(core);
	return r;
}

static int block_signals(void) {
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

int control_main(const struct control_options *o, struct error *err) {
	_cleanup_(free_ptr) char *own = str_format("%s/control", o->state);
	int fds[CONTROL_SOCKETS];
	memcpy(fds, o->listen_fds, sizeof fds);
	int r = control_directories(o, err);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int signals = block_signals();
	mallopt(M_ARENA_MAX, 2); /* many threads that mostly wait */
	umask(0077);
	setenv("TMPDIR", own, 1);
	if (chdir(own) < 0)
		return error_errno(err, errno, "entering %s", own);
	int certs[CERTS_MAX + 1];
	open_certificates(o, certs);
	r = confine(o, own, certs, err);
	return r < 0 ? r : serve(o, own, certs, fds, signals, err);
}
