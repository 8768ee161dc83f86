/* wabe backup checkpoints */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "GET", api_path(in, "/instances/%s/checkpoints", in->args[0]), NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *all = json_object_get(reply, "checkpoints");
	if (in->json) {
		print_json(all);
		return 0;
	}
	size_t i;
	json_t *name;
	json_array_foreach((json_t *)all, i, name)
		printf("%s\n", json_string_value(name));
	return 0;
}

const struct command command_backup_checkpoints = {
	.name = "backup checkpoints",
	.group = "Backups of machines",
	.usage = "MACHINE",
	.doc = "List the checkpoints of a machine's disks",
	.examples = "wabe backup checkpoints db",
	.min_args = 1,
	.listing = true,
	.complete = "instance",
	.run = run,
};
