/* wabe volume import */
#include "cli/cli.h"

struct options {
	char *format;
};

static const struct option_row options[] = {
	OPTION(struct options, format, STRING, "format", .placeholder = "FORMAT", .def = "tar",
	       .doc = "tar for a file system; raw or qcow2 for a block volume"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(close_fd) int fd = open_input(in->args[0], err);
	if (fd < 0)
		return fd;
	_cleanup_(json_free_ptr) json_t *spec = fields_print(&volume_spec_table, in->fields), *volume = NULL;
	json_set_str(spec, "name", in->args[1]);
	_cleanup_(free_ptr) char *text = json_print(spec), *path = api_path(in, "/volumes/import");
	path_query(&path, "spec", text);
	path_query(&path, "format", o->format);
	struct progress *p = progress_of_upload(in->client, "importing", fd);
	int r = client_upload(in->client, "POST", path, "application/octet-stream", fd, &volume, err);
	progress_end(p);
	if (r == 0)
		puts(in->args[1]);
	return r;
}

const struct command command_volume_import = {
	.name = "volume import",
	.group = "Pools, volumes and snapshots",
	.usage = "[OPTION…] FILE|- NAME",
	.doc = "Make a volume of a file",
	.examples = "wabe volume import data.tar data\nwabe volume import --format qcow2 --kind block --size 10g disk.qcow2 disk0",
	.options = options,
	.options_size = sizeof(struct options),
	.fields = &volume_spec_table,
	.min_args = 2,
	.run = run,
};
