/* wabe set-password */
#include "cli/cli.h"

struct options {
	bool hashed;
};

static const struct option_row options[] = {
	OPTION(struct options, hashed, BOOL, "hashed", .doc = "It is as crypt(3) gives it, as in /etc/shadow"),
	{0},
};

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	_cleanup_(free_ptr) char *password = terminal_secret("New password: ", err);
	if (!password)
		return -ERROR_INVALID;
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s,s:s,s:b}", "user", in->args[1], "password", password, "hashed", o->hashed);
	return body ? api_call(in, "POST", api_path(in, "/instances/%s/inside/password", in->args[0]), body, NULL, err)
		    : error_set(err, ERROR_INVALID, "the password is not UTF-8");
}

const struct command command_set_password = {
	.name = "set-password",
	.group = "Instances",
	.usage = "[OPTION…] MACHINE USER",
	.doc = "Have a machine's guest change a user's password",
	.details = "The password is the first line of standard input. The agent in the guest does it.",
	.examples = "wabe set-password db root\nprintf '%s\\n' \"$PASSWORD\" | wabe set-password db alice",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 2,
	.max_args = 2,
	.complete = "instance",
	.run = run,
};
