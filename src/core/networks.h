/* The verbs of networks and what hangs on them: addresses, rule groups, balancers, and who is on which network. Names may
 * be names, ids, or prefixes of ids; results are snapshots to be unreferenced, or JSON texts to be freed. */
#pragma once

#include "core/instances.h"
#include "core/objects.h"
#include "model/network.h"

/* ---- networks ---- */
/* Takes what spec owns. The agent picks subnets where none are given. */
int network_create(struct core *c, const char *project, struct network_spec *spec, struct object_snap **out,
		   struct error *err);
int network_get(struct core *c, const char *project, const char *name, struct object_snap **out, struct error *err);
int network_list(struct core *c, const char *project, char **json, size_t *len, struct error *err);
/* All as snapshots, in order of creation, NULL-terminated; unreference each, free the array. */
int network_snaps(struct core *c, const char *project, struct object_snap ***out, struct error *err);
/* The network "default", which instances are on that name none: made if it is not there yet. */
int network_default(struct core *c, const char *project, struct object_snap **out, struct error *err);
/* A merge patch of the spec; takes effect for what runs. */
int network_update(struct core *c, const char *project, const char *name, const json_t *patch, struct object_snap **out,
		   struct error *err);
/* CONFLICT, naming them, while instances (running or not), reserved addresses, rules or balancers refer to it. */
int network_delete(struct core *c, const char *project, const char *name, struct error *err);
/* Takes those instances off it that do not run. */
int network_empty(struct core *c, const char *project, const char *name, struct error *err);
/* Deletes all that nothing refers to; their names. */
int network_prune(struct core *c, const char *project, char ***deleted, struct error *err);

/* ---- instances on networks ---- */
/* Puts an instance, running or not, on a network. One that it is on already: changes aliases, rules and rates; addresses,
 * MAC and interface must be the same while it runs. Takes what a owns. */
int network_connect(struct core *c, const char *project, const char *instance, struct attachment *a,
		    struct instance_snap **out, struct error *err);
int network_disconnect(struct core *c, const char *project, const char *instance, const char *network,
		       struct instance_snap **out, struct error *err);

/* ---- addresses ---- */
/* {"addresses":[…]} of one network, or (NULL) of all. */
int address_list(struct core *c, const char *project, const char *network, char **json, size_t *len, struct error *err);
/* Keeps an address (NULL in it: any that is free, IPv4 if the network has it) for an instance that asks for it by name.
 * *a becomes what was reserved; its own until fields_free. */
int address_reserve(struct core *c, const char *project, struct address *a, struct error *err);
int address_release(struct core *c, const char *project, const char *network, const char *address, struct error *err);

/* ---- rule groups ---- */
int rules_create(struct core *c, const char *project, struct rule_group_spec *spec, struct object_snap **out,
		 struct error *err); /* takes what spec owns */
int rules_get(struct core *c, const char *project, const char *name, struct object_snap **out, struct error *err);
int rules_list(struct core *c, const char *project, char **json, size_t *len, struct error *err);
int rules_update(struct core *c, const char *project, const char *name, const json_t *patch, struct object_snap **out,
		 struct error *err);
/* CONFLICT, naming them, while instances, networks or other groups refer to it. */
int rules_delete(struct core *c, const char *project, const char *name, struct error *err);
/* One rule, by its number from 1: in front of the one that has it now (0: behind all). Takes what rule owns. */
int rules_add(struct core *c, const char *project, const char *name, int64_t number, struct rule *rule,
	      struct object_snap **out, struct error *err);
int rules_remove(struct core *c, const char *project, const char *name, int64_t number, struct object_snap **out,
		 struct error *err);

/* ---- balancers ---- */
int balancer_create(struct core *c, const char *project, struct balancer_spec *spec, struct object_snap **out,
		    struct error *err); /* takes what spec owns */
int balancer_get(struct core *c, const char *project, const char *name, struct object_snap **out, struct error *err);
int balancer_list(struct core *c, const char *project, char **json, size_t *len, struct error *err);
/* As snapshots, NULL-terminated; unreference each, free the array. */
int balancer_all(struct core *c, const char *project, struct object_snap ***out, struct error *err);
int balancer_update(struct core *c, const char *project, const char *name, const json_t *patch,
		    struct object_snap **out, struct error *err);
int balancer_delete(struct core *c, const char *project, const char *name, struct error *err);
