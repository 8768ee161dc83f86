/* wabe migrate */
#include "cli/cli.h"

#include "model/migration.h"

struct options {
	char *to, *name, *downtime, *bandwidth;
	bool with_disks, keep, post_copy;
};

static const struct option_row options[] = {
	OPTION(struct options, to, STRING, "to", .placeholder = "URL", .doc = "The other daemon: unix:///DIRECTORY/wabe.sock"),
	OPTION(struct options, name, STRING, "name", .placeholder = "NAME", .doc = "Of the machine there; its own unless given"),
	OPTION(struct options, with_disks, BOOL, "with-disks", .doc = "Copies its disk while the guest runs"),
	OPTION(struct options, keep, BOOL, "keep", .doc = "Leaves it here as well, stopped"),
	OPTION(struct options, downtime, STRING, "downtime", .placeholder = "TIME", .def = "300ms",
	       .doc = "How long the guest may be halted for the last of its memory"),
	OPTION(struct options, bandwidth, STRING, "bandwidth", .placeholder = "BYTES",
	       .doc = "A second, for its memory; all that there is unless given"),
	OPTION(struct options, post_copy, BOOL, "post-copy", 
	       .doc = "Goes on there once its memory was sent once; what has changed meanwhile follows"),
	{0},
};

static int check(const struct options *o, struct error *err) {
	if (!o->to)
		return error_set(err, ERROR_INVALID, "--to is needed: the daemon that is to have the machine, as unix:///DIRECTORY/wabe.sock");
	return 0;
}

/* The other daemon's leave, which only who has access to it gets. */
static int get_ticket(const struct invocation *in, const struct options *o, json_t **ticket, struct error *err) {
	_cleanup_(free_ptr) char *dir = migration_directory(o->to, err), *path = NULL;
	if (!dir)
		return error_wrap(err, "--to");
	_cleanup_(client_free_ptr) struct client *there = client_new(dir);
	_cleanup_(json_free_ptr) json_t *body = json_object();
	json_set_str(body, "name", o->name);
	path = api_path(in, "/migrations");
	return client_call(there, "POST", path, body, ticket, err);
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *ticket = NULL;
	int r = check(o, err);
	if (r == 0)
		r = get_ticket(in, o, &ticket, err);
	if (r < 0)
		return r;
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s,s:b,s:b,s:b}", "to", o->to, "with_disks", o->with_disks, "keep", o->keep,
							"post_copy", o->post_copy);
	json_set_str(body, "ticket", json_get_str(ticket, "id"));
	json_set_str(body, "secret", json_get_str(ticket, "secret"));
	json_set_str(body, "downtime", o->downtime);
	json_set_str(body, "bandwidth", o->bandwidth);
	return run_task(in, api_path(in, "/instances/%s/migrate", in->args[0]), body, in->args[0], err);
}

const struct command command_migrate = {
	.name = "migrate",
	.group = "Instances",
	.usage = "[OPTION…] --to URL MACHINE",
	.doc = "Move a machine to another daemon while it runs",
	.details = "The guest goes on there, and the machine is removed here. Whatever fails before that, or a cancel (Ctrl-C, \"wabe task "
		   "cancel\"), leaves the guest here, unharmed. With --post-copy there is a moment from which on neither side alone has the "
		   "guest: it cannot be cancelled any more then.",
	.examples = "wabe migrate --to unix:///run/other/wabe.sock --with-disks desktop",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 1,
	.complete = "instance",
	.run = run,
};
