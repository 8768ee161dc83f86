/* What both back ends share: checks, the meaning of a transaction, group commit, the latest changes.
 *
 * Writers queue. The first who finds nobody committing becomes the leader: it takes the whole queue and
 * commits it as one transaction of the back end, so that all of them share one fsync; the others wait. A
 * reader is never behind this queue. */
#include "store/store-priv.h"

struct store_job {
	const struct store_op *ops;
	size_t n;
	int result;
	struct error error;
	int64_t revision;              /* 0 while the transaction changed nothing */
	bool changed[STORE_TXN_MAX];   /* a delete of an absent key changes nothing */
	bool done;
	struct store_job *next;
};

struct store *store_new(const struct store_backend *backend, void *state, int64_t revision, int64_t floor,
			size_t max_recent) {
	struct store *s = NEW(struct store);

	s->backend = backend;
	s->state = state;
	s->revision = revision;
	s->floor = floor;
	s->recent.floor = revision + 1;
	s->recent.max_bytes = max_recent;
	s->queue_end = &s->queue;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->turn, NULL);
	return s;
}

void store_close(struct store *s) {
	if (!s)
		return;
	s->backend->close(s);
	store_recent_free(&s->recent);
	pthread_cond_destroy(&s->turn);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- checks ---- */

static int key_check(const char *key, struct error *err) {
	size_t n = key ? strnlen(key, STORE_KEY_MAX + 1) : 0;

	if (!n || n > STORE_KEY_MAX)
		return error_set(err, ERROR_INVALID, "a store key has 1 to %zu bytes", STORE_KEY_MAX);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)key[i] < 0x20 || key[i] == 0x7f)
			return error_set(err, ERROR_INVALID, "a store key holds a control character");
	return 0;
}

static bool writes(const struct store_op *op) {
	return op->kind != STORE_CHECK;
}

static int op_check(const struct store_op *ops, size_t i, struct error *err) {
	const struct store_op *op = &ops[i];
	int r = key_check(op->key, err);

	if (r)
		return r;
	if (op->expect < STORE_ANY)
		return error_set(err, ERROR_INVALID, "%s: %lld is no revision", op->key, (long long)op->expect);
	if (op->kind == STORE_PUT && !op->value)
		return error_set(err, ERROR_INVALID, "%s: a put needs a value", op->key);
	if (op->kind == STORE_PUT && strnlen(op->value, STORE_VALUE_MAX + 1) > STORE_VALUE_MAX)
		return error_set(err, ERROR_TOO_LARGE, "%s: the value is larger than 2 MiB", op->key);
	for (size_t j = 0; j < i; j++)
		if (writes(op) && writes(&ops[j]) && !strcmp(op->key, ops[j].key))
			return error_set(err, ERROR_INVALID, "%s is written twice in one transaction", op->key);
	return 0;
}

static int txn_check(const struct store_op *ops, size_t n, struct error *err) {
	if (!n || n > STORE_TXN_MAX)
		return error_set(err, ERROR_INVALID, "a transaction has 1 to %zu operations", STORE_TXN_MAX);
	for (size_t i = 0; i < n; i++) {
		int r = op_check(ops, i, err);
		if (r)
			return r;
	}
	return 0;
}

static int expect_check(const struct store_op *op, int64_t revision, struct error *err) {
	if (op->expect == STORE_ANY || op->expect == revision)
		return 0;
	if (op->expect == STORE_ABSENT)
		return error_set(err, ERROR_CONFLICT, "%s exists already", op->key);
	if (!revision)
		return error_set(err, ERROR_CONFLICT, "%s is gone", op->key);
	return error_set(err, ERROR_CONFLICT, "%s has changed meanwhile: it is at revision %lld, not %lld", op->key,
			 (long long)revision, (long long)op->expect);
}

/* ---- one batch ---- */

