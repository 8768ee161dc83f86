/* wabe network disconnect */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	return api_call(in, "DELETE", api_path(in, "/instances/%s/networks/%s", in->args[1], in->args[0]), NULL, NULL, err);
}

const struct command command_network_disconnect = {
	.name = "network disconnect",
	.group = "Networks",
	.usage = "NETWORK INSTANCE",
	.doc = "Take an instance off a network, at once if it runs",
	.examples = "wabe network disconnect db web",
	.min_args = 2,
	.complete = "network",
	.run = run,
};
