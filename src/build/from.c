/* FROM: an image that is here, one that is pulled, a stage before, or nothing at all. */
#include "build/build-priv.h"

#include "base/json.h"
#include "base/str.h"
#include "build/words.h"
#include "core/tasks.h"

#include <strings.h>

/* ---- pulling ---- */

/* A pull is a task of the core's; what it says of itself comes on a thread of the core's. */
struct pull {
	struct builder *b;
	struct stage *s;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ended;
	struct error failed;
};

static int pull_step(void *arg, const struct task_step *step) {
	struct pull *p = arg;
	struct builder *b = p->b;
	if (pthread_mutex_trylock(&b->lock) != 0)
		return -EAGAIN; /* this thread is the core's */
	if (b->sink->event)
		event_pulls(p->s, step);
	else
		b->sink->pull(b->sink->arg, step);
	pthread_mutex_unlock(&b->lock);
	return 0;
}

static bool pull_gone(void *arg) {
	return build_gone(((struct pull *)arg)->b);
}

static void pull_end(void *arg, const struct task *task, const struct error *err) {
	struct pull *p = arg;
	pthread_mutex_lock(&p->lock);
	if (!task)
		build_cancelled(&p->failed);
	else if (err->kind)
		error_set(&p->failed, err->kind, "%s", error_text(err));
	p->ended = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static int pull_wait(struct pull *p, const char *id, struct error *err) {
	const struct task_step_sink sink = {pull_step, pull_gone, pull_end, p};
	int r = task_follow_steps(p->b->core, p->b->o->project, id, &sink, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&p->lock);
	while (!p->ended)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
	return p->failed.kind ? error_move(err, &p->failed) : 0;
}

static const struct build_login *login_for(const struct build_request *o, const char *name) {
	struct image_ref ref;
	const struct build_login *found = NULL;
	if (image_ref_parse(name, &ref, NULL) < 0)
		return NULL;
	for (size_t i = 0; !found && i < o->n_logins; i++) {
		const char *server = o->logins[i].server;
		bool hub = str_same(ref.registry, "docker.io") && strstr(server, "index.docker.io");
		const char *host = strstr(server, "://") ? strstr(server, "://") + 3 : server;
		size_t n = strcspn(host, "/");
		if (hub || (strlen(ref.registry) == n && strncmp(host, ref.registry, n) == 0))
			found = &o->logins[i];
	}
	image_ref_free(&ref);
	return found;
}

/* Whoever wants the build may know one; a client that does not answer is as one that does not. */
static bool ask_login(struct builder *b, const char *name, struct build_login *out) {
	const struct build_client *client = b->o->client;
	struct image_ref ref;
	if (!client || !client->login || image_ref_parse(name, &ref, NULL) < 0)
		return false;
	pthread_mutex_lock(&b->asking);
	int r = client->login(client->arg, ref.registry, &out->username, &out->password, NULL);
	pthread_mutex_unlock(&b->asking);
	image_ref_free(&ref);
	return r == 0;
}

static void login_forget(struct build_login *l) {
	free(l->username);
	if (l->password)
		explicit_bzero(l->password, strlen(l->password));
	free(l->password);
}

static int pull(struct stage *s, const char *name, const char *platform, struct error *err) {
	struct builder *b = s->b;
	const struct build_login *login = login_for(b->o, name);
	struct build_login asked = {0};
	_cleanup_(free_ptr) char *task = NULL;
	if (!login && ask_login(b, name, &asked) && asked.username)
		login = &asked;
	const struct image_pull_options o = {
		.name = name,
		.platform = platform,
		.username = login ? login->username : NULL,
		.password = login ? login->password : NULL,
		.followed = true,
	};
	int r = image_pull(b->core, b->o->project, &o, &task, err);
	login_forget(&asked);
	if (r < 0)
		return r;
	_cleanup_(json_free_ptr) json_t *json = json_parse(task, strlen(task), err);
	struct pull p = {.b = b, .s = s};
	pthread_mutex_init(&p.lock, NULL);
	pthread_cond_init(&p.changed, NULL);
	r = json ? pull_wait(&p, json_get_str(json, "id"), err) : -ERROR_INTERNAL;
	pthread_mutex_destroy(&p.lock);
	pthread_cond_destroy(&p.changed);
	return r;
}

static bool platform_is(const struct image *image, const char *platform) {
	if (!platform || !*platform)
		return true;
	_cleanup_(strv_free_ptr) char **parts = strv_split(platform, '/');
	return str_same(parts[0], image->os) && (!parts[1] || str_same(parts[1], image->architecture)) &&
	       (!parts[1] || !parts[2] || !image->variant || str_same(parts[2], image->variant));
}

int from_image(struct stage *s, const char *name, const char *platform, struct image_snap **out, struct error *err) {
	struct builder *b = s->b;
	struct error missing = ERROR_INIT;
	int r = image_get(b->core, b->o->project, name, out, &missing);
	bool there = r == 0 && platform_is(&(*out)->image, platform);
	if (r == 0 && (!there || b->o->pull)) {
		bool by_id = str_starts(name, "sha256:") || !(*out)->image.names;
		if (there && by_id)
			return 0;
		image_snap_unref(TAKE_PTR(*out));
	} else if (r == 0) {
		return 0;
	} else if (missing.kind != ERROR_NOT_FOUND) {
		return error_move(err, &missing);
	}
	error_free(&missing);
	r = pull(s, name, platform, err);
	return r < 0 ? r : image_get(b->core, b->o->project, name, out, err);
}

/* ---- FROM ---- */

static void stand_on(struct stage *s, struct image_snap *snap) {
	const struct image *i = &snap->image;
	s->image = str_copy(i->id);
	s->base = str_copy(i->id);
	fields_free(&image_config_table, &s->config);
	fields_copy(&image_config_table, &i->config, &s->config);
	strv_free(TAKE_PTR(s->config.on_build));
}

/* The stage of that name before this one is to be done. */
static int stand_on_stage(struct stage *s, const struct stage *before, struct error *err) {
	struct image_snap *snap;
	if (before->image) {
		int r = image_get(s->b->core, s->b->o->project, before->image, &snap, err);
		if (r < 0)
			return r;
		stand_on(s, snap);
		image_snap_unref(snap);
	}
	fields_free(&image_config_table, &s->config);
	fields_copy(&image_config_table, &before->config, &s->config);
	strv_free(TAKE_PTR(s->config.on_build));
	return 0;
}

static int run_triggers(struct stage *s, char *const *triggers, struct error *err) {
	size_t n = strv_len(triggers);
	if (!n)
		return 0;
	output_text(&s->out, "# Executing %zu build trigger%s\n", n, n > 1 ? "s" : "");
	int r = 0;
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct instruction one;
		r = instruction_parse(triggers[i], s->b->file.escape, &one, err);
		if (r < 0)
			return error_wrap(err, "the trigger \"%s\" of what the stage is based on", triggers[i]);
		if (one.kind == DOCKER_ONBUILD || one.kind == DOCKER_FROM || one.kind == DOCKER_MAINTAINER)
			r = error_set(err, ERROR_INVALID, "%s isn't allowed as an ONBUILD trigger", triggers[i]);
		if (r == 0)
			r = stage_step(s, &one, err);
		instruction_free(&one);
	}
	return r;
}

