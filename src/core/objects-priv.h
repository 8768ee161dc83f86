/* Nouns that live in the store under an id and have a name, which is theirs alone within a project. Not for other
 * rooms.
 *
 * Whoever changes one holds c->net_write from before it looks until it is done, so that an object neither changes nor
 * goes under its hands; whoever only reads holds the core's lock, or a snapshot. */
#pragma once

#include "base/map.h"
#include "core/objects.h"
#include "store/store.h"

struct object_kind {
	const char *noun;        /* "network": in messages and as type of events */
	const char *keys, *names; /* of the store: "networks", "network-names" */
	const char *list;        /* member of listings: "networks" */
	const struct field_table *table;
	size_t project, name;    /* where they are in the noun; its id is its first member */
};

struct object {
	struct object_snap *snap;
	bool creating; /* not visible yet; keeps its name */
	bool removing; /* nothing new may refer to it */
	void *more;    /* the kind's own, freed by drop_more */
};

struct objects {
	const struct object_kind *kind;
	struct map *by_id, *by_name; /* of struct object: id; project/name */
	void (*drop_more)(void *more);
};

void objects_init(struct objects *all, const struct object_kind *kind, void (*drop_more)(void *more));
void objects_free(struct objects *all);
/* Reads all of the store; on_load (NULL: nothing) for each. */
int objects_load(struct core *c, struct objects *all, void (*on_load)(struct core *c, struct object *o),
		 struct error *err);

struct object_snap *object_snap_new(const struct field_table *t, const void *noun); /* copies */
struct object_snap *object_snap_ref(struct object_snap *s);
const char *object_id(const struct object *o);
const char *object_name(const struct objects *all, const struct object *o);

/* These need the lock. find: by id, name, or a prefix of at least 4 digits of the id, in this order; NULL and NOT_FOUND. */
struct object *object_find(struct core *c, struct objects *all, const char *project, const char *name,
			   struct error *err);
/* EXISTS when the name is taken. The new object is not visible until object_shown. */
struct object *object_add(struct objects *all, const void *noun, struct error *err);
void object_set(struct core *c, struct object *o, const void *noun);
void object_take_out(struct core *c, struct objects *all, struct object *o); /* and frees it */

/* These take it. */
int object_get(struct core *c, struct objects *all, const char *project, const char *name, struct object_snap **out,
	       struct error *err);
/* {"revision":N,"networks":[…]}, in order of creation; free it. */
int object_list(struct core *c, struct objects *all, const char *project, char **json, size_t *len, struct error *err);
/* The same as snapshots; see network_snaps. */
int object_snaps(struct core *c, struct objects *all, const char *project, struct object_snap ***out, struct error *err);
/* One transaction for the object and its name. */
int object_store(struct core *c, struct objects *all, const struct object_snap *s, bool is_new, struct error *err);
int object_unstore(struct core *c, struct objects *all, const struct object_snap *s, struct error *err);
