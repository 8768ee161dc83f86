/* wabe-control: the unprivileged role. */
#include "base/log.h"
#include "base/str.h"
#include "control/control.h"
#include "daemon/role.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int run(int argc, char **argv, struct error *err) {
	struct role_options o;
	int r = role_parse(argc, argv, &o, err);
	if (r == 0 && (o.listening != CONTROL_SOCKETS || !o.gid))
		r = error_set(err, ERROR_INVALID, "a socket or the group is missing");
	if (r < 0)
		return r;
	struct control_options c = {
		.state = o.state,
		.run = o.run,
		.uid = o.uid,
		.gid = o.gid,
		.mirrors = o.mirrors,
		.certs = o.certs,
		.ready_fd = o.ready_fd,
	};
	memcpy(c.listen_fds, o.listen_fds, sizeof c.listen_fds);
	r = control_main(&c, err);
	strv_free(o.mirrors);
	strv_free(o.certs);
	return r;
}

int main(int argc, char **argv) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	log_open("control", LOG_INFO);
	umask(0022);
	int r = run(argc, argv, &err);
	if (r < 0)
		log_error("%s", error_text(&err));
	/* A confined process cannot run what sanitizers do at the end. */
	fflush(NULL);
	_exit(r < 0 ? EXIT_FAILURE : r == CONTROL_SHUTDOWN ? EXIT_SHUTDOWN : EXIT_SUCCESS);
}
