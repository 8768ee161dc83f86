/* What the files about swarm mode share. A service is a workload, a task one of its instances (or the record of one that could
 * not be made), secrets and configs are wabe's own, the swarm is its cluster. Ids are the first 25 digits of wabe's. */
#pragma once

#include "core/cluster.h"
#include "core/workloads.h"
#include "dialect/docker/docker-priv.h"

#define SWARM_ID_LEN 25
#define NANO INT64_C(1000000000)

/* The cluster; false: an error has been answered, as before "swarm init". */
bool swarm_active(struct http_request *req, struct noun **out);
/* The number of ?version=; false: an error has been answered. what: "service" */
bool swarm_version(struct http_request *req, const char *what, int64_t *out);
/* An object with ID, Version, CreatedAt, UpdatedAt. */
json_t *swarm_object(const char *id, int64_t version, int64_t created_at, int64_t updated_at);
void swarm_set_id(json_t *object, const char *key, const char *id);
/* The error of a verb, as dockerd passes on swarmkit's. what, name: "service", for what is not there. */
void swarm_fail(struct http_request *req, const char *what, const char *name, struct error *err);
/* Do name prefixes, id prefixes and labels of filters fit? */
bool swarm_fits(const json_t *filters, const char *id, const char *name, const struct pairs *labels);
/* What dialects have kept of an object of theirs; NULL: nothing. */
const json_t *swarm_origin(const json_t *origin);
json_t *swarm_keep_origin(const json_t *body);

/* ---- swarm-shape.c ---- */
/* docker_body with members of the right kinds, named as documented; what the shape has not stays as it came. NULL: an error
 * has been answered. */
struct swarm_member;
extern const struct swarm_member *const swarm_service_shape, *const swarm_spec_shape, *const swarm_init_shape, *const swarm_kept_shape;
json_t *swarm_body(struct http_request *req, const struct swarm_member *shape);

/* ---- service-spec.c ---- */
/* Docker's ServiceSpec into a workload's; history: of the swarm. The body becomes what an inspect shows: networks by their ids,
 * ports with what they are by default. */
int service_spec_parse(struct core *c, json_t *body, int64_t history, struct workload_spec *out, struct error *err);

/* ---- service-show.c ---- */
/* The ServiceSpec of a workload, also of one that Docker has not made. */
json_t *service_spec_show(const struct workload_spec *s);
json_t *service_show(struct core *c, const struct workload *w, bool defaults);

/* ---- handlers ---- */
void services_list(struct http_request *req);
void service_create(struct http_request *req);
void service_inspect(struct http_request *req);
void service_update(struct http_request *req);
void service_remove(struct http_request *req);
void service_logs(struct http_request *req);
void tasks_list(struct http_request *req);
void task_inspect(struct http_request *req);
void task_logs(struct http_request *req);
void nodes_list(struct http_request *req);
void node_inspect(struct http_request *req);
void node_update(struct http_request *req);
void node_remove(struct http_request *req);
void secrets_list(struct http_request *req);
void secret_create(struct http_request *req);
void secret_inspect(struct http_request *req);
void secret_update(struct http_request *req);
void secret_remove(struct http_request *req);
void configs_list(struct http_request *req);
void config_create(struct http_request *req);
void config_inspect(struct http_request *req);
void config_update(struct http_request *req);
void config_remove(struct http_request *req);
