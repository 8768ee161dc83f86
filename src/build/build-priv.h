/* What the files of the builder share. */
#pragma once

#include "build/build.h"
#include "build/dockerfile.h"
#include "build/ignore.h"
#include "core/images.h"
#include "core/volumes.h"
#include "model/git.h"

#include <pthread.h>

struct builder;

/* ---- arguments (args.c) ---- */
struct build_args {
	const struct build_request *o;
	struct pairs meta;  /* ARGs before the first FROM; a value may be NULL */
	struct pairs stage; /* those of this stage */
	char **used;	    /* names that were declared anywhere; shared through the builder */
};
void args_add(struct pairs *to, const char *name, const char *value); /* value NULL: declared alone */
/* The value of a declared name, or NULL. */
const char *args_get(const struct build_args *a, const struct pairs *declared, const char *name);
/* "KEY=VALUE" of all that are declared (of: &a->meta or &a->stage) and of the proxies that were given, without those
 * that env has; sorted. */
char **args_env(const struct build_args *a, const struct pairs *of, char *const *env);
/* Proxies, which need no declaration and count neither for the cache nor for the history. */
bool args_is_builtin(const char *name);

/* ---- output (output.c) ---- */
/* Stages write at the same time; what is shown is as if they had run one after the other. */
struct output {
	struct builder *b;
	struct stage *stage;
	struct buf waiting; /* of a stage whose turn it is not yet */
	char *stage_image;
	bool open;	    /* it is its turn */
	struct buf partial; /* bytes of a character that is not whole yet */
};
void output_text(struct output *o, const char *fmt, ...) PRINTF(2, 3);
void output_raw(struct output *o, const char *data, size_t n);

/* What a command writes. */
void output_command(struct output *o, bool is_error, const char *data, size_t n);

/* ---- stages ---- */
struct stage {
	struct builder *b;
	size_t index;
	struct build_stage *text;
	size_t step; /* number of its first step, from 1 */
	struct build_args args;
	struct output out;

	struct image_config config; /* as after the step */
	char *image;		    /* id; NULL: scratch, nothing done yet */
	char *base;		    /* id of what FROM named; NULL: scratch */
	char *os, *architecture, *variant;
	char *maintainer;
	bool command_set; /* CMD came in this stage */
	size_t vertex;	  /* the number of the step that is under way, for events; 0: none */
	size_t below;	  /* the last one that the stage's image came from; 0 */
	size_t shown, n_shown; /* how many steps have had an event; will have one */
	bool cached;
	bool cache_off;	  /* a step has not been found: none of the later ones is looked for */
	char **keep;	  /* instances of the step that are to be removed */

	bool needed, started, done;
	int result;
	struct error err;
	int64_t exit_code;
	pthread_t thread;
};

struct builder {
	struct core *core;
	const struct build_request *o;
	struct tree *context;
	const struct build_sink *sink;
	struct dockerfile file;
	struct pairs meta;
	size_t n_steps;
	struct stage *stages;
	size_t n_stages;	  /* up to the target */
	size_t turn;		  /* the stage whose output is shown */
	bool failed;		  /* some stage: the others give up; atomic */
	char **declared;	  /* names of all ARGs */
	size_t n_vertexes;
	pthread_mutex_t asking;	  /* while the client is asked for something; over context of such a one, too */
	char **context_paths;	  /* the parts of it that are there; NULL: all */
	pthread_mutex_t lock;	  /* over what is above, and the context's links */
	pthread_cond_t changed;
};

bool build_gone(struct builder *b); /* cancelled, or another stage has failed */
int build_cancelled(struct error *err);

/* stage.c: runs in a thread of its own. */
int stage_run(struct stage *s, struct error *err);
/* One instruction; text of ONBUILD triggers runs through it as well. */
int stage_step(struct stage *s, const struct instruction *i, struct error *err);
/* With quotes, escapes and variables resolved. */
int stage_expand(struct stage *s, const char *word, char **out, struct error *err);
int stage_expand_text(struct stage *s, const char *text, char **out, struct error *err); /* of a here-document */

/* events.c: what a step does, for sinks that want to know; nothing for the others */
/* How many steps of the stage are shown: those that make files. */
void event_count(struct stage *s);
void event_begin(struct stage *s, const struct instruction *i);
void event_cached(struct stage *s);
void event_says(struct stage *s, bool is_error, const char *data, size_t n);
void event_pulls(struct stage *s, const struct task_step *part); /* needs the builder's lock */
void event_end(struct stage *s, int result, const struct error *err);

/* cache.c */
/* An image that was made of the same one by the same step: its id, or NULL. Free it. */
char *cache_find(struct stage *s, const char *created_by, const struct image_config *config);

/* step.c: from an instruction to an image */
/* "/bin/sh -c #(nop) …" in the stage's shell. */
char *step_comment(const struct stage *s, const char *text);
/* Looks into the cache; true: *s stands on the image that was found. */
bool step_cached(struct stage *s, const char *created_by);
int step_config(struct stage *s, const char *text, struct error *err);
void step_take(struct stage *s, struct image_snap *snap); /* takes the reference */
struct image_step step_of(const struct stage *s, const char *created_by);

