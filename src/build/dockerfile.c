/* A Dockerfile's lines: parser directives, comments, continued lines; and the instructions sorted into stages. */
#include "build/dockerfile.h"

#include "base/str.h"

#include <ctype.h>
#include <strings.h>

int dockerfile_fail(int line, struct error *err, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	_cleanup_(free_ptr) char *why = str_vformat(fmt, ap);
	va_end(ap);
	return error_set(err, ERROR_INVALID, "dockerfile parse error line %d: %s", line, why);
}

/* ---- lines ---- */

struct reader {
	struct str rest;
	int line; /* of the one that was read last */
	char escape;
	bool directives; /* a parser directive may still come */
	bool has_escape, has_syntax;
};

static bool next_line(struct reader *r, struct str *out) {
	if (!r->rest.len)
		return false;
	*out = str_cut(&r->rest, '\n');
	while (out->len && out->p[out->len - 1] == '\r')
		out->len--;
	r->line++;
	return true;
}

static struct str trim_left(struct str s) {
	while (s.len && isspace((unsigned char)s.p[0])) {
		s.p++;
		s.len--;
	}
	return s;
}

static struct str trim(struct str s) {
	s = trim_left(s);
	while (s.len && isspace((unsigned char)s.p[s.len - 1]))
		s.len--;
	return s;
}

static bool is_comment(struct str line) {
	line = trim_left(line);
	return line.len && line.p[0] == '#';
}

static int set_escape(struct reader *r, struct str value, struct error *err) {
	if (r->has_escape)
		return dockerfile_fail(r->line, err, "only one escape parser directive can be used");
	if (!str_is(value, "\\") && !str_is(value, "`")) {
		_cleanup_(free_ptr) char *text = str_copyn(value.p, MIN(value.len, 64u));
		_cleanup_(free_ptr) char *shown = text_shown(text);
		return dockerfile_fail(r->line, err, "invalid escape token '%s' does not match ` or \\", shown);
	}
	r->has_escape = true;
	r->escape = value.p[0];
	return 0;
}

/* "# name=value" at the top: those that are known count, the first line that is none ends them. */
static int take_directive(struct reader *r, struct str line, struct error *err) {
	struct str value = trim(line);
	if (!value.len || value.p[0] != '#' || !memchr(value.p, '=', value.len)) {
		r->directives = false;
		return 0;
	}
	value.p++;
	value.len--;
	struct str name = trim(str_cut(&value, '='));
	value = trim(value);
	if (name.len == 6 && strncasecmp(name.p, "escape", 6) == 0)
		return set_escape(r, value, err);
	bool syntax = name.len == 6 && strncasecmp(name.p, "syntax", 6) == 0;
	if (syntax && r->has_syntax)
		return dockerfile_fail(r->line, err, "only one syntax parser directive can be used");
	r->has_syntax |= syntax;
	r->directives = syntax || (name.len == 5 && strncasecmp(name.p, "check", 5) == 0);
	return 0;
}

/* Takes a single escape character, with spaces behind it, off the end. */
static bool take_continuation(const struct reader *r, struct str *line) {
	struct str s = *line;
	while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
		s.len--;
	if (!s.len || s.p[s.len - 1] != r->escape || (s.len > 1 && s.p[s.len - 2] == r->escape))
		return false;
	line->len = s.len - 1;
	return true;
}

/* The next logical line that is not empty; false at the end. */
static int next_logical(struct reader *r, struct docker_line *out, bool *found, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	struct str line;
	*found = false;
	while (!*found && next_line(r, &line)) {
		int result = r->directives ? take_directive(r, line, err) : 0;
		if (result < 0)
			return result;
		if (is_comment(line))
			continue;
		out->number = r->line;
		line = trim_left(line);
		bool more = take_continuation(r, &line);
		buf_add(&text, line.p, line.len);
		while (more && next_line(r, &line)) {
			if (is_comment(line) || !trim(line).len)
				continue;
			more = take_continuation(r, &line);
			buf_add(&text, line.p, line.len);
		}
		struct str whole = trim((struct str){buf_str(&text), text.len});
		*found = whole.len > 0;
		if (*found)
			out->text = str_copyn(whole.p, whole.len);
		buf_truncate(&text, 0);
	}
	return 0;
}

/* ---- here-documents, which the classic builder has not ---- */

/* "<<WORD", "<<-'WORD'" at the start of a word; the word without its quotes. */
static char *heredoc_word(const char *at) {
	const char *p = at + 2;
	p += *p == '-';
	char quote = *p == '"' || *p == '\'' ? *p++ : 0;
	size_t n = strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
	if (!n || isdigit((unsigned char)*p) || (quote && p[n] != quote))
		return NULL;
	return str_copyn(p, n);
}

