/* A build as a whole: which stages there are to be, each in a thread of its own as soon as those that it stands on are done,
 * and what is shown and named in the end. */
#include "build/build-priv.h"

#include "base/str.h"
#include "build/ignore.h"
#include "build/words.h"

#include <strings.h>

int build_cancelled(struct error *err) {
	return error_set(err, ERROR_CANCELLED, "build cancelled");
}

bool build_gone(struct builder *b) {
	return __atomic_load_n(&b->failed, __ATOMIC_RELAXED) || b->sink->gone(b->sink->arg);
}

/* ---- the plan ---- */

static int read_dockerfile(struct builder *b, struct error *err) {
	const char *path = b->o->dockerfile;
	struct tree *in = b->o->dockerfiles ? b->o->dockerfiles : b->context;
	struct tree_node *n = tree_find(in, path);
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (!n && str_same(path, "Dockerfile"))
		n = tree_find(in, "dockerfile");
	if (!n || !S_ISREG(n->mode)) {
		_cleanup_(free_ptr) char *shown = text_shown(path);
		if (b->sink->event)
			return error_set(err, ERROR_INTERNAL, "failed to read dockerfile: open %s: no such file or directory", shown);
		return error_set(err, ERROR_INTERNAL, "Cannot locate specified Dockerfile: %s", shown);
	}
	int r = tree_content(in, n, DOCKERFILE_MAX, &text, err);
	if (r == 0 && !text.len)
		return error_set(err, ERROR_INTERNAL, "the Dockerfile (%s) cannot be empty", path);
	return r < 0 ? r : dockerfile_parse(buf_str(&text), text.len, &b->file, err);
}

static int find_target(struct builder *b, struct error *err) {
	b->n_stages = b->file.n_stages;
	if (!b->o->target || !*b->o->target)
		return 0;
	ssize_t at = dockerfile_stage(&b->file, b->o->target, b->file.n_stages);
	if (at < 0) {
		_cleanup_(free_ptr) char *shown = text_shown(b->o->target);
		return error_set(err, ERROR_INVALID, "failed to reach build target %s in Dockerfile", shown);
	}
	b->n_stages = (size_t)at + 1;
	return 0;
}

/* What .dockerignore says of the two files that are always sent: they were needed until now. */
static int leave_out(struct builder *b, struct error *err) {
	struct tree_node *n = b->o->dockerfiles ? NULL : tree_find(b->context, ".dockerignore");
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	struct ignore ig;
	if (!n || !S_ISREG(n->mode))
		return 0;
	int r = tree_content(b->context, n, DOCKERFILE_MAX, &text, err);
	if (r < 0)
		return r;
	ignore_parse(buf_str(&text), text.len, &ig);
	const char *const files[] = {b->o->dockerfile, ".dockerignore"};
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_(free_ptr) char *clean = path_clean(files[i]);
		n = ignore_fits(&ig, clean) ? tree_find(b->context, clean) : NULL;
		if (n)
			tree_remove(b->context, n);
	}
	ignore_free(&ig);
	return 0;
}

/* The ARGs before the first FROM. */
static int take_meta(struct builder *b, struct error *err) {
	for (size_t i = 0; i < b->file.n_meta; i++)
		for (size_t k = 0; k < b->file.meta[i].pairs.n; k++) {
			const struct pair *p = &b->file.meta[i].pairs.items[k];
			const struct build_args so_far = {.o = b->o, .meta = b->meta};
			_cleanup_(strv_free_ptr) char **env = args_env(&so_far, &b->meta, NULL);
			_cleanup_(free_ptr) char *value = NULL;
			int r = p->value ? word_expand(p->value, b->file.escape, env, &value, err) : 0;
			if (r < 0)
				return r;
			args_add(&b->meta, p->key, value);
		}
	return 0;
}

/* The stage that a word means at that place, if it means one; variables of the top are known. */
static ssize_t stage_meant(struct builder *b, const char *word, size_t before, bool by_number) {
	const struct build_args args = {.o = b->o, .meta = b->meta};
	_cleanup_(strv_free_ptr) char **env = args_env(&args, &b->meta, NULL);
	_cleanup_(free_ptr) char *name = NULL;
	uint64_t number;
	if (word_expand(word, b->file.escape, env, &name, NULL) < 0)
		return -1;
	if (!by_number && str_to_u64(name, 10, &number) == 0)
		return -1;
	return named_stage(b, name, before);
}

/* What --from and the from= of --mount say. */
static char **stages_named(const struct instruction *i) {
	char **names = NULL;
	if (i->from)
		strv_add(&names, i->from);
	for (char **m = i->mounts; m && *m; m++) {
		_cleanup_(strv_free_ptr) char **words = strv_split(*m, ',');
		for (char **w = words; *w; w++)
			if (strncasecmp(*w, "from=", 5) == 0)
				strv_add(&names, *w + 5);
	}
	return names;
}

