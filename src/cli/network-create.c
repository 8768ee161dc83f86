/* wabe network create */
#include "cli/cli.h"

static int run(struct invocation *in, struct error *err) {
	struct network_spec *spec = in->fields;
	spec->name = str_copy(in->args[0]);
	int r = fields_validate(&network_spec_table, spec, err);
	if (r < 0)
		return r;
	_cleanup_(json_free_ptr) json_t *body = fields_print(&network_spec_table, spec);
	return api_make(in, api_path(in, "/networks"), body, err);
}

const struct command command_network_create = {
	.name = "network create",
	.group = "Networks",
	.usage = "[OPTION…] NAME",
	.doc = "Make a network",
	.examples = "wabe network create web\nwabe network create --subnet 10.84.0.0/24 --ipv6 db\n"
		    "wabe network create --internal --ingress deny --rules strict vault\n"
		    "wabe network create --boot-dir /srv/tftp --boot-file pxelinux.0 install\n"
		    "wabe network create -d macvlan --parent eth0 --subnet 192.168.1.0/24,range=192.168.1.128/25 lan",
	.fields = &network_spec_table,
	.min_args = 1,
	.complete = "",
	.run = run,
};
