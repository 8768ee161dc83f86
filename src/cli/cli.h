/* What the commands share: paths of the API, tables, progress, terminals, the stream of an attach. */
#pragma once

#include "base/json.h"
#include "cli/command.h"
#include "model/instance.h"

#include <stdio.h>

/* ---- requests.c ---- */
/* "/v1/projects/PROJECT" and the rest, each %s encoded; free it. */
char *api_path(const struct invocation *in, const char *fmt, ...);
/* A call on such a path. The path is freed. */
int api_call(const struct invocation *in, const char *method, char *path, const json_t *body, json_t **reply,
	     struct error *err);
/* Has something made by a POST, and prints its id, if the answer has one. The path is freed. */
int api_make(const struct invocation *in, char *path, const json_t *body, struct error *err);
/* Adds "?key=value" or "&key=value" to a path, encoded; value NULL: nothing. */
void path_query(char **path, const char *key, const char *value);
/* A stream of JSON lines: fn for each; fn < 0 stops. The path is freed. */
int api_lines(const struct invocation *in, const char *method, char *path, const json_t *body,
	      int (*fn)(const json_t *line, void *arg), void *arg, struct error *err);
/* The same request for each argument; failures are told and the rest goes on. Prints each name that went well
 * if quiet is false. Exit status. */
int api_each(const struct invocation *in, const char *method, const char *fmt, const json_t *body, bool quiet);
/* Shows each argument as indented JSON: a GET of fmt, and what `more` (NULL: nothing) adds. Exit status. */
int show_each(const struct invocation *in, const char *fmt,
	      void (*more)(const struct invocation *in, const char *name, json_t *object));
/* A GET whose body goes to a file (NULL: standard output, which must be no terminal). The path is freed. */
int download(const struct invocation *in, char *path, const char *file, struct error *err);
int download_by(const struct invocation *in, const char *method, char *path, const char *file, struct error *err);
/* A file to upload; "-" is standard input, which must be no terminal. */
int open_input(const char *file, struct error *err);
/* Prints an error as command_main does. */
void print_error(const struct error *err);
/* The object as indented JSON on standard output. */
void print_json(const json_t *value);
/* GET: the same of one member of the answer, which may be long: it is not parsed. The path is freed. */
int print_member(const struct invocation *in, char *path, const char *key, struct error *err);

/* ---- format.c: each result is to be freed ---- */
char *format_bytes(int64_t bytes);        /* "1.5 GiB" */
char *format_age(const char *time);       /* "5 minutes" since an RFC 3339 time; "-" for NULL */
char *format_seconds(int64_t ns);         /* "1:02:03" */
const char *short_id(const char *id, char out[13]); /* 12 digits, also of "sha256:…" */
char *format_ports(const json_t *ports);  /* "8080->80/tcp, 53->53/udp"; "" for none */
/* "10m" (ago), or a time as the API takes it: free it. */
int parse_when(const char *text, char **out, struct error *err);

/* ---- table.c: rows of text; the widest columns shrink to the width of a terminal ---- */
struct table;
struct table *table_new(const char *const *headings); /* NULL-terminated */
void table_add(struct table *t, ...);                 /* const char * for each heading; copied; NULL is "-" */
void table_print(struct table *t, bool headings);     /* and frees */

/* ---- terminal.c ---- */
bool terminal_size(int *rows, int *columns); /* of standard output or input */
/* Raw mode for standard input until terminal_restore; nothing if it is no terminal. */
void terminal_raw(void);
void terminal_restore(void);
/* The first line of standard input, which a terminal does not show; free it. NULL and *err when there is none. */
char *terminal_secret(const char *prompt, struct error *err);

/* ---- progress.c: on standard error, once a second has passed; a bar on a terminal, else lines ---- */
struct progress;
struct progress *progress_new(void);
void progress_update(struct progress *p, const char *message, int64_t done, int64_t total);
void progress_end(struct progress *p); /* and frees */
/* Shows how far an upload of fd is until progress_end. */
struct progress *progress_of_upload(struct client *c, const char *message, int fd);
/* Waits for a task, showing its progress; SIGINT and SIGTERM cancel it. *task (NULL: not wanted) is the final
 * one; a failed one is the error. */
int task_wait(const struct invocation *in, const char *id, bool quiet, json_t **task, struct error *err);

