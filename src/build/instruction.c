/* One line of a Dockerfile to one instruction: flags, words, arrays, pairs, and what each of them demands. */
#include "build/dockerfile.h"

#include "base/json.h"
#include "base/str.h"

#include <ctype.h>
#include <strings.h>

/* How what is behind the flags is to be read. */
enum form {
	FORM_WORDS,	   /* split at white space */
	FORM_WORDS_OR_JSON,
	FORM_LINE,	   /* all of it is one argument */
	FORM_LINE_OR_JSON,
	FORM_PAIRS,	   /* name=value … or name value */
	FORM_ARGS,	   /* name or name=value … */
	FORM_HEALTH,
};

static const struct {
	const char *name;
	enum form form;
	const char *flags; /* of a value: "=", of several: "+", switches: "!"; separated by spaces */
} kinds[DOCKER_KINDS] = {
	[DOCKER_ADD] = {"ADD", FORM_WORDS_OR_JSON, "=chown =chmod !link =checksum +exclude !keep-git-dir !unpack"},
	[DOCKER_ARG] = {"ARG", FORM_ARGS, ""},
	[DOCKER_CMD] = {"CMD", FORM_LINE_OR_JSON, ""},
	[DOCKER_COPY] = {"COPY", FORM_WORDS_OR_JSON, "=from =chown =chmod !link +exclude !parents"},
	[DOCKER_ENTRYPOINT] = {"ENTRYPOINT", FORM_LINE_OR_JSON, ""},
	[DOCKER_ENV] = {"ENV", FORM_PAIRS, ""},
	[DOCKER_EXPOSE] = {"EXPOSE", FORM_WORDS, ""},
	[DOCKER_FROM] = {"FROM", FORM_WORDS, "=platform"},
	[DOCKER_HEALTHCHECK] = {"HEALTHCHECK", FORM_HEALTH, "=interval =timeout =start-period =start-interval =retries"},
	[DOCKER_LABEL] = {"LABEL", FORM_PAIRS, ""},
	[DOCKER_MAINTAINER] = {"MAINTAINER", FORM_LINE, ""},
	[DOCKER_ONBUILD] = {"ONBUILD", FORM_LINE, ""},
	[DOCKER_RUN] = {"RUN", FORM_LINE_OR_JSON, "+mount =network =security"},
	[DOCKER_SHELL] = {"SHELL", FORM_LINE_OR_JSON, ""},
	[DOCKER_STOPSIGNAL] = {"STOPSIGNAL", FORM_LINE, ""},
	[DOCKER_USER] = {"USER", FORM_LINE, ""},
	[DOCKER_VOLUME] = {"VOLUME", FORM_WORDS_OR_JSON, ""},
	[DOCKER_WORKDIR] = {"WORKDIR", FORM_LINE, ""},
};

struct parse {
	int line;
	char escape;
	struct instruction *out;
	const char *name;
	char **flag_names, **flag_values; /* side by side */
};

static bool is_space(char c) {
	return isspace((unsigned char)c);
}

static const char *skip_space(const char *p) {
	while (is_space(*p))
		p++;
	return p;
}

/* ---- flags ---- */

/* One "--flag" word, its quotes taken off; gives what is behind it. */
static const char *read_flag(const char *p, char **out) {
	struct buf word = BUF_INIT;
	for (char quote = 0; *p && (quote || !is_space(*p)); p++) {
		if (quote ? *p == quote : *p == '"' || *p == '\'')
			quote = quote ? 0 : *p;
		else if (*p == '\\' && p[1])
			buf_addc(&word, *++p);
		else
			buf_addc(&word, *p);
	}
	*out = buf_steal(&word);
	return p;
}

/* '=' '+' '!' as in the table, 0: unknown. */
static char flag_sort(const char *flags, const char *name, size_t n) {
	for (const char *p = flags; *p; p += strcspn(p, " "), p += *p == ' ')
		if (strcspn(p + 1, " ") == n && strncmp(p + 1, name, n) == 0)
			return *p;
	return 0;
}

/* --link: what it asks for is so. */
static void take_switch(struct instruction *o, const char *key, bool on) {
	if (str_same(key, "parents"))
		o->parents = on;
	else if (str_same(key, "unpack"))
		o->unpack = on ? 1 : -1;
	else if (str_same(key, "keep-git-dir"))
		o->keep_git = on;
}

