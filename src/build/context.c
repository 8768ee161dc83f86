/* A context that is asked for when a step needs it: as much of it as the Dockerfile names, so that a large directory of which little is
 * copied costs little; all of it when a step turns out to need something else. */
#include "build/build-priv.h"

#include "base/str.h"
#include "build/ignore.h"

/* Words that quotes, escapes or variables may change say nothing yet. */
static bool is_plain(const char *word) {
	return !strpbrk(word, "$\"'\\`");
}

/* false: it may be anything. */
static bool add_path(char ***paths, const char *word) {
	_cleanup_(free_ptr) char *clean = path_clean(word);
	if (!is_plain(word) || !*clean || strstr(clean, "**"))
		return false;
	if (!strv_has(*paths, clean))
		strv_add(paths, clean);
	return true;
}

static bool add_copied(char ***paths, const struct instruction *i) {
	bool known = true;
	for (size_t k = 0; known && !i->from && i->args && i->args[k] && i->args[k + 1]; k++)
		known = strstr(i->args[k], "://") || git_source_is(i->args[k]) || str_starts(i->args[k], "<<") || add_path(paths, i->args[k]);
	return known;
}

/* RUN --mount: a bind without from, whose source is "." if it says none. */
static bool add_bound(char ***paths, const char *mount) {
	_cleanup_(strv_free_ptr) char **words = strv_split(mount, ',');
	const char *source = NULL;
	bool bind = true;
	for (char **w = words; *w; w++) {
		if (!is_plain(*w))
			return false;
		if (str_starts(*w, "from=") || (str_starts(*w, "type=") && !str_same(*w, "type=bind")))
			bind = false;
		else if (str_starts(*w, "source=") || str_starts(*w, "src="))
			source = strchr(*w, '=') + 1;
	}
	return !bind || (source && add_path(paths, source));
}

/* What all steps that are to be done name; false: it cannot be told. */
static bool named_paths(struct builder *b, char ***paths) {
	bool known = true;
	for (size_t s = 0; s < b->n_stages; s++) {
		const struct build_stage *text = &b->file.stages[s];
		for (size_t i = 0; known && b->stages[s].needed && i < text->n; i++) {
			const struct instruction *one = &text->items[i];
			if (one->kind == DOCKER_COPY || one->kind == DOCKER_ADD)
				known = add_copied(paths, one);
			for (char **m = one->mounts; known && m && *m; m++)
				known = add_bound(paths, *m);
		}
	}
	return known && *paths;
}

/* Needs the lock `asking`. */
static int fetch(struct builder *b, const char *path, struct error *err) {
	const struct build_client *client = b->o->client;
	if (!client || !client->context || (b->context && !b->context_paths))
		return 0;
	if (b->context && strv_has(b->context_paths, path))
		return 0;
	char **paths = NULL;
	bool first = !b->context && named_paths(b, &paths);
	strv_free(b->context_paths);
	b->context_paths = NULL;
	if (first && strv_has(paths, path))
		b->context_paths = TAKE_PTR(paths);
	strv_free(paths);
	return client->context(client->arg, b->context_paths, &b->context, err);
}

int context_get(struct builder *b, const char *word, struct tree **out, struct error *err) {
	_cleanup_(free_ptr) char *path = path_clean(word);
	pthread_mutex_lock(&b->asking);
	int r = fetch(b, path, err);
	*out = b->context;
	pthread_mutex_unlock(&b->asking);
	return r;
}
