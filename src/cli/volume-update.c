/* wabe volume update */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *patch = fields_given_patch(in, &volume_spec_table);
	if (!json_object_size(patch))
		return error_set(err, ERROR_INVALID, "nothing to change: see wabe volume update --help");
	return api_each(in, "PATCH", "/volumes/%s", patch, false);
}

const struct command command_volume_update = {
	.name = "volume update",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] VOLUME…",
	.doc = "Change volumes: size, labels, schedule of snapshots",
	.examples = "wabe volume update --size 20g db\nwabe volume update --keep-hourly 24 --keep-daily 7 db",
	.fields = &volume_spec_table,
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "volume",
	.run = run,
};
