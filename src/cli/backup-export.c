/* wabe backup export */
#include "cli/cli.h"

struct options {
	char *output, *disk, *since, *checkpoint;
};

static const struct option_row options[] = {
	OPTION(struct options, output, STRING, "output,o", .placeholder = "FILE", .doc = "A file; standard output if not given"),
	OPTION(struct options, disk, STRING, "disk,d", .placeholder = "DISK", .doc = "root or a volume: its image alone, not a tar of all"),
	OPTION(struct options, since, STRING, "since", .placeholder = "CHECKPOINT", .doc = "Only what has been written since then"),
	OPTION(struct options, checkpoint, STRING, "checkpoint,c", .placeholder = "NAME", .doc = "Make a checkpoint of this moment"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	char *path = api_path(in, "/instances/%s/backup", in->args[0]);
	path_query(&path, "disk", o->disk);
	path_query(&path, "since", o->since);
	path_query(&path, "checkpoint", o->checkpoint);
	return download_by(in, "POST", path, o->output, err);
}

const struct command command_backup_export = {
	.name = "backup export",
	.group = "Backups of machines",
	.usage = "[OPTION…] MACHINE",
	.doc = "Write the disks of a machine, all of one moment, as qcow2 images",
	.details = "The guest goes on meanwhile. What has been written since a checkpoint is an image upon the earlier one:\n"
		   "\"qemu-img rebase -u -F qcow2 -b EARLIER LATER\" joins them. A checkpoint ends when the machine is killed, or its disk\n"
		   "is changed while it does not run.",
	.examples = "wabe backup export --checkpoint monday -o db.tar db\n"
		    "wabe backup export --disk root --since monday --checkpoint tuesday -o root-tuesday.qcow2 db",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.complete = "instance",
	.run = run,
};
