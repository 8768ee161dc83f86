/* The Docker Engine API, as dockerd answers it: docs/docker.md. A thin translator; serves with http_context a
 * struct core. What is where: Docker's "Engine API" description, https://docs.docker.com/reference/api/engine/. */
#pragma once

#include "http/http.h"

#define DOCKER_API "1.51"     /* the newest that is spoken */
#define DOCKER_API_MIN "1.24"
#define DOCKER_BODY_MAX ((size_t)16 << 20) /* of bodies that are not streamed */

/* NULL-method row last; made once, valid for the life of the process. */
const struct http_route *docker_routes(void);
/* For http_config: {"message":…}, Docker's statuses, "/v1.44" before a path, and which versions are spoken. */
extern const int docker_statuses[ERROR_KINDS];
void docker_render_error(struct http_request *req, int status, const struct error *e);
size_t docker_prefix(const char *path);
int docker_check(const char *path, struct error *err);
extern const char *const docker_headers[][2];
