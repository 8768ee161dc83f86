/* Tables on standard output, fitted to the terminal. Cells may hold what strangers wrote: control characters do
 * not reach the terminal. */
#include "cli/cli.h"

#include <unistd.h>

#define GAP 2
#define NARROWEST 8

struct table {
	size_t columns, rows;
	char **cells; /* headings first */
};

struct table *table_new(const char *const *headings) {
	struct table *t = NEW(struct table);
	for (; headings[t->columns]; t->columns++)
		;
	t->cells = alloc_array(t->columns, sizeof *t->cells);
	for (size_t i = 0; i < t->columns; i++)
		t->cells[i] = str_copy(headings[i]);
	t->rows = 1;
	return t;
}

static char *clean(const char *s) {
	char *copy = str_copy(s && *s ? s : "-");
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	return copy;
}

void table_add(struct table *t, ...) {
	t->cells = alloc_resize(t->cells, (t->rows + 1) * t->columns, sizeof *t->cells);
	va_list ap;
	va_start(ap, t);
	for (size_t i = 0; i < t->columns; i++)
		t->cells[t->rows * t->columns + i] = clean(va_arg(ap, const char *));
	va_end(ap);
	t->rows++;
}

/* Characters, counting a UTF-8 sequence as one. */
static size_t width_of(const char *s) {
	size_t n = 0;
	for (; *s; s++)
		n += ((unsigned char)*s & 0xC0) != 0x80;
	return n;
}

/* Takes from the widest column until all fit. */
static void shrink(size_t *widths, size_t n, size_t space) {
	for (;;) {
		size_t sum = GAP * (n - 1), widest = 0;
		for (size_t i = 0; i < n; i++) {
			sum += widths[i];
			if (widths[i] > widths[widest])
				widest = i;
		}
		if (sum <= space || widths[widest] <= NARROWEST)
			return;
		widths[widest]--;
	}
}

static size_t *column_widths(const struct table *t, size_t first) {
	size_t *widths = alloc_array(t->columns, sizeof *widths);
	for (size_t i = first * t->columns; i < t->rows * t->columns; i++)
		widths[i % t->columns] = MAX(widths[i % t->columns], width_of(t->cells[i]));
	int rows, columns;
	if (isatty(STDOUT_FILENO) && terminal_size(&rows, &columns))
		shrink(widths, t->columns, (size_t)columns);
	return widths;
}

static void print_cell(const char *s, size_t width, bool last) {
	size_t have = width_of(s);
	if (have <= width) {
		printf("%s", s);
		for (; !last && have < width + GAP; have++)
			putchar(' ');
		return;
	}
	for (size_t n = 0; *s; s++) {
		n += ((unsigned char)*s & 0xC0) != 0x80;
		if (n >= width)
			break;
		putchar(*s);
	}
	printf("…%s", last ? "" : "  ");
}

void table_print(struct table *t, bool headings) {
	size_t first = headings ? 0 : 1;
	_cleanup_(free_ptr) size_t *widths = column_widths(t, first);
	for (size_t r = first; r < t->rows; r++) {
		for (size_t c = 0; c < t->columns; c++)
			print_cell(t->cells[r * t->columns + c], widths[c], c + 1 == t->columns);
		putchar('\n');
	}
	for (size_t i = 0; i < t->rows * t->columns; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
}
