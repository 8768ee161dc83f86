/* wabe address reserve */
#include "cli/cli.h"

struct options {
	char *description;
};

static const struct option_row options[] = {
	OPTION(struct options, description, STRING, "description", .placeholder = "TEXT", .doc = "What it is reserved for"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "network", in->args[0]), *reply = NULL;
	json_set_str(body, "address", in->args[1]);
	json_set_str(body, "description", o->description);
	int r = api_call(in, "POST", api_path(in, "/addresses"), body, &reply, err);
	if (r == 0)
		puts(json_get_str(reply, "address"));
	return r;
}

const struct command command_address_reserve = {
	.name = "address reserve",
	.group = "Networks",
	.usage = "[OPTION…] NETWORK [ADDRESS]",
	.doc = "Keep an address for an instance that asks for it",
	.details = "No instance gets it by itself; one that names it (--ip, --network NAME,ip=…) does.",
	.examples = "wabe address reserve web\nwabe address reserve --description \"the new database\" web 10.84.0.10",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 2,
	.complete = "network",
	.run = run,
};
