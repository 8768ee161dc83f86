/* wabe network rm */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return api_each(in, "DELETE", "/networks/%s", NULL, false);
}

const struct command command_network_rm = {
	.name = "network rm",
	.group = "Networks",
	.usage = "NETWORK…",
	.doc = "Remove networks that nothing uses",
	.examples = "wabe network rm web",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "network",
	.run = run,
};
