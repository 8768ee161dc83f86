/* WWW-Authenticate: a list of challenges, each a scheme and a list of parameters, both separated by commas.
 * A word with "=" and a value behind it is a parameter of the scheme before it, any other word a scheme. */
#include "image/challenge.h"

#include "base/buf.h"
#include "base/str.h"

#include <strings.h>

#define VALUE_MAX 8192

static bool is_token_char(char c) {
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-.^_`|~/", c));
}

static void skip(const char **p, const char *what) {
	*p += strspn(*p, what);
}

static char *take_token(const char **p) {
	const char *start = *p;
	while (is_token_char(**p))
		(*p)++;
	return str_copyn(start, (size_t)(*p - start));
}

static char *take_quoted(const char **p) {
	struct buf b = BUF_INIT_MAX(VALUE_MAX);
	for ((*p)++; **p && **p != '"'; (*p)++) {
		if (**p == '\\' && (*p)[1])
			(*p)++;
		buf_addc(&b, **p);
	}
	if (**p == '"')
		(*p)++;
	return buf_steal(&b);
}

/* Keeps the value if the parameter is one that we need and has not been seen. */
static void keep(struct challenge *out, const char *name, char *value) {
	char **to = !strcasecmp(name, "realm")	   ? &out->realm
		    : !strcasecmp(name, "service") ? &out->service
		    : !strcasecmp(name, "scope")   ? &out->scope
						   : NULL;
	if (to && !*to)
		*to = value;
	else
		free(value);
}

void challenge_parse(const char *header, struct challenge *out) {
	*out = (struct challenge){0};
	bool in_bearer = false;
	for (const char *p = header; *p;) {
		skip(&p, " \t,");
		if (!is_token_char(*p)) {
			p += *p != '\0';
			continue;
		}
		_cleanup_(free_ptr) char *word = take_token(&p);
		const char *after = p;
		skip(&after, " \t");
		if (*after != '=') {
			in_bearer = !strcasecmp(word, "bearer") && !out->bearer;
			out->bearer |= in_bearer;
			out->basic |= !strcasecmp(word, "basic");
			continue;
		}
		p = after + 1;
		skip(&p, " \t");
		if (*p == '=' || *p == ',' || !*p) { /* the padding of a token68, not a parameter */
			skip(&p, "=");
			continue;
		}
		char *value = *p == '"' ? take_quoted(&p) : take_token(&p);
		if (in_bearer)
			keep(out, word, value);
		else
			free(value);
	}
}

void challenge_free(struct challenge *c) {
	free(c->realm);
	free(c->service);
	free(c->scope);
	*c = (struct challenge){0};
}