/* run.c */
int run_step(struct stage *s, const struct instruction *i, struct error *err);
/* copy.c */
int copy_step(struct stage *s, const struct instruction *i, struct error *err);
int workdir_step(struct stage *s, const char *path, struct error *err);
/* context.c: the context, with at least what the word names in it; NULL: there is none */
int context_get(struct builder *b, const char *word, struct tree **out, struct error *err);
/* named.c: names that have another meaning; NULL: this one has none */
const struct build_named *named_find(const struct builder *b, const char *name);
ssize_t named_stage(const struct builder *b, const char *name, size_t before); /* dockerfile_stage, for those that have none */
int named_tree(struct builder *b, const struct build_named *n, struct tree **out, struct error *err);
/* source.c: the files that COPY and ADD mean */
struct copy_source {
	struct tree *tree;
	struct tree_node *node; /* NULL: of a repository that has not been fetched */
	struct repository {	/* NULL: it is none */
		struct git_source source;
		char *commit;
		bool keep; /* with .git */
	} *repository;
	char *name; /* its last part, as it is named at the destination */
	char *path; /* its directories and that, which all come there (--parents); else NULL */
	bool unpack; /* ADD of a local archive */
};
struct copy_sources {
	struct copy_source *items;
	size_t n;
	struct tree **own; /* trees that were made for them */
	size_t n_own;
	struct ignore excludes; /* below each of them, by path from there */
};
int copy_sources_find(struct stage *s, const struct instruction *i, char *const *words, struct copy_sources *out,
		      struct error *err);
/* Makes the stage stand on a directory's files. */
int copy_base(struct stage *s, struct tree *files, struct error *err);
/* A file of the name with that content. */
int copy_source_text(struct stage *s, const char *name, mode_t mode, const char *text, struct copy_sources *out, struct error *err);
void copy_sources_free(struct copy_sources *c);
/* "file:<hex>", "dir:<hex>", "multi:<hex>"; a repository counts by its commit. */
char *copy_sources_digest(const struct copy_sources *from);
int copy_sources_fetch(struct stage *s, struct copy_sources *c, struct error *err); /* its files, when they are needed */
/* A new volume with them in it, which goes at control's next start at the latest: its name. */
int copy_to_volume(struct stage *s, const struct copy_sources *from, char **volume, struct error *err);
/* One that stays, as spec (taken) has it. EXISTS. */
int copy_to_kept_volume(struct stage *s, const struct copy_sources *from, struct volume_spec *spec, struct error *err);
/* mount.c: RUN --mount */
struct bind {
	struct copy_sources from;
	size_t at; /* index in the list */
};
struct run_mounts {
	FIELD_LIST_OF(struct mount) list;
	struct bind *binds;
	size_t n_binds;
	char **taken;	/* caches that this step has for itself */
	char **digests; /* of what binds show: they count for the step's cache */
	struct secret {
		char *id;
		bool required;
		struct instance_file file;
	} *secrets; /* they do not count; asked for only when the command shall run */
	size_t n_secrets;
	struct ssh_mount {
		char *id;
		bool required;
		struct instance_file file;
		struct ssh_agent *agent; /* NULL: it is not there */
	} *agents; /* they do not count either */
	size_t n_agents;
	instance_files files; /* those that are there */
};
int run_mounts_find(struct stage *s, const struct instruction *i, struct run_mounts *all, struct error *err);
int run_mounts_add_script(struct stage *s, struct run_mounts *all, const struct heredoc *doc, struct error *err);
int run_mounts_fill(struct stage *s, struct run_mounts *all, struct error *err); /* before the instance is made */
void run_mounts_end(struct stage *s, struct run_mounts *all);			 /* after it is gone; also after a failure */
/* Where the first agent is, for SSH_AUTH_SOCK; NULL. */
const char *run_mounts_agent(const struct run_mounts *all);
/* Connections to agents are answered from now on: the instance runs. */
int run_mounts_serve(struct run_mounts *all, struct error *err);
/* ssh.c: an agent of ssh, which is the client's */
struct ssh_agent;
/* NOT_FOUND: the client has none of that name. asking: held while it is asked; NULL. */
int ssh_agent_new(const struct build_client *client, pthread_mutex_t *asking, const char *id, struct ssh_agent **out, struct error *err);
int ssh_agent_socket(const struct ssh_agent *a); /* to be lent to the instance */
int ssh_agent_serve(struct ssh_agent *a, struct error *err); /* when that runs */
void ssh_agent_free(struct ssh_agent *a); /* ends all connections */
/* chmod.c: octal or symbolic */
bool chmod_is_valid(const char *text);
mode_t chmod_apply(const char *text, mode_t mode); /* with its type */
/* owner.c: --chown in the image's users; uid and gid. */
int owner_find(struct stage *s, const char *chown, uint32_t *uid, uint32_t *gid, struct error *err);
/* from.c */
int platform_check(const char *platform, struct error *err); /* "linux[/ARCHITECTURE[/VARIANT]]"; NULL and "" are fine */
/* Makes the stage stand on what FROM names. */
int from_step(struct stage *s, struct error *err);
/* The image of that name, pulled if it is not here: its snap. */
int from_image(struct stage *s, const char *name, const char *platform, struct image_snap **out, struct error *err);
/* What is fetched for a build, which may be given up meanwhile. */
struct fetching {
	struct core *core;
	struct builder *b; /* NULL: nobody else of the build asks the client meanwhile */
	const struct build_request *o;
	const struct build_sink *sink;
};
struct fetching fetching_for(const struct stage *s);
bool fetching_gone(const struct fetching *f);
/* download.c: a URL into a tree, as the one file in it, named as the URL ("download" where it names none). */
int download(const struct fetching *f, const char *url, struct tree *to, struct error *err);
/* git.c */
/* What s names, with the secrets that the client has for it (s keeps them); the server is asked. Errors say which repository. */
int repository_commit(const struct fetching *f, struct git_source *s, char **commit, struct error *err);
int repository_tree(const struct fetching *f, struct git_source *s, bool keep, struct tree *to, struct error *err);
int repository_context(const struct fetching *f, const char *url, bool keep, struct tree *context, struct error *err);
