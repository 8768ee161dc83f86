/* wabe address ls */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	char *path = api_path(in, "/addresses");
	path_query(&path, "network", in->args ? in->args[0] : NULL);
	int r = api_call(in, "GET", path, NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *addresses = json_object_get(reply, "addresses");
	if (in->json) {
		print_json(addresses);
		return 0;
	}
	struct table *t = table_new((const char *const[]){"NETWORK", "ADDRESS", "MAC", "INSTANCE", "RESERVED FOR", NULL});
	size_t i;
	json_t *a;
	json_array_foreach(addresses, i, a) {
		const char *instance = json_get_str(a, "instance"), *description = json_get_str(a, "description");
		table_add(t, json_get_str(a, "network"), json_get_str(a, "address"), json_get_str(a, "mac"), instance,
			  description ? description : instance ? NULL : "later");
	}
	table_print(t, true);
	return 0;
}

const struct command command_address_ls = {
	.name = "address ls",
	.group = "Networks",
	.usage = "[NETWORK]",
	.doc = "List addresses that are taken",
	.examples = "wabe address ls\nwabe address ls web",
	.max_args = 1,
	.listing = true,
	.complete = "network",
	.run = run,
};
