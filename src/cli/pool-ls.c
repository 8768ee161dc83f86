/* wabe pool ls */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "GET", str_copy("/v1/pools"), NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *pools = json_object_get(reply, "pools");
	if (in->json) {
		print_json(pools);
		return 0;
	}
	struct table *t = table_new((const char *const[]){"NAME", "DRIVER", "STATE", "USED", "SIZE", "SOURCE", NULL});
	size_t i;
	json_t *one;
	json_array_foreach(pools, i, one) {
		const json_t *spec = json_object_get(one, "spec"), *status = json_object_get(one, "status");
		_cleanup_(free_ptr) char *used = format_bytes(json_get_int(status, "used")),
					 *total = format_bytes(json_get_int(status, "total"));
		bool known = json_get_int(status, "total") > 0;
		table_add(t, json_get_str(spec, "name"), json_get_str(spec, "driver"), json_get_str(status, "state"),
			  known ? used : NULL, known ? total : NULL, json_get_str(spec, "source"));
	}
	table_print(t, true);
	return 0;
}

const struct command command_pool_ls = {
	.name = "pool ls",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…]",
	.doc = "List storage pools",
	.examples = "wabe pool ls",
	.listing = true,
	.run = run,
};
