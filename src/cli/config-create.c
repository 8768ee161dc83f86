/* wabe config create */
#include "cli/cli.h"
#include "model/workload.h"

static int run(struct invocation *in, struct error *err) {
	return kept_create(in, "configs", err);
}

const struct command command_config_create = {
	.name = "config create",
	.group = "Workloads, secrets and configs",
	.usage = "[OPTION…] NAME [FILE]",
	.doc = "Keep a config, which instances get as a file",
	.details = "Without FILE, or with -, it is read from standard input.",
	.examples = "wabe config create web.conf ./web.conf",
	.fields = &config_spec_table,
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
