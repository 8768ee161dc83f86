/* Inside of wabe-shim. It uses neither stdio nor the base room: a hundred of them run on a host. */
#pragma once

#include "shim/protocol.h"
#include "shim/shim.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int64_t now_ms(void); /* CLOCK_MONOTONIC */
/* Writes v in decimal at p (at least 21 bytes), gives the end. */
char *put_number(char *p, int64_t v);
char *put_text(char *p, const char *s);

/* --- the log --- */

struct log_options {
	const char *path; /* NULL: none */
	int64_t max_size, max_files;
};
void log_start(const struct log_options *o);
/* Adds output of "stdout" or "stderr". Never fails: what cannot be written is counted, and the log tells how
 * much is missing once it can be written again. */
void log_add(const char *stream, const char *data, size_t n);
void log_reopen(void);

/* --- the clients --- */

struct client;

/* What the clients need of the rest (main.c). */
size_t stdin_room(void);
void stdin_add(const char *data, size_t n);
void stdin_end(void);
void terminal_resize(unsigned rows, unsigned columns);
size_t state_text(char *out); /* at most 64 bytes */
bool exit_status(int *status); /* false: it runs */
void poll_set(int fd, uint32_t events, void *source, uint32_t *registered); /* 0: not watched */

void client_accept(int listener);
void client_events(struct client *c, uint32_t events);
/* A frame for all clients that asked for this kind of output. */
void client_output(enum shim_frame type, const char *data, size_t n);
bool client_full(void);    /* one has no room for another frame of output */
bool client_attached(void); /* one has asked for output since the start */
void client_resume(void);  /* there is room for input again */
void client_send_exit(void);
/* Drops those that took nothing for too long; when to call again, in ms from now, or -1. */
int64_t client_expire(int64_t now, int64_t patience_ms);

/* --- relay.c, of wabe-machine --- */

__attribute__((noreturn)) void relay_run(void);
/* Makes the terminal on standard input raw, if it is one; passes standard input and changes of its size on to the port, for ever. */
void relay_make_raw(void);
__attribute__((noreturn)) void relay_send_input(int port);
