/* wabe network unpublish */
#include "cli/cli.h"

static int run(struct invocation *in, UNUSED struct error *err) {
	return api_each(in, "DELETE", "/balancers/%s", NULL, false);
}

const struct command command_network_unpublish = {
	.name = "network unpublish",
	.group = "Networks",
	.usage = "NAME…",
	.doc = "Stop spreading connections",
	.examples = "wabe network unpublish app-web-80",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "balancer",
	.run = run,
};
