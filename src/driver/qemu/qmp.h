/* A client of QEMU's QMP (docs/interop/qmp-spec.txt). Blocking with deadlines; what comes is bounded, and trusted no more
 * than any stranger's: QEMU runs what guests do. */
#pragma once

#include "base/error.h"
#include "base/json.h"

struct qmp;
#define QMP_MESSAGE_MAX ((size_t)1 << 20)

/* Connects to the socket `name` in dir and shakes hands. NOT_FOUND: nobody listens, the machine has ended; TIMEOUT (deadline:
 * monotonic ns). Another client that has the monitor is waited for. */
int qmp_open(const char *dir, const char *name, int64_t deadline, struct qmp **out, struct error *err);
/* The same with a connected descriptor, which becomes its own. */
int qmp_begin(int fd, int64_t deadline, struct qmp **out, struct error *err);
void qmp_free(struct qmp *q);
DEFINE_CLEANUP(qmp_free_ptr, struct qmp *, qmp_free);
int qmp_fd(const struct qmp *q); /* for an event loop */
/* Takes over a connected descriptor without waiting: for an event loop. */
struct qmp *qmp_adopt(int fd);
/* args is consumed, may be NULL; fd goes along (getfd, add-fd), -1: none. ret may be NULL, else *ret is the caller's. Events that
 * come meanwhile are kept for qmp_event. The error that QEMU gives: its desc, kind by class (DeviceNotFound: NOT_FOUND,
 * DeviceNotActive: CONFLICT, CommandNotFound: UNSUPPORTED, else INTERNAL). UNAVAILABLE: it has ended meanwhile. */
int qmp_call(struct qmp *q, const char *command, json_t *args, int fd, int64_t deadline, json_t **ret, struct error *err);
/* The same without waiting for the answer, which is nobody's. */
int qmp_post(struct qmp *q, const char *command, int64_t deadline, struct error *err);
/* The next event whose name is `name` (NULL: any), with its data (NULL where it has none); what is not NULL is the caller's. */
int qmp_event(struct qmp *q, const char *name, int64_t deadline, char **event, json_t **data, struct error *err);
/* For an event loop: one event that is there already. 1, 0: none yet, negative: the end. Never blocks; called until it gives 0
 * whenever the descriptor can be read. At most so many unread bytes are kept as a message may have. */
int qmp_poll(struct qmp *q, char **event, json_t **data, struct error *err);

/* Gives a descriptor under a name, for one command that takes it by that ("fd:NAME"). */
int qmp_give(struct qmp *q, const char *name, int fd, int64_t deadline, struct error *err);
/* Lends a descriptor: QEMU opens it as *path, which is the caller's to free, in the way (to read, to write) in which it is open
 * here. */
int qmp_lend(struct qmp *q, const char *word, int fd, int64_t deadline, char **path, struct error *err);
/* Those that were lent with this word. One that is in use stays until it is not. */
void qmp_take_back(struct qmp *q, const char *word, int64_t deadline);
