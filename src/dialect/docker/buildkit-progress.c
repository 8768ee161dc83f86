/* What a solve does, as BuildKit's clients show it: steps ("vertexes"), how far their parts are, what their commands write. A
 * step is sent whole at each change, and known by a digest. */
#include "dialect/docker/buildkit-priv.h"
#include "dialect/buildkit.pb-c.h"

#include "base/time.h"
#include "core/tasks.h"

#include <pthread.h>

#define PARTS_MAX 256 /* of a step */

struct part {
	char *name;
	int64_t started, current, total;
	bool done;
};
struct step {
	char *digest, *name, *input;
	int64_t started, ended;
	struct part *parts;
	size_t n_parts;
};
struct bk_progress {
	void (*emit)(void *arg, const void *data, size_t n);
	void *arg;
	pthread_mutex_t lock; /* over what is below */
	struct step *steps;
	size_t n;
	size_t *of_build; /* by the builder's numbers */
	size_t n_of_build;
};

struct bk_progress *bk_progress_new(void (*emit)(void *arg, const void *data, size_t n), void *arg) {
	struct bk_progress *p = NEW(struct bk_progress);
	*p = (struct bk_progress){.emit = emit, .arg = arg};
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

void bk_progress_free(struct bk_progress *p) {
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++) {
		struct step *s = &p->steps[i];
		free(s->digest);
		free(s->name);
		free(s->input);
		for (size_t k = 0; k < s->n_parts; k++)
			free(s->parts[k].name);
		free(s->parts);
	}
	free(p->steps);
	free(p->of_build);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* ---- messages; with the lock ---- */

static Bk__Timestamp time_of(int64_t ns) {
	Bk__Timestamp t = BK__TIMESTAMP__INIT;
	t.seconds = ns / NS_PER_SEC;
	t.nanos = (int32_t)(ns % NS_PER_SEC);
	return t;
}

static void emit(struct bk_progress *p, const Bk__StatusResponse *r) {
	_cleanup_(buf_free) struct buf data = BUF_INIT;
	bk_pack(&r->base, &data);
	p->emit(p->arg, buf_str(&data), data.len);
}

static void send_step(struct bk_progress *p, const struct step *s, bool cached, const char *failed) {
	Bk__StatusResponse r = BK__STATUS_RESPONSE__INIT;
	Bk__Vertex v = BK__VERTEX__INIT, *all[] = {&v};
	Bk__Timestamp started = time_of(s->started), ended = time_of(s->ended);
	char *inputs[] = {s->input};
	v.digest = s->digest;
	v.name = s->name;
	v.cached = cached;
	v.started = &started;
	if (s->input) {
		v.inputs = inputs;
		v.n_inputs = 1;
	}
	if (s->ended)
		v.completed = &ended;
	if (failed)
		v.error = (char *)failed;
	r.vertexes = all;
	r.n_vertexes = 1;
	emit(p, &r);
}

static void send_part(struct bk_progress *p, const struct step *s, const struct part *part) {
	Bk__StatusResponse r = BK__STATUS_RESPONSE__INIT;
	Bk__VertexStatus v = BK__VERTEX_STATUS__INIT, *all[] = {&v};
	Bk__Timestamp now = time_of(time_now_ns()), started = time_of(part->started);
	v.id = part->name;
	v.name = part->name;
	v.vertex = s->digest;
	v.current = part->current;
	v.total = part->total;
	v.timestamp = &now;
	v.started = &started;
	if (part->done)
		v.completed = &now;
	r.statuses = all;
	r.n_statuses = 1;
	emit(p, &r);
}

static void send_log(struct bk_progress *p, const struct step *s, int stream, const char *data, size_t n) {
	Bk__StatusResponse r = BK__STATUS_RESPONSE__INIT;
	Bk__VertexLog v = BK__VERTEX_LOG__INIT, *all[] = {&v};
	Bk__Timestamp now = time_of(time_now_ns());
	v.vertex = s->digest;
	v.timestamp = &now;
	v.stream = stream;
	v.msg = (ProtobufCBinaryData){n, (uint8_t *)data};
	r.logs = all;
	r.n_logs = 1;
	emit(p, &r);
}

/* ---- steps; with the lock ---- */

static size_t begin(struct bk_progress *p, const char *name, size_t after) {
	_cleanup_(free_ptr) char *random = random_hex(32); /* of no content: nobody asks for it */
	p->steps = alloc_resize(p->steps, p->n + 1, sizeof *p->steps);
	p->steps[p->n++] = (struct step){
		.digest = str_format("sha256:%s", random),
		.name = str_copy(name),
		.input = after ? str_copy(p->steps[after - 1].digest) : NULL,
		.started = time_now_ns(),
	};
	send_step(p, &p->steps[p->n - 1], false, NULL);
	return p->n;
}

static struct step *step_of(struct bk_progress *p, size_t number) {
	return number && number <= p->n ? &p->steps[number - 1] : NULL;
}

/* Parts that nobody has ended end with it. */
static void end(struct bk_progress *p, struct step *s, bool cached, const char *failed) {
	for (size_t i = 0; i < s->n_parts && !failed; i++)
		if (!s->parts[i].done) {
			s->parts[i].done = true;
			send_part(p, s, &s->parts[i]);
		}
	s->ended = time_now_ns();
	send_step(p, s, cached, failed);
}

static void part(struct bk_progress *p, struct step *s, const char *name, int64_t current, int64_t total, bool done) {
	struct part *found = NULL;
	for (size_t i = 0; i < s->n_parts && !found; i++)
		if (str_same(s->parts[i].name, name))
			found = &s->parts[i];
	if (!found && s->n_parts < PARTS_MAX) {
		s->parts = alloc_resize(s->parts, s->n_parts + 1, sizeof *s->parts);
		found = &s->parts[s->n_parts++];
		*found = (struct part){.name = str_copy(name), .started = time_now_ns()};
	}
	if (!found || found->done)
		return;
	found->done = done;
	found->current = current;
	found->total = total;
	send_part(p, s, found);
}

/* ---- from outside ---- */

size_t bk_step_begin(struct bk_progress *p, const char *name) {
	pthread_mutex_lock(&p->lock);
	size_t number = begin(p, name, 0);
	pthread_mutex_unlock(&p->lock);
	return number;
}

void bk_step_end(struct bk_progress *p, size_t number, const char *failed) {
	pthread_mutex_lock(&p->lock);
	struct step *s = step_of(p, number);
	if (s)
		end(p, s, false, failed);
	pthread_mutex_unlock(&p->lock);
}

void bk_step_part(struct bk_progress *p, size_t number, const char *name, int64_t current, int64_t total, bool done) {
	pthread_mutex_lock(&p->lock);
	struct step *s = step_of(p, number);
	if (s)
		part(p, s, name, current, total, done);
	pthread_mutex_unlock(&p->lock);
}

static void pulls(struct bk_progress *p, struct step *s, const struct task_step *t) {
	if (t->part && str_starts(t->part, "sha256:"))
		part(p, s, t->part, t->done, t->total, t->total > 0 && t->done >= t->total);
}

static void begins(struct bk_progress *p, const struct build_event *e) {
	size_t after = e->after && e->after <= p->n_of_build ? p->of_build[e->after - 1] : 0;
	if (e->step != p->n_of_build + 1)
		return;
	size_t number = begin(p, e->name, after);
	p->of_build = alloc_resize(p->of_build, p->n_of_build + 1, sizeof *p->of_build);
	p->of_build[p->n_of_build++] = number;
}

void bk_progress_event(struct bk_progress *p, const struct build_event *e) {
	pthread_mutex_lock(&p->lock);
	if (e->kind == BUILD_BEGINS)
		begins(p, e);
	struct step *s = e->step && e->step <= p->n_of_build ? step_of(p, p->of_build[e->step - 1]) : NULL;
	if (s && e->kind == BUILD_SAYS)
		send_log(p, s, e->is_error ? 2 : 1, e->data, e->len);
	else if (s && e->kind == BUILD_PULLS)
		pulls(p, s, e->part);
	else if (s && e->kind == BUILD_CACHED)
		end(p, s, true, NULL);
	else if (s && e->kind == BUILD_ENDS)
		end(p, s, false, e->failed ? error_text(e->failed) : NULL);
	pthread_mutex_unlock(&p->lock);
}
