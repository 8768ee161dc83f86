/* What the files about the inside of containers share: the streams that attach and exec give to clients. */
#pragma once

#include "dialect/docker/containers.h"

/* ---- streams (attach.c) ---- */
#define DETACH_KEYS_MAX 64
struct detach_keys {
	char bytes[DETACH_KEYS_MAX];
	size_t n;
};
/* "ctrl-p,ctrl-q", "ctrl-a,x"; NULL and "": ctrl-p,ctrl-q. */
int detach_keys_parse(const char *text, struct detach_keys *out, struct error *err);

/* What a client of a process's streams gets and gives. */
struct stream_want {
	struct core *core;
	char id[INSTANCE_ID_LEN + 1], exec_id[INSTANCE_ID_LEN + 1]; /* whose; exec_id "": its first process */
	bool tty;               /* output raw instead of in frames; detach keys are looked for */
	bool in, out, errors;
	struct detach_keys keys;
};
/* The client's connection as a raw socket: 101 for who asked for an upgrade, else 200. -1: gone. Free early. */
int stream_hijack(struct http_request *req, bool tty, struct buf *early);
/* Relays between that and fd, which speaks shim/protocol.h, until one ends or detach keys come. Takes both, empties early. */
void stream_relay(struct http_request *req, int client, struct buf *early, int fd, const struct stream_want *want);
/* The whole output, in the form that want says, as one writes it before or instead of a relay. 0 or -EPIPE. */
int stream_say(int client, bool tty, int stream, const char *text, size_t n);
void stream_type(struct http_request *req, bool tty); /* "Content-Type" of such streams, as the version has it */

/* ---- log-details.c ---- */
/* The attributes that lines of the container's log have by its log options: "key=value,…", "" for none; free it. */
char *docker_log_details(struct core *c, const struct instance *i);

/* ---- handlers ---- */
void docker_attach(struct http_request *req);
void docker_attach_websocket(struct http_request *req);
void docker_resize(struct http_request *req);
void docker_exec_create(struct http_request *req);
void docker_exec_start(struct http_request *req);
void docker_exec_resize(struct http_request *req);
void docker_exec_inspect(struct http_request *req);
void docker_logs(struct http_request *req);
void docker_stats(struct http_request *req);
void docker_archive_get(struct http_request *req);
void docker_archive_put(struct http_request *req);
void docker_events(struct http_request *req);
void docker_df(struct http_request *req);

/* Sends what the log has by now to a raw socket, in the form that want says; its stream filters apply. */
int logs_send(struct http_request *req, const char *name, const struct stream_want *want, int client);