static int take_flag(struct parse *p, const char *word, struct error *err) {
	const char *name = word + 2, *value = strchr(name, '=');
	size_t n = value ? (size_t)(value - name) : strlen(name);
	_cleanup_(free_ptr) char *key = str_copyn(name, n);
	char sort = flag_sort(kinds[p->out->kind].flags, name, n);
	switch (sort) {
	case '=':
	case '+':
		break;
	case '!':
		if (value && strcasecmp(value + 1, "true") != 0 && strcasecmp(value + 1, "false") != 0)
			return dockerfile_fail(p->line, err, "expecting boolean value for flag %s", key);
		take_switch(p->out, key, !value || strcasecmp(value + 1, "true") == 0);
		return 0;
	default: {
		_cleanup_(free_ptr) char *shown = text_shown(key);
		return dockerfile_fail(p->line, err, "unknown flag: %s", shown);
	}
	}
	if (!value)
		return dockerfile_fail(p->line, err, "missing a value on flag: %s", key);
	if (sort == '=' && strv_has(p->flag_names, key))
		return dockerfile_fail(p->line, err, "duplicate flag specified: %s", key);
	strv_add(&p->flag_names, key);
	strv_add(&p->flag_values, value + 1);
	return 0;
}

static const char *flag_value(const struct parse *p, const char *name) {
	for (size_t i = 0; p->flag_names && p->flag_names[i]; i++)
		if (str_same(p->flag_names[i], name))
			return p->flag_values[i];
	return NULL;
}

static int take_flags(struct parse *p, const char **rest, struct error *err) {
	int r = 0;
	while (r == 0) {
		*rest = skip_space(*rest);
		if ((*rest)[0] != '-' || (*rest)[1] != '-')
			return 0;
		_cleanup_(free_ptr) char *word = NULL;
		*rest = read_flag(*rest, &word);
		if (str_same(word, "--"))
			return 0;
		r = take_flag(p, word, err);
	}
	return r;
}

/* ---- words ---- */

/* Words with their quotes and escapes left in, for the expansion to come. */
static char **quoted_words(const char *p, char escape) {
	char **words = NULL;
	for (p = skip_space(p); *p; p = skip_space(p)) {
		const char *start = p;
		for (char quote = 0; *p && (quote || !is_space(*p)); p++) {
			if (*p == escape && p[1] && quote != '\'')
				p++;
			else if (quote ? *p == quote : *p == '"' || *p == '\'')
				quote = quote ? 0 : *p;
		}
		strv_take(&words, str_copyn(start, (size_t)(p - start)));
	}
	return words;
}

static char **plain_words(const char *p) {
	char **words = NULL;
	for (p = skip_space(p); *p; p = skip_space(p)) {
		const char *start = p;
		while (*p && !is_space(*p))
			p++;
		strv_take(&words, str_copyn(start, (size_t)(p - start)));
	}
	return words;
}

static void add_pair(struct pairs *to, char *key, char *value) {
	to->items = alloc_resize(to->items, to->n + 1, sizeof *to->items);
	to->items[to->n++] = (struct pair){key, value};
}

/* "name the rest": one pair, its value kept as it is written. */
static int take_old_pair(struct parse *p, const char *rest, struct error *err) {
	size_t n = strcspn(rest, " \t\r\n\v\f");
	const char *value = skip_space(rest + n);
	if (!*value)
		return dockerfile_fail(p->line, err, "%s must have two arguments", p->name);
	add_pair(&p->out->pairs, str_copyn(rest, n), str_copy(value));
	return 0;
}

static int take_pairs(struct parse *p, const char *rest, struct error *err) {
	_cleanup_(strv_free_ptr) char **words = quoted_words(rest, p->escape);
	if (!words)
		return dockerfile_fail(p->line, err, "%s requires at least one argument", p->name);
	if (!strchr(words[0], '='))
		return take_old_pair(p, rest, err);
	for (char **w = words; *w; w++) {
		const char *equals = strchr(*w, '=');
		_cleanup_(free_ptr) char *shown = text_shown(*w);
		if (!equals)
			return dockerfile_fail(p->line, err,
					       "Syntax error - can't find = in \"%s\". Must be of the form: name=value", shown);
		if (equals == *w)
			return dockerfile_fail(p->line, err, "%s names can not be blank", p->name);
		add_pair(&p->out->pairs, str_copyn(*w, (size_t)(equals - *w)), str_copy(equals + 1));
	}
	return 0;
}

