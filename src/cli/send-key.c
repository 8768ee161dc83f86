/* wabe send-key: keys and text at a machine's keyboard. */
#include "cli/cli.h"

#define TEXT_AT_ONCE 256 /* what the API takes */

struct options {
	char *text;
};

static const struct option_row options[] = {
	OPTION(struct options, text, STRING, "text,t", .placeholder = "TEXT", .doc = "Typed after the keys, as on an American keyboard"),
	{0},
};

static int send(struct invocation *in, json_t *body, struct error *err) {
	int r = api_call(in, "POST", api_path(in, "/instances/%s/input", in->args[0]), body, NULL, err);
	json_decref(body);
	return r;
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	int r = 0;
	if (!o->text && in->n_args < 2)
		return error_set(err, ERROR_INVALID, "no keys are given: name them, as ctrl-alt-delete, or give --text");
	if (in->n_args > 1) {
		json_t *keys = json_array();
		for (size_t i = 1; i < in->n_args; i++)
			json_array_append_new(keys, json_string(in->args[i]));
		r = send(in, json_pack("{s:o}", "keys", keys), err);
	}
	size_t left = o->text ? strlen(o->text) : 0;
	for (const char *at = o->text; r == 0 && left; at += MIN(left, TEXT_AT_ONCE), left -= MIN(left, TEXT_AT_ONCE))
		r = send(in, json_pack("{s:s%}", "text", at, MIN(left, TEXT_AT_ONCE)), err);
	return r;
}

const struct command command_send_key = {
	.name = "send-key",
	.group = "Instances",
	.usage = "[OPTION…] MACHINE [KEY…]",
	.doc = "Press keys of a machine's keyboard",
	.details = "Keys are pressed one after the other, those with - between them together: ctrl-alt-delete, f2, ret, pgup, a, minus.",
	.examples = "wabe send-key desk ctrl-alt-delete\nwabe send-key desk esc f2\nwabe send-key --text 'root\n' desk",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "instance",
	.run = run,
};
