/* wabed: `wabe daemon`. Looks up the user, takes the locks, and supervises the roles, which are programs of their own. */
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "daemon/supervise.h"

#include <getopt.h>
#include <pwd.h>
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
	"  --certs DIR         certificates of registries, as DIR/HOST:PORT/ca.crt, client.cert, client.key; may be given\n"
	"                      several times (default /etc/wabe/certs.d, then /etc/docker/certs.d)\n"
	"  --role ROLE         both (default), or one alone: control, agent\n"
	"  --version\n"
	"\n"
	"Writes `ready` to standard output once it serves. SIGTERM ends it; instances go on running.\n";

struct options {
	struct daemon_options daemon;
	const char *role;
};

static const char *from_env(const char *name, const char *otherwise) {
	const char *value = getenv(name);
	return value && *value ? value : otherwise;
}

/* 0; 1: nothing is left to do; negative. */
static int parse(int argc, char **argv, struct options *o, struct error *err) {
	static const struct option known[] = {
		{"state", required_argument, NULL, 's'},     {"run", required_argument, NULL, 'r'},
		{"listen", required_argument, NULL, 'l'},    {"role", required_argument, NULL, 'o'},
		{"mirror", required_argument, NULL, 'm'},    {"certs", required_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},            {"version", no_argument, NULL, 'v'},
		{0},
	};
	*o = (struct options){
		.daemon = {.state = from_env("WABE_STATE", "/var/lib/wabe"), .run = from_env("WABE_RUN", "/run/wabe")},
		.role = "both",
	};
	for (int c; (c = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
		switch (c) {
		case 's': o->daemon.state = optarg; break;
		case 'r': o->daemon.run = optarg; break;
		case 'o': o->role = optarg; break;
		case 'm': strv_add(&o->daemon.mirrors, optarg); break;
		case 'c': strv_add(&o->daemon.certs, optarg); break;
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
	for (char **d = o->daemon.certs; d && *d; d++)
		if (**d != '/' || strv_len(o->daemon.certs) > 8)
			return error_set(err, ERROR_INVALID, "--certs %s: at most 8 absolute paths", *d);
	if (!o->daemon.certs) {
		strv_add(&o->daemon.certs, "/etc/wabe/certs.d");
		strv_add(&o->daemon.certs, "/etc/docker/certs.d");
	}
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

static int run_roles(const struct options *o, struct error *err) {
	unsigned roles = ROLE_AGENT | ROLE_CONTROL;
	if (str_same(o->role, "control"))
		roles = ROLE_CONTROL;
	else if (str_same(o->role, "agent"))
		roles = ROLE_AGENT;
	else if (!str_same(o->role, "both"))
		return error_set(err, ERROR_INVALID, "--role %s: one of both, control, agent", o->role);
	int r = roles & ROLE_AGENT ? daemon_lock(&o->daemon, "agent", err) : 0;
	if (r == 0 && roles & ROLE_CONTROL)
		r = daemon_lock(&o->daemon, "control", err);
	return r < 0 ? r : supervise(&o->daemon, roles, err);
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
	if (r == 0)
		r = run_roles(&o, &err);
	if (r < 0)
		fprintf(stderr, "wabed: %s\n", error_text(&err));
	strv_free(o.daemon.mirrors);
	strv_free(o.daemon.certs);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