static int take_args(struct parse *p, const char *rest, struct error *err) {
	_cleanup_(strv_free_ptr) char **words = quoted_words(rest, p->escape);
	if (!words)
		return dockerfile_fail(p->line, err, "ARG requires at least one argument");
	for (char **w = words; *w; w++) {
		const char *equals = strchr(*w, '=');
		if (equals == *w)
			return dockerfile_fail(p->line, err, "ARG names can not be blank");
		add_pair(&p->out->pairs, equals ? str_copyn(*w, (size_t)(equals - *w)) : str_copy(*w),
			 equals ? str_copy(equals + 1) : NULL);
	}
	return 0;
}

/* ---- arrays ---- */

/* 1: *out has the words of the array that rest begins with; 0: it is no array. */
static int take_array(struct parse *p, const char *rest, char ***out, struct error *err) {
	if (rest[0] != '[')
		return 0;
	_cleanup_(json_free_ptr) json_t *array = json_loads(rest, JSON_DISABLE_EOF_CHECK, NULL);
	size_t i;
	json_t *item;
	if (!array)
		return 0;
	json_array_foreach(array, i, item) if (!json_is_string(item))
		return dockerfile_fail(p->line, err, "When using JSON array syntax, arrays must be comprised of strings only.");
	json_array_foreach(array, i, item) strv_add(out, json_string_value(item));
	return 1;
}

static int take_line(struct parse *p, const char *rest, bool array, struct error *err) {
	struct instruction *o = p->out;
	int r = array ? take_array(p, rest, &o->args, err) : 0;
	o->json = r > 0;
	if (r == 0 && *rest)
		strv_add(&o->args, rest);
	return r < 0 ? r : 0;
}

static int take_words(struct parse *p, const char *rest, bool array, struct error *err) {
	struct instruction *o = p->out;
	int r = array ? take_array(p, rest, &o->args, err) : 0;
	o->json = r > 0;
	if (r == 0)
		o->args = plain_words(rest);
	return r < 0 ? r : 0;
}

/* ---- HEALTHCHECK ---- */

static int health_duration(const struct parse *p, const char *flag, int64_t *out, struct error *err) {
	const char *value = flag_value(p, flag);
	if (!value)
		return 0;
	_cleanup_(free_ptr) char *shown = text_shown(value);
	if (!isalpha((unsigned char)value[*value ? strlen(value) - 1 : 0]) || str_to_duration(value, out) < 0)
		return dockerfile_fail(p->line, err, "time: invalid duration \"%s\" (--%s)", shown, flag);
	if (*out && *out < 1000000)
		return dockerfile_fail(p->line, err, "Interval \"%s\" cannot be less than 1ms", flag);
	return 0;
}

static int health_numbers(const struct parse *p, struct error *err) {
	struct health_check *h = &p->out->health;
	const char *retries = flag_value(p, "retries");
	int r = health_duration(p, "interval", &h->interval, err);
	if (r == 0)
		r = health_duration(p, "timeout", &h->timeout, err);
	if (r == 0)
		r = health_duration(p, "start-period", &h->start_period, err);
	if (r == 0)
		r = health_duration(p, "start-interval", &h->start_interval, err);
	if (r == 0 && retries && (str_to_i64(retries, &h->retries) < 0 || h->retries < 1))
		return dockerfile_fail(p->line, err, "--retries must be at least 1 (not %.20s)", retries);
	return r;
}

static int take_health(struct parse *p, const char *rest, struct error *err) {
	struct health_check *h = &p->out->health;
	size_t n = strcspn(rest, " \t");
	_cleanup_(free_ptr) char *sort = str_copyn(rest, n);
	_cleanup_(strv_free_ptr) char **words = NULL;
	rest = skip_space(rest + n);
	if (!n)
		return dockerfile_fail(p->line, err, "HEALTHCHECK requires at least one argument");
	if (strcasecmp(sort, "NONE") == 0) {
		if (*rest)
			return dockerfile_fail(p->line, err, "HEALTHCHECK NONE takes no arguments");
		strv_add(&h->command, "NONE");
		return 0;
	}
	if (strcasecmp(sort, "CMD") != 0) {
		_cleanup_(free_ptr) char *shown = text_shown(sort);
		return dockerfile_fail(p->line, err, "Unknown type \"%s\" in HEALTHCHECK (try CMD)", shown);
	}
	int r = take_array(p, rest, &words, err);
	if (r < 0)
		return r;
	if (!*rest || (r > 0 && !words))
		return dockerfile_fail(p->line, err, "Missing command after HEALTHCHECK CMD");
	strv_add(&h->command, r > 0 ? "CMD" : "CMD-SHELL");
	if (r == 0)
		strv_add(&h->command, rest);
	for (char **w = words; w && *w; w++)
		strv_add(&h->command, *w);
	return health_numbers(p, err);
}

