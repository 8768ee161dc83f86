/* A hash map from strings to pointers, in order of insertion. Not for several threads at once. */
#pragma once

#include "base/util.h"

struct map;

/* drop is called on a value that is replaced or removed, and by map_free; NULL: values are not owned. */
struct map *map_new(void (*drop)(void *value));
void map_free(struct map *m);
DEFINE_CLEANUP(map_free_ptr, struct map *, map_free);

size_t map_count(const struct map *m);
void *map_get(const struct map *m, const char *key); /* NULL when it is not there */
void map_set(struct map *m, const char *key, void *value); /* copies the key; value is not NULL */
bool map_remove(struct map *m, const char *key);
void *map_take(struct map *m, const char *key); /* removes without drop */

/* Walks in order of insertion: for (size_t i = 0; map_next(m, &i, &key, &value);). The entry just seen
 * may be removed while walking; none may be added. key and value may be NULL. */
bool map_next(const struct map *m, size_t *cursor, const char **key, void **value);
