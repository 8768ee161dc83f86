/* An event loop over epoll for single-threaded processes: descriptors, timers, signals, children. */
#pragma once

#include "base/util.h"

struct loop;
struct loop_source;

struct loop *loop_new(void);
void loop_free(struct loop *l);
/* Runs until loop_stop; 0 or -errno. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* Calls fn when fd is ready. events as in epoll_ctl(2) (EPOLLIN …), level-triggered. The descriptor stays
 * the caller's. */
struct loop_source *loop_add_fd(struct loop *l, int fd, uint32_t events,
				void (*fn)(struct loop_source *s, uint32_t events, void *arg), void *arg);
void loop_set_events(struct loop_source *s, uint32_t events);
/* Calls fn once at a time of time_mono_ns; the source is gone afterwards. */
struct loop_source *loop_add_timer(struct loop *l, int64_t when_ns, void (*fn)(void *arg), void *arg);
/* Blocks the signal and calls fn each time that it comes. */
int loop_add_signal(struct loop *l, int signo, void (*fn)(int signo, void *arg), void *arg);
/* NULL is allowed; also from inside the source's own callback. */
void loop_remove(struct loop_source *s);
