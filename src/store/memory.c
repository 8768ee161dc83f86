/* The back end without a disk, for tests: a sorted array. Its history is what store.c holds in memory. */
#include "store/store-priv.h"

#include "base/str.h"

struct memory {
	pthread_rwlock_t lock;
	struct store_item *items;
	size_t n, cap;
	int64_t revision;
};

/* The first item whose key is not before `key`. */
static size_t lower_bound(const struct memory *m, const char *key) {
	size_t low = 0, high = m->n;

	while (low < high) {
		size_t middle = (low + high) / 2;
		if (strcmp(m->items[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct store_item *find_item(const struct memory *m, const char *key) {
	size_t i = lower_bound(m, key);

	return i < m->n && !strcmp(m->items[i].key, key) ? &m->items[i] : NULL;
}

/* The write lock is held from begin to commit, so that no reader sees half a batch. */
static int memory_begin(struct store *s, struct error *err) {
	struct memory *m = s->state;
	int r = pthread_rwlock_wrlock(&m->lock);

	return r ? error_errno(err, r, "cannot lock the store") : 0;
}

static int memory_find(struct store *s, const char *key, int64_t *created, int64_t *revision, UNUSED struct error *err) {
	const struct store_item *i = find_item(s->state, key);

	*created = i ? i->created : 0;
	*revision = i ? i->revision : 0;
	return 0;
}

static void insert(struct memory *m, size_t at, const char *key) {
	if (m->n == m->cap) {
		m->cap = m->cap ? 2 * m->cap : 16;
		m->items = alloc_resize(m->items, m->cap, sizeof(*m->items));
	}
	memmove(&m->items[at + 1], &m->items[at], (m->n - at) * sizeof(*m->items));
	m->items[at] = (struct store_item){.key = str_copy(key)};
	m->n++;
}

static void erase(struct memory *m, size_t at) {
	store_item_free(&m->items[at]);
	m->n--;
	memmove(&m->items[at], &m->items[at + 1], (m->n - at) * sizeof(*m->items));
}

static int memory_write(struct store *s, const char *key, const char *value, int64_t created, int64_t revision,
			UNUSED size_t index, UNUSED struct error *err) {
	struct memory *m = s->state;
	size_t at = lower_bound(m, key);

	if (!value) {
		erase(m, at);
		return 0;
	}
	if (at == m->n || strcmp(m->items[at].key, key) != 0)
		insert(m, at, key);
	free(m->items[at].value);
	m->items[at].value = str_copy(value);
	m->items[at].created = created;
	m->items[at].revision = revision;
	return 0;
}

static int memory_trim(UNUSED struct store *s, UNUSED int64_t floor, UNUSED struct error *err) {
	return 0;
}

static int memory_commit(struct store *s, int64_t revision, UNUSED int64_t floor, UNUSED struct error *err) {
	struct memory *m = s->state;

	m->revision = revision;
	pthread_rwlock_unlock(&m->lock);
	return 0;
}

/* Only ever after a batch that wrote nothing: writing to memory does not fail. */
static void memory_rollback(struct store *s) {
	struct memory *m = s->state;

	pthread_rwlock_unlock(&m->lock);
}

static int memory_get(struct store *s, const char *key, struct store_item *out, struct error *err) {
	struct memory *m = s->state;
	const struct store_item *i;

	pthread_rwlock_rdlock(&m->lock);
	i = find_item(m, key);
	if (i)
		*out = (struct store_item){.key = str_copy(i->key), .value = str_copy(i->value),
					   .created = i->created, .revision = i->revision};
	pthread_rwlock_unlock(&m->lock);
	return i ? 0 : error_set(err, ERROR_NOT_FOUND, "%s is not in the store", key);
}

static int memory_list(struct store *s, const char *prefix, struct store_items *out, UNUSED struct error *err) {
	struct memory *m = s->state;

	pthread_rwlock_rdlock(&m->lock);
	out->revision = m->revision;
	for (size_t i = lower_bound(m, prefix); i < m->n && str_starts(m->items[i].key, prefix); i++)
		store_items_add(out, m->items[i].key, m->items[i].value, m->items[i].created, m->items[i].revision);
	pthread_rwlock_unlock(&m->lock);
	return 0;
}

static void memory_close(struct store *s) {
	struct memory *m = s->state;

	for (size_t i = 0; i < m->n; i++)
		store_item_free(&m->items[i]);
	free(m->items);
	pthread_rwlock_destroy(&m->lock);
	free(m);
}

static const struct store_backend memory_backend = {
	.begin = memory_begin,
	.find = memory_find,
	.write = memory_write,
	.trim = memory_trim,
	.commit = memory_commit,
	.rollback = memory_rollback,
	.get = memory_get,
	.list = memory_list,
	.close = memory_close,
};

int store_open_memory(struct store **out, UNUSED struct error *err) {
	struct memory *m = NEW(struct memory);

	pthread_rwlock_init(&m->lock, NULL);
	*out = store_new(&memory_backend, m, 0, 1, SIZE_MAX);
	return 0;
}
