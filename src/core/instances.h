/* The verbs of instances. In all of them `name` is a name, an id, or a prefix of at least 4 digits of an id
 * that fits one instance (INVALID names two that it fits, NOT_FOUND none). */
#pragma once

#include "core/core.h"
#include "core/images.h"
#include "model/instance.h"
#include "wire/messages.h"

/* One state of an instance, never changed; shared by count. */
struct instance_snap {
	int refs;
	struct instance instance;
	char *json; /* as the native API prints it */
	size_t json_len;
};
struct instance_snap *instance_snap_ref(struct instance_snap *s);
void instance_snap_unref(struct instance_snap *s);
DEFINE_CLEANUP(instance_snap_unref_ptr, struct instance_snap *, instance_snap_unref);

/* ---- one ---- */
/* Takes what spec holds (it is empty afterwards), also on failure. NOT_FOUND with field "image" when the
 * image is not there. */
int instance_create(struct core *c, const char *project, struct instance_spec *spec, struct instance_snap **out,
		    struct error *err);
/* The same for one that is part of an operation, and deleted at its end: if this process ends before, it goes at the
 * next start. keep: it stays. */
int instance_create_passing(struct core *c, const char *project, struct instance_spec *spec, struct instance_snap **out,
			    struct error *err);
int instance_keep(struct core *c, const char *project, const char *name, struct error *err);
int instance_get(struct core *c, const char *project, const char *name, struct instance_snap **out, struct error *err);
/* Merge patch of the spec; a new name renames. */
int instance_update(struct core *c, const char *project, const char *name, const json_t *patch,
		    struct instance_snap **out, struct error *err);
/* CONFLICT while it runs, unless force, which kills it. */
int instance_delete(struct core *c, const char *project, const char *name, bool force, struct error *err);
/* Each of these returns when it has taken effect. Starting what runs and stopping what does not is fine. */
int instance_start(struct core *c, const char *project, const char *name, struct instance_snap **out, struct error *err);
int instance_stop(struct core *c, const char *project, const char *name, const char *signal, int64_t timeout,
		  struct instance_snap **out, struct error *err); /* timeout < 0, signal NULL: the instance's own */
int instance_restart(struct core *c, const char *project, const char *name, const char *signal, int64_t timeout,
		     struct instance_snap **out, struct error *err);
/* With SIGKILL (signal NULL) it returns when the instance has ended. */
int instance_kill(struct core *c, const char *project, const char *name, const char *signal, struct error *err);
/* A machine's memory goes to disk, and it ends: suspended. Starting it goes on from there, stopping it gives the memory up. */
int instance_suspend(struct core *c, const char *project, const char *name, struct instance_snap **out, struct error *err);
int instance_pause(struct core *c, const char *project, const char *name, bool pause, struct instance_snap **out,
		   struct error *err);

/* ---- many ---- */
struct instance_filter {
	bool all;             /* also those that do not run */
	char *const *labels;  /* key or key=value, all must fit */
	const char *state, *name; /* name: part of the name */
	int64_t limit;        /* the newest so many; 0: all */
	bool owned;           /* those of workloads alone */
	const char *workload; /* id: those of this one alone; NULL */
};
struct list_text { /* shared by count; see list_text_unref */
	int refs;
	size_t len;
	char *data;
};
/* {"revision":N,"instances":[…]}. cache_key: a text that is the same for the same filter (the query string),
 * or NULL; an unchanged list is not built again. */
int instance_list(struct core *c, const char *project, const struct instance_filter *f, const char *cache_key,
		  struct list_text **out, struct error *err);
void list_text_unref(struct list_text *t);
DEFINE_CLEANUP(list_text_unref_ptr, struct list_text *, list_text_unref);
/* The same as snapshots, NULL-terminated; unreference each, free the array. */
int instance_snaps(struct core *c, const char *project, const struct instance_filter *f, struct instance_snap ***out,
		   struct error *err);

/* ---- waiting ---- */
enum wait_condition { WAIT_NOT_RUNNING, WAIT_NEXT_EXIT, WAIT_REMOVED };
struct wait_sink {
	void (*begin)(void *arg); /* the first call, from the caller's thread */
	/* the last call, once; status as at the exit; error: NULL or why there is none. */
	void (*done)(void *arg, const struct instance_status *status, const struct error *error);
	bool (*gone)(void *arg);
	void *arg;
};
/* Returns at once; done is called by another thread (or by this one, when there is nothing to wait for).
 * On an error the sink is not used. */
