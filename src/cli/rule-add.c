/* wabe rule add */
#include "cli/cli.h"

struct options {
	bool egress;
	char *protocol, *ports, *from, *to, *description;
	int64_t number;
};

static const struct option_row options[] = {
	OPTION(struct options, egress, BOOL, "egress", .doc = "About what instances send; else about what comes to them"),
	OPTION(struct options, protocol, STRING, "protocol,p", .placeholder = "NAME",
	       .doc = "tcp, udp, sctp, icmp or a number; any if not given"),
	OPTION(struct options, ports, STRING, "ports", .placeholder = "LIST", .doc = "Of the destination: 80,8000-8010"),
	OPTION(struct options, from, STRING, "from", .placeholder = "PEER", .doc = "Who sends; anybody if not given"),
	OPTION(struct options, to, STRING, "to", .placeholder = "PEER", .doc = "With --egress: whom to; anybody if not given"),
	OPTION(struct options, description, STRING, "description", .placeholder = "TEXT", .doc = "What it is for"),
	OPTION(struct options, number, INT, "number,n", .placeholder = "N", .doc = "Its place, from 1; behind all if not given"),
	{0},
};

static void set_peer(json_t *rule, const char *key, const char *peer) {
	_cleanup_(free_ptr) char *text = peer ? peer_text(peer) : NULL;
	json_set_str(rule, key, text);
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	if (o->from && (o->egress || o->to))
		return error_set(err, ERROR_INVALID, "--from is for what comes to instances, --to for what they send (--egress)");
	_cleanup_(json_free_ptr) json_t *rule = json_pack("{s:s, s:s}", "action", in->args[1], "direction",
							  o->egress || o->to ? "egress" : "ingress");
	json_set_str(rule, "protocol", o->protocol ? o->protocol : o->ports ? "tcp" : NULL);
	json_set_str(rule, "ports", o->ports);
	json_set_str(rule, "description", o->description);
	set_peer(rule, "source", o->from);
	set_peer(rule, "destination", o->to);
	char *path = api_path(in, "/rules/%s/rules", in->args[0]);
	_cleanup_(free_ptr) char *number = str_format("%lld", (long long)o->number);
	path_query(&path, "number", number);
	return api_call(in, "POST", path, rule, NULL, err);
}

const struct command command_rule_add = {
	.name = "rule add",
	.group = "Networks",
	.usage = "[OPTION…] GROUP allow|deny|reject",
	.doc = "Add a rule to a group, for what runs too",
	.details = "PEER is an address, a subnet, label=KEY=VALUE, group=NAME or network=NAME. With --ports and no --protocol it is tcp.",
	.examples = "wabe rule add strict allow --protocol tcp --ports 80,443\nwabe rule add strict allow --from label=app=proxy --ports 5432\n"
		    "wabe rule add strict reject --egress --to 10.0.0.0/8\nwabe rule add strict deny --number 1 --from 192.0.2.7",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 2,
	.complete = "rule",
	.run = run,
};
