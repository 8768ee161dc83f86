/* wabe-agent: the privileged role. A program of its own, without the libraries of a server: each worker that it forks
 * copies what it maps. */
#include "agent/agent.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "daemon/role.h"
#include "driver/container/container.h"

#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int run(int argc, char **argv, struct error *err) {
	struct role_options o;
	int r = container_protect_self(err); /* its workers enter containers */
	prctl(PR_SET_NAME, "wabe-agent");
	proc_title_room(argv);
	if (r == 0)
		r = role_parse(argc, argv, &o, err);
	if (r < 0)
		return r;
	struct agent_options a = {.state = o.state, .run = o.run, .uid = o.uid, .listen_fd = o.listen_fds[0]};
	return agent_main(&a, err);
}

int main(int argc, char **argv) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	log_open("agent", LOG_INFO);
	umask(0022);
	int r = run(argc, argv, &err);
	if (r < 0)
		log_error("%s", error_text(&err));
	fflush(NULL);
	_exit(r < 0 ? EXIT_FAILURE : r == AGENT_SHUTDOWN ? EXIT_SHUTDOWN : EXIT_SUCCESS);
}
