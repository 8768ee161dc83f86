/* Objects of the kinds that are plain nouns (networks, rule groups, balancers, pools, volumes): each lives in the store
 * under <prefix>/<project>/<id> and whole in memory, as a state that is never changed but replaced. The verbs of each
 * kind are in its own header; this is what they share. Instances and images have ways of their own. */
#pragma once

#include "base/error.h"
#include "model/field.h"

struct core;

/* One state of an object; shared by count. */
struct noun {
	int refs;
	void *of;         /* struct network, struct pool … */
	char *json;       /* as the native API prints it: without secrets */
	size_t json_len;
};
struct noun *noun_ref(struct noun *o);
void noun_unref(struct noun *o);
DEFINE_CLEANUP(noun_unref_ptr, struct noun *, noun_unref);
void nouns_unref(struct noun **all); /* NULL-terminated */
DEFINE_CLEANUP(nouns_unref_ptr, struct noun **, nouns_unref);
