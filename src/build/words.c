/* A recursive descent over one word. */
#include "build/words.h"

#include "base/buf.h"
#include "base/str.h"
#include "build/pattern.h"

#include <ctype.h>

#define DEPTH_MAX 32
#define LENGTH_MAX ((size_t)1 << 20)

struct lexer {
	const char *p;
	char escape;
	char *const *env;
	int depth;
	bool raw; /* escapes stay, for a pattern */
	struct error *err;
};

/* What has been read: as one text, and the words that it falls into. */
struct text {
	struct buf all, word;
	bool has_word;
	char **words; /* NULL until there is a first */
	bool split;
};

static void text_free(struct text *t) {
	buf_free(&t->all);
	buf_free(&t->word);
	strv_free(t->words);
}

static void end_word(struct text *t) {
	if (t->has_word)
		strv_add(&t->words, buf_str(&t->word));
	buf_truncate(&t->word, 0);
	t->has_word = false;
}

static void add_quoted(struct text *t, const char *s, size_t n) {
	buf_add(&t->all, s, n);
	if (!t->split)
		return;
	buf_add(&t->word, s, n);
	t->has_word = true;
}

static void add_open(struct text *t, const char *s) {
	if (!t->split) {
		buf_adds(&t->all, s);
		return;
	}
	for (; *s; s++) {
		if (isspace((unsigned char)*s))
			end_word(t);
		else
			add_quoted(t, s, 1);
	}
}

static const char *variable(const struct lexer *l, const char *name) {
	return strv_env_get(l->env, name);
}

/* ---- $ ---- */

static char *read_name(struct lexer *l) {
	const char *start = l->p;
	if (isdigit((unsigned char)*l->p))
		while (isdigit((unsigned char)*l->p))
			l->p++;
	else if (*l->p && strchr("@*#!?-$", *l->p))
		l->p++;
	else
		while (isalnum((unsigned char)*l->p) || *l->p == '_')
			l->p++;
	return str_copyn(start, (size_t)(l->p - start));
}

static int read_until(struct lexer *l, char stop, struct text *out);

/* Behind "${name" and, where one stands, the colon. */
static int read_modifier(struct lexer *l, const char *name, bool colon, struct text *out) {
	char modifier = *l->p++;
	const char *value = variable(l, name);
	bool set = value && (*value || !colon);
	struct text word = {0};
	if (++l->depth > DEPTH_MAX)
		return error_set(l->err, ERROR_INVALID, "substitutions within substitutions: at most %d", DEPTH_MAX);
	int r = read_until(l, '}', &word);
	l->depth--;
	if (r == 0 && *l->p != '}')
		r = error_set(l->err, ERROR_INVALID, "syntax error: missing '}'");
	if (r == 0)
		l->p++;
	if (r == 0 && modifier == '?' && !set)
		r = error_set(l->err, ERROR_INVALID, "%s: %s", name,
			      word.all.len ? buf_str(&word.all) : colon ? "not allowed to be unset or empty" : "not allowed to be unset");
	if (r == 0 && modifier == '+' ? set : r == 0 && modifier == '-' && !set)
		add_open(out, buf_str(&word.all));
	else if (r == 0 && modifier != '+' && value)
		add_open(out, value);
	text_free(&word);
	return r;
}

/* A pattern, or what comes in its place: up to `stop`, which is taken. */
static int read_part(struct lexer *l, char stop, bool raw, struct text *out) {
	bool before = l->raw;
	if (++l->depth > DEPTH_MAX)
		return error_set(l->err, ERROR_INVALID, "substitutions within substitutions: at most %d", DEPTH_MAX);
	l->raw = raw;
	int r = read_until(l, stop, out);
	l->raw = before;
	l->depth--;
	if (r == 0 && *l->p != stop)
		r = error_set(l->err, ERROR_INVALID, "syntax error: missing '%c'", stop);
	l->p += r == 0;
	return r;
}

/* Behind "${name": "#pattern", "%pattern", "/pattern/other", each with its sign twice as well. */
static int read_pattern(struct lexer *l, const char *name, struct text *out) {
	char sign = *l->p++;
	bool twice = *l->p == sign;
	const char *value = variable(l, name);
	_cleanup_(text_free) struct text pattern = {0}, other = {0};
	_cleanup_(free_ptr) char *made = NULL;
	l->p += twice;
	int r = read_part(l, sign == '/' ? '/' : '}', true, &pattern);
	if (r == 0 && sign == '/')
		r = read_part(l, '}', false, &other);
	if (r < 0 || !value)
		return r;
	r = sign == '/' ? pattern_replace(value, buf_str(&pattern.all), l->escape, buf_str(&other.all), twice, &made, l->err)
			: pattern_cut(value, sign, buf_str(&pattern.all), l->escape, twice, &made, l->err);
	if (r == 0)
		add_open(out, made);
	return r;
}