/* First every expectation, then the writes: a transaction whose expectations fail has written nothing. */
static int job_apply(struct store *s, struct store_job *job, int64_t revision, struct error *io) {
	int64_t created[STORE_TXN_MAX], found;
	size_t changes = 0;
	int r;

	for (size_t i = 0; i < job->n; i++) {
		r = s->backend->find(s, job->ops[i].key, &created[i], &found, io);
		if (r)
			return r;
		job->result = expect_check(&job->ops[i], found, &job->error);
		if (job->result)
			return 0;
	}
	for (size_t i = 0; i < job->n; i++) {
		const struct store_op *op = &job->ops[i];

		job->changed[i] = op->kind == STORE_PUT || (op->kind == STORE_DELETE && created[i]);
		if (!job->changed[i])
			continue;
		r = s->backend->write(s, op->key, op->kind == STORE_PUT ? op->value : NULL,
				      created[i] ? created[i] : revision, revision, changes++, io);
		if (r)
			return r;
	}
	job->revision = changes ? revision : 0;
	return 0;
}

static void job_reset(struct store_job *job) {
	error_free(&job->error);
	job->error = ERROR_INIT;
	job->result = 0;
	job->revision = 0;
}

/* History goes in small steps, faster than it comes, so that no single write pays for many. */
static int64_t floor_after(const struct store *s, int64_t revision) {
	int64_t wanted = revision - STORE_KEEP + 1, step = s->floor + 4 * (revision - s->revision);

	return MAX(s->floor, MIN(wanted, step));
}

static void publish(struct store *s, const struct store_job *jobs, int64_t revision, int64_t floor) {
	pthread_mutex_lock(&s->lock);
	s->revision = revision;
	s->floor = floor;
	s->commits++;
	for (const struct store_job *job = jobs; job; job = job->next)
		for (size_t i = 0; job->revision && i < job->n; i++)
			if (job->changed[i]) {
				const struct store_op *op = &job->ops[i];
				store_recent_add(&s->recent, job->revision, op->key,
						 op->kind == STORE_PUT ? op->value : NULL);
				store_watch_notify(s, op->key);
			}
	store_watch_settle(s);
	store_recent_trim(&s->recent, floor);
	pthread_mutex_unlock(&s->lock);
}

static int batch_apply(struct store *s, struct store_job *jobs, struct error *io) {
	int64_t revision = s->revision, floor;
	int r = s->backend->begin(s, io);

	for (struct store_job *job = jobs; !r && job; job = job->next) {
		job_reset(job);
		r = job_apply(s, job, revision + 1, io);
		if (!r && job->revision)
			revision = job->revision;
	}
	floor = floor_after(s, revision);
	if (!r && floor > s->floor)
		r = s->backend->trim(s, floor, io);
	if (!r && revision > s->revision)
		r = s->backend->commit(s, revision, floor, io);
	if (r || revision == s->revision)
		s->backend->rollback(s);
	if (!r && revision > s->revision)
		publish(s, jobs, revision, floor);
	return r;
}

static void job_fail(struct store_job *job, struct error *io) {
	job_reset(job);
	job->result = error_move(&job->error, io);
}

/* Where the batch as a whole cannot be written (the disk is full), each gets its own try, so that a small
 * write, or a delete, isn't refused for the size of its neighbour. */
static void batch_commit(struct store *s, struct store_job *jobs) {
	struct error io = ERROR_INIT;

	if (!batch_apply(s, jobs, &io))
		return;
	if (!jobs->next) {
		job_fail(jobs, &io);
		return;
	}
	error_free(&io);
	for (struct store_job *job = jobs, *next; job; job = next) {
		struct error own = ERROR_INIT;

		next = job->next;
		job->next = NULL;
		if (batch_apply(s, job, &own))
			job_fail(job, &own);
		job->next = next;
	}
}

static void lead_end(struct store *s) {
	s->leading = false;
	pthread_cond_broadcast(&s->turn);
}

/* Called with the lock held; gives it up while the disk is written. */
static void lead(struct store *s) {
	struct store_job *batch = s->queue;

	s->leading = true;
	s->queue = NULL;
	s->queue_end = &s->queue;
	s->queued = 0;
	pthread_mutex_unlock(&s->lock);
	batch_commit(s, batch);
	pthread_mutex_lock(&s->lock);
	for (struct store_job *job = batch, *next; job; job = next) {
		next = job->next;
		job->done = true;
	}
	lead_end(s);
}

