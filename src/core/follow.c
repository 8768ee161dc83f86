/* One thread for everything that waits for something to happen: who waits for an exit, a task's end, an
 * event, a line of a log. A follower is a little state and a step function that never blocks. */
#include "base/fs.h"
#include "core/core-priv.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#define SWEEP_MS 5000 /* looks whether followers have gone that nothing happens for */
#define SOON_MS 20

struct watch {
	int wd;
	unsigned users;
};

struct follow {
	pthread_t thread;
	pthread_mutex_t lock; /* of incoming, closing, watches */
	int wake, inotify;
	bool closing;
	struct follower *incoming;
	struct watch *watches;
	size_t n_watches;
};

/* Steps each once; gives how long to wait at most. */
static int step_all(struct follower **list) {
	int timeout = *list ? SWEEP_MS : -1;
	for (struct follower **at = list; *at;) {
		struct follower *one = *at;
		enum follow_result r = one->step(one);
		if (r == FOLLOW_END) {
			*at = one->next;
			one->drop(one, true);
			continue;
		}
		if (r == FOLLOW_SOON)
			timeout = SOON_MS;
		at = &one->next;
	}
	return *list ? timeout : -1;
}

static void drop_all(struct follower **list) {
	for (struct follower *one; (one = *list);) {
		*list = one->next;
		one->drop(one, false);
	}
}

static void *follow_thread(void *arg) {
	struct follow *f = arg;
	struct follower *list = NULL;
	bool closing = false;
	int timeout = -1;
	while (!closing) {
		struct pollfd fds[2] = {{f->wake, POLLIN, 0}, {f->inotify, POLLIN, 0}};
		poll(fds, f->inotify >= 0 ? 2 : 1, timeout);
		uint64_t count;
		char events[4096];
		if (fds[0].revents && read(f->wake, &count, sizeof count) < 0)
			continue;
		while (f->inotify >= 0 && fds[1].revents && read(f->inotify, events, sizeof events) > 0)
			;
		pthread_mutex_lock(&f->lock);
		closing = f->closing;
		for (struct follower *one; (one = f->incoming);) {
			f->incoming = one->next;
			one->next = list;
			list = one;
		}
		pthread_mutex_unlock(&f->lock);
		timeout = step_all(&list);
	}
	drop_all(&list);
	return NULL;
}

struct follow *follow_new(void) {
	struct follow *f = NEW(struct follow);
	pthread_mutex_init(&f->lock, NULL);
	f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (f->wake < 0 || pthread_create(&f->thread, NULL, follow_thread, f) != 0)
		abort(); /* out of descriptors or threads right at the start */
	return f;
}

void follow_wake(struct follow *f) {
	uint64_t one = 1;
	if (write(f->wake, &one, sizeof one) < 0)
		return; /* full: it is awake anyway */
}

void follow_stop(struct follow *f) {
	pthread_mutex_lock(&f->lock);
	bool stopped = f->closing;
	f->closing = true;
	pthread_mutex_unlock(&f->lock);
	if (stopped)
		return;
	follow_wake(f);
	pthread_join(f->thread, NULL);
}

void follow_free(struct follow *f) {
	if (!f)
		return;
	follow_stop(f);
	drop_all(&f->incoming); /* what came after the stop */
	close_fd(&f->wake);
	close_fd(&f->inotify);
	pthread_mutex_destroy(&f->lock);
	free(f->watches);
	free(f);
}

void follow_add(struct follow *f, struct follower *one) {
	pthread_mutex_lock(&f->lock);
	one->next = f->incoming;
	f->incoming = one;
	pthread_mutex_unlock(&f->lock);
	follow_wake(f);
}

/* The kernel gives one watch for one file however often it is asked. */
int follow_watch_file(struct follow *f, int fd) {
	char path[FD_PATH_MAX];
	pthread_mutex_lock(&f->lock);
	int wd = inotify_add_watch(f->inotify, fd_path(fd, path), IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF);
	int result = wd < 0 ? -errno : wd;
	if (wd >= 0) {
		size_t i = 0;
		while (i < f->n_watches && f->watches[i].wd != wd)
			i++;
		if (i == f->n_watches) {
			f->watches = alloc_resize(f->watches, f->n_watches + 1, sizeof *f->watches);
			f->watches[f->n_watches++] = (struct watch){wd, 0};
		}
		f->watches[i].users++;
	}
	pthread_mutex_unlock(&f->lock);
	return result;
}

void follow_unwatch_file(struct follow *f, int watch) {
	pthread_mutex_lock(&f->lock);
	for (size_t i = 0; i < f->n_watches; i++)
		if (f->watches[i].wd == watch && --f->watches[i].users == 0) {
			inotify_rm_watch(f->inotify, watch);
			f->watches[i] = f->watches[--f->n_watches];
			break;
		}
	pthread_mutex_unlock(&f->lock);
}
