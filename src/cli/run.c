/* wabe run: create, attach, start, stay until the end. Attaches before the start, so that no output is lost. */
#include "cli/cli.h"

struct options {
	struct create_options create;
	bool detach, sig_proxy;
	char *detach_keys;
	char **attach;
};

static const struct option_row options[] = {
	OPTION(struct options, detach, BOOL, "detach,d", .doc = "Runs in the background; prints the id"),
	OPTION(struct options, attach, STRINGS, "attach,a", .placeholder = "STREAM",
	       .doc = "Only these: stdin, stdout, stderr"),
	OPTION(struct options, detach_keys, STRING, "detach-keys", .placeholder = "KEYS", .def = DETACH_KEYS,
	       .doc = "Leave it running"),
	OPTION(struct options, sig_proxy, BOOL, "sig-proxy", .def = "true",
	       .doc = "Passes signals on; =false does not"),
	CREATE_OPTIONS(struct options, create),
	{0},
};

/* A start that failed leaves nothing of an instance that nobody will come back to. */
static void drop(const struct invocation *in, const char *id) {
	const struct instance_spec *spec = in->fields;
	if (spec->auto_remove)
		api_call(in, "DELETE", api_path(in, "/instances/%s?force=true", id), NULL, NULL, NULL);
}

static int start(const struct invocation *in, const char *id, struct error *err) {
	int r = api_call(in, "POST", api_path(in, "/instances/%s/start", id), NULL, NULL, err);
	if (r < 0)
		drop(in, id);
	return r;
}

static bool wants(char *const *attach, const char *stream) {
	return !attach || strv_has(attach, stream);
}

static bool wants_input(const struct invocation *in) {
	const struct options *o = in->options;
	const struct instance_spec *spec = in->fields;
	return spec->stdin_open && wants(o->attach, "stdin");
}

static int run_attached(const struct invocation *in, const char *id, struct error *err) {
	const struct options *o = in->options;
	const struct instance_spec *spec = in->fields;
	bool input = wants_input(in);
	_cleanup_(session_close) struct session s = {
		.in = in,
		.path = api_path(in, "/instances/%s/attach", id),
		.signal_path = o->sig_proxy ? api_path(in, "/instances/%s/kill", id) : NULL,
		.name = spec->name ? spec->name : id,
		.tty = spec->tty,
		.input = input,
		.detach_keys = o->detach_keys,
	};
	path_query(&s.path, "stdin", input ? "true" : "false");
	path_query(&s.path, "stdout", wants(o->attach, "stdout") ? "true" : "false");
	path_query(&s.path, "stderr", wants(o->attach, "stderr") ? "true" : "false");
	int r = session_open(&s, err);
	if (r < 0)
		drop(in, id);
	else
		r = start(in, id, err);
	if (r < 0)
		return r;
	return session_run_to_end(&s, id, spec->restart.policy, spec->auto_remove, err);
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	struct instance_spec *spec = in->fields;
	if (!o->detach)
		spec->stdin_once = spec->stdin_open;
	_cleanup_(json_free_ptr) json_t *instance = NULL;
	int r = spec_finish(in, &o->create, err);
	if (r == 0 && !o->detach)
		r = session_check(spec->tty, wants_input(in), o->detach_keys, err);
	if (r == 0)
		r = spec_create(in, &o->create, &instance, err);
	if (r < 0)
		return r;
	const char *id = json_get_str(instance, "id");
	if (!o->detach)
		return run_attached(in, id, err);
	r = start(in, id, err);
	if (r == 0)
		puts(id);
	return r;
}

const struct command command_run = {
	.name = "run",
	.group = "Instances",
	.usage = "[OPTION…] IMAGE [COMMAND [ARGUMENT…]]",
	.doc = "Run a command in a new instance",
	.details =
		"Ends with the status of the command; 125 when wabe itself fails, 126 when the command cannot be executed,\n"
		"127 when it is not there.",
	.examples = "wabe run --rm -it debian:bookworm bash\n"
		    "wabe run -d --name web --restart always -m 256m --cpus 0.5 web:1\n"
		    "echo hello | wabe run --rm -i debian:bookworm cat\n"
		    "wabe run --rm -v ./src:/src:ro -w /src debian:bookworm ls\n"
		    "wabe run -dt --name whole my/system:1 /sbin/init",
	.options = options,
	.options_size = sizeof(struct options),
	.fields = &instance_spec_table,
	.min_args = 1,
	.max_args = SIZE_MAX,
	.stop_at_first = true,
	.complete = "image",
	.run = run,
};