/* ---- what each demands ---- */

static int check_from(struct parse *p, struct error *err) {
	struct instruction *o = p->out;
	size_t n = strv_len(o->args);
	if (n != 1 && (n != 3 || strcasecmp(o->args[1], "as") != 0))
		return dockerfile_fail(p->line, err, "FROM requires either one or three arguments");
	if (n == 1)
		return 0;
	o->stage = str_copy(o->args[2]);
	for (char *c = o->stage; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	size_t valid = strspn(o->stage, "abcdefghijklmnopqrstuvwxyz0123456789-_.");
	if (!islower((unsigned char)o->stage[0]) || o->stage[valid]) {
		_cleanup_(free_ptr) char *shown = text_shown(o->args[2]);
		return dockerfile_fail(p->line, err,
				       "invalid name for build stage: \"%s\", name can't start with a number or contain symbols",
				       shown);
	}
	free(o->args[1]);
	free(o->args[2]);
	o->args[1] = NULL;
	return 0;
}

/* Of a flag that may come several times. */
static void take_values(const struct parse *p, const char *flag, char ***out) {
	for (size_t i = 0; p->flag_names && p->flag_names[i]; i++)
		if (str_same(p->flag_names[i], flag))
			strv_add(out, p->flag_values[i]);
}

static int check_copy(struct parse *p, struct error *err) {
	struct instruction *o = p->out;
	size_t n = strv_len(o->args);
	if (n < 1)
		return dockerfile_fail(p->line, err, "%s requires at least two arguments", p->name);
	if (n < 2)
		return dockerfile_fail(p->line, err,
				       "%s requires at least two arguments, but only one was provided. Destination could not be "
				       "determined.", p->name);
	static const struct {
		const char *name;
		size_t offset;
	} flags[] = {{"from", offsetof(struct instruction, from)},
		     {"chown", offsetof(struct instruction, chown)},
		     {"chmod", offsetof(struct instruction, chmod)},
		     {"checksum", offsetof(struct instruction, checksum)}};
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		const char *value = flag_value(p, flags[i].name);
		if (value)
			*(char **)((char *)o + flags[i].offset) = str_copy(value);
	}
	take_values(p, "exclude", &o->excludes);
	return 0;
}

