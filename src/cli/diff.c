/* wabe diff */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "GET", api_path(in, "/instances/%s/changes", in->args[0]), NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *changes = json_object_get(reply, "changes");
	if (in->json) {
		print_json(changes);
		return 0;
	}
	size_t i;
	json_t *change;
	json_array_foreach(changes, i, change) {
		const char *kind = json_get_str(change, "kind"), *path = json_get_str(change, "path");
		printf("%c %s\n",
		       str_same(kind, "added")	   ? 'A'
		       : str_same(kind, "deleted") ? 'D'
						   : 'C',
		       path ? path : "");
	}
	return 0;
}

const struct command command_diff = {
	.name = "diff",
	.group = "Instances",
	.usage = "INSTANCE",
	.doc = "List what an instance changed of its image",
	.examples = "wabe diff web",
	.min_args = 1,
	.listing = true,
	.complete = "instance",
	.run = run,
};
