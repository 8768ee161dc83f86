/* wabe pool rm */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	int status = 0;
	for (char **name = in->args; *name; name++) {
		if (api_call(in, "DELETE", client_path("/v1/pools/%s", *name), NULL, NULL, err) < 0) {
			print_error(err);
			status = EXIT_WABE;
		} else {
			puts(*name);
		}
	}
	return status;
}

const struct command command_pool_rm = {
	.name = "pool rm",
	.group = "Pools, volumes and snapshots",
	.usage = "POOL…",
	.doc = "Remove empty storage pools",
	.examples = "wabe pool rm fast",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "pool",
	.run = run,
};
