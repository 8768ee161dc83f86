/* Builds images from a Dockerfile and a context: Docker's classic builder on wabe's verbs. Each instruction is a step, each
 * step an image on top of the one before; those in between stay, without a name, and are the cache of the next build.
 *
 * A build keeps nothing outside the core: what it has under way are instances that the core removes at its next start if this
 * process dies, and files without a name. */
#pragma once

#include "build/tree.h"
#include "core/core.h"
#include "core/tasks.h"
#include "model/image.h"
#include "model/instance.h"

/* On volumes that RUN --mount=type=cache keeps between builds: its id. */
#define BUILD_CACHE_LABEL "wabe.build-cache"

struct build_login { /* for images of this registry */
	char *server, *username, *password;
};

/* What is asked of whoever wants the build, while it goes on. Called from several threads, one at a time but for agent_serve;
 * NULL: it gives nothing of that kind. */
struct build_client {
	/* The context, when it is needed for the first time: these paths (with wildcards) of it, or all (NULL). Once more, for all, if
	 * that was not enough. It stays the client's, until the build ends. */
	int (*context)(void *arg, char *const *paths, struct tree **out, struct error *err);
	/* All files of a directory among the request's `named`; it stays the client's, too. Again: the same. */
	int (*directory)(void *arg, const char *name, struct tree **out, struct error *err);
	int (*secret)(void *arg, const char *id, struct buf *out, struct error *err); /* NOT_FOUND */
	/* For a registry; NULL in both: as nobody. */
	int (*login)(void *arg, const char *registry, char **username, char **password, struct error *err);
	/* Whether there is an agent of ssh by that name: NOT_FOUND. Then, at any time and from threads of their own: serves a
	 * connection to it until it has ended or, which is to end it, is shut down; the descriptor stays the caller's. */
	int (*agent_check)(void *arg, const char *id, struct error *err);
	void (*agent_serve)(void *arg, const char *id, int connection);
	void *arg;
};

/* What a name in FROM and --from means instead of a stage or an image. */
struct build_named {
	char *name;
	char *image; /* NULL: a directory of the client's */
};

struct build_request {
	const char *project;
	const char *dockerfile;	      /* its path in the context */
	struct tree *dockerfiles;     /* where it is instead; NULL */
	const struct build_client *client; /* NULL: nobody is asked for anything */
	const struct build_named *named;
	size_t n_named;
	char *const *names;	      /* the image's, as people write them */
	char *const *extra_hosts;     /* "name:address" */
	char *const *build_args;      /* "KEY=VALUE", or KEY alone: declared, without a value */
	char *const *cache_from;      /* images that may be taken for steps as well */
	const struct pairs *labels;
	const char *network;	      /* of RUN: as spec.network, or the name of a network; NULL: the default one */
	const char *target, *platform; /* NULL: the last stage, the host's */
	const struct ulimit *ulimits; /* of RUN */
	size_t n_ulimits;
	struct limits limits;	      /* of RUN; zero: the defaults of an instance */
	const struct build_login *logins;
	size_t n_logins;
	bool quiet, no_cache, pull, keep /* instances of RUN */, force_remove /* also of a RUN that failed */, squash;
};

/* What happens, for who follows several steps at a time. */
struct build_event {
	enum build_event_kind {
		BUILD_BEGINS,
		BUILD_CACHED, /* and ends: it was done before */
		BUILD_SAYS,
		BUILD_PULLS,
		BUILD_ENDS,
	} kind;
	size_t step;	    /* which, from 1; one that another stands on has a lower number */
	size_t after;	    /* BEGINS: the step that it stands on; 0: none */
	const char *name;   /* BEGINS: "[build 2/3] RUN make" */
	const char *data;   /* SAYS */
	size_t len;
	bool is_error;	    /* SAYS: on standard error */
	const struct task_step *part; /* PULLS */
	const struct error *failed;   /* ENDS; NULL: all is well */
};

/* Where output goes. All of it may be called from several threads, one at a time. */
struct build_sink {
	void (*text)(void *arg, const char *text);    /* lines as dockerd's; not called where event is */
	void (*event)(void *arg, const struct build_event *e); /* NULL: not wanted; must not block */
	void (*stage)(void *arg, const char *image_id); /* a stage is done */
	void (*pull)(void *arg, const struct task_step *step); /* of an image that is pulled; must not block */
	bool (*gone)(void *arg);		      /* nobody wants it any more: the build is given up */
	int (*gone_fd)(void *arg);		      /* readable when gone has become true; -1 */
	void *arg;
};

struct build_result {
	char *image_id;
	int64_t exit_code; /* of a RUN that failed */
};

/* What a URL of http or https leads to, in a file without a name: a descriptor at its beginning. */
int build_fetch(struct core *c, const char *url, struct error *err);
/* Whether a context's URL is that of a git repository (git_source_parse). */
bool build_is_repository(const char *url);
/* A context from elsewhere: a git repository, the URL of a tar, which becomes the context, or of a text, which becomes its Dockerfile;
 * *dockerfile: what it is called then. o: project, client and build_args of it count. CANCELLED when the sink says that it is gone. */
int build_fetch_context(struct core *c, const struct build_request *o, const struct build_sink *sink, const char *url,
			struct tree *context, const char **dockerfile, struct error *err);

/* What a name in FROM and --from may stand for: the same repositories, or a URL of http or https, which is the one file in a
 * directory. */
bool build_is_url(const char *url);
int build_fetch_directory(struct core *c, const struct build_request *o, const struct build_sink *sink, const char *url,
			  struct tree *to, struct error *err);

/* Builds, and names the image. CANCELLED; errors in words as dockerd's. Free result->image_id. */
int build_run(struct core *c, const struct build_request *o, struct tree *context, const struct build_sink *sink,
	      struct build_result *result, struct error *err);
