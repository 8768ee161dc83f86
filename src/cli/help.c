/* Help, from the tables of commands. */
#include "cli/cli.h"

#include <stdio.h>

void help_all(void) {
	printf("wabe runs containers: real Linux systems and programs in cells of their own.\n\n"
	       "usage: wabe [--run DIR] [--project NAME] COMMAND …\n");
	const char *group = "";
	for (const struct command *const *c = commands; *c; c++) {
		if (!(*c)->group)
			continue;
		if (strcmp(group, (*c)->group) != 0)
			printf("\n%s\n", group = (*c)->group);
		printf("  %-18s %s\n", (*c)->name, (*c)->doc);
	}
	printf("\nEach has its own help: wabe COMMAND --help. The daemon is found by --run, WABE_RUN, or in /run/wabe.\n"
	       "Try: wabe image bootstrap debian:bookworm && wabe run --rm -it debian:bookworm\n");
}

/* "  -f, --follow PLACEHOLDER   doc" */
static void print_option(const char *names, const char *placeholder, bool value, const char *doc, const char *def) {
	const char *comma = strchr(names, ',');
	_cleanup_(buf_free) struct buf left = BUF_INIT;
	bool has_short = comma && strlen(comma + 1) == 1;
	if (has_short)
		buf_addf(&left, "-%s, ", comma + 1);
	else
		buf_adds(&left, "    ");
	buf_addf(&left, "--%.*s", comma ? (int)(comma - names) : (int)strlen(names), names);
	if (value)
		buf_addf(&left, " %s", placeholder ? placeholder : "VALUE");
	printf("  %-34s %s%s", buf_str(&left), left.len > 34 ? "\n                                     " : "", doc);
	if (def && strcmp(def, "false") != 0 && strcmp(def, "0") != 0)
		printf(" (%s)", def);
	putchar('\n');
}

static void print_fields(const struct field_table *t) {
	for (const struct field *f = t->fields; f < t->fields + t->n; f++) {
		if (f->flag)
			print_option(f->flag, f->placeholder, f->type != FIELD_BOOL, f->doc, f->def);
		if (f->type == FIELD_OBJECT)
			print_fields(f->sub);
	}
}

static void print_indented(const char *heading, const char *text) {
	if (!text)
		return;
	printf("\n%s\n", heading);
	_cleanup_(strv_free_ptr) char **lines = strv_split(text, '\n');
	for (size_t i = 0; lines[i]; i++)
		printf("  %s\n", lines[i]);
}

void help_command(const struct command *c) {
	printf("%s.\n\nusage: wabe %s %s\n", c->doc, c->name, c->usage);
	if (c->details)
		printf("\n%s\n", c->details);
	if (c->options || c->fields || c->listing)
		printf("\nOptions\n");
	for (const struct option_row *o = c->options; o && o->name; o++)
		print_option(o->name, o->placeholder, o->type != OPTION_BOOL, o->doc, o->def);
	if (c->fields)
		print_fields(c->fields);
	if (c->listing)
		print_option("json", NULL, false, "As JSON", NULL);
	print_indented("Examples", c->examples);
}
