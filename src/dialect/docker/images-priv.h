/* What the files of Docker's images share. */
#pragma once

#include "core/tasks.h"
#include "dialect/docker/docker-priv.h"

/* image-names.c */
/* Answers with Docker's words for an image that was not found, or a name that is none. */
void docker_image_fail(struct http_request *req, const char *name, const struct error *err);
/* 400 "invalid reference format". */
void docker_reference_fail(struct http_request *req, const char *name);
/* Whether an image is what the parameter ("platform", JSON as OCI has it) asks for from that version of the API on; false: an
 * error has been answered. i NULL: only whether it can be read. */
bool docker_platform_is(struct http_request *req, const char *parameter, int since, const struct image *i);
/* "linux/amd64", "amd64", "linux": as OS/ARCHITECTURE[/VARIANT]; "" for this host's. Free it; NULL: nobody knows the one word. */
char *docker_platform(const char *text, struct error *err);
char *docker_familiar(const char *full); /* "debian:bookworm" for a reference in full; free it */
char *docker_familiar_name(const char *full); /* without tag and digest */
/* "RepoTags" and "RepoDigests"; patterns: of the filter reference, NULL or empty: all. */
json_t *docker_repo_tags(const struct image *i, const json_t *patterns);
json_t *docker_repo_digests(const struct image *i, const json_t *patterns);
int64_t docker_image_size(const struct image *i);
/* The rows of a list of these, which are all (images.c). */
json_t *docker_image_rows(struct image_snap **images, int api);
void docker_count_users(struct core *c, json_t *rows); /* "Containers" of each: how many have it (df.c) */
bool docker_image_has_children(struct image_snap *const *all, const char *id);
/* A time as Docker's filters have it: RFC 3339, parts of it, seconds, or a duration before now. */
int docker_time_parse(const char *text, int64_t *ns);
/* repo and tag ("", or ":"-less) as one reference in full; an answer has been given where it is NULL. */
char *docker_reference(struct http_request *req, const char *repository, const char *tag);

/* image-progress.c */
/* Follows the task (its JSON, taken) and answers with Docker's lines. name: what was asked for, in full; shown: the same
 * for people, NULL: short. */
enum docker_transfer { DOCKER_PULL, DOCKER_PUSH };
/* A step as a line; NULL: none is made of it. */
json_t *docker_step_line(enum docker_transfer kind, const struct task_step *s);
void docker_follow_transfer(struct http_request *req, enum docker_transfer kind, const char *name, const char *shown,
			    char *task);
/* A push that does not begin: Docker says so behind its first line. */
void docker_push_refused(struct http_request *req, const char *name, const char *why);
/* What the registry said, as Docker has it: "manifest unknown: manifest unknown"; free it. */
char *docker_registry_words(const struct error *err, const char *otherwise);
/* One line of a stream: {"errorDetail":{"message":…},"error":…}; code 0: it has none. */
json_t *docker_error_json(const char *message, int64_t code);
char *docker_error_line(const char *message);

/* image-transfer.c, image-archive.c, image-change.c, image-registry.c */
void docker_images_create(struct http_request *req);
void docker_image_push(struct http_request *req);
void docker_image_import(struct http_request *req);
void docker_images_load(struct http_request *req);
void docker_images_save(struct http_request *req);
void docker_image_save(struct http_request *req);
void docker_image_tag(struct http_request *req);
void docker_image_delete(struct http_request *req);
void docker_images_prune(struct http_request *req);
void docker_image_inspect(struct http_request *req);
void docker_image_history(struct http_request *req);
void docker_images_search(struct http_request *req);
void docker_distribution(struct http_request *req);
void docker_login(struct http_request *req);
