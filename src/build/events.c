/* Steps as they go on, for sinks that follow several at a time: which begins and ends, what it says. Shown are those that make
 * files, as BuildKit has it. */
#include "build/build-priv.h"

#include "base/str.h"
#include "build/words.h"

#include <ctype.h>

static bool wanted(const struct stage *s) {
	return s->b->sink->event != NULL;
}

static void send(struct stage *s, const struct build_event *e) {
	s->b->sink->event(s->b->sink->arg, e);
}

/* FROM of an image: not of a stage before, and not of nothing. */
static bool from_is_shown(const struct stage *s) {
	const struct build_args args = {.o = s->b->o, .meta = s->b->meta};
	_cleanup_(strv_free_ptr) char **env = args_env(&args, &s->b->meta, NULL);
	_cleanup_(free_ptr) char *name = NULL;
	if (word_expand(s->text->from.args[0], s->b->file.escape, env, &name, NULL) < 0)
		return false;
	for (size_t i = 0; i < s->index; i++)
		if (str_same(s->b->file.stages[i].from.stage, name))
			return false;
	return !str_same(name, "scratch");
}

static bool is_shown(const struct stage *s, const struct instruction *i) {
	if (i->kind == DOCKER_FROM)
		return from_is_shown(s);
	return i->kind == DOCKER_RUN || i->kind == DOCKER_COPY || i->kind == DOCKER_ADD || i->kind == DOCKER_WORKDIR;
}

void event_count(struct stage *s) {
	s->n_shown = is_shown(s, &s->text->from);
	for (size_t i = 0; i < s->text->n; i++)
		s->n_shown += is_shown(s, &s->text->items[i]);
}

/* "FROM docker.io/library/busybox:latest" */
static char *from_text(const struct stage *s) {
	const struct build_args args = {.o = s->b->o, .meta = s->b->meta};
	_cleanup_(strv_free_ptr) char **env = args_env(&args, &s->b->meta, NULL);
	_cleanup_(free_ptr) char *name = NULL, *whole = NULL;
	struct image_ref ref;
	if (word_expand(s->text->from.args[0], s->b->file.escape, env, &name, NULL) == 0 && image_ref_parse(name, &ref, NULL) == 0) {
		whole = image_ref_print(&ref);
		image_ref_free(&ref);
	}
	return str_format("FROM %s", whole ? whole : s->text->from.args[0]);
}

/* "[build 2/3] RUN make" */
static char *name_of(struct stage *s, const struct instruction *i) {
	_cleanup_(free_ptr) char *text = i->kind == DOCKER_FROM ? from_text(s) : str_copy(i->text);
	_cleanup_(free_ptr) char *stage = s->text->from.stage		 ? str_format("%s ", s->text->from.stage)
					  : s->b->file.n_stages > 1 ? str_format("stage-%zu ", s->index)
								    : str_copy("");
	for (char *c = text; isalpha((unsigned char)*c); c++)
		*c = (char)toupper((unsigned char)*c);
	return str_format("[%s%zu/%zu] %s", stage, s->shown, MAX(s->shown, s->n_shown), text);
}

/* The last step of the stage that this one is from. */
static size_t step_below(const struct stage *s) {
	for (size_t i = 0; i < s->index; i++)
		if (str_same(s->b->file.stages[i].from.stage, s->text->from.args[0]))
			return s->b->stages[i].below;
	return 0;
}

void event_begin(struct stage *s, const struct instruction *i) {
	struct builder *b = s->b;
	if (i->kind == DOCKER_FROM)
		s->below = step_below(s);
	if (!wanted(s) || !is_shown(s, i))
		return;
	s->shown++;
	s->cached = false;
	_cleanup_(free_ptr) char *name = name_of(s, i);
	pthread_mutex_lock(&b->lock);
	s->vertex = ++b->n_vertexes;
	send(s, &(struct build_event){.kind = BUILD_BEGINS, .step = s->vertex, .after = s->below, .name = name});
	pthread_mutex_unlock(&b->lock);
}

void event_cached(struct stage *s) {
	s->cached = true;
}

void event_says(struct stage *s, bool is_error, const char *data, size_t n) {
	if (!wanted(s) || !s->vertex)
		return;
	pthread_mutex_lock(&s->b->lock);
	send(s, &(struct build_event){.kind = BUILD_SAYS, .step = s->vertex, .data = data, .len = n, .is_error = is_error});
	pthread_mutex_unlock(&s->b->lock);
}

void event_pulls(struct stage *s, const struct task_step *part) {
	if (wanted(s) && s->vertex)
		send(s, &(struct build_event){.kind = BUILD_PULLS, .step = s->vertex, .part = part});
}

void event_end(struct stage *s, int result, const struct error *err) {
	if (!wanted(s) || !s->vertex)
		return;
	pthread_mutex_lock(&s->b->lock);
	send(s, &(struct build_event){.kind = result == 0 && s->cached ? BUILD_CACHED : BUILD_ENDS,
				      .step = s->vertex,
				      .failed = result < 0 ? err : NULL});
	pthread_mutex_unlock(&s->b->lock);
	s->below = s->vertex;
	s->vertex = 0;
}