static int read_braces(struct lexer *l, struct text *out) {
	if (*l->p == '}')
		return error_set(l->err, ERROR_INVALID, "syntax error: bad substitution");
	_cleanup_(free_ptr) char *name = read_name(l);
	if (!*name)
		return error_set(l->err, ERROR_INVALID, "syntax error: bad substitution");
	if (*l->p == '}') {
		l->p++;
		const char *value = variable(l, name);
		if (value)
			add_open(out, value);
		return 0;
	}
	if (*l->p && strchr("#%/", *l->p))
		return read_pattern(l, name, out);
	bool colon = *l->p == ':';
	l->p += colon;
	if (*l->p && strchr("+-?", *l->p))
		return read_modifier(l, name, colon, out);
	if (!*l->p)
		return error_set(l->err, ERROR_INVALID, "syntax error: missing '}'");
	return error_set(l->err, ERROR_INVALID, "unsupported modifier (%c) in substitution", *l->p);
}

/* Behind the '$'. */
static int read_dollar(struct lexer *l, struct text *out) {
	if (*l->p == '{') {
		l->p++;
		return read_braces(l, out);
	}
	_cleanup_(free_ptr) char *name = read_name(l);
	const char *value = *name ? variable(l, name) : "$";
	if (!*name)
		add_quoted(out, "$", 1);
	else if (value)
		add_open(out, value);
	return 0;
}

/* ---- quotes ---- */

static int read_single(struct lexer *l, struct text *out) {
	const char *end = strchr(l->p, '\'');
	if (!end)
		return error_set(l->err, ERROR_INVALID, "unexpected end of statement while looking for matching single-quote");
	add_quoted(out, l->p, (size_t)(end - l->p));
	l->p = end + 1;
	return 0;
}

static int read_double(struct lexer *l, struct text *out) {
	struct text inside = {0};
	int r = 0;
	while (r == 0 && *l->p && *l->p != '"') {
		char c = *l->p++;
		if (c == '$') {
			r = read_dollar(l, &inside);
			continue;
		}
		if (c == l->escape && !*l->p)
			break;
		if (c == l->escape && (*l->p == '"' || *l->p == '$' || *l->p == l->escape))
			c = *l->p++;
		add_quoted(&inside, &c, 1);
	}
	if (r == 0 && *l->p != '"')
		r = error_set(l->err, ERROR_INVALID, "unexpected end of statement while looking for matching double-quote");
	if (r == 0) {
		l->p++;
		add_quoted(out, buf_str(&inside.all), inside.all.len);
	}
	text_free(&inside);
	return r;
}

static int read_until(struct lexer *l, char stop, struct text *out) {
	int r = 0;
	while (r == 0 && *l->p && *l->p != stop) {
		char c = *l->p++;
		if (c == '\'') {
			r = read_single(l, out);
		} else if (c == '"') {
			r = read_double(l, out);
		} else if (c == '$') {
			r = read_dollar(l, out);
		} else if (c == l->escape) {
			if (*l->p && l->raw)
				add_quoted(out, &c, 1);
			if (*l->p)
				add_quoted(out, l->p++, 1);
		} else {
			add_open(out, (char[]){c, 0});
		}
		if (r == 0 && out->all.len > LENGTH_MAX)
			r = error_set(l->err, ERROR_TOO_LARGE, "a word of more than %zu bytes", LENGTH_MAX);
	}
	return r;
}

static int expand(const char *word, char escape, char *const *env, struct text *out, struct error *err) {
	struct lexer l = {.p = word, .escape = escape, .env = env, .err = err};
	int r = read_until(&l, '\0', out);
	if (r < 0) {
		_cleanup_(free_ptr) char *shown = str_copyn(word, MIN(strlen(word), 80u));
		error_wrap(err, "failed to process \"%s\"", shown);
	}
	return r;
}

int word_expand(const char *word, char escape, char *const *env, char **out, struct error *err) {
	_cleanup_(text_free) struct text t = {0};
	int r = expand(word, escape, env, &t, err);
	if (r == 0)
		*out = t.all.data ? buf_steal(&t.all) : str_copy("");
	return r;
}

int text_expand(const char *text, char escape, char *const *env, char **out, struct error *err) {
	_cleanup_(text_free) struct text t = {0};
	struct lexer l = {.p = text, .escape = escape, .env = env, .err = err};
	int r = 0;
	while (r == 0 && *l.p) {
		char c = *l.p++;
		if (c == '$') {
			r = read_dollar(&l, &t);
			continue;
		}
		if (c == escape && (*l.p == '$' || *l.p == escape))
			c = *l.p++;
		add_quoted(&t, &c, 1);
		if (t.all.len > LENGTH_MAX)
			r = error_set(err, ERROR_TOO_LARGE, "a text of more than %zu bytes", LENGTH_MAX);
	}
	if (r == 0)
		*out = t.all.data ? buf_steal(&t.all) : str_copy("");
	return r;
}

int word_expand_split(const char *word, char escape, char *const *env, char ***out, struct error *err) {
	_cleanup_(text_free) struct text t = {.split = true};
	int r = expand(word, escape, env, &t, err);
	if (r < 0)
		return r;
	end_word(&t);
	*out = TAKE_PTR(t.words);
	return 0;
}
