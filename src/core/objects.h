/* What networks, rule groups and balancers have in common: an id, a name, a state that is seen from outside. */
#pragma once

#include "core/core.h"
#include "model/field.h"

/* One state of such a noun, never changed; shared by count. */
struct object_snap {
	int refs;
	const struct field_table *table;
	void *noun; /* struct network, struct rule_group, struct balancer */
	char *json;
	size_t json_len;
};
void object_snap_unref(struct object_snap *s);
DEFINE_CLEANUP(object_snap_unref_ptr, struct object_snap *, object_snap_unref);
void object_snaps_free(struct object_snap **all); /* NULL-terminated */
DEFINE_CLEANUP(object_snaps_free_ptr, struct object_snap **, object_snaps_free);