int store_txn(struct store *s, const struct store_op *ops, size_t n, int64_t *revision, struct error *err) {
	struct store_job job = {.ops = ops, .n = n};
	int r = txn_check(ops, n, err);

	if (r)
		return r;
	pthread_mutex_lock(&s->lock);
	*s->queue_end = &job;
	s->queue_end = &job.next;
	s->queued++;
	while (!job.done && s->leading)
		pthread_cond_wait(&s->turn, &s->lock);
	if (!job.done)
		lead(s);
	if (revision && !job.result)
		*revision = job.revision ? job.revision : s->revision;
	pthread_mutex_unlock(&s->lock);
	return job.result ? error_move(err, &job.error) : 0;
}

int store_put(struct store *s, const char *key, const char *value, int64_t expect, int64_t *revision,
	      struct error *err) {
	struct store_op op = {.kind = STORE_PUT, .key = key, .value = value, .expect = expect};

	return store_txn(s, &op, 1, revision, err);
}

int store_delete(struct store *s, const char *key, int64_t expect, struct error *err) {
	struct store_op op = {.kind = STORE_DELETE, .key = key, .expect = expect};

	return store_txn(s, &op, 1, NULL, err);
}

/* One step, as the leader: at most `most` revisions of history go. */
static int compact_step(struct store *s, int64_t keep, int64_t most, bool *more, struct error *err) {
	int64_t wanted = s->revision - keep + 1, floor = MIN(wanted, s->floor + most);
	int r;

	*more = false;
	if (floor <= s->floor)
		return 0;
	r = s->backend->begin(s, err);
	if (!r)
		r = s->backend->trim(s, floor, err);
	if (!r)
		r = s->backend->commit(s, s->revision, floor, err);
	if (r) {
		s->backend->rollback(s);
		return r;
	}
	publish(s, NULL, s->revision, floor);
	*more = floor < wanted;
	return 0;
}

int store_compact(struct store *s, int64_t keep, struct error *err) {
	bool more = true;
	int r = 0;

	if (keep < 0)
		return error_set(err, ERROR_INVALID, "cannot keep %lld revisions", (long long)keep);
	while (more && !r) {
		pthread_mutex_lock(&s->lock);
		while (s->leading)
			pthread_cond_wait(&s->turn, &s->lock);
		s->leading = true;
		pthread_mutex_unlock(&s->lock);
		r = compact_step(s, keep, 256, &more, err);
		pthread_mutex_lock(&s->lock);
		lead_end(s);
		pthread_mutex_unlock(&s->lock);
	}
	return r;
}

/* ---- reading ---- */

int store_get(struct store *s, const char *key, struct store_item *out, struct error *err) {
	int r = key_check(key, err);

	*out = (struct store_item){0};
	return r ? r : s->backend->get(s, key, out, err);
}

int store_list(struct store *s, const char *prefix, struct store_items *out, struct error *err) {
	int r = *prefix ? key_check(prefix, err) : 0;

	*out = (struct store_items){0};
	return r ? r : s->backend->list(s, prefix, out, err);
}

int64_t store_revision(struct store *s) {
	int64_t revision;

	pthread_mutex_lock(&s->lock);
	revision = s->revision;
	pthread_mutex_unlock(&s->lock);
	return revision;
}

uint64_t store_commits(struct store *s) {
	uint64_t n;

	pthread_mutex_lock(&s->lock);
	n = s->commits;
	pthread_mutex_unlock(&s->lock);
	return n;
}

size_t store_queued(struct store *s) {
	size_t n;

	pthread_mutex_lock(&s->lock);
	n = s->queued;
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* ---- what is given to callers ---- */

void store_items_add(struct store_items *l, const char *key, const char *value, int64_t created, int64_t revision) {
	if (!(l->n & (l->n - 1))) /* grows at powers of two */
		l->items = alloc_resize(l->items, l->n ? 2 * l->n : 1, sizeof(*l->items));
	l->items[l->n++] = (struct store_item){
		.key = str_copy(key), .value = str_copy(value), .created = created, .revision = revision};
}

void store_item_free(struct store_item *i) {
	free(i->key);
	free(i->value);
	*i = (struct store_item){0};
}

void store_items_free(struct store_items *l) {
	for (size_t i = 0; i < l->n; i++)
		store_item_free(&l->items[i]);
	free(l->items);
	*l = (struct store_items){0};
}

void store_change_free(struct store_change *c) {
	free(c->key);
	free(c->value);
	*c = (struct store_change){0};
}
