/* wabe exec */
#include "cli/cli.h"

struct options {
	bool detach, interactive, tty, privileged;
	char **env;
	char *workdir, *user, *detach_keys;
};

static const struct option_row options[] = {
	OPTION(struct options, interactive, BOOL, "interactive,i", .doc = "Gives it input"),
	OPTION(struct options, tty, BOOL, "tty,t", .doc = "Gives it a terminal"),
	OPTION(struct options, detach, BOOL, "detach,d", .doc = "Runs in the background; prints its id"),
	OPTION(struct options, env, STRINGS, "env,e", .placeholder = "KEY=VALUE", .doc = "Environment"),
	OPTION(struct options, workdir, STRING, "workdir,w", .placeholder = "PATH", .doc = "Working directory"),
	OPTION(struct options, user, STRING, "user,u", .placeholder = "USER[:GROUP]", .doc = "User and group"),
	OPTION(struct options, privileged, BOOL, "privileged", .doc = "With all capabilities"),
	OPTION(struct options, detach_keys, STRING, "detach-keys", .placeholder = "KEYS", .def = DETACH_KEYS,
	       .doc = "Leave it running"),
	{0},
};

static void set_true(json_t *body, const char *key, bool value) {
	if (value)
		json_set_bool(body, key, true);
}

static json_t *request(const struct invocation *in) {
	const struct options *o = in->options;
	int rows, columns;
	json_t *body = json_pack("{s:o}", "command", json_from_strv(in->args + 1));
	if (o->env)
		json_object_set_new(body, "env", json_from_strv(o->env));
	json_set_str(body, "workdir", o->workdir);
	json_set_str(body, "user", o->user);
	set_true(body, "tty", o->tty);
	set_true(body, "stdin_open", o->interactive);
	set_true(body, "privileged", o->privileged);
	set_true(body, "detach", o->detach);
	if (o->tty && terminal_size(&rows, &columns)) {
		json_set_int(body, "rows", rows);
		json_set_int(body, "columns", columns);
	}
	return body;
}

static int run_detached(const struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *body = request(in), *reply = NULL;
	int r = api_call(in, "POST", api_path(in, "/instances/%s/exec", in->args[0]), body, &reply, err);
	if (r == 0 && json_get_str(reply, "id"))
		puts(json_get_str(reply, "id"));
	return r;
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	if (o->detach)
		return run_detached(in, err);
	_cleanup_(session_close) struct session s = {
		.in = in,
		.path = api_path(in, "/instances/%s/exec", in->args[0]),
		.name = in->args[0],
		.is_exec = true,
		.tty = o->tty,
		.input = o->interactive,
		.detach_keys = o->detach_keys,
		.body = request(in),
	};
	int r = session_open(&s, err);
	return r < 0 ? r : session_run(&s, err);
}

const struct command command_exec = {
	.name = "exec",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE COMMAND [ARGUMENT…]",
	.doc = "Run a further command in a running instance",
	.examples = "wabe exec -it web bash\nwabe exec -u www-data -e LANG=C web id",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 2,
	.max_args = SIZE_MAX,
	.stop_at_first = true,
	.complete = "instance",
	.run = run,
};
