/* wabe pool show */
#include "cli/cli.h"

static void show_member(const json_t *object, const char *key, const char *label) {
	const char *value = json_get_str(object, key);
	if (value)
		printf("%-12s %s\n", label, value);
}

/* What a driver can do and cannot, a line each. */
static void show_capabilities(const json_t *can) {
	struct table *t = table_new((const char *const[]){"CAPABILITY", "", "", NULL});
	for (size_t i = 0; i < pool_capabilities_table.n; i++) {
		const struct field *f = &pool_capabilities_table.fields[i];
		table_add(t, f->name, json_get_bool(can, f->name) ? "yes" : "no", f->doc);
	}
	table_print(t, true);
}

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *pool = NULL;
	int r = api_call(in, "GET", client_path("/v1/pools/%s", in->args[0]), NULL, &pool, err);
	if (r < 0)
		return r;
	if (in->json) {
		print_json(pool);
		return 0;
	}
	const json_t *spec = json_object_get(pool, "spec"), *status = json_object_get(pool, "status");
	_cleanup_(free_ptr) char *used = format_bytes(json_get_int(status, "used")),
				 *total = format_bytes(json_get_int(status, "total"));
	show_member(spec, "name", "Name");
	show_member(pool, "id", "Id");
	show_member(spec, "description", "Description");
	show_member(spec, "driver", "Driver");
	show_member(spec, "source", "Source");
	show_member(status, "state", "State");
	show_member(status, "error", "Error");
	if (json_get_int(status, "total"))
		printf("%-12s %s of %s\n", "Used", used, total);
	putchar('\n');
	show_capabilities(json_object_get(status, "capabilities"));
	return 0;
}

const struct command command_pool_show = {
	.name = "pool show",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] POOL",
	.doc = "Show a storage pool: its state, what it holds, what it can do",
	.examples = "wabe pool show local",
	.min_args = 1,
	.listing = true,
	.complete = "pool",
	.run = run,
};
