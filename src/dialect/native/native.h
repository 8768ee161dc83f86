/* The native API: docs/API.md. Serves with http_context a struct core. */
#pragma once

#include "http/http.h"

/* NULL-method row last; made once, valid for the life of the process. */
const struct http_route *native_routes(void);
/* For http_config: errors in the API's shape. */
extern const int native_statuses[ERROR_KINDS];
void native_render_error(struct http_request *req, int status, const struct error *e);
