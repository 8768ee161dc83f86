/* wabe events */
#include "cli/cli.h"

struct options {
	char *since, *until, *from, *type, *instance;
	bool no_follow;
};

static const struct option_row options[] = {
	OPTION(struct options, since, STRING, "since", .placeholder = "TIME",
	       .doc = "From then on: a time, or 10m ago"),
	OPTION(struct options, until, STRING, "until", .placeholder = "TIME", .doc = "Up to then"),
	OPTION(struct options, from, STRING, "from", .placeholder = "REVISION", .doc = "From a revision on"),
	OPTION(struct options, type, STRING, "type", .placeholder = "TYPE", .doc = "instance, image or task"),
	OPTION(struct options, instance, STRING, "instance", .placeholder = "NAME", .doc = "Only of this instance"),
	OPTION(struct options, no_follow, BOOL, "no-follow", .doc = "Ends with what there is"),
	{0},
};

static void print_attributes(const json_t *attributes) {
	const char *key, *before = " (";
	json_t *value;
	json_object_foreach((json_t *)attributes, key, value) {
		_cleanup_(free_ptr) char *text = text_shown(json_is_string(value) ? json_string_value(value) : "?");
		_cleanup_(free_ptr) char *shown = text_shown(key);
		printf("%s%s=%s", before, shown, text);
		before = ", ";
	}
	if (json_object_size(attributes))
		putchar(')');
}

static int print_event(const json_t *event, void *arg) {
	const struct invocation *in = arg;
	if (in->json) {
		_cleanup_(free_ptr) char *line = json_print(event);
		puts(line);
	} else {
		const char *name = json_get_str(event, "name"), *id = json_get_str(event, "id"),
			   *time = json_get_str(event, "time"), *type = json_get_str(event, "type"),
			   *action = json_get_str(event, "action");
		_cleanup_(free_ptr) char *shown = text_shown(name ? name : id ? id : "-");
		printf("%s %s %s %s", time ? time : "-", type ? type : "-", action ? action : "-", shown);
		print_attributes(json_object_get(event, "attributes"));
		putchar('\n');
	}
	return fflush(stdout) == 0 ? 0 : -1;
}

static int make_path(const struct invocation *in, char **path, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(free_ptr) char *since = NULL, *until = NULL;
	int r = o->since ? parse_when(o->since, &since, err) : 0;
	if (r == 0 && o->until)
		r = parse_when(o->until, &until, err);
	if (r < 0)
		return r;
	*path = api_path(in, "/events");
	path_query(path, "follow", o->no_follow || o->until ? "false" : "true");
	path_query(path, "since", since);
	path_query(path, "until", until);
	path_query(path, "from", o->from);
	path_query(path, "type", o->type);
	path_query(path, "instance", o->instance);
	return 0;
}

static int run(struct invocation *in, struct error *err) {
	char *path;
	int r = make_path(in, &path, err);
	return r < 0 ? r : api_lines(in, "GET", path, NULL, print_event, in, err);
}

const struct command command_events = {
	.name = "events",
	.group = "Instances",
	.usage = "[OPTION…]",
	.doc = "Show what happens as it happens",
	.examples = "wabe events --type instance\nwabe events --since 1h --no-follow --json",
	.options = options,
	.options_size = sizeof(struct options),
	.listing = true,
	.complete = "",
	.run = run,
};
