/* One command = one file = one `const struct command` with its option table; help and completion are
 * generated from it. The registry is the table in commands.c. */
#pragma once

#include "base/error.h"
#include "base/str.h"
#include "client/client.h"
#include "model/field.h"

#define EXIT_WABE 125 /* wabe itself failed */

enum option_type { OPTION_BOOL, OPTION_STRING, OPTION_STRINGS, OPTION_INT, OPTION_SIZE, OPTION_DURATION };

struct option_row {
	const char *name; /* "follow,f" */
	enum option_type type;
	size_t offset;    /* in the command's option struct: bool, char *, char **, int64_t */
	const char *placeholder, *doc;
};

struct invocation {
	struct client *client;
	const char *project;
	bool json;          /* --json */
	void *options;      /* the command's option struct */
	void *fields;       /* struct of command->fields, filled from flags */
	char **args;        /* what is left, NULL-terminated */
	size_t n_args;
};

struct command {
	const char *name;   /* "run", "image pull" */
	const char *usage;  /* "[options] IMAGE [COMMAND [ARG…]]" */
	const char *doc;    /* one line */
	const char *details, *examples;
	const struct option_row *options; /* NULL-named row last */
	size_t options_size;
	const struct field_table *fields; /* flags from a noun's table too; NULL */
	size_t min_args, max_args;        /* max 0: as min; SIZE_MAX: any */
	bool stop_at_first;               /* options end at the first argument (run, exec) */
	bool no_daemon;                   /* works without one: version --client, completion, oci, daemon */
	const char *complete;             /* what the arguments are: instance, image, task, file … */
	int (*run)(struct invocation *in, struct error *err); /* exit status >= 0, or negative with *err */
};

extern const struct command *const commands[]; /* NULL last */
int command_main(int argc, char **argv);
