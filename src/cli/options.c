/* Command lines: options by a command's table and by a noun's field table. */
#include "cli/command.h"

/* A flag that was found: of the command's own table, or of its fields. */
struct flag {
	const struct option_row *row;
	const struct field *field;
	void *object; /* holds the field's member */
};

static bool name_is(const char *names, const char *name) {
	struct str rest = str_view(names);
	while (rest.len)
		if (str_is(str_cut(&rest, ','), name))
			return true;
	return false;
}

static bool find_flag(const struct command *c, const struct invocation *in, const char *name, struct flag *f) {
	*f = (struct flag){.object = in->fields};
	for (const struct option_row *o = c->options; o && o->name; o++)
		if (name_is(o->name, name)) {
			f->row = o;
			return true;
		}
	if (c->fields)
		f->field = fields_find_flag(c->fields, name, &f->object);
	return f->field;
}

static bool takes_value(const struct flag *f) {
	return f->row ? f->row->type != OPTION_BOOL : f->field->type != FIELD_BOOL;
}

static int set_bool(bool *to, const char *text, struct error *err) {
	if (!text || strcmp(text, "true") == 0)
		*to = true;
	else if (strcmp(text, "false") == 0)
		*to = false;
	else
		return error_set(err, ERROR_INVALID, "must be true or false");
	return 0;
}

static int set_number(enum option_type type, int64_t *to, const char *text, struct error *err) {
	int r = type == OPTION_SIZE ? str_to_size(text, to) : type == OPTION_DURATION ? str_to_duration(text, to)
										      : str_to_i64(text, to);
	if (r == 0)
		return 0;
	const char *what = type == OPTION_SIZE	     ? "a size such as 512MiB"
			   : type == OPTION_DURATION ? "a time such as 1m30s"
						     : "a number";
	return error_set(err, ERROR_INVALID, "\"%s\" is not %s", text, what);
}

static int set_option(const struct option_row *o, void *options, const char *text, struct error *err) {
	void *member = (char *)options + o->offset;
	switch (o->type) {
	case OPTION_BOOL:
		return set_bool(member, text, err);
	case OPTION_STRING:
		free(*(char **)member);
		*(char **)member = str_copy(text);
		return 0;
	case OPTION_STRINGS:
		strv_add(member, text);
		return 0;
	default:
		return set_number(o->type, member, text, err);
	}
}

static int set_flag(const struct flag *f, const char *name, const char *text, struct invocation *in,
		    struct error *err) {
	struct error e = ERROR_INIT;
	int r = f->row ? set_option(f->row, in->options, text, &e) : field_set_text(f->field, f->object, text, &e);
	if (r < 0) {
		free(e.field); /* the flag says it better */
		e.field = NULL;
		error_wrap(&e, "%s%s", name[1] ? "--" : "-", name);
		return error_move(err, &e);
	}
	if (f->field)
		strv_add(&in->fields_given, name);
	return 0;
}

static int unknown(const struct command *c, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(name);
	return error_set(err, ERROR_INVALID, "there is no option %s%s: see wabe %s --help",
			 shown[0] && shown[1] ? "--" : "-", shown, c->name);
}

/* "--name", "--name=value", "--name value"; *next is the word behind it. 1: --help */
static int parse_long(const struct command *c, const char *word, char *const **next, struct invocation *in,
		      struct error *err) {
	const char *equals = strchr(word, '=');
	_cleanup_(free_ptr) char *name = str_copyn(word, equals ? (size_t)(equals - word) : strlen(word));
	struct flag f;
	if (strcmp(name, "json") == 0 && c->listing && !equals) {
		in->json = true;
		return 0;
	}
	if (!name[0] || !name[1] || !find_flag(c, in, name, &f))
		return strcmp(word, "help") == 0 ? 1 : unknown(c, name, err);
	const char *text = equals ? equals + 1 : NULL;
	if (takes_value(&f) && !text) {
		if (!**next)
			return error_set(err, ERROR_INVALID, "--%s needs a value", name);
		text = *(*next)++;
	}
	return set_flag(&f, name, text, in, err);
}

