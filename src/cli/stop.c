/* wabe stop */
#include "cli/cli.h"

const struct option_row stop_options[] = {
	OPTION(struct stop_options, timeout, STRING, "timeout,t", .placeholder = "TIME",
	       .doc = "Time to end in, until it is killed; the instance's own if not given"),
	OPTION(struct stop_options, signal, STRING, "signal,s", .placeholder = "SIGNAL",
	       .doc = "That asks it to end; the instance's own if not given"),
	{0},
};

int stop_each(struct invocation *in, const char *path) {
	const struct stop_options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_object();
	json_set_str(body, "timeout", o->timeout);
	json_set_str(body, "signal", o->signal);
	return api_each(in, "POST", path, body, false);
}

static int run(struct invocation *in, UNUSED struct error *err) {
	return stop_each(in, "/instances/%s/stop");
}

const struct command command_stop = {
	.name = "stop",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE…",
	.doc = "Stop instances",
	.examples = "wabe stop web\nwabe stop -t 1m -s SIGINT web db",
	.options = stop_options,
	.options_size = sizeof(struct stop_options),
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
