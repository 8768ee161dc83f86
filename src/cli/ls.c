/* wabe ls */
#include "cli/cli.h"

#include <inttypes.h>

struct options {
	bool all, quiet, no_trunc;
	char **filters;
	int64_t limit;
};

static const struct option_row options[] = {
	OPTION(struct options, all, BOOL, "all,a", .doc = "Also those that do not run"),
	OPTION(struct options, quiet, BOOL, "quiet,q", .doc = "Ids only"),
	OPTION(struct options, filters, STRINGS, "filter,f", .placeholder = "KEY=VALUE",
	       .doc = "label=K=V, state=S, name=N"),
	OPTION(struct options, limit, INT, "last,n", .placeholder = "N", .doc = "At most so many, newest first"),
	OPTION(struct options, no_trunc, BOOL, "no-trunc", .doc = "Whole ids and commands"),
	{0},
};

static int add_filter(char **path, const char *filter, struct error *err) {
	static const char *const known[][2] = {
		{"label", "label"}, {"state", "state"}, {"status", "state"}, {"name", "name"}};
	_cleanup_(free_ptr) char *key = str_copyn(filter, strcspn(filter, "="));
	const char *value = filter + strlen(key);
	for (size_t i = 0; *value && i < ARRAY_SIZE(known); i++)
		if (strcmp(known[i][0], key) == 0) {
			path_query(path, known[i][1], value + 1);
			return 0;
		}
	return error_set(err, ERROR_INVALID, "--filter must be label=…, state=… or name=…");
}

static int make_path(const struct invocation *in, char **path, struct error *err) {
	const struct options *o = in->options;
	*path = api_path(in, "/instances");
	path_query(path, "all", o->all || o->filters || o->limit ? "true" : NULL);
	if (o->limit) {
		_cleanup_(free_ptr) char *limit = str_format("%" PRId64, o->limit);
		path_query(path, "limit", limit);
	}
	int r = 0;
	for (char **f = o->filters; r == 0 && f && *f; f++)
		r = add_filter(path, *f, err);
	return r;
}

/* "running 5 minutes", "exited (1) 2 hours ago" */
static char *state_text(const json_t *status) {
	const char *state = json_get_str(status, "state"), *health = json_get_str(status, "health");
	_cleanup_(free_ptr) char *up = format_age(json_get_str(status, "started_at")),
				 *down = format_age(json_get_str(status, "finished_at"));
	if (str_same(state, "exited"))
		return str_format("exited (%" PRId64 ") %s ago", json_get_int(status, "exit_code"), down);
	if (str_same(state, "running"))
		return str_format("running %s%s%s", up, health ? ", " : "", health ? health : "");
	return str_copy(state ? state : "?");
}

static void add_row(struct table *t, const json_t *instance, bool whole) {
	const json_t *spec = json_object_get(instance, "spec");
	char digits[13];
	_cleanup_(strv_free_ptr) char **command = json_get_strv(spec, "command");
	_cleanup_(free_ptr) char *text = strv_join(command, " "),
				 *state = state_text(json_object_get(instance, "status")),
				 *ports = format_ports(json_object_get(instance, "ports")),
				 *age = format_age(json_get_str(instance, "created_at"));
	const char *id = json_get_str(instance, "id");
	table_add(t, json_get_str(spec, "name"), whole ? id : short_id(id, digits), json_get_str(spec, "image"), text,
		  state, ports, age);
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	char *path;
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = make_path(in, &path, err);
	if (r < 0) {
		free(path);
		return r;
	}
	if (in->json)
		return print_member(in, path, "instances", err);
	r = api_call(in, "GET", path, NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *instances = json_object_get(reply, "instances");
	struct table *t = table_new((const char *const[]){"NAME", "ID", "IMAGE", "COMMAND", "STATE", "PORTS", "CREATED", NULL});
	size_t i;
	json_t *instance;
	json_array_foreach(instances, i, instance) {
		char digits[13];
		const char *id = json_get_str(instance, "id");
		if (o->quiet)
			puts(o->no_trunc && id ? id : short_id(id, digits));
		else
			add_row(t, instance, o->no_trunc);
	}
	table_print(t, !o->quiet);
	return 0;
}

const struct command command_ls = {
	.name = "ls",
	.group = "Instances",
	.usage = "[OPTION…]",
	.doc = "List instances",
	.examples = "wabe ls -a\nwabe ls --filter label=team=blue --json\nwabe rm -f $(wabe ls -aq)",
	.options = options,
	.options_size = sizeof(struct options),
	.listing = true,
	.complete = "",
	.run = run,
};
