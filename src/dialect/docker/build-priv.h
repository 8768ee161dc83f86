/* What the two protocols of POST /build share: which builds are under way, for /build/cancel. */
#pragma once

#include "core/core.h"
#include "http/http.h"

struct build_running {
	struct build_running *next;
	const char *id; /* NULL: it has none */
	bool cancelled;
};
void build_running_add(struct build_running *r);
void build_running_remove(struct build_running *r);
bool build_running_cancelled(const struct build_running *r);
void build_running_cancel(const char *id);

/* build.c: what the builder has left for later builds, which is images without a name and volumes. *caches: their names. */
int docker_build_prune(struct core *c, json_t **caches, uint64_t *freed, struct error *err);

/* buildkit.c: version=2 of POST /build, POST /session and POST /grpc. */
void buildkit_build(struct http_request *req);
void buildkit_session(struct http_request *req);
void buildkit_grpc(struct http_request *req);
