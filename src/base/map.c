/* A hash map from strings to pointers: an array of entries in order of insertion, indexed by open
 * addressing. Removed entries leave a hole until the next rehash. */
#include "base/map.h"

#include <sys/random.h>

struct entry {
	char *key; /* NULL: a hole */
	void *value;
	uint64_t hash;
};

struct map {
	void (*drop)(void *);
	struct entry *entries;
	size_t used, cap; /* entries with holes; allocated */
	size_t count;     /* without holes */
	uint32_t *index;  /* position + 1 in entries, 0: empty; a power of two above 2 * cap */
	size_t index_size;
	uint64_t seed;
};

/* FNV-1a with a random start, so that nobody can choose keys that collide. */
static uint64_t hash_of(const struct map *m, const char *key) {
	uint64_t h = 14695981039346656037ULL ^ m->seed;
	for (; *key; key++)
		h = (h ^ (uint8_t)*key) * 1099511628211ULL;
	h ^= m->seed >> 7;
	h *= 0x9E3779B97F4A7C15ULL;
	return h ^ (h >> 29);
}

struct map *map_new(void (*drop)(void *)) {
	struct map *m = NEW(struct map);
	m->drop = drop;
	if (getrandom(&m->seed, sizeof m->seed, GRND_NONBLOCK) < 0)
		m->seed = (uint64_t)(uintptr_t)m;
	return m;
}

void map_free(struct map *m) {
	if (!m)
		return;
	for (size_t i = 0; i < m->used; i++)
		if (m->entries[i].key) {
			free(m->entries[i].key);
			if (m->drop)
				m->drop(m->entries[i].value);
		}
	free(m->entries);
	free(m->index);
	free(m);
}

size_t map_count(const struct map *m) {
	return m ? m->count : 0;
}

static struct entry *find(const struct map *m, const char *key, uint64_t hash) {
	if (!m || !m->index_size)
		return NULL;
	size_t mask = m->index_size - 1;
	for (size_t at = hash & mask; m->index[at]; at = (at + 1) & mask) {
		struct entry *e = &m->entries[m->index[at] - 1];
		if (e->key && e->hash == hash && strcmp(e->key, key) == 0)
			return e;
	}
	return NULL;
}

static void rehash(struct map *m) {
	size_t n = 0;
	for (size_t i = 0; i < m->used; i++)
		if (m->entries[i].key)
			m->entries[n++] = m->entries[i];
	m->used = n;
	if (n * 4 >= m->cap * 3) {
		m->cap = m->cap ? m->cap * 2 : 8;
		m->entries = alloc_resize(m->entries, m->cap, sizeof *m->entries);
		m->index_size = m->cap * 2;
		free(m->index);
		m->index = alloc_array(m->index_size, sizeof *m->index);
	} else {
		memset(m->index, 0, m->index_size * sizeof *m->index);
	}
	size_t mask = m->index_size - 1;
	for (size_t i = 0; i < n; i++) {
		size_t at = m->entries[i].hash & mask;
		while (m->index[at])
			at = (at + 1) & mask;
		m->index[at] = (uint32_t)(i + 1);
	}
}

void *map_get(const struct map *m, const char *key) {
	struct entry *e = m ? find(m, key, hash_of(m, key)) : NULL;
	return e ? e->value : NULL;
}

void map_set(struct map *m, const char *key, void *value) {
	uint64_t hash = hash_of(m, key);
	struct entry *e = find(m, key, hash);
	if (e) {
		if (m->drop && e->value != value)
			m->drop(e->value);
		e->value = value;
		return;
	}
	if (m->used == m->cap)
		rehash(m);
	m->entries[m->used] = (struct entry){str_copy(key), value, hash};
	size_t mask = m->index_size - 1, at = hash & mask;
	while (m->index[at])
		at = (at + 1) & mask;
	m->index[at] = (uint32_t)(++m->used);
	m->count++;
}

void *map_take(struct map *m, const char *key) {
	struct entry *e = find(m, key, hash_of(m, key));
	if (!e)
		return NULL;
	void *value = e->value;
	free(e->key);
	*e = (struct entry){0};
	m->count--;
	return value;
}

bool map_remove(struct map *m, const char *key) {
	void *value = map_take(m, key);
	if (value && m->drop)
		m->drop(value);
	return value != NULL;
}

bool map_next(const struct map *m, size_t *cursor, const char **key, void **value) {
	for (; m && *cursor < m->used; (*cursor)++) {
		struct entry *e = &m->entries[*cursor];
		if (!e->key)
			continue;
		if (key)
			*key = e->key;
		if (value)
			*value = e->value;
		(*cursor)++;
		return true;
	}
	return false;
}
