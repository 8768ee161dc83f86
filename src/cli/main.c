/* wabe: finds the command, parses its line, runs it, tells what failed. */
#include "base/proc.h"
#include "cli/cli.h"

const struct command *command_find(char *const *words, size_t n, size_t *used) {
	for (const struct command *const *c = commands; *c; c++) {
		const char *space = strchr((*c)->name, ' ');
		size_t first = space ? (size_t)(space - (*c)->name) : strlen((*c)->name);
		*used = space ? 2 : 1;
		if (n < *used || strlen(words[0]) != first || strncmp((*c)->name, words[0], first) != 0)
			continue;
		if (!space || strcmp(space + 1, words[1]) == 0)
			return *c;
	}
	return NULL;
}

/* "--name VALUE" or "--name=VALUE" before the command. 1: taken */
static int global_option(char *const **words, const char *name, const char **value, struct error *err) {
	const char *word = **words + strlen("--");
	size_t n = strlen(name);
	if (strncmp(word, name, n) != 0 || (word[n] && word[n] != '='))
		return 0;
	(*words)++;
	if (word[n])
		*value = word + n + 1;
	else if (**words)
		*value = *(*words)++;
	else
		return error_set(err, ERROR_INVALID, "--%s needs a value", name);
	return 1;
}

/* 1: help was asked for */
static int global_options(char *const **words, struct invocation *in, struct error *err) {
	while (**words && (**words)[0] == '-') {
		if (strcmp(**words, "--help") == 0 || strcmp(**words, "-h") == 0)
			return 1;
		int r = 0;
		if (str_starts(**words, "--")) {
			r = global_option(words, "run", &in->run, err);
			if (r == 0)
				r = global_option(words, "project", &in->project, err);
		}
		if (r == 0)
			return error_set(err, ERROR_INVALID, "there is no option %s: see wabe --help", **words);
		if (r < 0)
			return r;
	}
	return **words ? 0 : 1;
}

static int unknown_command(char *const *words, struct error *err) {
	_cleanup_(free_ptr) char *first = text_shown(words[0]),
				 *second = words[1] ? text_shown(words[1]) : str_copy("");
	return error_set(err, ERROR_INVALID, "there is no command %s%s%s: see wabe --help", first, *second ? " " : "",
			 second);
}

/* "wabe image", "wabe image --help": what is there of images. 1: told */
static int help_group(const char *word) {
	int told = 0;
	for (const struct command *const *c = commands; *c; c++) {
		const char *space = strchr((*c)->name, ' ');
		if (!space || strlen(word) != (size_t)(space - (*c)->name) || !str_starts((*c)->name, word))
			continue;
		printf("wabe %-18s %s\n", (*c)->name, (*c)->doc);
		told = 1;
	}
	return told;
}

static int run_command(const struct command *c, char *const *words, struct invocation *in, struct error *err) {
	int r = options_parse(c, words, in, err);
	if (r == 0) {
		in->client = client_new(in->run);
		r = c->run(in, err);
		client_free(in->client);
	} else if (r > 0) {
		help_command(c);
		r = 0;
	}
	options_free(c, in);
	return r;
}

static int find_and_run(char *const *words, struct error *err) {
	struct invocation in = {.project = "default"};
	int r = global_options(&words, &in, err);
	if (r > 0)
		help_all();
	if (r)
		return r < 0 ? r : 0;
	size_t used;
	const struct command *c = command_find(words, strv_len(words), &used);
	if (c)
		return run_command(c, words + used, &in, err);
	if ((!words[1] || strcmp(words[1], "--help") == 0) && help_group(words[0]))
		return 0;
	return unknown_command(words, err);
}

int command_main(int argc, char **argv) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int r = find_and_run(argv + (argc ? 1 : 0), &err);
	if (r < 0) {
		print_error(&err);
		r = exit_status_of(&err);
	}
	if (fflush(stdout) != 0 && r == 0) {
		fputs("wabe: cannot write to standard output\n", stderr);
		r = EXIT_WABE;
	}
	return r;
}

int main(int argc, char **argv) {
	proc_title_room(argv); /* of `wabe oci`'s first processes */
	return command_main(argc, argv);
}
