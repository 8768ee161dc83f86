/* wabe version */
#include "cli/cli.h"

struct options {
	bool client;
};

static const struct option_row options[] = {
	OPTION(struct options, client, BOOL, "client", .doc = "Asks no daemon"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(json_free_ptr) json_t *versions = json_pack("{s:s}", "client", WABE_VERSION), *server = NULL;
	int r = o->client ? 0 : client_call(in->client, "GET", "/v1", NULL, &server, err);
	if (server)
		json_object_set(versions, "server", server);
	if (in->json) {
		print_json(versions);
		return r;
	}
	printf("client %s\n", WABE_VERSION);
	if (server)
		printf("daemon %s\n", json_get_str(server, "version") ? json_get_str(server, "version") : "?");
	return r;
}

const struct command command_version = {
	.name = "version",
	.group = "Daemon",
	.usage = "[OPTION…]",
	.doc = "Show the versions of client and daemon",
	.examples = "wabe version --client",
	.options = options,
	.options_size = sizeof(struct options),
	.listing = true,
	.run = run,
};
