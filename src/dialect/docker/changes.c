/* Instructions of a Dockerfile as a change of an image's configuration: ?changes= of commit and import. One instruction
 * each; those that would run or copy something are refused. */
#include "dialect/docker/changes.h"

#include "base/json.h"
#include "build/words.h"

#include <strings.h>

static int wrong(struct error *err, const char *name, const char *why) {
	return error_set(err, ERROR_INVALID, "%s: %s", name, why);
}

/* ---- words ---- */

static bool is_space(char c) {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_spaces(const char *s) {
	while (is_space(*s))
		s++;
	return s;
}

/* The next word as it stands, with its quotes; NULL where one is not closed. Moves *s behind it. */
static char *next_word(const char **s) {
	const char *start = *s;
	char quote = '\0';
	for (; **s && (quote || !is_space(**s)); (*s)++) {
		char c = **s;
		if (c == '\\' && quote != '\'' && (*s)[1])
			(*s)++;
		else if (quote ? c == quote : c == '"' || c == '\'')
			quote = quote ? '\0' : c;
	}
	if (quote)
		return NULL;
	char *word = str_copyn(start, (size_t)(*s - start));
	*s = skip_spaces(*s);
	return word;
}

/* Quotes are taken away, and variables of env put in. */
static int words(const char *name, const char *text, char *const *env, char ***out, struct error *err) {
	for (const char *s = skip_spaces(text); *s;) {
		_cleanup_(free_ptr) char *word = next_word(&s);
		char *expanded;
		int r = word ? word_expand(word, '\\', env, &expanded, err) : wrong(err, name, "a quotation mark is not closed");
		if (r < 0)
			return r;
		strv_take(out, expanded);
	}
	return *out ? 0 : wrong(err, name, "needs at least one argument");
}

/* ["a","b"]; NULL: it is not written like that. */
static char **json_words(const char *text) {
	text = skip_spaces(text);
	_cleanup_(json_free_ptr) json_t *list = *text == '[' ? json_parse(text, strlen(text), NULL) : NULL;
	const json_t *word;
	char **out = NULL;
	size_t i;
	json_array_foreach(list, i, word) {
		if (!json_is_string(word)) {
			strv_free(out);
			return NULL;
		}
		strv_add(&out, json_string_value(word));
	}
	return out;
}

/* "KEY=VALUE …", or of old "KEY VALUE", where the rest of the line is the value. */
static int assignments(const char *name, const char *text, int (*set)(const char *key, const char *value, struct image_config *c),
		       struct image_config *c, struct error *err) {
	_cleanup_(strv_free_ptr) char **list = NULL;
	int r = words(name, text, c->env, &list, err);
	if (r < 0)
		return r;
	if (!strchr(list[0], '=')) {
		_cleanup_(free_ptr) char *rest = NULL;
		const char *after = skip_spaces(text + strcspn(text, " \t"));
		r = list[1] ? word_expand(after, '\\', c->env, &rest, err) : wrong(err, name, "needs a value");
		return r < 0 ? r : set(list[0], rest, c);
	}
	for (char **w = list; r == 0 && *w; w++) {
		char *equals = strchr(*w, '=');
		if (!equals || equals == *w)
			return wrong(err, name, "must be written KEY=VALUE");
		*equals = '\0';
		r = set(*w, equals + 1, c);
	}
	return r;
}

/* ---- instructions ---- */

static void replace_list(char ***to, char **list) {
	strv_free(*to);
	*to = list;
}

static void replace_text(char **to, const char *text) {
	free(*to);
	*to = str_copy(text);
}

static char **command_of(const char *text) {
	char **list = json_words(text);
	if (list)
		return list;
	strv_add(&list, "/bin/sh");
	strv_add(&list, "-c");
	strv_add(&list, text);
	return list;
}

static int set_env(const char *key, const char *value, struct image_config *c) {
	_cleanup_(free_ptr) char *entry = str_format("%s=%s", key, value);
	strv_env_set(&c->env, entry);
	return 0;
}

static int set_label(const char *key, const char *value, struct image_config *c) {
	pairs_set(&c->labels, key, value);
	return 0;
}

static int change_command(const char *text, struct image_config *c, UNUSED struct error *err) {
	replace_list(&c->command, command_of(text));
	return 0;
}

static int change_entrypoint(const char *text, struct image_config *c, UNUSED struct error *err) {
	replace_list(&c->entrypoint, command_of(text));
	return 0;
}

static int change_env(const char *text, struct image_config *c, struct error *err) {
	return assignments("ENV", text, set_env, c, err);
}

static int change_label(const char *text, struct image_config *c, struct error *err) {
	return assignments("LABEL", text, set_label, c, err);
}

static bool is_port(const char *text) {
	const char *slash = strchrnul(text, '/');
	bool digits = slash != text && strspn(text, "0123456789-") == (size_t)(slash - text);
	return digits && (!*slash || str_same(slash, "/tcp") || str_same(slash, "/udp") || str_same(slash, "/sctp"));
}

static int change_expose(const char *text, struct image_config *c, struct error *err) {
	_cleanup_(strv_free_ptr) char **list = NULL;
	int r = words("EXPOSE", text, c->env, &list, err);
	for (char **w = list; r == 0 && *w; w++) {
		if (!is_port(*w))
			return wrong(err, "EXPOSE", "must be written PORT[/PROTOCOL]");
		_cleanup_(free_ptr) char *port = strchr(*w, '/') ? str_copy(*w) : str_format("%s/tcp", *w);
		if (!strv_has(c->exposed_ports, port))
			strv_add(&c->exposed_ports, port);
	}
	return r;
}

static int change_volume(const char *text, struct image_config *c, struct error *err) {
	_cleanup_(strv_free_ptr) char **list = json_words(text);
	int r = list ? 0 : words("VOLUME", text, c->env, &list, err);
	for (char **w = list; r == 0 && *w; w++)
		if (!strv_has(c->volumes, *w))
			strv_add(&c->volumes, *w);
	return r;
}

static int change_user(const char *text, struct image_config *c, struct error *err) {
	_cleanup_(free_ptr) char *user = NULL;
	int r = word_expand(text, '\\', c->env, &user, err);
	if (r == 0)
		replace_text(&c->user, user);
	return r;
}

/* A relative one goes on from the one before. */
static int change_workdir(const char *text, struct image_config *c, struct error *err) {
	_cleanup_(free_ptr) char *path = NULL;
	int r = word_expand(text, '\\', c->env, &path, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *joined =
		*path == '/' ? str_copy(path) : str_format("%s/%s", c->workdir && !str_same(c->workdir, "/") ? c->workdir : "", path);
	replace_text(&c->workdir, joined);
	return 0;
}

static int change_stop_signal(const char *text, struct image_config *c, struct error *err) {
	if (!signal_from_name(text))
		return wrong(err, "STOPSIGNAL", "there is no such signal");
	replace_text(&c->stop_signal, text);
	return 0;
}

static int health_option(const char *word, struct health_check *h, struct error *err) {
	const struct {
		const char *name;
		int64_t *to;
	} all[] = {{"--interval=", &h->interval}, {"--timeout=", &h->timeout}, {"--start-period=", &h->start_period},
		   {"--start-interval=", &h->start_interval}};
	for (size_t k = 0; k < ARRAY_SIZE(all); k++)
		if (str_starts(word, all[k].name))
			return str_to_duration(word + strlen(all[k].name), all[k].to) == 0 ? 0 : wrong(err, "HEALTHCHECK", "an option is no length of time");
	if (str_starts(word, "--retries="))
		return str_to_i64(word + strlen("--retries="), &h->retries) == 0 ? 0 : wrong(err, "HEALTHCHECK", "--retries is no number");
	return wrong(err, "HEALTHCHECK", "has an unknown option");
}

static int change_health(const char *text, struct image_config *c, struct error *err) {
	struct health_check h = {0};
	int r = 0;
	while (r == 0 && str_starts(text, "--")) {
		_cleanup_(free_ptr) char *word = next_word(&text);
		r = word ? health_option(word, &h, err) : wrong(err, "HEALTHCHECK", "a quotation mark is not closed");
	}
	if (r == 0 && strcasecmp(text, "NONE") == 0) {
		strv_add(&h.command, "NONE");
	} else if (r == 0 && strncasecmp(text, "CMD", 3) == 0 && is_space(text[3])) {
		_cleanup_(strv_free_ptr) char **list = json_words(text + 3);
		strv_add(&h.command, list ? "CMD" : "CMD-SHELL");
		for (char **w = list; w && *w; w++)
			strv_add(&h.command, *w);
		if (!list)
			strv_add(&h.command, skip_spaces(text + 3));
	} else if (r == 0) {
		r = wrong(err, "HEALTHCHECK", "must be NONE, or CMD with a command");
	}
	if (r < 0)
		return r;
	fields_free(&health_check_table, &c->health);
	c->health = h;
	return 0;
}

static int change_on_build(const char *text, struct image_config *c, UNUSED struct error *err) {
	strv_add(&c->on_build, text);
	return 0;
}

static int change_one(const char *line, struct image_config *c, struct error *err) {
	static const struct {
		const char *name;
		int (*apply)(const char *text, struct image_config *c, struct error *err);
	} all[] = {{"CMD", change_command}, {"ENTRYPOINT", change_entrypoint}, {"ENV", change_env}, {"EXPOSE", change_expose},
		   {"LABEL", change_label}, {"ONBUILD", change_on_build}, {"USER", change_user}, {"VOLUME", change_volume},
		   {"WORKDIR", change_workdir}, {"STOPSIGNAL", change_stop_signal}, {"HEALTHCHECK", change_health}};
	line = skip_spaces(line);
	size_t n = strcspn(line, " \t");
	_cleanup_(free_ptr) char *name = str_copyn(line, n), *text = str_copy(skip_spaces(line + n)), *shown = text_shown(name);
	for (size_t end = strlen(text); end && is_space(text[end - 1]);)
		text[--end] = '\0';
	for (size_t k = 0; k < ARRAY_SIZE(all); k++)
		if (strcasecmp(all[k].name, name) == 0)
			return *text ? all[k].apply(text, c, err) : wrong(err, all[k].name, "needs an argument");
	return error_set(err, ERROR_INVALID, "%s is not a valid change command", shown);
}

int docker_changes(char *const *changes, struct image_config *c, struct error *err) {
	int r = 0;
	for (; r == 0 && changes && *changes; changes++) {
		_cleanup_(strv_free_ptr) char **lines = strv_split(*changes, '\n');
		for (char **line = lines; r == 0 && *line; line++)
			if (*skip_spaces(*line))
				r = change_one(*line, c, err);
	}
	return r;
}
