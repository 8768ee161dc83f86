/* wabe rule show */
#include "cli/cli.h"

static void print_rules(const json_t *group) {
	struct table *t = table_new((const char *const[]){"NUMBER", "DIRECTION", "ACTION", "PROTOCOL", "PORTS", "FROM / TO",
							  "DESCRIPTION", NULL});
	size_t i;
	json_t *rule;
	json_array_foreach(json_object_get(json_object_get(group, "spec"), "rules"), i, rule) {
		_cleanup_(free_ptr) char *number = str_format("%zu", i + 1);
		const char *source = json_get_str(rule, "source"), *ports = json_get_str(rule, "ports");
		table_add(t, number, json_get_str(rule, "direction"), json_get_str(rule, "action"),
			  json_get_str(rule, "protocol"), ports ? ports : "all",
			  source ? source : json_get_str(rule, "destination"), json_get_str(rule, "description"));
	}
	table_print(t, true);
}

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *group = NULL;
	int r = api_call(in, "GET", api_path(in, "/rules/%s", in->args[0]), NULL, &group, err);
	if (r < 0)
		return r;
	if (in->json)
		print_json(group);
	else
		print_rules(group);
	return 0;
}

const struct command command_rule_show = {
	.name = "rule show",
	.group = "Networks",
	.usage = "[OPTION…] GROUP",
	.doc = "Show the rules of a group",
	.examples = "wabe rule show strict\nwabe rule show --json strict",
	.min_args = 1,
	.listing = true,
	.complete = "rule",
	.run = run,
};
