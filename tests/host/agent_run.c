/* The agent alone, for tests: agent_run STATE RUN UID SHIM. */
#include "agent/agent.h"
#include "base/log.h"

#include <stdio.h>

int main(int argc, char **argv) {
	if (argc != 5) {
		fprintf(stderr, "usage: agent_run STATE RUN UID SHIM\n");
		return 2;
	}
	struct agent_options o = {
		.state = argv[1], .run = argv[2], .uid = (uid_t)strtoul(argv[3], NULL, 10), .listen_fd = -1, .shim = argv[4]};
	struct error err = ERROR_INIT;
	log_open("agent", LOG_INFO);
	if (agent_main(&o, &err) >= 0)
		return 0;
	log_error("%s", error_text(&err));
	error_free(&err);
	return 1;
}
