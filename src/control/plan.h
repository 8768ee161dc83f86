/* What is to be done next so that a workload's instances become what it says: a pure function of what is wanted and what is,
 * so that it does not matter when and how often it is asked, or what was going on before a crash. */
#pragma once

#include "model/workload.h"

enum plan_place {
	PLACE_HERE,  /* this node fits */
	PLACE_NONE,  /* nothing new comes here, what runs stays */
	PLACE_EVICT, /* and what runs goes */
};

struct plan_input {
	const struct workload *workload;
	const struct instance *const *instances; /* of the workload */
	size_t n;
	bool (*busy)(const char *key, const void *arg); /* something is being done with this instance (id) or slot (plan_slot_key) */
	const void *arg;
	int64_t now;
	enum plan_place place;
	int64_t room; /* so many more instances fit by their reservations; -1: any number */
};

enum plan_action_kind {
	PLAN_CREATE, /* a new one in slot, with attempt */
	PLAN_START,  /* id, which was made and not started */
	PLAN_STOP,   /* id */
	PLAN_REMOVE, /* id, which has ended */
	PLAN_DONE,   /* the rollout is complete */
	PLAN_PAUSE,  /* too many failures: id is the last one */
	PLAN_UNDO,   /* the same, and back to the previous spec */
};
struct plan_action {
	enum plan_action_kind kind;
	int64_t slot, attempt;
	const char *id; /* the instance's own */
};
struct plan {
	struct plan_action *actions;
	size_t n;
	int64_t wake;       /* when to ask again if nothing happens: ns since the epoch, INT64_MAX: not */
	const char *lacks;  /* why something that is wanted cannot be; NULL: it can */
};
void plan_make(const struct plan_input *in, struct plan *out);
void plan_free(struct plan *p);

/* How many slots a workload has where the node fits. */
int64_t plan_slots(const struct workload_spec *s, enum plan_place place);
/* "<workload's id>/<slot>"; free it. */
char *plan_slot_key(const char *workload, int64_t slot);
