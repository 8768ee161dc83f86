/* wabe start */
#include "cli/cli.h"

struct options {
	bool attach, interactive, sig_proxy;
	char *detach_keys;
};

static const struct option_row options[] = {
	OPTION(struct options, attach, BOOL, "attach,a", .doc = "Shows its output until it ends"),
	OPTION(struct options, interactive, BOOL, "interactive,i", .doc = "Gives it input too"),
	OPTION(struct options, detach_keys, STRING, "detach-keys", .placeholder = "KEYS", .def = DETACH_KEYS,
	       .doc = "Leave it running"),
	OPTION(struct options, sig_proxy, BOOL, "sig-proxy", .def = "true",
	       .doc = "Passes signals on; =false does not"),
	{0},
};

static int start_attached(struct invocation *in, const char *name, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *instance = NULL;
	int r = api_call(in, "GET", api_path(in, "/instances/%s", name), NULL, &instance, err);
	if (r < 0)
		return r;
	const json_t *spec = json_object_get(instance, "spec");
	bool input = o->interactive && json_get_bool(spec, "stdin_open");
	return session_of_instance(in, name, spec, input, o->sig_proxy, o->detach_keys, true, err);
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	if (!o->attach && !o->interactive)
		return api_each(in, "POST", "/instances/%s/start", NULL, false);
	if (in->n_args > 1)
		return error_set(err, ERROR_INVALID, "only one instance can be attached to");
	return start_attached(in, in->args[0], err);
}

const struct command command_start = {
	.name = "start",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE…",
	.doc = "Start instances that were created or have ended",
	.examples = "wabe start web\nwabe start -ai shell",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
