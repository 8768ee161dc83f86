/* wabe image push */
#include "cli/cli.h"

struct options {
	char *username;
	bool plain_http, quiet;
};

static const struct option_row options[] = {
	OPTION(struct options, username, STRING, "username,u", .placeholder = "NAME",
	       .doc = "For the registry; the password is read from WABE_PASSWORD"),
	OPTION(struct options, plain_http, BOOL, "plain-http",
	       .doc = "Without TLS, also for other hosts than this one"),
	OPTION(struct options, quiet, BOOL, "quiet,q", .doc = "Shows no progress"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	const char *name = in->args[in->n_args - 1];
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "name", name), *task = NULL;
	json_set_str(body, "username", o->username);
	json_set_str(body, "password", o->username ? getenv("WABE_PASSWORD") : NULL);
	if (o->plain_http)
		json_set_bool(body, "plain_http", true);
	int r = api_call(in, "POST", api_path(in, "/images/%s/push", in->args[0]), body, &task, err);
	if (r < 0)
		return r;
	const char *id = json_get_str(task, "id");
	return id ? task_wait(in, id, o->quiet, NULL, err)
		  : error_set(err, ERROR_CORRUPT, "the daemon's answer has no task");
}

const struct command command_image_push = {
	.name = "image push",
	.group = "Images",
	.usage = "[OPTION…] IMAGE [NAME]",
	.doc = "Send an image to a registry",
	.examples = "wabe image push registry.example/web:1\nwabe image push web:1 registry.example/web:1",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 2,
	.complete = "image",
	.run = run,
};
