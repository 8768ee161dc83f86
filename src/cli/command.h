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
	const char *def;  /* as text; NULL: false, NULL, 0 */
};

struct invocation {
	struct client *client;
	const char *run;     /* --run, or NULL */
	const char *project;
	bool json;           /* --json */
	void *options;       /* the command's option struct */
	void *fields;        /* struct of command->fields, filled from flags */
	char **fields_given; /* names of the flags of fields that were given, in order */
	char **args;         /* what is left, NULL-terminated */
	size_t n_args;
};

struct command {
	const char *name;   /* "run", "image pull" */
	const char *group;  /* heading in wabe --help */
	const char *usage;  /* "[options] IMAGE [COMMAND [ARG…]]" */
	const char *doc;    /* one line */
	const char *details, *examples; /* examples: a command a line; NULL: none */
	const struct option_row *options; /* NULL-named row last; NULL: none */
	size_t options_size;
	const struct field_table *fields; /* flags from a noun's table too; NULL */
	size_t min_args, max_args;        /* max 0: as min; SIZE_MAX: any */
	bool stop_at_first;               /* options end at the first argument (run, exec) */
	bool raw;                         /* takes its arguments as they are, parses none (oci, daemon) */
	bool listing;                     /* has --json */
	const char *complete;             /* what the arguments are: instance, image, task; NULL: files */
	int (*run)(struct invocation *in, struct error *err); /* exit status >= 0, or negative with *err */
};

extern const struct command *const commands[]; /* NULL last */
int command_main(int argc, char **argv);

/* ---- within the room ---- */

/* By its words; *used is how many of them are its name. NULL: there is none. */
const struct command *command_find(char *const *words, size_t n, size_t *used);
/* Options and arguments of a command into `in` (whose options and fields are allocated here). 1: --help was
 * given, 0, or negative. */
int options_parse(const struct command *c, char *const *words, struct invocation *in, struct error *err);
void options_free(const struct command *c, struct invocation *in);
void help_all(void);
void help_command(const struct command *c);
/* Calls fn for each flag of a command ("--name" or "-n"), with whether it takes a value. */
void options_each(const struct command *c, void (*fn)(const char *flag, bool value, void *arg), void *arg);

#define OPTION(struct_, member_, type_, name_, ...) \
	{.name = name_, .type = OPTION_##type_, .offset = offsetof(struct_, member_), __VA_ARGS__}
