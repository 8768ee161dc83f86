/* Build arguments: what the client gives counts for names that the Dockerfile declares. */
#include "build/build-priv.h"

#include "base/str.h"
#include "image/manifest.h"

#include <stdio.h>

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

/* What a Dockerfile may ask for without anybody giving it: the platform that is built for, which is also the one that builds. */
static const char *const platform_names[] = {"BUILDARCH",  "BUILDOS",	 "BUILDPLATFORM", "BUILDVARIANT",
					     "TARGETARCH", "TARGETOS", "TARGETPLATFORM", "TARGETVARIANT"};

static const char *platform_value(const struct build_args *a, const char *name) {
	static __thread char whole[128];
	const char *sort = str_starts(name, "BUILD") ? name + 5 : str_starts(name, "TARGET") ? name + 6 : "";
	bool target = name[0] == 'T' && a->o->platform && *a->o->platform;
	const char *os = "linux", *architecture = host_architecture(), *variant = host_variant();
	static __thread char parts[3][40];
	if (target) {
		memset(parts, 0, sizeof parts);
		sscanf(a->o->platform, "%39[^/]/%39[^/]/%39s", parts[0], parts[1], parts[2]);
		os = parts[0];
		architecture = *parts[1] ? parts[1] : architecture;
		variant = *parts[1] ? parts[2] : variant;
	}
	variant = variant ? variant : "";
	snprintf(whole, sizeof whole, "%s/%s%s%s", os, architecture, *variant ? "/" : "", variant);
	return str_same(sort, "OS") ? os : str_same(sort, "ARCH") ? architecture : str_same(sort, "VARIANT") ? variant
	       : str_same(sort, "PLATFORM") ? whole : NULL;
}

const char *args_get(const struct build_args *a, const struct pairs *declared, const char *name) {
	const char *given = strv_env_get(a->o->build_args, name);
	if (given)
		return given;
	const char *value = pairs_get(declared, name);
	value = value ? value : pairs_get(&a->meta, name);
	return value ? value : platform_value(a, name);
}

static void add(const struct build_args *a, const struct pairs *of, const char *name, char *const *env, char ***out) {
	const char *value = strv_env_get(env, name) ? NULL : args_get(a, of, name);
	if (value && !strv_env_get(*out, name))
		strv_take(out, str_format("%s=%s", name, value));
}

char **args_env(const struct build_args *a, const struct pairs *of, char *const *env) {
	bool above = of != &a->stage; /* those of the top are there without an ARG */
	char **all = NULL;
	for (size_t i = 0; i < of->n; i++)
		add(a, of, of->items[i].key, env, &all);
	for (size_t i = 0; above && i < ARRAY_SIZE(platform_names); i++)
		add(a, of, platform_names[i], env, &all);
	for (char *const *g = a->o->build_args; g && *g; g++) {
		_cleanup_(free_ptr) char *name = str_copyn(*g, strcspn(*g, "="));
		if (args_is_builtin(name))
			add(a, of, name, env, &all);
	}
	strv_sort(all);
	return all;
}
