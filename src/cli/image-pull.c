/* wabe image pull */
#include "cli/cli.h"

struct options {
	char *platform;
	char *username;
	bool plain_http, quiet;
};

static const struct option_row options[] = {
	OPTION(struct options, platform, STRING, "platform", .placeholder = "OS/ARCH", .doc = "As for such a machine; that of this host if not given; all: the whole index, so that it is pushed and saved as it is"),
	OPTION(struct options, username, STRING, "username,u", .placeholder = "NAME",
	       .doc = "For the registry; the password is read from WABE_PASSWORD"),
	OPTION(struct options, plain_http, BOOL, "plain-http",
	       .doc = "Without TLS, also for other hosts than this one"),
	OPTION(struct options, quiet, BOOL, "quiet,q", .doc = "Shows no progress"),
	{0},
};

static json_t *request(const struct options *o, const char *name) {
	json_t *body = json_pack("{s:s}", "name", name);
	json_set_str(body, "platform", o->platform);
	json_set_str(body, "username", o->username);
	json_set_str(body, "password", o->username ? getenv("WABE_PASSWORD") : NULL);
	if (o->plain_http)
		json_set_bool(body, "plain_http", true);
	return body;
}

static int run(struct invocation *in, struct error *err) {
	const struct options *o = in->options;
	int r = 0;
	for (char **name = in->args; r == 0 && *name; name++) {
		_cleanup_(json_free_ptr) json_t *body = request(o, *name);
		_cleanup_(free_ptr) char *id = NULL;
		r = pull_image(in, body, o->quiet, &id, err);
		if (r == 0)
			puts(id);
		else
			error_wrap(err, "%s", *name);
	}
	return r;
}

const struct command command_image_pull = {
	.name = "image pull",
	.group = "Images",
	.usage = "[OPTION…] IMAGE…",
	.doc = "Fetch images from a registry",
	.examples = "wabe image pull debian:bookworm\nwabe image pull --platform linux/arm64 debian",
	.options = options,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = SIZE_MAX,
	.complete = "image",
	.run = run,
};