static void default_path(struct stage *s) {
	if (!s->config.env)
		strv_add(&s->config.env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
}

int platform_check(const char *platform, struct error *err) {
	if (!platform || !*platform)
		return 0;
	_cleanup_(strv_free_ptr) char **parts = strv_split(platform, '/');
	if (strv_len(parts) <= 3 && str_same(parts[0], "linux"))
		return 0;
	_cleanup_(free_ptr) char *shown = text_shown(platform);
	return error_set(err, ERROR_INVALID, "\"%s\": unknown operating system or architecture: images are built for linux here", shown);
}

static int set_platform(struct stage *s, const char *platform, struct error *err) {
	int r = platform_check(platform, err);
	if (r < 0 || !platform || !*platform)
		return r;
	_cleanup_(strv_free_ptr) char **parts = strv_split(platform, '/');
	size_t n = strv_len(parts);
	s->os = str_copy(parts[0]);
	s->architecture = n > 1 ? str_copy(parts[1]) : NULL;
	s->variant = n > 2 ? str_copy(parts[2]) : NULL;
	return 0;
}

/* A directory that stands for an image. */
static int from_directory(struct stage *s, const struct build_named *named, struct error *err) {
	struct tree *files;
	int r = named_tree(s->b, named, &files, err);
	if (r < 0)
		return r;
	default_path(s);
	r = copy_base(s, files, err);
	if (r == 0)
		output_text(&s->out, " ---> %.12s\n", s->image + 7);
	return r;
}

static int from_name(struct stage *s, const char *name, const char *platform, struct error *err) {
	struct builder *b = s->b;
	const struct build_named *named = named_find(b, name);
	if (named && !named->image)
		return from_directory(s, named, err);
	ssize_t before = named_stage(b, name, s->index);
	if (before >= 0 && b->file.stages[before].from.stage && strcasecmp(b->file.stages[before].from.stage, name) == 0) {
		int r = stand_on_stage(s, &b->stages[before], err);
		if (r == 0)
			r = run_triggers(s, b->stages[before].config.on_build, err);
		if (r == 0)
			output_text(&s->out, " ---> %.12s\n", s->image ? s->image + 7 : "");
		return r;
	}
	if (!named && str_same(name, "scratch")) {
		default_path(s);
		output_text(&s->out, " ---> \n");
		return 0;
	}
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	int r = from_image(s, named ? named->image : name, platform, &snap, err);
	if (r < 0)
		return r;
	stand_on(s, snap);
	default_path(s);
	r = run_triggers(s, snap->image.config.on_build, err);
	if (r == 0)
		output_text(&s->out, " ---> %.12s\n", s->image + 7);
	return r;
}

int from_step(struct stage *s, struct error *err) {
	const struct instruction *i = &s->text->from;
	_cleanup_(strv_free_ptr) char **env = args_env(&s->args, &s->args.meta, NULL);
	_cleanup_(free_ptr) char *name = NULL, *platform = NULL;
	char escape = s->b->file.escape;
	int r = word_expand(i->args[0], escape, env, &name, err);
	if (r == 0 && i->platform)
		r = word_expand(i->platform, escape, env, &platform, err);
	if (r < 0)
		return r;
	if (!*name)
		return error_set(err, ERROR_INVALID, "base name (%s) should not be blank", i->args[0]);
	const char *wanted = platform && *platform ? platform : s->b->o->platform;
	r = set_platform(s, wanted, err);
	return r < 0 ? r : from_name(s, name, wanted, err);
}
