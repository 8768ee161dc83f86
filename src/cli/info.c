/* wabe info */
#include "cli/cli.h"

/* "key: value" a line, objects indented. */
static void print_object(const json_t *object, int depth) {
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)object, key, value) {
		printf("%*s%s:", 2 * depth, "", key);
		if (json_is_object(value)) {
			putchar('\n');
			print_object(value, depth + 1);
			continue;
		}
		_cleanup_(free_ptr) char *text =
			json_is_string(value) ? str_copy(json_string_value(value)) : json_print(value);
		printf(" %s\n", text);
	}
}

static int run(struct invocation *in, struct error *err) {
	_cleanup_(json_free_ptr) json_t *info = NULL;
	int r = client_call(in->client, "GET", "/v1/info", NULL, &info, err);
	if (r < 0)
		return r;
	if (in->json)
		print_json(info);
	else
		print_object(info, 0);
	return 0;
}

const struct command command_info = {
	.name = "info",
	.group = "Daemon",
	.usage = "",
	.doc = "Show the host and what runs on it",
	.examples = "wabe info",
	.listing = true,
	.run = run,
};
