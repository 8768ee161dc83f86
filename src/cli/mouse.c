/* wabe mouse */
#include "cli/cli.h"

struct options {
	char *click;
	int64_t times;
	bool by;
};

static const struct option_row options[] = {
	OPTION(struct options, click, STRING, "click,c", .placeholder = "BUTTON", .doc = "Then clicks left, middle, right, wheel-up, wheel-down"),
	OPTION(struct options, times, INT, "times,n", .placeholder = "N", .def = "1", .doc = "So often"),
	OPTION(struct options, by, BOOL, "by,b", .doc = "X and Y are steps, not a point"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_object();
	if (in->n_args == 2)
		return error_set(err, ERROR_INVALID, "X and Y are given together");
	if (in->n_args == 3) {
		int64_t x, y;
		if (str_to_i64(in->args[1], &x) < 0 || str_to_i64(in->args[2], &y) < 0)
			return error_set(err, ERROR_INVALID, "\"%s\" and \"%s\" are no numbers", in->args[1], in->args[2]);
		json_set_str(body, "move", o->by ? "by" : "to");
		json_set_int(body, "x", x);
		json_set_int(body, "y", y);
	}
	json_set_str(body, "click", o->click);
	if (o->click)
		json_set_int(body, "times", o->times);
	return api_call(in, "POST", api_path(in, "/instances/%s/input", in->args[0]), body, NULL, err);
}

const struct command command_mouse = {
	.name = "mouse",
	.group = "Instances",
	.usage = "[OPTION…] MACHINE [X Y]",
	.doc = "Move a machine's pointer, and click",
	.examples = "wabe mouse --click left desk 320 200\nwabe mouse --by desk -- -5 10",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 3,
	.complete = "instance",
	.run = run,
};