/* "-a", "-abc" (flags without values, the last one may have one), "-nVALUE", "-n VALUE" */
static int parse_short(const struct command *c, const char *word, char *const **next, struct invocation *in,
		       struct error *err) {
	for (; *word; word++) {
		char name[2] = {*word, '\0'};
		struct flag f;
		if (!find_flag(c, in, name, &f))
			return strcmp(word, "h") == 0 ? 1 : unknown(c, name, err);
		const char *text = NULL;
		if (takes_value(&f)) {
			text = word[1] ? word + 1 + (word[1] == '=') : **next;
			if (!text)
				return error_set(err, ERROR_INVALID, "-%s needs a value", name);
			if (!word[1])
				(*next)++;
		}
		int r = set_flag(&f, name, text, in, err);
		if (r < 0 || text)
			return r;
	}
	return 0;
}

static int parse_words(const struct command *c, char *const *next, struct invocation *in, struct error *err) {
	bool options = true;
	while (*next) {
		const char *word = *next++;
		int r = 0;
		if (options && strcmp(word, "--") == 0) {
			options = false;
		} else if (options && word[0] == '-' && word[1] == '-') {
			r = parse_long(c, word + 2, &next, in, err);
		} else if (options && word[0] == '-' && word[1]) {
			r = parse_short(c, word + 1, &next, in, err);
		} else {
			strv_add(&in->args, word);
			if (c->stop_at_first)
				options = false;
		}
		if (r)
			return r;
	}
	return 0;
}

static int check_count(const struct command *c, struct invocation *in, struct error *err) {
	size_t max = c->max_args ? c->max_args : c->min_args;
	in->n_args = strv_len(in->args);
	if (in->n_args < c->min_args)
		return error_set(err, ERROR_INVALID, "usage: wabe %s %s", c->name, c->usage);
	if (in->n_args > max)
		return error_set(err, ERROR_INVALID, "\"%s\" is one argument too many: usage: wabe %s %s",
				 in->args[max], c->name, c->usage);
	return 0;
}

int options_parse(const struct command *c, char *const *words, struct invocation *in, struct error *err) {
	in->options = alloc_zero(c->options_size);
	for (const struct option_row *o = c->options; o && o->name; o++)
		if (o->def)
			set_option(o, in->options, o->def, NULL);
	if (c->fields) {
		in->fields = alloc_zero(c->fields->size);
		fields_init(c->fields, in->fields);
	}
	if (c->raw) {
		if (*words && strcmp(*words, "--help") == 0)
			return 1;
		in->args = strv_copy(words);
		in->n_args = strv_len(in->args);
		return 0;
	}
	int r = parse_words(c, words, in, err);
	return r ? r : check_count(c, in, err);
}

void options_free(const struct command *c, struct invocation *in) {
	for (const struct option_row *o = c->options; in->options && o && o->name; o++) {
		void *member = (char *)in->options + o->offset;
		if (o->type == OPTION_STRING)
			free(*(char **)member);
		else if (o->type == OPTION_STRINGS)
			strv_free(*(char ***)member);
	}
	free(in->options);
	if (in->fields)
		fields_free(c->fields, in->fields);
	free(in->fields);
	strv_free(in->fields_given);
	strv_free(in->args);
}

static void each_name(const char *names, bool value, void (*fn)(const char *flag, bool value, void *arg), void *arg) {
	struct str rest = str_view(names);
	while (rest.len) {
		struct str name = str_cut(&rest, ',');
		_cleanup_(free_ptr) char *flag = str_format("%s%.*s", name.len > 1 ? "--" : "-", (int)name.len, name.p);
		fn(flag, value, arg);
	}
}

static void each_field(const struct field_table *t, void (*fn)(const char *flag, bool value, void *arg), void *arg) {
	for (const struct field *f = t->fields; f < t->fields + t->n; f++) {
		if (f->flag)
			each_name(f->flag, f->type != FIELD_BOOL, fn, arg);
		if (f->type == FIELD_OBJECT)
			each_field(f->sub, fn, arg);
	}
}

void options_each(const struct command *c, void (*fn)(const char *flag, bool value, void *arg), void *arg) {
	for (const struct option_row *o = c->options; o && o->name; o++)
		each_name(o->name, o->type != OPTION_BOOL, fn, arg);
	if (c->fields)
		each_field(c->fields, fn, arg);
	if (c->listing)
		fn("--json", false, arg);
	fn("--help", false, arg);
}
