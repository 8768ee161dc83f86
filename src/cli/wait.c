/* wabe wait */
#include "cli/cli.h"

struct options {
	char *condition;
};

static const struct option_row options[] = {
	OPTION(struct options, condition, STRING, "condition", .placeholder = "WHAT", .def = "not-running",
	       .doc = "not-running, next-exit, removed"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	int status = 0;
	for (char **name = in->args; *name; name++) {
		_cleanup_(json_free_ptr) json_t *end = NULL;
		char *path = api_path(in, "/instances/%s/wait", *name);
		path_query(&path, "condition", o->condition);
		int r = api_call(in, "POST", path, NULL, &end, err);
		if (r < 0) {
			print_error(err);
			status = EXIT_WABE;
		} else {
			printf("%lld\n", (long long)json_get_int(end, "exit_code"));
			fflush(stdout);
		}
	}
	return status;
}

const struct command command_wait = {
	.name = "wait",
	.group = "Instances",
	.usage = "[OPTION…] INSTANCE…",
	.doc = "Wait until instances have ended; prints their exit statuses",
	.examples = "wabe wait web\nwabe wait --condition removed web",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