static int check_onbuild(struct parse *p, struct error *err) {
	struct instruction trigger = {0};
	const char *text = p->out->args ? p->out->args[0] : "";
	size_t n = strcspn(text, " \t");
	if (!n)
		return dockerfile_fail(p->line, err, "ONBUILD requires at least one argument");
	if (n == 7 && strncasecmp(text, "ONBUILD", 7) == 0)
		return dockerfile_fail(p->line, err, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
	if ((n == 4 && strncasecmp(text, "FROM", 4) == 0) || (n == 10 && strncasecmp(text, "MAINTAINER", 10) == 0)) {
		_cleanup_(free_ptr) char *word = str_copyn(text, n);
		for (char *c = word; *c; c++)
			*c = (char)toupper((unsigned char)*c);
		return dockerfile_fail(p->line, err, "%s isn't allowed as an ONBUILD trigger", word);
	}
	struct docker_line line = {.number = p->line, .text = (char *)text};
	int r = instruction_parse_line(&line, p->escape, &trigger, err);
	instruction_free(&trigger);
	return r;
}

static int check_volume(struct parse *p, struct error *err) {
	for (char **v = p->out->args; v && *v; v++)
		if (!*skip_space(*v))
			return dockerfile_fail(p->line, err, "VOLUME specified can not be an empty string");
	return 0;
}

static int check_run(struct parse *p, struct error *err) {
	const char *security = flag_value(p, "security"), *network = flag_value(p, "network");
	_cleanup_(free_ptr) char *shown = text_shown(network ? network : "");
	take_values(p, "mount", &p->out->mounts);
	if (security && !str_same(security, "sandbox"))
		return dockerfile_fail(p->line, err, "--security=%.32s is not granted: commands run in the sandbox", security);
	if (network && !str_same(network, "default") && !str_same(network, "none") && !str_same(network, "host"))
		return dockerfile_fail(p->line, err, "invalid network mode: %s (default, none, host)", shown);
	p->out->network = network ? str_copy(network) : NULL;
	return p->out->args ? 0 : dockerfile_fail(p->line, err, "RUN requires at least one argument");
}

static int check(struct parse *p, struct error *err) {
	struct instruction *o = p->out;
	switch (o->kind) {
	case DOCKER_FROM: {
		const char *platform = flag_value(p, "platform");
		o->platform = platform ? str_copy(platform) : NULL;
		return check_from(p, err);
	}
	case DOCKER_ADD:
	case DOCKER_COPY:
		return check_copy(p, err);
	case DOCKER_ONBUILD:
		return check_onbuild(p, err);
	case DOCKER_MAINTAINER:
	case DOCKER_STOPSIGNAL:
	case DOCKER_USER:
	case DOCKER_WORKDIR:
		return o->args ? 0 : dockerfile_fail(p->line, err, "%s requires exactly one argument", p->name);
	case DOCKER_SHELL:
		if (!o->json)
			return dockerfile_fail(p->line, err, "SHELL requires the arguments to be in JSON form");
		break;
	case DOCKER_RUN:
		return check_run(p, err);
	case DOCKER_VOLUME:
	case DOCKER_EXPOSE:
		break;
	default:
		return 0;
	}
	if (!o->args)
		return dockerfile_fail(p->line, err, "%s requires at least one argument", p->name);
	return o->kind == DOCKER_VOLUME ? check_volume(p, err) : 0;
}

/* ---- all of it ---- */

static int take_rest(struct parse *p, const char *rest, struct error *err) {
	switch (kinds[p->out->kind].form) {
	case FORM_WORDS:
		return take_words(p, rest, false, err);
	case FORM_WORDS_OR_JSON:
		return take_words(p, rest, true, err);
	case FORM_LINE:
		return take_line(p, rest, false, err);
	case FORM_LINE_OR_JSON:
		return take_line(p, rest, true, err);
	case FORM_PAIRS:
		return take_pairs(p, rest, err);
	case FORM_ARGS:
		return take_args(p, rest, err);
	case FORM_HEALTH:
		return take_health(p, rest, err);
	}
	return 0;
}

static int find_kind(const struct docker_line *line, size_t n, enum instruction_kind *out, struct error *err) {
	_cleanup_(free_ptr) char *word = str_copyn(line->text, n);
	for (char *c = word; *c; c++)
		*c = (char)toupper((unsigned char)*c);
	for (size_t i = 0; i < DOCKER_KINDS; i++)
		if (strcmp(kinds[i].name, word) == 0) {
			*out = (enum instruction_kind)i;
			return 0;
		}
	_cleanup_(free_ptr) char *shown = text_shown(word);
	return dockerfile_fail(line->number, err, "unknown instruction: %s", shown);
}

int instruction_parse_line(struct docker_line *line, char escape, struct instruction *out, struct error *err) {
	*out = (struct instruction){.line = line->number, .heredocs = TAKE_PTR(line->heredocs), .n_heredocs = line->n_heredocs};
	line->n_heredocs = 0;
	size_t n = 0;
	while (line->text[n] && !is_space(line->text[n]))
		n++;
	int r = find_kind(line, n, &out->kind, err);
	if (r < 0) {
		instruction_free(out);
		return r;
	}
	struct parse p = {.line = line->number, .escape = escape, .out = out, .name = kinds[out->kind].name};
	const char *rest = skip_space(line->text + n);
	out->text = str_copy(line->text);
	r = take_flags(&p, &rest, err);
	if (r == 0)
		r = take_rest(&p, skip_space(rest), err);
	if (r == 0)
		r = check(&p, err);
	strv_free(p.flag_names);
	strv_free(p.flag_values);
	if (r < 0)
		instruction_free(out);
	return r;
}

int instruction_parse(const char *text, char escape, struct instruction *out, struct error *err) {
	struct docker_line line = {.number = 1, .text = (char *)text};
	return instruction_parse_line(&line, escape, out, err);
}

void instruction_free(struct instruction *i) {
	free(i->text);
	strv_free(i->args);
	pairs_free(&i->pairs);
	free(i->from);
	free(i->chown);
	free(i->chmod);
	free(i->platform);
	free(i->checksum);
	free(i->network);
	strv_free(i->mounts);
	strv_free(i->excludes);
	heredocs_free(&i->heredocs, &i->n_heredocs);
	free(i->stage);
	strv_free(i->health.command);
	*i = (struct instruction){0};
}
