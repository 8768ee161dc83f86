/* wabe address release */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	return api_call(in, "DELETE", api_path(in, "/addresses/%s/%s", in->args[0], in->args[1]), NULL, NULL, err);
}

const struct command command_address_release = {
	.name = "address release",
	.group = "Networks",
	.usage = "NETWORK ADDRESS",
	.doc = "Give a reserved address back",
	.examples = "wabe address release web 10.84.0.10",
	.min_args = 2,
	.complete = "network",
	.run = run,
};
