/* wabe snapshot ls */
#include "cli/cli.h"

struct options {
	bool volume;
};

static const struct option_row options[] = {
	OPTION(struct options, volume, BOOL, "volume", .doc = "NAME is a volume, not an instance"),
	{0},
};

/* Those whose parent is `parent`, and below each its own children. */
static void add_children(struct table *t, const json_t *list, const char *parent, const char *current, int depth) {
	size_t i;
	json_t *one;
	json_array_foreach(list, i, one) {
		const char *name = json_get_str(one, "name"), *above = json_get_str(one, "parent");
		if (depth > 256 || (above ? !parent || strcmp(above, parent) != 0 : parent != NULL))
			continue;
		_cleanup_(free_ptr) char *age = format_age(json_get_str(one, "created_at")),
					 *shown = str_format("%*s%s%s", depth * 2, "", name,
							     current && strcmp(current, name) == 0 ? " *" : "");
		table_add(t, shown, age, json_get_bool(one, "memory") ? "yes" : "", json_get_str(one, "kept_as"), json_get_str(one, "description"));
		add_children(t, list, name, current, depth + 1);
	}
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "GET", snapshot_path(in, o->volume, ""), NULL, &reply, err);
	if (r < 0)
		return r;
	if (in->json) {
		print_json(reply);
		return 0;
	}
	struct table *t = table_new((const char *const[]){"NAME", "CREATED", "MEMORY", "KEPT AS", "DESCRIPTION", NULL});
	add_children(t, json_object_get(reply, "snapshots"), NULL, json_get_str(reply, "current"), 0);
	table_print(t, true);
	return 0;
}

const struct command command_snapshot_ls = {
	.name = "snapshot ls",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] NAME",
	.doc = "List snapshots as a tree",
	.examples = "wabe snapshot ls web\nwabe snapshot ls --volume data --json",
	.options = options,
	.options_size = sizeof(struct options),
	.details = "The star marks the one that what is there now began from.",
	.min_args = 1,
	.listing = true,
	.complete = "instance",
	.run = run,
};
