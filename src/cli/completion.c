/* wabe completion: a script for bash that asks back ("completion words") what could come next; commands and
 * options come from the tables, names of instances, images and tasks from the daemon. */
#include "cli/cli.h"

static const char script[] =
	"_wabe() {\n"
	"\tlocal IFS=$'\\n'\n"
	"\tCOMPREPLY=($(\"${COMP_WORDS[0]}\" completion words \"$COMP_CWORD\" \"${COMP_WORDS[@]}\" 2>/dev/null))\n"
	"\t__ltrimcolon_completions \"${COMP_WORDS[COMP_CWORD]}\" 2>/dev/null\n"
	"}\n"
	"complete -o default -F _wabe wabe\n";

struct wanted {
	const char *prefix;
	char **done; /* told already */
};

static void tell(struct wanted *w, const char *word) {
	if (!str_starts(word, w->prefix) || strv_has(w->done, word))
		return;
	strv_add(&w->done, word);
	puts(word);
}

static void tell_flag(const char *flag, UNUSED bool value, void *arg) {
	tell(arg, flag);
}

/* First words of commands, or the second ones behind a first. */
static void tell_commands(struct wanted *w, const char *first) {
	for (const struct command *const *c = commands; *c; c++) {
		const char *name = (*c)->name, *space = strchr(name, ' ');
		if (!(*c)->group)
			continue;
		if (first) {
			if (space && strncmp(name, first, (size_t)(space - name)) == 0 &&
			    strlen(first) == (size_t)(space - name))
				tell(w, space + 1);
			continue;
		}
		_cleanup_(free_ptr) char *word = str_copyn(name, space ? (size_t)(space - name) : strlen(name));
		tell(w, word);
	}
}

static void tell_names(const struct invocation *in, struct wanted *w, const char *kind) {
	static const struct {
		const char *kind, *list, *path;
		bool named; /* by its spec; else by its id */
	} kinds[] = {
		{"instance", "instances", "/instances?all=true", true}, {"image", "images", "/images", false},
		{"task", "tasks", "/tasks", false},                     {"network", "networks", "/networks", true},
		{"rule", "rules", "/rules", true},                      {"balancer", "balancers", "/balancers", true},
		{"volume", "volumes", "/volumes", true},		{"pool", "pools", NULL, true},
		{"workload", "workloads", "/workloads", true},		{"secret", "secrets", "/secrets", true},
		{"config", "configs", "/configs", true},
	};
	size_t k = 0;
	while (k + 1 < ARRAY_SIZE(kinds) && strcmp(kinds[k].kind, kind) != 0)
		k++;
	bool image = strcmp(kind, "image") == 0;
	char *path = kinds[k].path ? api_path(in, kinds[k].path) : str_copy("/v1/pools"); /* pools are the host's */
	_cleanup_(json_free_ptr) json_t *reply = NULL;
	if (api_call(in, "GET", path, NULL, &reply, NULL) < 0)
		return;
	size_t i;
	json_t *item;
	json_array_foreach(json_object_get(reply, kinds[k].list), i, item) {
		const char *name = kinds[k].named ? json_get_str(json_object_get(item, "spec"), "name") : json_get_str(item, "id");
		_cleanup_(strv_free_ptr) char **names = json_get_strv(item, "names");
		for (char **n = names; image && n && *n; n++)
			tell(w, str_starts(*n, "docker.io/library/") ? *n + strlen("docker.io/library/") : *n);
		if (!image && name)
			tell(w, name);
	}
}

struct value_search {
	const char *flag;
	bool takes_value;
};

static void note_value(const char *flag, bool value, void *arg) {
	struct value_search *s = arg;
	if (strcmp(flag, s->flag) == 0)
		s->takes_value = value;
}

/* Whether the word before is an option that wants a value. */
static bool wants_value(const struct command *c, const char *word) {
	struct value_search s = {.flag = word};
	options_each(c, note_value, &s);
	return s.takes_value;
}

static void complete(const struct invocation *in, char **words, size_t n, const char *word) {
	struct wanted w = {.prefix = word};
	size_t used = 0;
	const struct command *c = command_find(words, n, &used);
	if (!n)
		tell_commands(&w, NULL);
	else if (!c && n == 1)
		tell_commands(&w, words[0]);
	else if (c && word[0] == '-')
		options_each(c, tell_flag, &w);
	else if (c && c->complete && *c->complete && !(n > used && wants_value(c, words[n - 1])))
		tell_names(in, &w, c->complete);
	strv_free(w.done);
}

/* completion words INDEX WORD…: what could stand at the index. Global options are passed over. */
static int words(const struct invocation *in, struct error *err) {
	uint64_t index;
	if (in->n_args < 3 || str_to_u64(in->args[1], 10, &index) < 0 || index == 0)
		return error_set(err, ERROR_INVALID, "usage: wabe completion words INDEX WORD…");
	_cleanup_(strv_free_ptr) char **before = NULL;
	const char *word = index < in->n_args - 2 ? in->args[2 + index] : "";
	for (size_t i = 1; i < index && i < in->n_args - 2; i++) {
		const char *s = in->args[2 + i];
		if (!before && (strcmp(s, "--run") == 0 || strcmp(s, "--project") == 0))
			i++;
		else
			strv_add(&before, s);
	}
	complete(in, before, strv_len(before), word);
	return 0;
}

static int run(struct invocation *in, struct error *err) {
	if (in->n_args == 1 && strcmp(in->args[0], "bash") == 0) {
		fputs(script, stdout);
		return 0;
	}
	if (in->n_args && strcmp(in->args[0], "words") == 0)
		return words(in, err);
	return error_set(err, ERROR_INVALID, "usage: wabe completion bash");
}

const struct command command_completion = {
	.name = "completion",
	.group = "Daemon",
	.usage = "bash",
	.doc = "Print the completion script of a shell",
	.examples = "source <(wabe completion bash)",
	.raw = true,
	.max_args = SIZE_MAX,
	.run = run,
};
