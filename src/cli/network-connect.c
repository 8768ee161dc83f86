/* wabe network connect */
#include "cli/cli.h"

struct options {
	char *ip, *ip6, *mac, *interface, *ingress, *egress;
	char **aliases, **rules;
	bool spoofing;
};

static const struct option_row options[] = {
	OPTION(struct options, ip, STRING, "ip", .placeholder = "IP", .doc = "Its IPv4 address; picked if not given"),
	OPTION(struct options, ip6, STRING, "ip6", .placeholder = "IP", .doc = "Its IPv6 address; picked if not given"),
	OPTION(struct options, mac, STRING, "mac-address", .placeholder = "MAC", .doc = "Made of the address if not given"),
	OPTION(struct options, aliases, STRINGS, "alias", .placeholder = "NAME", .doc = "A further name on this network"),
	OPTION(struct options, interface, STRING, "interface", .placeholder = "NAME", .doc = "Inside; eth0, eth1 … if not given"),
	OPTION(struct options, rules, STRINGS, "rules", .placeholder = "GROUP", .doc = "Rule group for it on this network"),
	OPTION(struct options, ingress, STRING, "ingress", .placeholder = "RATE", .doc = "Most that comes to it: 100mbit"),
	OPTION(struct options, egress, STRING, "egress", .placeholder = "RATE", .doc = "Most that it sends"),
	OPTION(struct options, spoofing, BOOL, "allow-spoofing", .doc = "Any MAC and address may be its source"),
	{0},
};

static void replace(char **member, const char *value) {
	if (!value)
		return;
	free(*member);
	*member = str_copy(value);
}

static void add_all(char ***list, char *const *more) {
	for (size_t i = 0; more && more[i]; i++)
		strv_add(list, more[i]);
}

static int fill(const struct options *o, const char *network, struct attachment *a, struct error *err) {
	int r = attachment_parse(network, a, err);
	if (r == 0 && o->ingress)
		r = rate_parse(o->ingress, &a->ingress_rate, err);
	if (r == 0 && o->egress)
		r = rate_parse(o->egress, &a->egress_rate, err);
	replace(&a->ipv4, o->ip);
	replace(&a->ipv6, o->ip6);
	replace(&a->mac, o->mac);
	replace(&a->interface, o->interface);
	add_all(&a->aliases, o->aliases);
	add_all(&a->rules, o->rules);
	a->allow_spoofing = a->allow_spoofing || o->spoofing;
	return r < 0 ? r : fields_validate(&attachment_table, a, err);
}

static int run(struct invocation *in, struct error *err) {
	struct attachment a;
	fields_init(&attachment_table, &a);
	int r = fill(in->options, in->args[0], &a, err);
	_cleanup_(json_free_ptr) json_t *body = r == 0 ? fields_print(&attachment_table, &a) : NULL;
	fields_free(&attachment_table, &a);
	return r < 0 ? r : api_call(in, "POST", api_path(in, "/instances/%s/networks", in->args[1]), body, NULL, err);
}

const struct command command_network_connect = {
	.name = "network connect",
	.group = "Networks",
	.usage = "[OPTION…] NETWORK INSTANCE",
	.doc = "Put an instance on a network, at once if it runs",
	.details = "An instance that is on it already gets these aliases, rules and rates instead of those that it has.",
	.examples = "wabe network connect db web\nwabe network connect --ip 10.84.0.5 --alias cache db redis\nwabe network connect --rules strict --egress 10mbit front web",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 2,
	.complete = "network",
	.run = run,
};
