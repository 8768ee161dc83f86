/* Between the files of BuildKit's protocol: sessions, in which the client is asked for files, secrets and credentials; solves,
 * which build; and Control, the gRPC service that buildx speaks with. */
#pragma once

#include "build/build.h"
#include "core/core.h"
#include "grpc/grpc.h"
#include "model/field.h"

#include <protobuf-c/protobuf-c.h>

/* ---- messages (buildkit-message.c) ---- */
void bk_pack(const ProtobufCMessage *m, struct buf *out); /* appends it */
int bk_send(struct grpc_call *call, const ProtobufCMessage *m, struct error *err);
/* What comes and goes on a connected socket is a call's messages of bytes, until either has ended; then the socket is shut down. */
int bk_relay(struct grpc_call *call, int fd, struct error *err);

/* ---- sessions (buildkit-session.c) ---- */
/* Serves a client's connection (taken) under its id until it ends or `stop` is readable. EXISTS: there is one of that id. shared: the
 * client's word for the place that it builds, the same each time; may be NULL. */
int bk_session_run(const char *id, const char *shared, int fd, const struct buf *early, int stop, struct error *err);
/* The connection of a session, which may be about to come: waits a few seconds, or until gone says so. NOT_FOUND. */
int bk_session_find(const char *id, bool (*gone)(void *arg), void *arg, struct grpc_connection **out, struct error *err);

char *bk_session_shared(const struct grpc_connection *c); /* that word, to be freed; NULL */

/* ---- what its client is asked (buildkit-ask.c) ---- */
int bk_ask_secret(struct grpc_connection *c, const char *id, struct buf *out, struct error *err); /* NOT_FOUND */
int bk_ask_login(struct grpc_connection *c, const char *registry, char **username, char **password, struct error *err);

int bk_ask_agent(struct grpc_connection *c, const char *id, struct error *err); /* whether there is one of ssh: NOT_FOUND */
/* A connection to it: until it ends. */
void bk_forward_agent(struct grpc_connection *c, const char *id, int connection);

/* ---- files (buildkit-intake.c, buildkit-files.c) ---- */
/* What comes when a client sends a directory: packets. Pure, but for the tree. */
struct bk_intake;
/* t stays the caller's; so does old (may be NULL): what came the last time, from which files are taken that have not changed. */
struct bk_intake *bk_intake_new(struct tree *t, struct tree *old);
/* Takes one. 1: it was the last one. INVALID, TOO_LARGE … ; UNAVAILABLE: the client has failed, in its own words. */
int bk_intake_packet(struct bk_intake *i, const void *data, size_t n, struct error *err);
/* 1: the next packet that the client is to get has been appended: it asks for a file's content, or says that all is here. 0: there
 * is none for now. TOO_LARGE. */
int bk_intake_answer(struct bk_intake *i, struct buf *packet, struct error *err);
uint64_t bk_intake_bytes(const struct bk_intake *i);
void bk_intake_free(struct bk_intake *i);
DEFINE_CLEANUP(bk_intake_free_ptr, struct bk_intake *, bk_intake_free);

struct bk_directory { /* what is wanted of the client */
	const char *name; /* "context", "dockerfile" */
	char *const *follow;  /* these paths alone, and what links on them lead to; NULL: all */
	char *const *exclude; /* patterns, "!" before those of exceptions */
	void (*progress)(void *arg, uint64_t bytes); /* may be NULL */
	void *arg;
};
/* old: as for bk_intake_new. */
int bk_receive_files(struct grpc_connection *c, const struct bk_directory *d, struct tree *old, struct tree *to, struct error *err);
/* What was sent under a key before, which belongs to the caller then; NULL: nothing. key: may be NULL. */
struct tree *bk_kept_take(const char *key);
void bk_kept_put(const char *key, struct tree *t); /* takes t, which may be NULL */
void bk_kept_prune(json_t *names, uint64_t *freed); /* adds theirs */
/* Into the directory, or the file, that the client has named to itself. */
int bk_send_files(struct grpc_connection *c, struct tree *t, struct error *err);
int bk_send_stream(struct grpc_connection *c, int fd, struct error *err);

/* ---- progress (buildkit-progress.c): steps as StatusResponses ---- */
struct bk_progress;
/* emit: one at a time, from several threads. */
struct bk_progress *bk_progress_new(void (*emit)(void *arg, const void *data, size_t n), void *arg);
void bk_progress_free(struct bk_progress *p);
/* A step of our own: its number. */
size_t bk_step_begin(struct bk_progress *p, const char *name);
void bk_step_end(struct bk_progress *p, size_t step, const char *failed); /* NULL: well */
/* A part of it, found by its name: "transferring context:". total 0: not known. done: it is at its end. */
void bk_step_part(struct bk_progress *p, size_t step, const char *name, int64_t current, int64_t total, bool done);
/* An event of the builder. */
void bk_progress_event(struct bk_progress *p, const struct build_event *e);

/* ---- solves (buildkit-solve.c) ---- */
struct bk_solve {
	struct core *core;
	struct grpc_connection *session; /* stays the caller's; NULL: without one */
	struct tree *context;	   /* that has come already, with the Dockerfile in it; stays the caller's. NULL */
	struct pairs attrs;	   /* of the Dockerfile front end: "target", "build-arg:X" … */
	const char *exporter;	   /* "moby", "image", "local", "tar"; "": none */
	struct pairs exporter_attrs;
	struct bk_progress *progress;
	bool (*gone)(void *arg);
	int (*gone_fd)(void *arg); /* -1: none */
	void *arg;
};
/* Builds: the image's id, free it. Errors in words as BuildKit's. */
int bk_solve_build(const struct bk_solve *s, char **image_id, struct error *err);
void bk_take_list(const char *text, char ***to); /* "a,b"; NULL: nothing */

/* buildkit-export.c */
/* Whether it will be possible. */
int bk_solve_check_export(const struct bk_solve *s, struct error *err);
/* Gives the image its names, or its files to the client. */
int bk_solve_export(const struct bk_solve *s, const char *image_id, struct error *err);
bool bk_solve_makes_image(const struct bk_solve *s);

/* ---- solves by their clients' references (buildkit-jobs.c) ---- */
struct bk_job;
/* EXISTS: there is one of that reference. session: may be NULL. */
int bk_job_begin(const char *ref, struct grpc_connection *session, struct bk_job **out, struct error *err);
void bk_job_say(struct bk_job *j, const void *data, size_t n); /* a StatusResponse, for whoever follows */
void bk_job_end(struct bk_job *j); /* gives it back */
/* Waits for a front end at the client's, which says what it has made: the result is to be freed. CANCELLED; its error. */
int bk_job_await_return(struct bk_job *j, bool (*gone)(void *arg), void *arg, char **result, struct error *err);
void bk_job_return(struct bk_job *j, const char *result, const char *failed);
/* One that may be about to begin: waits a few seconds. NOT_FOUND. */
int bk_job_find(const char *ref, bool (*gone)(void *arg), void *arg, struct bk_job **out, struct error *err);
/* The next thing that it says. 1; 0: it is over, or gone says so. */
int bk_job_next(struct bk_job *j, bool (*gone)(void *arg), void *arg, struct buf *out);
void bk_job_unref(struct bk_job *j);
struct grpc_connection *bk_job_session(struct bk_job *j); /* stays the job's; NULL */

/* ---- Control and LLBBridge (buildkit-control.c): the gRPC services of /grpc; their context is the core ---- */
extern const struct grpc_method bk_control_methods[];
