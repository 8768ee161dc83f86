/* wabe volume ls */
#include "cli/cli.h"

struct options {
	bool quiet;
	char **labels;
};

static const struct option_row options[] = {
	OPTION(struct options, quiet, BOOL, "quiet,q", .doc = "Names only"),
	OPTION(struct options, labels, STRINGS, "label,l", .placeholder = "KEY[=VALUE]", .doc = "Only those with this label"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	char *path = api_path(in, "/volumes");
	for (char **label = o->labels; label && *label; label++)
		path_query(&path, "label", *label);
	int r = api_call(in, "GET", path, NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *volumes = json_object_get(reply, "volumes");
	if (in->json) {
		print_json(volumes);
		return 0;
	}
	struct table *t = table_new((const char *const[]){"NAME", "POOL", "KIND", "SIZE", "CREATED", NULL});
	size_t i;
	json_t *one;
	json_array_foreach(volumes, i, one) {
		const json_t *spec = json_object_get(one, "spec");
		_cleanup_(free_ptr) char *age = format_age(json_get_str(one, "created_at")),
					 *size = format_bytes(json_get_int(spec, "size"));
		if (o->quiet)
			puts(json_get_str(spec, "name"));
		else
			table_add(t, json_get_str(spec, "name"), json_get_str(spec, "pool"), json_get_str(spec, "kind"),
				  json_get_int(spec, "size") ? size : NULL, age);
	}
	table_print(t, !o->quiet);
	return 0;
}

const struct command command_volume_ls = {
	.name = "volume ls",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…]",
	.doc = "List volumes",
	.examples = "wabe volume ls\nwabe volume ls --label app=web -q",
	.options = options,
	.options_size = sizeof(struct options),
	.listing = true,
	.run = run,
};
