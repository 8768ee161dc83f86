/* What the files of the native dialect share: DTOs, replies, streams. */
#pragma once

#include "core/instances.h"
#include "dialect/dialect.h"
#include "dialect/native/native.h"
#include "model/field.h"

/* ---- DTOs (dto.c) ---- */
struct stop_request {
	int64_t timeout;
	char *signal;
};
struct kill_request {
	char *signal;
};
struct exec_request {
	char **command, **env;
	char *user, *workdir;
	bool tty, stdin_open, privileged, detach;
	int64_t rows, columns;
};
struct pull_request { /* of pull and push */
	char *name, *platform, *username, *password;
	bool plain_http, insecure_tls;
};
struct bootstrap_request {
	char *name, *variant, **include;
};
struct convert_request {
	char *name, *comment;
};
struct commit_request {
	char *name, *comment, *author;
	bool pause;
	json_t *config;
};
struct tag_request {
	char *name;
};
struct prune_request {
	bool all;
};
struct shutdown_request {
	int64_t timeout;
};
struct copy_request { /* of volumes and of instances */
	char *name, *pool, *snapshot;
	bool linked, memory;
};
struct snapshot_request {
	char *name, *description;
	bool memory;
};
struct volume_attach_request {
	char *volume, *target, *subpath;
	bool read_only;
};
extern const struct field_table copy_request_table, snapshot_request_table, volume_attach_request_table;
extern const struct field_table stop_request_table, kill_request_table, exec_request_table, pull_request_table,
	bootstrap_request_table, commit_request_table, convert_request_table, tag_request_table, prune_request_table, shutdown_request_table;

/* Parses the body into dto; false: an error has been answered. body, when wanted, is to be released. */
bool dto_parse(struct http_request *req, const struct field_table *t, void *dto, json_t **body);

/* ---- routes ---- */
struct native_route {
	const char *method, *path;
	http_handler handler;
	unsigned flags;
	const char *summary;
	const char *query;                 /* names of query parameters, separated by spaces; NULL */
	const struct field_table *request; /* of the JSON body; NULL */
	const struct field_table *reply;   /* of the JSON answer; NULL: see what */
	const char *what;                  /* the answer in words, where there is no table */
	int status;                        /* of success */
};
extern const struct native_route instance_routes[], image_routes[], network_routes[], storage_routes[],
	host_routes[], workload_routes[], machine_routes[], migration_routes[]; /* NULL-method row last */
json_t *openapi_document(void);

/* ---- handlers' helpers (reply.c) ---- */
const char *project_of(struct http_request *req);
const char *name_of(struct http_request *req);
bool query_bool(struct http_request *req, const char *name, bool otherwise);
/* A time of the query, 0 where it is not given; false: an error has been answered. */
bool query_time(struct http_request *req, const char *name, int64_t *ns);
bool query_int(struct http_request *req, const char *name, int64_t otherwise, int64_t *out);
void reply_text(struct http_request *req, int status, const char *json, size_t len);
/* A text of JSON, which is freed; r < 0: err instead. */
void reply_json(struct http_request *req, int r, int status, char *const *json, const struct error *err);
void reply_table(struct http_request *req, int status, const struct field_table *t, const void *object);
void reply_instance(struct http_request *req, int status, struct instance_snap *snap);
void reply_image(struct http_request *req, int status, struct image_snap *snap);