static void need(struct builder *b, ssize_t at) {
	if (at < 0 || b->stages[at].needed)
		return;
	const struct build_stage *text = &b->file.stages[at];
	b->stages[at].needed = true;
	need(b, stage_meant(b, text->from.args[0], (size_t)at, false));
	for (size_t i = 0; i < text->n; i++) {
		_cleanup_(strv_free_ptr) char **names = stages_named(&text->items[i]);
		for (char **from = names; from && *from; from++) {
			/* a name that only the stage's own variables make: any of them may be meant */
			bool open = strchr(*from, '$');
			for (ssize_t k = 0; open && k < at; k++)
				need(b, k);
			if (!open)
				need(b, stage_meant(b, *from, (size_t)at, true));
		}
	}
}

static bool stands_on(struct builder *b, const struct stage *s, const struct stage *other) {
	if (stage_meant(b, s->text->from.args[0], s->index, false) == (ssize_t)other->index)
		return true;
	for (size_t i = 0; i < s->text->n; i++) {
		_cleanup_(strv_free_ptr) char **names = stages_named(&s->text->items[i]);
		for (char **from = names; from && *from; from++)
			if (strchr(*from, '$') || stage_meant(b, *from, s->index, true) == (ssize_t)other->index)
				return true;
	}
	return false;
}

static void make_stages(struct builder *b) {
	b->stages = alloc_array(b->n_stages, sizeof *b->stages);
	b->n_steps = b->file.n_meta;
	for (size_t i = 0; i < b->o->labels->n; i++)
		build_stage_add_label(&b->file.stages[b->n_stages - 1], b->o->labels->items[i].key,
				      b->o->labels->items[i].value);
	need(b, (ssize_t)b->n_stages - 1);
	for (size_t i = 0; i < b->n_stages; i++) {
		struct stage *s = &b->stages[i];
		s->b = b;
		s->index = i;
		s->text = &b->file.stages[i];
		s->step = b->n_steps + 1;
		s->args = (struct build_args){.o = b->o, .meta = b->meta};
		s->out.b = b;
		s->out.stage = s;
		if (s->needed)
			b->n_steps += s->text->n + 1;
		event_count(s);
	}
}

/* ---- running ---- */

/* Needs the lock. Shows what waits, from stage to stage, as long as they are done. */
static void pass_turn(struct builder *b) {
	for (; b->turn < b->n_stages; b->turn++) {
		struct stage *s = &b->stages[b->turn];
		if (!s->needed)
			continue;
		if (s->out.waiting.len && !b->o->quiet)
			b->sink->text(b->sink->arg, buf_str(&s->out.waiting));
		buf_free(&s->out.waiting);
		s->out.waiting = BUF_INIT;
		s->out.open = true;
		if (!s->done || s->result < 0)
			return;
		if (s->image && !b->sink->event)
			b->sink->stage(b->sink->arg, s->image);
	}
}

