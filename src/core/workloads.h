/* The verbs of workloads, secrets and configs. `name` is a name, an id, or a prefix of at least 4 digits of an id. What
 * comes out is a struct noun (core/nouns.h) of a struct workload or struct kept. */
#pragma once

#include "core/core.h"
#include "core/nouns.h"
#include "model/workload.h"

#define ANY_VERSION INT64_C(-1)
/* On every instance of a workload: its id. */
#define WORKLOAD_LABEL "wabe.workload"

/* ---- workloads. Their instances follow: a controller makes them, see control/workloads.h ---- */
/* Takes what spec holds, also on failure. CONFLICT for a port of the host that is taken. */
int workload_create(struct core *c, const char *project, struct workload_spec *spec, struct noun **out, struct error *err);
int workload_get(struct core *c, const char *project, const char *name, struct noun **out, struct error *err);
int workload_list(struct core *c, const char *project, char *const *labels, char **json, size_t *len, struct error *err);
/* All of them, NULL-terminated, in order of creation: for nouns_unref. */
int workload_all(struct core *c, const char *project, struct noun ***out, struct error *err);
/* Merge patch of the spec. version: of what the caller has seen, CONFLICT where it is another by now; or ANY_VERSION. */
int workload_update(struct core *c, const char *project, const char *name, int64_t version, const json_t *patch,
		    struct noun **out, struct error *err);
/* The same with all of the new spec, which is taken. The mode stays. */
int workload_replace(struct core *c, const char *project, const char *name, int64_t version, struct workload_spec *spec,
		     struct noun **out, struct error *err);
/* Back to the spec before the last change, which takes its place: twice is as before. CONFLICT when there is none. */
int workload_rollback(struct core *c, const char *project, const char *name, int64_t version, struct noun **out,
		      struct error *err);
/* It is gone at once, its instances follow. */
int workload_delete(struct core *c, const char *project, const char *name, struct error *err);

/* Waits (up to a minute) until nothing of workloads that are gone is on the network any more: it is on its way out. */
void workloads_await_leaving(struct core *c, const char *project, const char *network);

/* ---- for the controller ---- */
/* Waits until something has changed since *seen (0: anything) that workloads are made of, or until (ns since the epoch; INT64_MAX:
 * without end). False when the core closes. */
bool workloads_await(struct core *c, uint64_t *seen, int64_t until);
/* Has workloads_await return. */
void workloads_poke(struct core *c);
/* Each of these does nothing when the workload is gone, or of another generation by now. */
void workload_note_update(struct core *c, const char *id, int64_t generation, const char *state, const char *message);
void workload_note_failure(struct core *c, const char *id, const struct workload_failure *f);
void workload_undo(struct core *c, const char *id, int64_t generation, const char *message); /* an update that failed */
void workload_note_error(struct core *c, const char *id, const char *error); /* NULL: none. In memory alone */
bool workload_exists(struct core *c, const char *id);

/* ---- secrets and configs ---- */
enum kept_kind { KEPT_SECRET, KEPT_CONFIG };
int kept_create(struct core *c, enum kept_kind kind, const char *project, struct kept_spec *spec, struct noun **out,
		struct error *err);
int kept_get(struct core *c, enum kept_kind kind, const char *project, const char *name, struct noun **out, struct error *err);
int kept_list(struct core *c, enum kept_kind kind, const char *project, char *const *labels, char **json, size_t *len,
	      struct error *err);
int kept_all(struct core *c, enum kept_kind kind, const char *project, struct noun ***out, struct error *err);
/* A merge patch; the data stays. */
int kept_update(struct core *c, enum kept_kind kind, const char *project, const char *name, int64_t version,
		const json_t *patch, struct noun **out, struct error *err);
/* CONFLICT while a workload or an instance gets it, naming that. */
int kept_delete(struct core *c, enum kept_kind kind, const char *project, const char *name, struct error *err);
/* A secret for instances of an operation of control's own, in memory alone: its name, good as a file's source until it is taken
 * back. Free it. */
char *kept_lend(struct core *c, const void *data, size_t n);
/* As well, with "socket" as the file's kind: one that has no name yet, the lender's until it is taken back. When the instance starts it
 * listens inside at the file's place. */
char *kept_lend_socket(struct core *c, int fd);
void kept_take_back(struct core *c, const char *name);
/* Names of the workloads that get it, to be freed. */
char **kept_users(struct core *c, enum kept_kind kind, const char *project, const char *name);
