/* wabe shutdown */
#include "cli/cli.h"

struct options {
	char *timeout;
};

static const struct option_row options[] = {
	OPTION(struct options, timeout, STRING, "timeout,t", .placeholder = "TIME", .def = "10s",
	       .doc = "Until instances are killed"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "timeout", o->timeout);
	int r = client_call(in->client, "POST", "/v1/shutdown", body, NULL, err);
	return r < 0 ? r : client_wait_end(in->client, err);
}

const struct command command_shutdown = {
	.name = "shutdown",
	.group = "Daemon",
	.usage = "[OPTION…]",
	.doc = "Stop all instances, then the daemon; returns when nothing of it runs any more",
	.examples = "wabe shutdown -t 30s",
	.options = options,
	.options_size = sizeof(struct options),
	.run = run,
};
