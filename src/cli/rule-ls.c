/* wabe rule ls */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "GET", api_path(in, "/rules"), NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *groups = json_object_get(reply, "rules");
	if (in->json) {
		print_json(groups);
		return 0;
	}
	struct table *t = table_new((const char *const[]){"NAME", "ID", "RULES", "CREATED", "DESCRIPTION", NULL});
	size_t i;
	json_t *group;
	json_array_foreach(groups, i, group) {
		char digits[13];
		const json_t *spec = json_object_get(group, "spec");
		_cleanup_(free_ptr) char *count = str_format("%zu", json_array_size(json_object_get(spec, "rules"))),
					 *age = format_age(json_get_str(group, "created_at"));
		table_add(t, json_get_str(spec, "name"), short_id(json_get_str(group, "id"), digits), count, age,
			  json_get_str(spec, "description"));
	}
	table_print(t, true);
	return 0;
}

const struct command command_rule_ls = {
	.name = "rule ls",
	.group = "Networks",
	.usage = "",
	.doc = "List groups of rules",
	.examples = "wabe rule ls",
	.listing = true,
	.complete = "",
	.run = run,
};
