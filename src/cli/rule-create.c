/* wabe rule create */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	struct rule_group_spec *spec = in->fields;
	spec->name = str_copy(in->args[0]);
	int r = fields_validate(&rule_group_spec_table, spec, err);
	if (r < 0)
		return r;
	_cleanup_(json_free_ptr) json_t *body = fields_print(&rule_group_spec_table, spec);
	return api_make(in, api_path(in, "/rules"), body, err);
}

const struct command command_rule_create = {
	.name = "rule create",
	.group = "Networks",
	.usage = "[OPTION…] GROUP",
	.doc = "Make a group of rules",
	.details = "Rules are looked at in order, and the first that fits decides; what none decides is for the network's --ingress and\n"
		   "--egress. A group takes effect where it is attached: wabe run --network NAME,rules=GROUP, wabe network update --rules.",
	.examples = "wabe rule create strict\nwabe rule add strict allow --protocol tcp --ports 80,443\nwabe rule add strict deny",
	.fields = &rule_group_spec_table,
	.min_args = 1,
	.complete = "",
	.run = run,
};
