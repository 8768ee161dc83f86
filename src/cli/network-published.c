/* wabe network published */
#include "cli/cli.h"

static char *port_text(const json_t *spec) {
	const char *address = json_get_str(spec, "address"), *protocol = json_get_str(spec, "protocol");
	if (json_get_bool(spec, "inside"))
		return str_format("%s on %s", address, json_get_str(spec, "network"));
	return str_format("%s%s%lld->%lld/%s", address ? address : "", address ? ":" : "",
			  (long long)json_get_int(spec, "host_port"), (long long)json_get_int(spec, "port"),
			  protocol ? protocol : "tcp");
}

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	int r = api_call(in, "GET", api_path(in, "/balancers"), NULL, &reply, err);
	if (r < 0)
		return r;
	const json_t *balancers = json_object_get(reply, "balancers");
	if (in->json) {
		print_json(balancers);
		return 0;
	}
	struct table *t = table_new((const char *const[]){"NAME", "PORT", "TARGET", "AFFINITY", "BACKENDS", NULL});
	size_t i;
	json_t *one;
	json_array_foreach(balancers, i, one) {
		const json_t *spec = json_object_get(one, "spec");
		_cleanup_(strv_free_ptr) char **backends = json_get_strv(one, "backends");
		_cleanup_(free_ptr) char *text = strv_join(backends, ", "), *port = port_text(spec);
		table_add(t, json_get_str(spec, "name"), port, json_get_str(spec, "target"), json_get_str(spec, "affinity"), text);
	}
	table_print(t, true);
	return 0;
}

const struct command command_network_published = {
	.name = "network published",
	.group = "Networks",
	.usage = "",
	.doc = "List what connections are spread over",
	.examples = "wabe network published",
	.listing = true,
	.complete = "",
	.run = run,
};
