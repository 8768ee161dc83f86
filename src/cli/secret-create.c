/* wabe secret create */
#include "cli/cli.h"
#include "model/workload.h"

static int run(struct invocation *in, struct error *err) {
	return kept_create(in, "secrets", err);
}

const struct command command_secret_create = {
	.name = "secret create",
	.group = "Workloads, secrets and configs",
	.usage = "[OPTION…] NAME [FILE]",
	.doc = "Keep a secret, which instances get as a file in memory",
	.details = "Without FILE, or with -, it is read from standard input.",
	.examples = "printf hunter2 | wabe secret create db-password\nwabe secret create tls-key key.pem",
	.fields = &secret_spec_table,
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
