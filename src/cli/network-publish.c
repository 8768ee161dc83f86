/* wabe network publish */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	struct balancer_spec *spec = in->fields;
	if (!spec->target)
		return error_set(err, ERROR_INVALID, "--to says whom the connections go to: label=KEY=VALUE or instance=NAME");
	int r = fields_validate(&balancer_spec_table, spec, err);
	if (r < 0)
		return r;
	_cleanup_(json_free_ptr) json_t *body = fields_print(&balancer_spec_table, spec), *reply = NULL;
	r = api_call(in, "POST", api_path(in, "/balancers"), body, &reply, err);
	if (r == 0)
		puts(json_get_str(json_object_get(reply, "spec"), "name"));
	return r;
}

const struct command command_network_publish = {
	.name = "network publish",
	.group = "Networks",
	.usage = "--to TARGET {--port PORT | --inside --network NAME} [OPTION…]",
	.doc = "Spread connections to a port of the host over instances",
	.details = "New connections go to those that run and are not unhealthy, whichever these are just then. Prints the name that\n"
		   "wabe network unpublish takes. --inside: instances on the network reach them at an address of it, by any port, and by the names\n"
		   "that --alias gives.",
	.examples = "wabe network publish --to label=app=web --port 80\nwabe network publish --to label=app=web --port 8080 --host-port 80 --affinity source --name shop\nwabe network publish --to label=app=db --inside --network back --alias db",
	.fields = &balancer_spec_table,
	.complete = "",
	.run = run,
};
