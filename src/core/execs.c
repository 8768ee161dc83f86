/* The registry of execs. The agent keeps the state of each in a directory that outlives the process, until it is told to
 * forget it: that is done for the oldest that have ended, so that neither side grows. */
#include "core/execs.h"

#include "base/log.h"
#include "base/str.h"
#include "core/core-priv.h"

#define EXECS_MAX 4096
#define ENDED_MAX 256

enum exec_state { EXEC_CREATED, EXEC_STARTED, EXEC_ENDED };

struct exec {
	enum exec_state state;
	bool forgettable; /* the agent may have something of it */
	char *project, *note;
	int64_t run; /* of its instance: when that was started */
	int64_t exit_code;
	struct msg_exec_start spec;
};

static void exec_free(void *value) {
	struct exec *x = value;
	fields_free(&msg_exec_start_table, &x->spec);
	free(x->project);
	free(x->note);
	free(x);
}

void exec_info_free(struct exec_info *i) {
	fields_free(&msg_exec_start_table, &i->spec);
	free(i->id);
	free(i->instance_id);
	free(i->note);
	*i = (struct exec_info){0};
}

struct map *execs_new(void) {
	return map_new(exec_free);
}

/* ---- forgetting ---- */

struct forget {
	struct core *core;
	char *id, *exec_id;
};

static void forget_job(void *arg) {
	struct forget *f = arg;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct msg_exec body = {.id = f->id, .exec_id = f->exec_id};
	if (agent_call(f->core, "exec-delete", &body, NULL, &err) < 0 && err.kind != ERROR_NOT_FOUND)
		log_warn("forgetting exec %.12s: %s", f->exec_id, error_text(&err));
	free(f->id);
	free(f->exec_id);
	free(f);
}

/* Needs the lock. */
static void exec_forget(struct core *c, struct exec *x) {
	if (x->forgettable) {
		struct forget *f = NEW(struct forget);
		*f = (struct forget){c, str_copy(x->spec.id), str_copy(x->spec.exec_id)};
		crew_run(c->jobs, forget_job, f);
	}
	map_remove(c->execs, x->spec.exec_id);
}

/* Needs the lock. The oldest go for which keep has no room; running ones stay. */
static void execs_trim(struct core *c, enum exec_state state, size_t keep) {
	size_t n = 0;
	void *value;
	for (size_t i = 0; map_next(c->execs, &i, NULL, &value);)
		n += ((struct exec *)value)->state == state;
	for (size_t i = 0; n > keep && map_next(c->execs, &i, NULL, &value);)
		if (((struct exec *)value)->state == state) {
			exec_forget(c, value);
			n--;
		}
}

void execs_drop_instance(struct core *c, const char *id) {
	void *value;
	for (size_t i = 0; map_next(c->execs, &i, NULL, &value);) {
		struct exec *x = value;
		if (str_same(x->spec.id, id))
			map_remove(c->execs, x->spec.exec_id); /* the agent has removed it all */
	}
}

static void exec_ended(struct core *c, struct exec *x, int64_t exit_code) {
	if (x->state == EXEC_ENDED)
		return;
	x->state = EXEC_ENDED;
	x->exit_code = exit_code;
	execs_trim(c, EXEC_ENDED, ENDED_MAX);
}

void execs_note_end(struct core *c, const char *exec_id, int64_t exit_code) {
	struct exec *x = map_get(c->execs, exec_id);
	if (x && x->state == EXEC_STARTED)
		exec_ended(c, x, exit_code);
}

/* ---- finding ---- */

/* Needs the lock. Its instance has begun another run, in which it cannot be started any more. */
static bool is_stale(struct core *c, const struct exec *x) {
	const struct entry *e = map_get(c->by_id, x->spec.id);
	return x->state == EXEC_CREATED && e && e->snap->instance.status.started_at != x->run;
}

/* Needs the lock. */
static struct exec *exec_find(struct core *c, const char *project, const char *id, struct error *err) {
	struct exec *x = id ? map_get(c->execs, id) : NULL;
	if (x && str_same(x->project, project) && !is_stale(c, x))
		return x;
	_cleanup_(free_ptr) char *shown = text_shown(id ? id : "");
	error_set(err, ERROR_NOT_FOUND, "there is no exec %s", shown);
	return NULL;
}

static int info_of(struct core *c, const char *project, const char *id, struct exec_info *out, enum exec_state *state,
		   struct error *err) {
	WITH_LOCK(c);
	struct exec *x = exec_find(c, project, id, err);
	if (!x)
		return -ERROR_NOT_FOUND;
	*state = x->state;
	*out = (struct exec_info){
		.id = str_copy(x->spec.exec_id),
		.instance_id = str_copy(x->spec.id),
		.note = copy_or_null(x->note),
		.started = x->state != EXEC_CREATED,
		.exit_code = x->state == EXEC_ENDED ? x->exit_code : -1,
	};
	fields_copy(&msg_exec_start_table, &x->spec, &out->spec);
	return 0;
}

/* What the agent says is newer than what its events have told. */
int exec_get(struct core *c, const char *project, const char *id, struct exec_info *out, struct error *err) {
	enum exec_state state;
	int r = info_of(c, project, id, out, &state, err);
	if (r < 0 || state != EXEC_STARTED)
		return r;
	struct msg_exec body = {.id = out->instance_id, .exec_id = out->id};
	struct msg_exec_state now;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	r = agent_call(c, "exec-state", &body, &now, &why);
	if (r < 0 && why.kind != ERROR_NOT_FOUND) {
		exec_info_free(out);
		return error_move(err, &why);
	}
	if (r < 0) /* its instance has begun a new run, or its start is under way */
		return 0;
	out->running = now.running;
	out->pid = now.pid;
	out->exit_code = now.running ? -1 : now.exit_code;
	return 0;
}