static void *stage_thread(void *arg) {
	struct stage *s = arg;
	struct builder *b = s->b;
	int r = stage_run(s, &s->err);
	pthread_mutex_lock(&b->lock);
	s->result = r;
	s->done = true;
	if (r < 0)
		__atomic_store_n(&b->failed, true, __ATOMIC_RELAXED);
	pass_turn(b);
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

/* Needs the lock. */
static bool may_start(struct builder *b, const struct stage *s) {
	for (size_t i = 0; i < s->index; i++)
		if (b->stages[i].needed && !b->stages[i].done && stands_on(b, s, &b->stages[i]))
			return false;
	return true;
}

/* Needs the lock; false when all is done or, after a failure, nothing runs any more. */
static bool start_stages(struct builder *b) {
	bool runs = false;
	for (size_t i = 0; i < b->n_stages; i++) {
		struct stage *s = &b->stages[i];
		if (s->needed && !s->started && !b->failed && may_start(b, s)) {
			s->started = true;
			int failed = pthread_create(&s->thread, NULL, stage_thread, s);
			if (failed) {
				s->started = false;
				s->done = b->failed = true;
				s->result = error_errno(&s->err, failed, "starting a thread");
			}
		}
		runs |= s->started && !s->done;
	}
	return runs;
}

static void run_stages(struct builder *b) {
	pthread_mutex_lock(&b->lock);
	pass_turn(b);
	while (start_stages(b))
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
	for (size_t i = 0; i < b->n_stages; i++)
		if (b->stages[i].started)
			pthread_join(b->stages[i].thread, NULL);
}

/* The failure that came first in the Dockerfile; not one that another caused. */
static int outcome(struct builder *b, struct build_result *result, struct error *err) {
	struct stage *worst = NULL;
	for (size_t i = 0; i < b->n_stages; i++) {
		struct stage *s = &b->stages[i];
		if (s->result < 0 && (!worst || worst->err.kind == ERROR_CANCELLED))
			worst = s;
	}
	if (!worst)
		return 0;
	result->exit_code = worst->exit_code;
	if (!worst->out.open && worst->out.waiting.len && !b->o->quiet && !b->sink->event)
		b->sink->text(b->sink->arg, buf_str(&worst->out.waiting));
	return error_move(err, &worst->err);
}

/* ---- the end ---- */

static void warn_unused(struct builder *b) {
	_cleanup_(buf_free) struct buf unused = BUF_INIT;
	for (char *const *g = b->o->build_args; g && *g; g++) {
		_cleanup_(free_ptr) char *name = str_copyn(*g, strcspn(*g, "="));
		bool known = args_is_builtin(name);
		for (size_t i = 0; i < b->meta.n; i++)
			known |= str_same(b->meta.items[i].key, name);
		for (size_t i = 0; i < b->n_stages; i++)
			for (size_t k = 0; k < b->stages[i].args.stage.n; k++)
				known |= str_same(b->stages[i].args.stage.items[k].key, name);
		if (!known)
			buf_addf(&unused, "%s%s", unused.len ? " " : "", name);
	}
	if (unused.len)
		output_text(&b->stages[b->n_stages - 1].out, "[Warning] One or more build-args [%s] were not consumed\n",
			    buf_str(&unused));
}

static int name_image(struct builder *b, const char *id, struct error *err) {
	struct output *out = &b->stages[b->n_stages - 1].out;
	int r = 0;
	for (char *const *n = b->o->names; r == 0 && n && *n; n++) {
		struct image_snap *snap = NULL;
		struct image_ref ref;
		r = image_tag(b->core, b->o->project, id, *n, &snap, err);
		if (r == 0)
			r = image_ref_parse(*n, &ref, err);
		if (r < 0)
			return r;
		image_snap_unref(snap);
		_cleanup_(free_ptr) char *familiar = image_ref_familiar(&ref);
		image_ref_free(&ref);
		output_text(out, "Successfully tagged %s\n", familiar);
	}
	return r;
}

static int finish(struct builder *b, struct build_result *result, struct error *err) {
	struct stage *last = &b->stages[b->n_stages - 1];
	if (!last->image)
		return error_set(err, ERROR_INVALID, "No image was generated. Is your Dockerfile empty?");
	warn_unused(b);
	result->image_id = str_copy(last->image);
	if (b->o->squash) {
		struct image_snap *snap;
		int r = image_squash(b->core, b->o->project, last->image, last->base, &snap, err);
		if (r < 0)
			return r;
		free(result->image_id);
		result->image_id = str_copy(snap->image.id);
		image_snap_unref(snap);
	}
	output_text(&last->out, "Successfully built %.12s\n", result->image_id + 7);
	image_built(b->core, b->o->project, result->image_id);
	return name_image(b, result->image_id, err);
}

static int build(struct builder *b, struct build_result *result, struct error *err) {
	int r = platform_check(b->o->platform, err);
	if (r == 0)
		r = read_dockerfile(b, err);
	if (r == 0)
		r = leave_out(b, err);
	if (r == 0)
		r = find_target(b, err);
	if (r == 0)
		r = take_meta(b, err);
	if (r < 0)
		return r;
	make_stages(b);
	for (size_t i = 0; i < b->file.n_meta && !b->o->quiet && !b->sink->event; i++) {
		_cleanup_(free_ptr) char *text = str_format("Step %zu/%zu : %s\n", i + 1, b->n_steps, b->file.meta[i].text);
		b->sink->text(b->sink->arg, text);
	}
	run_stages(b);
	r = outcome(b, result, err);
	return r < 0 ? r : finish(b, result, err);
}

static void stage_free(struct stage *s) {
	fields_free(&image_config_table, &s->config);
	pairs_free(&s->args.stage);
	buf_free(&s->out.waiting);
	buf_free(&s->out.partial);
	free(s->image);
	free(s->base);
	free(s->os);
	free(s->architecture);
	free(s->variant);
	free(s->maintainer);
	error_free(&s->err);
}

int build_run(struct core *c, const struct build_request *o, struct tree *context, const struct build_sink *sink,
	      struct build_result *result, struct error *err) {
	struct builder b = {.core = c, .o = o, .context = context, .sink = sink};
	*result = (struct build_result){0};
	pthread_mutex_init(&b.lock, NULL);
	pthread_mutex_init(&b.asking, NULL);
	pthread_cond_init(&b.changed, NULL);
	int r = core_project_check(c, o->project, err);
	if (r == 0)
		r = build(&b, result, err);
	for (size_t i = 0; b.stages && i < b.n_stages; i++)
		stage_free(&b.stages[i]);
	free(b.stages);
	pairs_free(&b.meta);
	strv_free(b.context_paths);
	dockerfile_free(&b.file);
	pthread_mutex_destroy(&b.lock);
	pthread_mutex_destroy(&b.asking);
	pthread_cond_destroy(&b.changed);
	if (r < 0) {
		free(result->image_id);
		result->image_id = NULL;
	}
	return r;
}
