/* A forked child that parses an archive and can do nothing else: its file system is one directory, it has
 * two descriptors, few capabilities and few system calls. What it says back is checked, not believed.
 * Private to the image room. */
#pragma once

#include "base/error.h"
#include "image/layer-stream.h"

struct confine_result {
	uint64_t size;
	uint8_t digest[LAYER_DIGEST_SIZE];
};

struct confined {
	int report; /* where reports go */
};

struct confine_job {
	int archive; /* the one descriptor that the child reads */
	int root;    /* becomes its "/" */
	uint32_t owner; /* what the child makes begins as this user's and group's: one that root's file system knows */
	/* In the child, before it is confined: libraries read their files now or never. */
	int (*prepare)(struct confine_job *job, int archive, struct error *err);
	/* In the child, confined but for the system calls: start threads. */
	int (*start)(struct confine_job *job, struct error *err);
	/* In the child, confined. root: a descriptor of its "/". */
	int (*work)(struct confine_job *job, struct confined *self, int root, struct confine_result *result,
		    struct error *err);
	/* In the parent. */
	void (*progress)(uint64_t done, uint64_t total, void *arg);		     /* may be NULL */
	int (*opaque)(struct confine_job *job, const char *path, struct error *err); /* may be NULL: refused */
	void *arg;								     /* of progress */
	void *data;								     /* of the job's own */
};

/* Forks, confines, works, waits. To be called as root from a process with one thread. */
int confine_run(struct confine_job *job, struct confine_result *result, struct error *err);

/* From within work. */
int confined_progress(struct confined *self, uint64_t done, uint64_t total);
int confined_opaque(struct confined *self, const char *path);