/* ---- creating and starting ---- */

static void publish(struct core *c, const struct instance_snap *s, const struct msg_exec_start *spec, const char *action) {
	const struct instance *i = &s->instance;
	_cleanup_(free_ptr) char *command = strv_join(spec->command, " ");
	WITH_LOCK(c);
	event_add(c, "instance", action, i->project, i->id, i->spec.name, "image", i->spec.image, "exec_id", spec->exec_id,
		  "command", command, NULL);
}

static int must_run(const struct instance *i, struct error *err) {
	if (str_same(i->status.state, "running"))
		return 0;
	return error_set(err, ERROR_CONFLICT, "instance %s is %s: only in a running one a command can be executed",
			 i->spec.name, i->status.state);
}

int exec_create(struct core *c, const char *project, const char *name, const struct msg_exec_start *spec, const char *note,
		char **id, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	int r = instance_get(c, project, name, &snap, err);
	if (r == 0)
		r = must_run(&snap->instance, err);
	if (r == 0 && !strv_len(spec->command))
		r = error_field(err, "command", "a command is needed");
	if (r < 0)
		return r;
	struct exec *x = NEW(struct exec);
	*x = (struct exec){.project = str_copy(project), .note = copy_or_null(note), .run = snap->instance.status.started_at};
	fields_copy(&msg_exec_start_table, spec, &x->spec);
	free(x->spec.id);
	free(x->spec.exec_id);
	x->spec.id = str_copy(snap->instance.id);
	x->spec.exec_id = random_hex(32);
	*id = str_copy(x->spec.exec_id);
	publish(c, snap, &x->spec, "exec_create");
	WITH_LOCK(c);
	execs_trim(c, EXEC_CREATED, EXECS_MAX / 2);
	if (map_count(c->execs) >= EXECS_MAX) {
		exec_free(x);
		free(TAKE_PTR(*id));
		return error_set(err, ERROR_QUOTA, "%d execs are under way: wait until some have ended", EXECS_MAX);
	}
	map_set(c->execs, x->spec.exec_id, x);
	return 0;
}

/* Marks it as started, so that nobody else does it. *spec: a copy. */
static int start_claim(struct core *c, const char *project, const char *id, const struct exec_start *how,
		       struct msg_exec_start *spec, struct error *err) {
	WITH_LOCK(c);
	struct exec *x = exec_find(c, project, id, err);
	if (!x)
		return -ERROR_NOT_FOUND;
	if (x->state != EXEC_CREATED)
		return error_set(err, ERROR_CONFLICT, "exec %.12s was started before", id);
	x->state = EXEC_STARTED;
	x->spec.detach = how->detach;
	x->spec.rows = how->rows ? how->rows : x->spec.rows;
	x->spec.columns = how->columns ? how->columns : x->spec.columns;
	fields_copy(&msg_exec_start_table, &x->spec, spec);
	return 0;
}

static void start_settle(struct core *c, const char *id, int result, enum error_kind kind) {
	WITH_LOCK(c);
	struct exec *x = map_get(c->execs, id);
	if (x && result == 0)
		x->forgettable = true;
	else if (x)
		exec_ended(c, x, kind == ERROR_NO_COMMAND ? 127 : 126);
}

/* Its terminal may have got another size while the process was made. */
static void catch_up_size(struct core *c, const char *project, const char *id, const struct msg_exec_start *begun) {
	core_lock(c);
	const struct exec *x = map_get(c->execs, id);
	int64_t rows = x ? x->spec.rows : begun->rows, columns = x ? x->spec.columns : begun->columns;
	core_unlock(c);
	if (rows != begun->rows || columns != begun->columns)
		exec_resize(c, project, id, rows, columns, NULL);
}

int exec_start(struct core *c, const char *project, const char *id, const struct exec_start *how, int *fd, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	struct msg_exec_start spec;
	*fd = -1;
	int r = start_claim(c, project, id, how, &spec, err);
	if (r < 0)
		return r;
	r = instance_get(c, project, spec.id, &snap, &why);
	if (r == 0)
		r = must_run(&snap->instance, &why);
	if (r == 0) {
		publish(c, snap, &spec, "exec_start");
		r = agent_call_fd(c, "exec-start", &spec, -1, NULL, fd, &why);
	}
	if (r == 0 && !spec.detach)
		r = stream_expected(*fd, &why);
	start_settle(c, id, r, why.kind);
	if (r == 0 && spec.tty)
		catch_up_size(c, project, id, &spec);
	fields_free(&msg_exec_start_table, &spec);
	return r < 0 ? error_move(err, &why) : 0;
}

int instance_exec(struct core *c, const char *project, const char *name, struct msg_exec_start *spec, int *fd,
		  struct error *err) {
	const struct exec_start how = {.detach = spec->detach};
	free(TAKE_PTR(spec->exec_id));
	*fd = -1;
	int r = exec_create(c, project, name, spec, NULL, &spec->exec_id, err);
	return r < 0 ? r : exec_start(c, project, spec->exec_id, &how, fd, err);
}

int exec_resize(struct core *c, const char *project, const char *id, int64_t rows, int64_t columns, struct error *err) {
	_cleanup_(free_ptr) char *instance = NULL;
	core_lock(c);
	struct exec *x = exec_find(c, project, id, err);
	bool now = x && x->state != EXEC_CREATED && x->forgettable;
	if (x) {
		x->spec.rows = rows;
		x->spec.columns = columns;
		instance = str_copy(x->spec.id);
	}
	core_unlock(c);
	if (!instance)
		return -ERROR_NOT_FOUND;
	return now ? terminal_resize(c, instance, id, rows, columns, err) : 0;
}
