/* Handlers of instance routes that live beside instances.c. */
#pragma once

#include "dialect/native/native-priv.h"

void native_attach(struct http_request *req);
void native_logs(struct http_request *req);
void native_top(struct http_request *req);
void native_stats(struct http_request *req);
void native_changes(struct http_request *req);
void native_archive_get(struct http_request *req);
void native_archive_put(struct http_request *req);
void native_export(struct http_request *req);
void native_commit(struct http_request *req);
void native_convert(struct http_request *req);
void native_exec(struct http_request *req);
void native_exec_state(struct http_request *req);
void native_exec_attach(struct http_request *req);
