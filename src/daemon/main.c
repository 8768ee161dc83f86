/* wabed: the roles of `wabe daemon`. Chooses the role, looks up the user, takes the locks; nothing else. */
#include "agent/agent.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "control/control.h"
#include "daemon/supervise.h"
#include "driver/container/container.h"

#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
	"Usage: wabed [options]\n"
	"The daemon of wabe, in the foreground. `wabe daemon` starts it.\n"
	"\n"
	"  --state DIR         what lasts (default /var/lib/wabe, or WABE_STATE)\n"
	"  --run DIR           sockets (default /run/wabe, or WABE_RUN)\n"
	"  --listen ADDR:PORT  not supported yet: it will serve the API with TLS\n"
	"  --mirror URL        of docker.io: asked first for its images, as in http://127.0.0.1:5000;\n"
	"                      may be given several times\n"
	"  --role ROLE         both (default), or one alone: control, agent\n"
	"  --version\n"
	"\n"
	"Writes `ready` to standard output once it serves. SIGTERM ends it; instances go on running.\n";

struct options {
	struct daemon_options daemon;
	const char *role;
	int listen_fds[CONTROL_SOCKETS], ready_fd; /* from the parent; -1 */
	size_t listening;
};

static const char *from_env(const char *name, const char *otherwise) {
	const char *value = getenv(name);
	return value && *value ? value : otherwise;
}

static int parse_fd(const char *text) {
	uint64_t fd;
	return str_to_u64(text, 10, &fd) == 0 && fd < 1024 ? (int)fd : -1;
}

/* 0; 1: nothing is left to do; negative. */
static int parse(int argc, char **argv, struct options *o, struct error *err) {
	static const struct option known[] = {
		{"state", required_argument, NULL, 's'},     {"run", required_argument, NULL, 'r'},
		{"listen", required_argument, NULL, 'l'},    {"role", required_argument, NULL, 'o'},
		{"listen-fd", required_argument, NULL, 'L'}, {"ready-fd", required_argument, NULL, 'R'},
		{"mirror", required_argument, NULL, 'm'},
		{"help", no_argument, NULL, 'h'},            {"version", no_argument, NULL, 'v'},
		{0},
	};
	*o = (struct options){
		.daemon = {.state = from_env("WABE_STATE", "/var/lib/wabe"), .run = from_env("WABE_RUN", "/run/wabe")},
		.role = "both",
		.listen_fds = {-1, -1},
		.ready_fd = -1,
	};
	for (int c; (c = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
		switch (c) {
		case 's': o->daemon.state = optarg; break;
		case 'r': o->daemon.run = optarg; break;
		case 'o': o->role = optarg; break;
		case 'm': strv_add(&o->daemon.mirrors, optarg); break;
		case 'L':
			if (o->listening < CONTROL_SOCKETS)
				o->listen_fds[o->listening++] = parse_fd(optarg);
			break;
		case 'R': o->ready_fd = parse_fd(optarg); break;
		case 'l': return error_set(err, ERROR_UNSUPPORTED, "--listen %s: this version serves no network, only the socket in %s", optarg, o->daemon.run);
		case 'h': fputs(usage, stdout); return 1;
		case 'v': puts("wabed " WABE_VERSION); return 1;
		default: return error_set(err, ERROR_INVALID, "see wabed --help");
		}
	}
	if (optind < argc)
		return error_set(err, ERROR_INVALID, "unexpected argument %s, see wabed --help", argv[optind]);
	if (o->daemon.state[0] != '/' || o->daemon.run[0] != '/')
		return error_set(err, ERROR_INVALID, "--state and --run must be absolute paths");
	for (char **m = o->daemon.mirrors; m && *m; m++)
		if (!str_starts(*m, "http://") && !str_starts(*m, "https://"))
			return error_set(err, ERROR_INVALID, "--mirror %s: it must begin with http:// or https://", *m);
	return 0;
}

static int find_user(struct daemon_options *o, struct error *err) {
	if (geteuid() != 0)
		return error_set(err, ERROR_DENIED, "the daemon must be started as root");
	struct passwd *p = getpwnam("wabe");
	if (!p)
		return error_set(err, ERROR_NOT_FOUND, "there is no user wabe: make it with\n"
			"  adduser --system --group --no-create-home --home /nonexistent wabe");
	if (p->pw_uid == 0 || p->pw_gid == 0)
		return error_set(err, ERROR_INVALID, "the user wabe must not be root");
	o->uid = p->pw_uid;
	o->gid = p->pw_gid;
	return 0;
}

static int role_control(const struct options *o, struct error *err) {
	struct control_options c = {
		.state = o->daemon.state,
		.run = o->daemon.run,
		.uid = o->daemon.uid,
		.gid = o->daemon.gid,
		.mirrors = o->daemon.mirrors,
		.listen_fds = {o->listen_fds[CONTROL_NATIVE], o->listen_fds[CONTROL_DOCKER]},
		.ready_fd = o->ready_fd,
	};
	if (!o->listening) { /* started by hand, not by our parent */
		int r = daemon_lock(&o->daemon, "control", err);
		if (r < 0)
			return r;
		c.ready_fd = STDOUT_FILENO;
	}
	log_open("control", LOG_INFO);
	int r = control_main(&c, err);
	if (r < 0)
		return r;
	return r == CONTROL_SHUTDOWN && o->listening ? EXIT_SHUTDOWN : 0;
}

static int role_agent(const struct options *o, struct error *err) {
	struct agent_options a = {.state = o->daemon.state, .run = o->daemon.run, .uid = o->daemon.uid};
	int r = daemon_lock(&o->daemon, "agent", err);
	if (r < 0)
		return r;
	r = a.listen_fd = agent_listen(&o->daemon, err);
	if (r < 0)
		return r;
	log_open("agent", LOG_INFO);
	if (fs_write_all(STDOUT_FILENO, "ready\n", 6) < 0) /* from here on connections wait at worst */
		log_debug("nobody reads that the agent is ready");
	r = agent_main(&a, err);
	return r < 0 ? r : 0;
}

static int role_both(const struct options *o, struct error *err) {
	int r = daemon_lock(&o->daemon, "agent", err);
	if (r == 0)
		r = daemon_lock(&o->daemon, "control", err);
	return r < 0 ? r : supervise(&o->daemon, err);
}

static int run_role(const struct options *o, struct error *err) {
	if (str_same(o->role, "both"))
		return role_both(o, err);
	if (str_same(o->role, "control"))
		return role_control(o, err);
	if (str_same(o->role, "agent"))
		return role_agent(o, err);
	return error_set(err, ERROR_INVALID, "--role %s: one of both, control, agent", o->role);
}

int main(int argc, char **argv) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct options o;
	log_open("wabed", LOG_INFO);
	umask(0022);
	int r = parse(argc, argv, &o, &err);
	if (r > 0)
		return EXIT_SUCCESS;
	if (r == 0)
		r = find_user(&o.daemon, &err);
	if (r == 0 && !str_same(o.role, "control")) /* control enters no container */
		r = container_protect_self(&err);
	if (r == 0)
		r = run_role(&o, &err);
	if (r < 0)
		fprintf(stderr, "wabed: %s\n", error_text(&err));
	strv_free(o.daemon.mirrors);
	/* A confined process cannot run what sanitizers do at the end. */
	fflush(NULL);
	_exit(r < 0 ? EXIT_FAILURE : r);
}
