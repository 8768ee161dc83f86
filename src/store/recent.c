/* The latest changes, in memory: a ring that forgets whole revisions. */
#include "store/store-priv.h"

static size_t change_size(const struct store_change *c) {
	return sizeof(*c) + strlen(c->key) + (c->value ? strlen(c->value) : 0) + 2;
}

static void grow(struct store_recent *r) {
	size_t cap = r->cap ? 2 * r->cap : 16;
	struct store_change *ring = alloc_array(cap, sizeof(*ring));

	for (size_t i = 0; i < r->n; i++)
		ring[i] = r->ring[(r->first + i) % r->cap];
	free(r->ring);
	r->ring = ring;
	r->cap = cap;
	r->first = 0;
}

void store_recent_add(struct store_recent *r, int64_t revision, const char *key, const char *value) {
	struct store_change *c;

	if (r->n == r->cap)
		grow(r);
	c = &r->ring[(r->first + r->n++) % r->cap];
	*c = (struct store_change){
		.revision = revision, .key = str_copy(key), .value = value ? str_copy(value) : NULL};
	r->bytes += change_size(c);
}

static void drop_first(struct store_recent *r) {
	struct store_change *c = &r->ring[r->first];

	r->bytes -= change_size(c);
	r->floor = c->revision + 1;
	store_change_free(c);
	r->first = (r->first + 1) % r->cap;
	r->n--;
}

void store_recent_trim(struct store_recent *r, int64_t floor) {
	while (r->n && (r->bytes > r->max_bytes || r->ring[r->first].revision < MAX(floor, r->floor)))
		drop_first(r);
	r->floor = MAX(r->floor, floor);
}

void store_recent_free(struct store_recent *r) {
	while (r->n)
		drop_first(r);
	free(r->ring);
	*r = (struct store_recent){0};
}