int instance_wait(struct core *c, const char *project, const char *name, enum wait_condition condition,
		  const struct wait_sink *sink, struct error *err);

/* Its stream has said that this run's first process ended: waits until its state says so too. Gives up after a moment. */
void instance_await_end(struct core *c, const struct instance_snap *run);

/* ---- inside ---- */
/* *fd: a stream that speaks shim/protocol.h; of an instance that runs, no output gets past it from here on. */
int instance_attach(struct core *c, const char *project, const char *name, bool in, bool out, bool errors, int *fd,
		    struct error *err);
/* A new size of its terminal. CONFLICT when it does not run. */
int instance_resize(struct core *c, const char *project, const char *name, int64_t rows, int64_t columns,
		    struct error *err);
/* Publishes that a client has left an instance's first process, or an exec, which goes on. */
void instance_detached(struct core *c, const char *project, const char *id, const char *exec_id);
/* Creates and starts an exec (execs.h). exec_id of spec is filled in here, to be freed by its table. *fd is -1 for detach. */
int instance_exec(struct core *c, const char *project, const char *name, struct msg_exec_start *spec, int *fd,
		  struct error *err);
int instance_exec_state(struct core *c, const char *project, const char *name, const char *exec_id,
			struct msg_exec_state *out, struct error *err);
int instance_exec_attach(struct core *c, const char *project, const char *name, const char *exec_id, int *fd,
			 struct error *err);
int instance_stats(struct core *c, const char *project, const char *name, struct msg_stats *out, struct error *err);
/* What its last health checks have found. */
int instance_health(struct core *c, const char *project, const char *name, struct msg_health *out, struct error *err);
/* Bytes of its root that are its own, beside its image's. */
int instance_size(struct core *c, const char *project, const char *name, int64_t *bytes, struct error *err);
/* Where a file of it lies on the host, for people to look at: "hosts", "hostname", "resolv.conf", "log/log". Free it; NULL
 * while the agent is not known. */
char *instance_file(struct core *c, const struct instance *i, const char *name);
struct stats_sink {
	void (*begin)(void *arg); /* the first call, from the caller's thread */
	/* of what the instance is then; all 0 where it does not run. Negative: no more. Must not block */
	int (*stats)(void *arg, const struct instance *i, const struct msg_stats *stats);
	bool (*gone)(void *arg);
	void (*end)(void *arg, bool complete); /* the last call */
	void *arg;
};
/* At once and then each second, until the sink goes or the instance does. Returns after the first. On an error the sink is
 * not used. */
int instance_stats_follow(struct core *c, const char *project, const char *name, const struct stats_sink *sink,
			  struct error *err);
int instance_top(struct core *c, const char *project, const char *name, struct msg_processes *out, struct error *err);
/* Calls fn for each path that differs from the image (any bytes; a directory before what is in it). kind: 'A' added,
 * 'C' changed, 'D' deleted. */
int instance_diff(struct core *c, const char *project, const char *name,
		  void (*fn)(char kind, const char *path, void *arg), void *arg, struct error *err);

/* ---- files ---- */
int instance_archive_stat(struct core *c, const char *project, const char *name, const char *path,
			  struct msg_file *out, struct error *err);
int instance_archive_get(struct core *c, const char *project, const char *name, const char *path, struct msg_file *out,
			 int *fd, struct error *err); /* *fd: a pipe with a tar */
int instance_archive_put(struct core *c, const char *project, const char *name, const char *path, bool keep_owner,
			 bool no_overwrite_dir, int tar, struct error *err);
/* Writes an OVA of a machine that does not run to fd: its disk and block volumes, and its hardware. */
int instance_export_ova(struct core *c, const char *project, const char *name, int to, struct error *err);
/* The Linux system on the disk of a machine that does not run becomes a container's image, which starts its /sbin/init. NOT_FOUND and
 * UNSUPPORTED where there is none, or on a file system that is not read. */
struct image_snap;
int instance_convert(struct core *c, const char *project, const char *name, const char *image, const char *comment,
		     struct image_snap **out, struct error *err);
int instance_export(struct core *c, const char *project, const char *name, int *fd, struct error *err);

struct commit_options {
	const char *name, *comment, *author; /* name NULL: an image without a name */
	bool pause;
	const json_t *config; /* merge patch of the image_config; NULL */
};
int instance_commit(struct core *c, const char *project, const char *name, const struct commit_options *o,
		    struct image_snap **out, struct error *err);
