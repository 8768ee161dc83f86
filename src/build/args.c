/* Build arguments: what the client gives counts for names that the Dockerfile declares. */
#include "build/build-priv.h"

#include "base/str.h"

bool args_is_builtin(const char *name) {
	static const char *const names[] = {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY",
					    "ftp_proxy",  "NO_PROXY",	"no_proxy",    "ALL_PROXY",   "all_proxy"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_same(names[i], name))
			return true;
	return false;
}

void args_add(struct pairs *to, const char *name, const char *value) {
	for (size_t i = 0; i < to->n; i++)
		if (str_same(to->items[i].key, name)) {
			free(to->items[i].value);
			to->items[i].value = value ? str_copy(value) : NULL;
			return;
		}
	to->items = alloc_resize(to->items, to->n + 1, sizeof *to->items);
	to->items[to->n++] = (struct pair){str_copy(name), value ? str_copy(value) : NULL};
}

void args_free(struct pairs *p) {
	for (size_t i = 0; i < p->n; i++) {
		free(p->items[i].key);
		free(p->items[i].value);
	}
	free(p->items);
	*p = (struct pairs){0};
}

const char *args_get(const struct build_args *a, const struct pairs *declared, const char *name) {
	const char *given = strv_env_get(a->o->build_args, name);
	if (given)
		return given;
	const char *value = pairs_get(declared, name);
	return value ? value : pairs_get(&a->meta, name);
}

static int compare(const void *a, const void *b) {
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add(const struct build_args *a, const struct pairs *of, const char *name, char *const *env, char ***out) {
	const char *value = strv_env_get(env, name) ? NULL : args_get(a, of, name);
	if (value && !strv_env_get(*out, name))
		strv_take(out, str_format("%s=%s", name, value));
}

char **args_env(const struct build_args *a, const struct pairs *of, char *const *env) {
	char **all = NULL;
	for (size_t i = 0; i < of->n; i++)
		add(a, of, of->items[i].key, env, &all);
	for (char *const *g = a->o->build_args; g && *g; g++) {
		_cleanup_(free_ptr) char *name = str_copyn(*g, strcspn(*g, "="));
		if (args_is_builtin(name))
			add(a, of, name, env, &all);
	}
	if (all)
		qsort(all, strv_len(all), sizeof *all, compare);
	return all;
}
