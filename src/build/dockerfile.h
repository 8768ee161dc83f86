/* The Dockerfile: text from strangers to instructions. Pure data, no I/O. What is accepted and what is said about the rest
 * is Docker's (docs.docker.com/reference/dockerfile), as its classic builder has it. */
#pragma once

#include "model/image.h"

enum instruction_kind {
	DOCKER_ADD,
	DOCKER_ARG,
	DOCKER_CMD,
	DOCKER_COPY,
	DOCKER_ENTRYPOINT,
	DOCKER_ENV,
	DOCKER_EXPOSE,
	DOCKER_FROM,
	DOCKER_HEALTHCHECK,
	DOCKER_LABEL,
	DOCKER_MAINTAINER,
	DOCKER_ONBUILD,
	DOCKER_RUN,
	DOCKER_SHELL,
	DOCKER_STOPSIGNAL,
	DOCKER_USER,
	DOCKER_VOLUME,
	DOCKER_WORKDIR,
	DOCKER_KINDS,
};

/* A here-document of RUN, COPY or ADD: the lines behind the instruction. */
struct heredoc {
	char *word;    /* as it stands in the instruction: "<<-'EOF'" */
	char *name;    /* "EOF" */
	char *content; /* without the tabs that lines begin with, where a dash says so */
	bool expand;   /* the name is not quoted: COPY and ADD put in variables */
};

/* One instruction. Nothing in it is expanded yet. */
struct instruction {
	enum instruction_kind kind;
	int line;   /* where it begins, from 1 */
	char *text; /* as written, continued lines joined */
	bool json;  /* CMD, ENTRYPOINT, RUN, SHELL: args are the words of an array; else one command line */
	/* the words; of ADD and COPY the destination last, of FROM the image alone, of ONBUILD its instruction */
	char **args;
	struct pairs pairs; /* ENV, LABEL; ARG, whose values may be NULL */
	bool literal;	    /* pairs are as they shall be, not to be expanded */
	char *from, *chown, *chmod, *platform, *checksum, *network; /* flags; NULL: not given */
	char **mounts;			       /* RUN: the values of --mount */
	char **excludes;		       /* COPY, ADD: those of --exclude */
	bool parents;			       /* COPY: with the directories that its sources are in */
	bool keep_git;			       /* ADD: of a git repository .git, too */
	int unpack;			       /* ADD: 1, -1: any archive, none; 0: as ever, those that are local */
	struct heredoc *heredocs;
	size_t n_heredocs;
	char *stage;			       /* FROM … AS stage, in lower case */
	struct health_check health;
};

struct build_stage {
	struct instruction from;
	struct instruction *items;
	size_t n;
};

struct dockerfile {
	char escape;		   /* backslash or backtick */
	struct instruction *meta; /* the ARGs before the first FROM */
	size_t n_meta;
	struct build_stage *stages;
	size_t n_stages;
};

#define DOCKERFILE_MAX ((size_t)8 << 20)

/* INVALID: "dockerfile parse error line 3: unknown instruction: FOO". On failure *out is empty. */
int dockerfile_parse(const char *text, size_t n, struct dockerfile *out, struct error *err);
void dockerfile_free(struct dockerfile *d);
/* One instruction by itself, as ONBUILD has it. */
int instruction_parse(const char *line, char escape, struct instruction *out, struct error *err);
void instruction_free(struct instruction *i);
/* The stage of that name (any case), or of that number if it is one, among the first `before`; -1. */
ssize_t dockerfile_stage(const struct dockerfile *d, const char *name, size_t before);

/* Adds an instruction "LABEL key=value", which is taken as it is. */
void build_stage_add_label(struct build_stage *s, const char *key, const char *value);

/* ---- what dockerfile.c and instruction.c share ---- */
/* One logical line: comments gone, continued lines joined. */
struct docker_line {
	int number;
	char *text;
	struct heredoc *heredocs; /* the instruction takes them over */
	size_t n_heredocs;
};
void heredocs_free(struct heredoc **list, size_t *n);
/* The text of one line as an instruction; line: its number, for messages. */
int instruction_parse_line(struct docker_line *line, char escape, struct instruction *out, struct error *err);
int dockerfile_fail(int line, struct error *err, const char *fmt, ...) PRINTF(3, 4);
