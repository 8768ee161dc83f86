/* wabe network prune */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "POST", api_path(in, "/networks/prune"), NULL, &reply, err);
	if (r < 0)
		return r;
	if (in->json) {
		print_json(reply);
		return 0;
	}
	_cleanup_(strv_free_ptr) char **deleted = json_get_strv(reply, "deleted");
	for (char **name = deleted; name && *name; name++)
		puts(*name);
	return 0;
}

const struct command command_network_prune = {
	.name = "network prune",
	.group = "Networks",
	.usage = "",
	.doc = "Remove all networks that nothing uses",
	.examples = "wabe network prune",
	.listing = true,
	.complete = "",
	.run = run,
};