static bool comes_alone(struct str rest, const char *word) {
	while (rest.len) {
		struct str line = trim(str_cut(&rest, '\n'));
		if (str_is(line, word))
			return true;
	}
	return false;
}

/* One whose end mark comes in a line of its own further down. */
static int refuse_heredoc(const struct reader *r, const struct docker_line *line, struct error *err) {
	if (strncasecmp(line->text, "RUN", 3) != 0 && strncasecmp(line->text, "COPY", 4) != 0 &&
	    strncasecmp(line->text, "ADD", 3) != 0)
		return 0;
	for (const char *at = line->text; (at = strstr(at, "<<")); at += 2) {
		_cleanup_(free_ptr) char *word = heredoc_word(at);
		if (word && comes_alone(r->rest, word))
			return dockerfile_fail(line->number, err,
					       "the here-document <<%s requires BuildKit, which this builder is not: write "
					       "the file into the build context, or join the commands with &&",
					       word);
	}
	return 0;
}

/* ---- stages ---- */

static void add_instruction(struct instruction **items, size_t *n, struct instruction *one) {
	*items = alloc_resize(*items, *n + 1, sizeof **items);
	(*items)[(*n)++] = *one;
	*one = (struct instruction){0};
}

static int file_instruction(struct dockerfile *d, struct instruction *one, struct error *err) {
	if (one->kind == DOCKER_FROM) {
		d->stages = alloc_resize(d->stages, d->n_stages + 1, sizeof *d->stages);
		d->stages[d->n_stages++] = (struct build_stage){.from = *one};
		*one = (struct instruction){0};
		return 0;
	}
	if (d->n_stages) {
		struct build_stage *s = &d->stages[d->n_stages - 1];
		add_instruction(&s->items, &s->n, one);
		return 0;
	}
	if (one->kind != DOCKER_ARG)
		return dockerfile_fail(one->line, err, "no build stage in current context");
	add_instruction(&d->meta, &d->n_meta, one);
	return 0;
}

static int parse_all(struct reader *r, struct dockerfile *out, struct error *err) {
	for (bool found = true; found;) {
		struct docker_line line = {0};
		struct instruction one = {0};
		int result = next_logical(r, &line, &found, err);
		if (result == 0 && found)
			result = refuse_heredoc(r, &line, err);
		if (result == 0 && found)
			result = instruction_parse_line(&line, r->escape, &one, err);
		if (result == 0 && found)
			result = file_instruction(out, &one, err);
		instruction_free(&one);
		free(line.text);
		if (result < 0)
			return result;
	}
	if (!out->n_stages)
		return error_set(err, ERROR_INVALID, out->n_meta ? "no build stage in current context"
								 : "file with no instructions");
	out->escape = r->escape;
	return 0;
}

int dockerfile_parse(const char *text, size_t n, struct dockerfile *out, struct error *err) {
	*out = (struct dockerfile){0};
	if (n > DOCKERFILE_MAX)
		return error_set(err, ERROR_TOO_LARGE, "a Dockerfile of %zu bytes: at most %zu are read", n, DOCKERFILE_MAX);
	if (memchr(text, 0, n))
		return error_set(err, ERROR_INVALID, "the Dockerfile is no text: there is a zero byte in it");
	struct reader r = {.rest = {text, n}, .escape = '\\', .directives = true};
	if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		r.rest = (struct str){text + 3, n - 3};
	int result = parse_all(&r, out, err);
	if (result < 0)
		dockerfile_free(out);
	return result;
}

void dockerfile_free(struct dockerfile *d) {
	for (size_t i = 0; i < d->n_meta; i++)
		instruction_free(&d->meta[i]);
	for (size_t i = 0; i < d->n_stages; i++) {
		instruction_free(&d->stages[i].from);
		for (size_t k = 0; k < d->stages[i].n; k++)
			instruction_free(&d->stages[i].items[k]);
		free(d->stages[i].items);
	}
	free(d->meta);
	free(d->stages);
	*d = (struct dockerfile){0};
}

ssize_t dockerfile_stage(const struct dockerfile *d, const char *name, size_t before) {
	uint64_t number;
	for (size_t i = MIN(before, d->n_stages); i-- > 0;)
		if (d->stages[i].from.stage && strcasecmp(d->stages[i].from.stage, name) == 0)
			return (ssize_t)i;
	if (str_to_u64(name, 10, &number) == 0 && number < MIN(before, d->n_stages))
		return (ssize_t)number;
	return -1;
}

void build_stage_add_label(struct build_stage *s, const char *key, const char *value) {
	struct instruction one = {.kind = DOCKER_LABEL, .literal = true};
	one.text = str_format("LABEL %s=%s", key, value);
	pairs_set(&one.pairs, key, value);
	add_instruction(&s->items, &s->n, &one);
}
