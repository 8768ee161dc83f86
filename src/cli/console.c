/* wabe console: what was shown last, then the console itself. */
#include "cli/cli.h"

struct options {
	int64_t lines;
	char *detach_keys;
};

static const struct option_row options[] = {
	OPTION(struct options, lines, INT, "lines,n", .placeholder = "N", .def = "0", .doc = "Shows the last lines first"),
	OPTION(struct options, detach_keys, STRING, "detach-keys", .placeholder = "KEYS", .def = DETACH_KEYS,
	       .doc = "Leave the console"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	const char *name = in->args[0];
	_cleanup_(json_free_ptr) json_t *instance = NULL;
	int r = api_call(in, "GET", api_path(in, "/instances/%s", name), NULL, &instance, err);
	if (r < 0)
		return r;
	const json_t *spec = json_object_get(instance, "spec");
	const char *state = json_get_str(json_object_get(instance, "status"), "state");
	if (!str_same(state, "running") && !str_same(state, "paused"))
		return error_set(err, ERROR_CONFLICT, "%s does not run (%s): wabe logs shows what its console had", name, state ? state : "?");
	if (!json_get_bool(spec, "tty"))
		return error_set(err, ERROR_CONFLICT, "%s has no terminal: wabe attach shows its output", name);
	if (o->lines)
		r = logs_show_last(in, name, o->lines, err);
	return r < 0 ? r : session_of_instance(in, name, spec, json_get_bool(spec, "stdin_open"), false, o->detach_keys, false, err);
}

const struct command command_console = {
	.name = "console",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE",
	.doc = "Come to the console of a machine, or to a container's terminal",
	.examples = "wabe console db\nwabe console -n 50 db",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.complete = "instance",
	.run = run,
};
