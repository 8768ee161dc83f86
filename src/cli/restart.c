/* wabe restart */
#include "cli/cli.h"

struct options {
	char *timeout, *signal;
};

static const struct option_row options[] = {
	OPTION(struct options, timeout, STRING, "timeout,t", .placeholder = "TIME",
	       .doc = "Until it is killed; its own if not given"),
	OPTION(struct options, signal, STRING, "signal,s", .placeholder = "SIGNAL",
	       .doc = "Asks it to end; its own if not given"),
	{0},
};

static int run(struct invocation *in, UNUSED struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_object();
	json_set_str(body, "timeout", o->timeout);
	json_set_str(body, "signal", o->signal);
	return api_each(in, "POST", "/instances/%s/restart", body, false);
}

const struct command command_restart = {
	.name = "restart",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE…",
	.doc = "Stop instances and start them again",
	.examples = "wabe restart web\nwabe restart -t 1m -s SIGINT web db",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
