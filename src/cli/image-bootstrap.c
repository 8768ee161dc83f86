/* wabe image bootstrap */
#include "cli/cli.h"

struct options {
	char *variant;
	char **include;
	bool kernel, quiet;
};

static const struct option_row options[] = {
	OPTION(struct options, variant, STRING, "variant", .placeholder = "NAME", .def = "minbase",
	       .doc = "minbase, or system: with systemd as its init"),
	OPTION(struct options, include, STRINGS, "include", .placeholder = "PACKAGE,…", .doc = "Further packages"),
	OPTION(struct options, kernel, BOOL, "kernel",
	       .doc = "The kernel that starts container images as machines; its name is kernel:bookworm if none is given"),
	OPTION(struct options, quiet, BOOL, "quiet,q", .doc = "Shows no progress"),
	{0},
};

static json_t *request(const struct options *o, const char *name) {
	json_t *packages = json_array();
	for (char **i = o->include; i && *i; i++) {
		_cleanup_(strv_free_ptr) char **names = strv_split(*i, ',');
		for (size_t k = 0; names[k]; k++)
			if (*names[k])
				json_array_append_new(packages, json_string(names[k]));
	}
	json_t *body = json_pack("{s:s,s:s}", "name", name, "variant", o->kernel ? "kernel" : o->variant);
	if (json_array_size(packages))
		json_object_set(body, "include", packages);
	json_decref(packages);
	return body;
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	const char *name = in->n_args ? in->args[0] : o->kernel ? "kernel:bookworm" : NULL;
	if (!name)
		return error_set(err, ERROR_INVALID, "which image? Its name is missing, as in debian:bookworm");
	_cleanup_(json_free_ptr) json_t *body = request(o, name), *task = NULL, *final = NULL;
	int r = api_call(in, "POST", api_path(in, "/images/bootstrap"), body, &task, err);
	if (r < 0)
		return r;
	const char *id = json_get_str(task, "id");
	r = id ? task_wait(in, id, o->quiet, &final, err)
	       : error_set(err, ERROR_CORRUPT, "the daemon's answer has no task");
	if (r == 0)
		puts(json_get_str(final, "result") ? json_get_str(final, "result") : name);
	return r;
}

const struct command command_image_bootstrap = {
	.name = "image bootstrap",
	.group = "Images",
	.usage = "[OPTION…] [DISTRIBUTION:SUITE]",
	.doc = "Build an image from the host's package sources",
	.details = "The tag is the suite. mmdebstrap builds it, as root, which takes a minute or more. An image of the\n"
		   "variant system boots, in an instance that may write its control groups:\n"
		   "  wabe run -d -t --privileged -e container=wabe --tmpfs /run --tmpfs /run/lock debian:bookworm",
	.examples =
		"wabe image bootstrap debian:bookworm\nwabe image bootstrap --kernel\nwabe image bootstrap --variant system --include vim,curl debian:bookworm",
	.options = options,
	.options_size = sizeof(struct options),
	.max_args = 1,
	.complete = "",
	.run = run,
};
