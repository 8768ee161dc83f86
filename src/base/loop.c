/* An event loop over epoll. Timers are a list sorted by time; removed sources are freed after the round of
 * callbacks that they were removed in. */
#include "base/loop.h"

#include "base/time.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct loop_source {
	struct loop *loop;
	struct loop_source *next;
	int fd; /* -1: a timer */
	bool dead;
	int64_t when;
	void *arg;
	void (*on_fd)(struct loop_source *, uint32_t, void *);
	void (*on_timer)(void *);
};

struct loop {
	int epoll;
	bool stop;
	struct loop_source *timers; /* earliest first */
	struct loop_source *dead;
	int signal_fd;
	struct loop_source *signal_source;
	sigset_t signals;
	struct {
		void (*fn)(int, void *);
		void *arg;
	} on_signal[NSIG];
};

struct loop *loop_new(void) {
	struct loop *l = NEW(struct loop);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll < 0)
		abort();
	l->signal_fd = -1;
	sigemptyset(&l->signals);
	return l;
}

static void free_list(struct loop_source *s) {
	while (s) {
		struct loop_source *next = s->next;
		free(s);
		s = next;
	}
}

void loop_free(struct loop *l) {
	if (!l)
		return;
	free(l->signal_source);
	free_list(l->timers);
	free_list(l->dead);
	close_fd(&l->epoll);
	close_fd(&l->signal_fd);
	free(l);
}

struct loop_source *loop_add_fd(struct loop *l, int fd, uint32_t events,
				void (*fn)(struct loop_source *, uint32_t, void *), void *arg) {
	struct loop_source *s = NEW(struct loop_source);
	*s = (struct loop_source){.loop = l, .fd = fd, .on_fd = fn, .arg = arg};
	struct epoll_event e = {.events = events, .data.ptr = s};
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &e) < 0)
		abort(); /* a closed or doubled descriptor: a bug of the caller */
	return s;
}

void loop_set_events(struct loop_source *s, uint32_t events) {
	struct epoll_event e = {.events = events, .data.ptr = s};
	epoll_ctl(s->loop->epoll, EPOLL_CTL_MOD, s->fd, &e);
}

struct loop_source *loop_add_timer(struct loop *l, int64_t when, void (*fn)(void *), void *arg) {
	struct loop_source *s = NEW(struct loop_source);
	*s = (struct loop_source){.loop = l, .fd = -1, .when = when, .on_timer = fn, .arg = arg};
	struct loop_source **at = &l->timers;
	while (*at && (*at)->when <= when)
		at = &(*at)->next;
	s->next = *at;
	*at = s;
	return s;
}

static void on_signal_fd(UNUSED struct loop_source *s, UNUSED uint32_t events, void *arg) {
	struct loop *l = arg;
	struct signalfd_siginfo info;
	while (read(l->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
		if (l->on_signal[info.ssi_signo].fn)
			l->on_signal[info.ssi_signo].fn((int)info.ssi_signo, l->on_signal[info.ssi_signo].arg);
}

int loop_add_signal(struct loop *l, int signo, void (*fn)(int, void *), void *arg) {
	sigaddset(&l->signals, signo);
	if (sigprocmask(SIG_BLOCK, &l->signals, NULL) < 0)
		return -errno;
	bool first = l->signal_fd < 0;
	int fd = signalfd(l->signal_fd, &l->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	l->signal_fd = fd;
	l->on_signal[signo].fn = fn;
	l->on_signal[signo].arg = arg;
	if (first)
		l->signal_source = loop_add_fd(l, fd, EPOLLIN, on_signal_fd, l);
	return 0;
}

void loop_remove(struct loop_source *s) {
	if (!s || s->dead)
		return;
	struct loop *l = s->loop;
	if (s->fd >= 0) {
		epoll_ctl(l->epoll, EPOLL_CTL_DEL, s->fd, NULL);
	} else {
		struct loop_source **at = &l->timers;
		while (*at && *at != s)
			at = &(*at)->next;
		if (*at)
			*at = s->next;
	}
	s->dead = true;
	s->next = l->dead;
	l->dead = s;
}

static void run_timers(struct loop *l) {
	int64_t now = time_mono_ns();
	while (l->timers && l->timers->when <= now && !l->stop) {
		struct loop_source *s = l->timers;
		loop_remove(s);
		s->on_timer(s->arg);
	}
}

static int wait_ms(const struct loop *l) {
	if (!l->timers)
		return -1;
	int64_t left = l->timers->when - time_mono_ns();
	if (left <= 0)
		return 0;
	return (int)MIN((left + NS_PER_MS - 1) / NS_PER_MS, 3600000);
}

int loop_run(struct loop *l) {
	struct epoll_event events[64];
	l->stop = false;
	while (!l->stop) {
		int n = epoll_wait(l->epoll, events, ARRAY_SIZE(events), wait_ms(l));
		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n && !l->stop; i++) {
			struct loop_source *s = events[i].data.ptr;
			if (!s->dead)
				s->on_fd(s, events[i].events, s->arg);
		}
		run_timers(l);
		free_list(l->dead);
		l->dead = NULL;
	}
	return 0;
}

void loop_stop(struct loop *l) {
	l->stop = true;
}
