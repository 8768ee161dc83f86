/* wabe attach */
#include "cli/cli.h"

struct options {
	bool no_stdin, sig_proxy;
	char *detach_keys;
};

static const struct option_row options[] = {
	OPTION(struct options, no_stdin, BOOL, "no-stdin", .doc = "Output only"),
	OPTION(struct options, detach_keys, STRING, "detach-keys", .placeholder = "KEYS", .def = DETACH_KEYS,
	       .doc = "Leave it running"),
	OPTION(struct options, sig_proxy, BOOL, "sig-proxy", .def = "true",
	       .doc = "Passes signals on; =false does not"),
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
	bool input = json_get_bool(spec, "stdin_open") && !o->no_stdin;
	const char *state = json_get_str(json_object_get(instance, "status"), "state");
	if (!str_same(state, "running") && !str_same(state, "paused") && !str_same(state, "restarting"))
		return error_set(err, ERROR_CONFLICT, "%s does not run (%s)", name, state ? state : "?");
	return session_of_instance(in, name, spec, input, o->sig_proxy, o->detach_keys, false, err);
}

const struct command command_attach = {
	.name = "attach",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE",
	.doc = "Come to a running instance's terminal or output",
	.examples = "wabe attach web\nwabe attach --no-stdin --sig-proxy=false web",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.complete = "instance",
	.run = run,
};
