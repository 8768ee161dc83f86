/* wabe daemon: becomes wabed, which lies beside this executable or in ../libexec/wabe. */
#include "cli/cli.h"

#include <limits.h>
#include <unistd.h>

static int try_exec(const char *dir, const char *rest, char **args, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s/%swabed", dir, rest);
	if (access(path, X_OK) < 0)
		return 0;
	execv(path, args);
	return error_errno(err, errno, "cannot run %s", path);
}

static int run(struct invocation *in, struct error *err) {
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n < 0)
		return error_errno(err, errno, "cannot find this executable");
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	_cleanup_(strv_free_ptr) char **args = NULL;
	strv_add(&args, "wabed");
	if (in->run) {
		strv_add(&args, "--run");
		strv_add(&args, in->run);
	}
	for (size_t i = 0; i < in->n_args; i++)
		strv_add(&args, in->args[i]);
	int r = try_exec(self, "", args, err);
	if (r == 0)
		r = try_exec(self, "../libexec/wabe/", args, err);
	return r < 0 ? r : error_set(err, ERROR_NOT_FOUND, "wabed is neither in %s nor in ../libexec/wabe", self);
}

const struct command command_daemon = {
	.name = "daemon",
	.group = "Daemon",
	.usage = "[--state DIR] [--run DIR] [--mirror URL…] [--certs DIR…]",
	.doc = "Run the daemon, in the foreground",
	.examples = "wabe daemon\nwabe daemon --state /tmp/a/state --run /tmp/a/run",
	.details = "Writes \"ready\" to standard output once it serves, and its log to standard error. SIGTERM ends it;\n"
		   "instances go on running: `wabe shutdown` stops them, too.\n"
		   "  --state DIR   what lasts: images, instances, the store (default /var/lib/wabe, or WABE_STATE)\n"
		   "  --run DIR     sockets (default /run/wabe, or WABE_RUN)\n"
		   "  --mirror URL  a mirror of docker.io, which is asked first for images from there, as in\n"
		   "                http://127.0.0.1:5000; may be given several times\n"
		   "  --certs DIR   certificates of registries: DIR/HOST:PORT/ has authorities, *.crt, and this host's own,\n"
		   "                client.cert and client.key, which the user wabe must be able to read; may be given several\n"
		   "                times (default /etc/wabe/certs.d, then /etc/docker/certs.d)",
	.raw = true,
	.max_args = SIZE_MAX,
	.run = run,
};
