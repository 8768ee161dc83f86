/* Directories that clients have sent, kept for their next builds: of a file that has not changed since then nothing but its name
 * comes again. They are files without names, so that nothing of them is left when this process ends, however that may be. */
#include "dialect/docker/buildkit-priv.h"

#include "base/json.h"

#include <pthread.h>

#define DIRECTORIES_MAX 32
#define BYTES_MAX ((uint64_t)2 << 30)
#define ENTRIES_MAX ((size_t)1000000)

struct kept {
	struct kept *next;
	char *key, *id;
	struct tree *tree;
};
static struct kept *all; /* the latest one first */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* With the lock. */
static struct tree *take_out(struct kept **at) {
	struct kept *k = *at;
	struct tree *t = k->tree;
	*at = k->next;
	free(k->key);
	free(k->id);
	free(k);
	return t;
}

static struct kept **find(const char *key) {
	struct kept **at = &all;
	while (*at && !str_same((*at)->key, key))
		at = &(*at)->next;
	return at;
}

/* With the lock: those for which there is no room, which are the oldest ones. */
static void make_room(void) {
	size_t n = 0, entries = 0;
	uint64_t bytes = 0;
	for (struct kept **at = &all; *at;) {
		n++;
		entries += tree_count((*at)->tree);
		bytes += tree_bytes((*at)->tree);
		if (n > DIRECTORIES_MAX || entries > ENTRIES_MAX || bytes > BYTES_MAX)
			tree_free(take_out(at));
		else
			at = &(*at)->next;
	}
}

struct tree *bk_kept_take(const char *key) {
	pthread_mutex_lock(&lock);
	struct kept **at = key ? find(key) : NULL;
	struct tree *t = at && *at ? take_out(at) : NULL;
	pthread_mutex_unlock(&lock);
	return t;
}

void bk_kept_put(const char *key, struct tree *t) {
	if (!t || !key) {
		tree_free(t);
		return;
	}
	struct kept *k = NEW(struct kept);
	*k = (struct kept){.key = str_copy(key), .id = random_hex(12), .tree = t};
	pthread_mutex_lock(&lock);
	struct kept **before = find(key);
	if (*before)
		tree_free(take_out(before));
	k->next = all;
	all = k;
	make_room();
	pthread_mutex_unlock(&lock);
}

void bk_kept_prune(json_t *names, uint64_t *freed) {
	pthread_mutex_lock(&lock);
	while (all) {
		*freed += tree_bytes(all->tree);
		json_array_append_new(names, json_from_str(all->id));
		tree_free(take_out(&all));
	}
	pthread_mutex_unlock(&lock);
}
