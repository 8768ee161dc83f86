/* wabe kill */
#include "cli/cli.h"

struct options {
	char *signal;
};

static const struct option_row options[] = {
	OPTION(struct options, signal, STRING, "signal,s", .placeholder = "SIGNAL", .def = "KILL",
	       .doc = "Name or number"),
	{0},
};

static int run(struct invocation *in, UNUSED struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "signal", o->signal);
	return api_each(in, "POST", "/instances/%s/kill", body, false);
}

const struct command command_kill = {
	.name = "kill",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE…",
	.doc = "Send a signal to instances",
	.examples = "wabe kill web\nwabe kill -s HUP web",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
