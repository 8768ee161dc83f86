/* wabe network update */
#include "cli/cli.h"

struct options {
	bool no_rules, no_peers;
};

static const struct option_row options[] = {
	OPTION(struct options, no_rules, BOOL, "no-rules", .doc = "Takes all rule groups off"),
	OPTION(struct options, no_peers, BOOL, "no-peers", .doc = "Takes all peers off"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *patch = fields_given_patch(in, &network_spec_table);
	if (o->no_rules)
		json_object_set_new(patch, "rules", json_null());
	if (o->no_peers)
		json_object_set_new(patch, "peers", json_null());
	if (!json_object_size(patch))
		return error_set(err, ERROR_INVALID, "nothing to change: see wabe network update --help");
	return api_each(in, "PATCH", "/networks/%s", patch, false);
}

const struct command command_network_update = {
	.name = "network update",
	.group = "Networks",
	.usage = "[OPTION…] NETWORK…",
	.doc = "Change networks, for what runs too",
	.details = "Rule groups and peers are replaced by those that are given.",
	.examples = "wabe network update --rules web --rules ssh front\nwabe network update --no-rules --ingress allow front",
	.options = options,
	.options_size = sizeof(struct options),
	.fields = &network_spec_table,
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "network",
	.run = run,
};
