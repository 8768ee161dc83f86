/* Solves under way by the reference that their client has given them: what one says of itself waits here for the call that
 * follows it, which may come before, meanwhile or when it is over. */
#include "dialect/docker/buildkit-priv.h"

#include <pthread.h>
#include <time.h>

#define JOBS_MAX 256
#define OVER_MAX 8 /* that are over, and have not been followed to their end */
#define QUEUE_MAX ((size_t)4 << 20)
#define WAIT_SECONDS 10

struct message {
	struct message *next;
	size_t n;
	char data[];
};
struct bk_job {
	struct bk_job *next;
	char *ref;
	int refs; /* the list's, and of those who use it */
	struct message *first, **last;
	size_t queued;
	bool over, followed;
	struct grpc_connection *session; /* of the solve, for a front end at the client's */
	/* what that has returned */
	bool returned;
	char *result;
	struct error failed;
};

static struct bk_job *jobs;
static size_t n_jobs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* ---- all of these with the lock ---- */

static void drop_messages(struct bk_job *j) {
	for (struct message *m = j->first, *next; m; m = next) {
		next = m->next;
		free(m);
	}
	j->first = NULL;
	j->last = &j->first;
	j->queued = 0;
}

static void unref(struct bk_job *j) {
	if (--j->refs > 0)
		return;
	drop_messages(j);
	grpc_unref(j->session);
	free(j->ref);
	free(j->result);
	error_free(&j->failed);
	free(j);
}

static void unlist(struct bk_job *j) {
	struct bk_job **at = &jobs;
	while (*at && *at != j)
		at = &(*at)->next;
	if (!*at)
		return;
	*at = j->next;
	n_jobs--;
	unref(j);
}

/* The list begins with the newest. */
static void forget_old(void) {
	size_t n = 0;
	for (struct bk_job *j = jobs, *next; j; j = next) {
		next = j->next;
		if (j->over && !j->followed && ++n > OVER_MAX)
			unlist(j);
	}
}

static struct bk_job *find(const char *ref) {
	struct bk_job *j = jobs;
	while (j && !str_same(j->ref, ref))
		j = j->next;
	return j;
}

static void wait_a_moment(void) {
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++; /* a call that is given up has no signal here */
	pthread_cond_timedwait(&changed, &lock, &until);
}

/* ---- the solve's side ---- */

int bk_job_begin(const char *ref, struct grpc_connection *session, struct bk_job **out, struct error *err) {
	int r = 0;
	pthread_mutex_lock(&lock);
	struct bk_job *old = find(ref);
	if (old && old->over)
		unlist(TAKE_PTR(old));
	if (old) {
		r = error_set(err, ERROR_EXISTS, "job ID %s exists", ref);
	} else if (n_jobs >= JOBS_MAX) {
		r = error_set(err, ERROR_UNAVAILABLE, "there are %d solves, more are not done at a time", JOBS_MAX);
	} else {
		struct bk_job *j = NEW(struct bk_job);
		*j = (struct bk_job){.next = jobs, .ref = str_copy(ref), .refs = 2, .session = session ? grpc_ref(session) : NULL};
		j->last = &j->first;
		jobs = j;
		n_jobs++;
		*out = j;
	}
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return r;
}

/* What a slow follower, or none, leaves behind is bounded: the oldest goes. */
void bk_job_say(struct bk_job *j, const void *data, size_t n) {
	struct message *m = alloc_zero(sizeof *m + n);
	m->n = n;
	memcpy(m->data, data, n);
	pthread_mutex_lock(&lock);
	*j->last = m;
	j->last = &m->next;
	j->queued += n;
	while (j->queued > QUEUE_MAX && j->first != m) {
		struct message *old = j->first;
		j->first = old->next;
		j->queued -= old->n;
		free(old);
	}
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

void bk_job_end(struct bk_job *j) {
	pthread_mutex_lock(&lock);
	j->over = true;
	pthread_cond_broadcast(&changed);
	unref(j);
	forget_old();
	pthread_mutex_unlock(&lock);
}

int bk_job_await_return(struct bk_job *j, bool (*gone)(void *arg), void *arg, char **result, struct error *err) {
	int r = 0;
	pthread_mutex_lock(&lock);
	while (!j->returned && r == 0) {
		pthread_mutex_unlock(&lock);
		if (gone(arg))
			r = error_set(err, ERROR_CANCELLED, "build cancelled");
		pthread_mutex_lock(&lock);
		if (r == 0 && !j->returned)
			wait_a_moment();
	}
	if (r == 0 && j->failed.kind)
		r = error_move(err, &j->failed);
	*result = r == 0 ? TAKE_PTR(j->result) : NULL;
	pthread_mutex_unlock(&lock);
	return r;
}

/* ---- other calls' side ---- */

int bk_job_find(const char *ref, bool (*gone)(void *arg), void *arg, struct bk_job **out, struct error *err) {
	struct bk_job *j;
	pthread_mutex_lock(&lock);
	for (int i = 0; !(j = find(ref)) && i < WAIT_SECONDS && !gone(arg); i++)
		wait_a_moment();
	*out = j;
	if (j)
		j->refs++;
	pthread_mutex_unlock(&lock);
	return j ? 0 : error_set(err, ERROR_NOT_FOUND, "no such job %s", ref);
}

void bk_job_unref(struct bk_job *j) {
	if (!j)
		return;
	pthread_mutex_lock(&lock);
	unref(j);
	pthread_mutex_unlock(&lock);
}

int bk_job_next(struct bk_job *j, bool (*gone)(void *arg), void *arg, struct buf *out) {
	buf_truncate(out, 0);
	pthread_mutex_lock(&lock);
	while (!j->first && !j->over) {
		wait_a_moment();
		pthread_mutex_unlock(&lock);
		bool end = gone(arg);
		pthread_mutex_lock(&lock);
		if (end)
			break;
	}
	struct message *m = j->first;
	if (m) {
		j->first = m->next;
		j->last = j->first ? j->last : &j->first;
		j->queued -= m->n;
	} else if (j->over) {
		j->followed = true;
		unlist(j);
	}
	pthread_mutex_unlock(&lock);
	if (!m)
		return 0;
	buf_add(out, m->data, m->n);
	free(m);
	return 1;
}

void bk_job_return(struct bk_job *j, const char *result, const char *failed) {
	pthread_mutex_lock(&lock);
	if (!j->returned) {
		j->result = result ? str_copy(result) : NULL;
		if (failed)
			error_set(&j->failed, ERROR_INTERNAL, "%s", failed);
		j->returned = true;
	}
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

struct grpc_connection *bk_job_session(struct bk_job *j) {
	return j->session;
}