/* ---- spec.c: what the client adds to an instance's flags ---- */
/* The options of run and create beside the flags of instance_spec_table. */
struct create_options {
	char **env_files, **label_files, **aliases;
	char *pull, *platform, *cidfile, *ip, *ip6, *mac;
	bool quiet;
};
#define CREATE_OPTIONS(struct_, member_)                                                                 \
	OPTION(struct_, member_.pull, STRING, "pull", .placeholder = "POLICY", .def = "missing",         \
	       .doc = "Fetches the image: missing, always, never"),                                      \
		OPTION(struct_, member_.platform, STRING, "platform", .placeholder = "OS/ARCH",          \
		       .doc = "Of a fetched image"),                                                     \
		OPTION(struct_, member_.quiet, BOOL, "quiet,q", .doc = "Shows no progress of fetching"), \
		OPTION(struct_, member_.env_files, STRINGS, "env-file", .placeholder = "FILE",           \
		       .doc = "Environment from a file"),                                                \
		OPTION(struct_, member_.label_files, STRINGS, "label-file", .placeholder = "FILE",       \
		       .doc = "Labels from a file"),                                                     \
		OPTION(struct_, member_.cidfile, STRING, "cidfile", .placeholder = "FILE",               \
		       .doc = "Writes the id there"),                                                    \
		OPTION(struct_, member_.aliases, STRINGS, "network-alias", .placeholder = "NAME",        \
		       .doc = "A further name of it, on its first network"),                             \
		OPTION(struct_, member_.ip, STRING, "ip", .placeholder = "IP",                           \
		       .doc = "Its IPv4 address there"),                                                 \
		OPTION(struct_, member_.ip6, STRING, "ip6", .placeholder = "IP",                         \
		       .doc = "Its IPv6 address there"),                                                 \
		OPTION(struct_, member_.mac, STRING, "mac-address", .placeholder = "MAC",                \
		       .doc = "Its MAC address there")
/* Fills the spec from arguments (image, command), the client's environment, and files: environment, seccomp
 * profile, paths of volumes. */
int spec_finish(const struct invocation *in, const struct create_options *o, struct error *err);
/* A merge patch of what the flags of a command with this table set. */
/* The last lines of an instance's output, on standard output. */
int logs_show_last(const struct invocation *in, const char *name, int64_t lines, struct error *err);
json_t *fields_given_patch(const struct invocation *in, const struct field_table *t);
/* Creates what in->fields says; a missing image is pulled as o->pull says. Writes the cidfile. */
int spec_create(const struct invocation *in, const struct create_options *o, json_t **instance, struct error *err);

/* ---- stop.c: what restart has in common with it ---- */
struct stop_options {
	char *timeout, *signal;
};
extern const struct option_row stop_options[];
/* Posts these options to path of each instance named. An exit status. */
int stop_each(struct invocation *in, const char *path);

/* Sends a body that starts a task, and waits for it, showing its progress unless quiet. *result (NULL: not wanted) is what
 * it gives, to be freed. The path is freed. */
int task_result(const struct invocation *in, char *path, const json_t *body, bool quiet, char **result,
		struct error *err);
/* The same, and prints the name of what was made, or the result. */
int run_task(const struct invocation *in, char *path, const json_t *body, const char *name, struct error *err);

/* Of the snapshots of in->args[0], a volume or an instance, and what follows. */
char *snapshot_path(const struct invocation *in, bool volume, const char *rest);

/* Pulls by the request's body (docs/API.md). id (NULL: not wanted): of the image, to be freed. */
int pull_image(const struct invocation *in, const json_t *request, bool quiet, char **id, struct error *err);

/* ---- kept.c: path is "secrets" or "configs" ---- */
/* Keeps the file in->args[1], or standard input, under the name in->args[0]. */
int kept_create(const struct invocation *in, const char *path, struct error *err);
int kept_ls(const struct invocation *in, const char *path, struct error *err);

/* ---- session.c: an attached stream (shim/protocol.h) ---- */
struct session {
	const struct invocation *in;
	char *path;              /* of what to attach to; with its query */
	char *signal_path;       /* where signals are sent on; NULL: they are not */
	const char *name;        /* for messages */
	bool is_exec;
	bool tty, input;         /* the other side has a terminal; its input is ours */
	const char *detach_keys; /* "ctrl-p,ctrl-q"; "": none */
	json_t *body;            /* of the request; NULL: none */

	int sock, signal_fd;
	struct buf received, to_send;
	char *keys;              /* the bytes of detach_keys */
	size_t n_keys, keys_seen;
	bool input_open, ended, detached;
	int status, signo;
};
/* Whether the keys are some, and the terminal one: before anything is made for a session. */
int session_check(bool tty, bool input, const char *detach_keys, struct error *err);
/* Connects. Signals are held back and the terminal is raw from here on, until session_close. */
int session_open(struct session *s, struct error *err);
/* Copies until the end: the exit status, 0 after a detach; negative when the stream broke off. */
int session_run(struct session *s, struct error *err);
void session_close(struct session *s);
/* session_run; and where the stream broke off (the daemon was restarted), asks how the instance ended. Returns
 * once everybody sees the end: the final status, or nothing of an instance that is removed by itself. Of one
 * whose restart policy (NULL: no) brings it back the end of this run is all that is waited for. */
int session_run_to_end(struct session *s, const char *id, const char *policy, bool auto_remove, struct error *err);
/* Attaches to an instance that is there (spec: its own), starts it then if asked to, and stays to the end. */
int session_of_instance(const struct invocation *in, const char *name, const json_t *spec, bool input, bool sig_proxy,
			const char *detach_keys, bool start, struct error *err);
#define DETACH_KEYS "ctrl-p,ctrl-q"
/* 127 and 126 for errors that say so, else 125. */
int exit_status_of(const struct error *err);
