/* A client of the agent in a guest (docs/interop/qemu-ga-ref of QEMU 7.2). Whatever the guest answers is a stranger's: bounded,
 * checked, with deadlines (monotonic ns). A call that has failed with TIMEOUT or CORRUPT leaves the connection of no use: it is
 * opened anew. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"

struct guest;
/* Connects to the socket `name` in dir, and gets in step with the agent. NOT_FOUND: the machine has ended. UNAVAILABLE: no agent
 * answers, with what to do. */
int guest_open(const char *dir, const char *name, int64_t deadline, struct guest **out, struct error *err);
/* The same over a connected descriptor, which is taken over. */
int guest_adopt(int fd, int64_t deadline, struct guest **out, struct error *err);
void guest_free(struct guest *g);
DEFINE_CLEANUP(guest_free_ptr, struct guest *, guest_free);

/* Any command. args is consumed, may be NULL; ret may be NULL, else *ret is the caller's. What the agent refuses: UNSUPPORTED
 * when it has no such command or it is disabled there, NOT_FOUND and DENIED where it says so, else CONFLICT; with its words. */
int guest_call(struct guest *g, const char *command, json_t *args, int64_t deadline, json_t **ret, struct error *err);
int guest_ping(struct guest *g, int64_t deadline, struct error *err);

struct guest_command {
	char *const *argv; /* argv[0] is looked up in the agent's PATH */
	char *const *env;  /* NULL: the agent's */
	const void *input;
	size_t input_len;
	bool capture;
};
/* What has become of it. */
struct guest_result {
	bool exited;
	int status; /* exit status, or 128 + signal */
	struct buf out, err;
	bool out_truncated, err_truncated; /* by the agent, which keeps 16 MiB of each */
};
void guest_result_free(struct guest_result *r);
/* NO_COMMAND, NO_EXEC where the agent says so. */
int guest_exec(struct guest *g, const struct guest_command *c, int64_t deadline, int64_t *pid, struct error *err);
int guest_exec_status(struct guest *g, int64_t pid, int64_t deadline, struct guest_result *out, struct error *err);

/* Files. mode as fopen has it: "r", "w", "a" … */
#define GUEST_CHUNK ((size_t)512 << 10)
int guest_file_open(struct guest *g, const char *path, const char *mode, int64_t deadline, int64_t *handle, struct error *err);
/* Adds up to n bytes (at most GUEST_CHUNK) to *out. */
int guest_file_read(struct guest *g, int64_t handle, size_t n, int64_t deadline, struct buf *out, bool *end, struct error *err);
/* All of it; in pieces. */
int guest_file_write(struct guest *g, int64_t handle, const void *data, size_t n, int64_t deadline, struct error *err);
int guest_file_close(struct guest *g, int64_t handle, int64_t deadline, struct error *err);

/* Freezes all file systems; *count of them may be NULL. On failure none stays frozen. While they are, only status, thaw and ping
 * are answered. */
int guest_freeze(struct guest *g, int64_t deadline, int64_t *count, struct error *err);
int guest_thaw(struct guest *g, int64_t deadline, int64_t *count, struct error *err);
int guest_frozen(struct guest *g, int64_t deadline, bool *frozen, struct error *err);

struct guest_interface {
	char *name, *mac; /* mac: NULL where it has none */
	char **addresses; /* "10.0.0.5/24", "fe80::1/64" */
};
struct guest_interfaces {
	struct guest_interface *items;
	size_t n;
};
void guest_interfaces_free(struct guest_interfaces *all);
int guest_interfaces(struct guest *g, int64_t deadline, struct guest_interfaces *out, struct error *err);

/* how: powerdown | reboot | halt. Success says that it has begun. */
int guest_shutdown(struct guest *g, const char *how, int64_t deadline, struct error *err);
/* hashed: the password is as crypt(3) gives it. */
int guest_set_password(struct guest *g, const char *user, const char *password, bool hashed, int64_t deadline, struct error *err);
int guest_set_time(struct guest *g, int64_t ns, int64_t deadline, struct error *err); /* since the epoch */
int guest_host_name(struct guest *g, int64_t deadline, char **name, struct error *err);

struct guest_os {
	char *id, *name, *version, *kernel, *machine; /* "debian", "Debian GNU/Linux 12 (bookworm)", "12", "6.1.0-…", "x86_64"; NULL: not told */
};
void guest_os_free(struct guest_os *os);
int guest_os(struct guest *g, int64_t deadline, struct guest_os *out, struct error *err);
