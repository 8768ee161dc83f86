/* wabe network ls */
#include "cli/cli.h"

struct options {
	bool quiet;
};

static const struct option_row options[] = {
	OPTION(struct options, quiet, BOOL, "quiet,q", .doc = "Names only"),
	{0},
};

static char *subnets_text(const json_t *spec) {
	struct buf b = BUF_INIT;
	size_t i;
	json_t *subnet;
	json_array_foreach(json_object_get(spec, "subnets"), i, subnet)
		buf_addf(&b, "%s%s", i ? ", " : "", json_get_str(subnet, "cidr"));
	buf_adds(&b, "");
	return buf_steal(&b);
}

static void add_row(struct table *t, const json_t *network) {
	char digits[13];
	const json_t *spec = json_object_get(network, "spec"), *status = json_object_get(network, "status");
	_cleanup_(free_ptr) char *subnets = subnets_text(spec), *age = format_age(json_get_str(network, "created_at"));
	table_add(t, json_get_str(spec, "name"), short_id(json_get_str(network, "id"), digits), json_get_str(spec, "driver"),
		  subnets, json_get_str(status, "state"), json_get_str(status, "interface"), age);
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "GET", api_path(in, "/networks"), NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *networks = json_object_get(reply, "networks");
	if (in->json) {
		print_json(networks);
		return 0;
	}
	struct table *t = table_new(
		(const char *const[]){"NAME", "ID", "DRIVER", "SUBNETS", "STATE", "INTERFACE", "CREATED", NULL});
	size_t i;
	json_t *network;
	json_array_foreach(networks, i, network) {
		if (o->quiet)
			puts(json_get_str(json_object_get(network, "spec"), "name"));
		else
			add_row(t, network);
	}
	table_print(t, !o->quiet);
	return 0;
}

const struct command command_network_ls = {
	.name = "network ls",
	.group = "Networks",
	.usage = "[OPTION…]",
	.doc = "List networks",
	.examples = "wabe network ls\nwabe network ls --json",
	.options = options,
	.options_size = sizeof(struct options),
	.listing = true,
	.complete = "",
	.run = run,
};
