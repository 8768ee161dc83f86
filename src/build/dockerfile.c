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
	int endless; /* here-documents without an end so far */
};

#define ENDLESS_MAX 64 /* the end of each is looked for in all that follows */

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

/* ---- here-documents ---- */

/* "<<WORD", "3<<-'WORD'": the rest without its quotes is the name. */
static bool heredoc_word(const char *word, struct heredoc *out, bool *dash) {
	const char *p = word + strspn(word, "0123456789");
	if (p[0] != '<' || p[1] != '<')
		return false;
	p += 2;
	*dash = *p == '-';
	p += *dash;
	char quote = *p == '"' || *p == '\'' ? *p++ : 0;
	size_t n = quote ? strcspn(p, (char[]){quote, 0}) : strcspn(p, "\"'\\<>|&;()$`");
	if (!n || (quote ? p[n] != quote || p[n + 1] : p[n] != 0))
		return false;
	*out = (struct heredoc){.word = str_copy(word), .name = str_copyn(p, n), .expand = !quote};
	return true;
}

/* The lines up to the one that is the name. false, and nothing is read: there is none. */
static bool read_heredoc(struct reader *r, struct heredoc *doc, bool dash) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	struct reader at = *r;
	struct str line;
	while (next_line(&at, &line)) {
		while (dash && line.len && *line.p == '\t')
			line = (struct str){line.p + 1, line.len - 1};
		if (str_is(line, doc->name)) {
			doc->content = text.data ? buf_steal(&text) : str_copy("");
			*r = at;
			return true;
		}
		buf_add(&text, line.p, line.len);
		buf_addc(&text, '\n');
	}
	return false;
}

static void heredoc_clear(struct heredoc *doc) {
	free(doc->word);
	free(doc->name);
	free(doc->content);
}

void heredocs_free(struct heredoc **list, size_t *n) {
	for (size_t i = 0; i < *n; i++)
		heredoc_clear(&(*list)[i]);
	free(*list);
	*list = NULL;
	*n = 0;
}

static bool may_have_heredocs(const char *text) {
	static const char *const names[] = {"RUN", "COPY", "ADD"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t n = strlen(names[i]);
		if (strncasecmp(text, names[i], n) == 0 && isspace((unsigned char)text[n]))
			return strstr(text, "<<") && text[n + strspn(text + n, " \t")] != '[';
	}
	return false;
}

/* Words are split outside quotes; one whose end does not come is left to the shell. */
static void take_heredocs(struct reader *r, struct docker_line *line) {
	for (const char *p = may_have_heredocs(line->text) ? line->text : ""; *p;) {
		while (isspace((unsigned char)*p))
			p++;
		const char *start = p;
		for (char quote = 0; *p && (quote || !isspace((unsigned char)*p)); p++) {
			if (*p == r->escape && p[1] && quote != '\'')
				p++;
			else if (quote ? *p == quote : *p == '"' || *p == '\'')
				quote = quote ? 0 : *p;
		}
		_cleanup_(free_ptr) char *word = str_copyn(start, (size_t)(p - start));
		struct heredoc doc = {0};
		bool dash;
		if (!heredoc_word(word, &doc, &dash))
			continue;
		line->heredocs = alloc_resize(line->heredocs, line->n_heredocs + 1, sizeof *line->heredocs);
		line->heredocs[line->n_heredocs++] = doc;
		if (r->endless < ENDLESS_MAX && read_heredoc(r, &line->heredocs[line->n_heredocs - 1], dash))
			continue;
		r->endless++;
		heredoc_clear(&line->heredocs[--line->n_heredocs]);
		return;
	}
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
			take_heredocs(r, &line);
		if (result == 0 && found)
			result = instruction_parse_line(&line, r->escape, &one, err);
		if (result == 0 && found)
			result = file_instruction(out, &one, err);
		instruction_free(&one);
		heredocs_free(&line.heredocs, &line.n_heredocs);
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
