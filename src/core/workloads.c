/* Workloads in the store: what is wanted. Whoever makes it true is in control/workloads.c. */
#include "core/core-priv.h"

#include "base/str.h"
#include "base/time.h"
#include "core/workloads.h"

#include <inttypes.h>

const struct noun_kind workload_kind = {
	.prefix = "workloads",
	.noun = "workload",
	.table = &workload_table,
	.id = offsetof(struct workload, id),
	.name = offsetof(struct workload, spec.name),
	.labels = offsetof(struct workload, spec.labels),
	.project = offsetof(struct workload, project),
};

int workload_get(struct core *c, const char *project, const char *name, struct noun **out, struct error *err) {
	return noun_get(c, c->workloads, project, name, out, err);
}

int workload_list(struct core *c, const char *project, char *const *labels, char **json, size_t *len, struct error *err) {
	return nouns_text(c, c->workloads, project, labels, json, len, err);
}

int workload_all(struct core *c, const char *project, struct noun ***out, struct error *err) {
	return nouns_all(c, c->workloads, project, out, err);
}

/* ---- ports of the host ---- */

static bool same_port(const struct port *a, const struct port *b) {
	return a->host_port == b->host_port && str_same(a->protocol, b->protocol) &&
	       (!a->address || !b->address || str_same(a->address, b->address));
}

static bool has_port(const struct workload_spec *s, const struct port *p) {
	for (size_t i = 0; i < s->ports.n; i++)
		if (same_port(&s->ports.items[i], p))
			return true;
	return false;
}

/* Another workload that has it, or NULL. Needs the lock. */
static const struct workload *port_owner(struct core *c, const struct port *p, const char *self) {
	struct noun *n;
	for (size_t i = 0; (n = nouns_next(c->workloads, &i));) {
		const struct workload *w = n->of;
		if (!str_same(w->id, self) && has_port(&w->spec, p))
			return w;
	}
	return NULL;
}

#define PORT_FIRST 30000
#define PORT_LAST 32767
/* Needs the lock. */
static int pick_port(struct core *c, const struct workload *w, struct port *p, struct error *err) {
	for (p->host_port = PORT_FIRST; p->host_port <= PORT_LAST; p->host_port++)
		if (!port_owner(c, p, w->id) && !has_port(&w->spec, &(struct port){.host_port = p->host_port, .protocol = p->protocol}) &&
		    port_check(c, p, w->id, true, NULL) == 0)
			return 0;
	p->host_port = 0;
	return error_field(err, "ports", "no port of the host from %d to %d is free", PORT_FIRST, PORT_LAST);
}

/* Those that were not asked for by number get one; the others must be free, but for what old has already. Needs the lock. */
static int settle_ports(struct core *c, struct workload *w, const struct workload_spec *old, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < w->spec.ports.n; i++) {
		struct port *p = &w->spec.ports.items[i];
		if (p->count > 1)
			return error_field(err, "ports", "of a workload are given one by one, not as ranges");
		if (!p->host_port) {
			struct port open = *p;
			r = pick_port(c, w, &open, err);
			p->host_port = open.host_port;
			continue;
		}
		const struct workload *owner = port_owner(c, p, w->id);
		if (owner)
			r = error_set(err, ERROR_CONFLICT, "port %" PRId64 "/%s of the host is taken by workload %s", p->host_port,
				      p->protocol, owner->spec.name);
		else if (!old || !has_port(old, p))
			r = port_check(c, p, w->id, true, err);
	}
	if (r < 0)
		error_in_field(err, "ports");
	return r;
}

/* ---- create ---- */

static int check_spec(struct core *c, const char *project, const struct workload_spec *s, struct error *err) {
	int r = fields_validate(&workload_spec_table, s, err);
	if (r == 0 && s->template.owner.workload)
		r = error_field(err, "template.owner", "is set by wabe and cannot be given");
	if (r == 0 && (r = kept_files_check(c, project, &s->template, err)) < 0)
		error_in_field(err, "template");
	return r;
}

static int create(struct core *c, const char *project, struct workload_spec *spec, struct noun **out, struct error *err) {
	_cleanup_(free_ptr) char *id = random_hex(INSTANCE_ID_LEN / 2);
	int64_t now = time_now_ns();
	struct workload w = {.id = id, .project = (char *)project, .created_at = now, .updated_at = now, .version = 1,
			     .generation = 1, .last_generation = 1, .spec = *spec};
	int r = check_spec(c, project, spec, err);
	if (r < 0)
		return r;
	core_lock(c);
	r = core_project_check(c, project, err);
	if (r == 0)
		r = noun_name_free(c->workloads, project, spec->name, err);
	if (r == 0)
		r = settle_ports(c, &w, NULL, err);
	core_unlock(c);
	return r < 0 ? r : noun_save(c, c->workloads, &w, "create", NULL, 0, out, err);
}

/* Secrets and configs are held so that none goes while a workload that gets it comes. */
struct holds {
	struct held workloads, secrets, configs;
};

static struct holds hold_all(struct core *c) {
	struct holds h = {.workloads = hold(c, "workload", "")};
	h.secrets = hold(c, "secret", "");
	h.configs = hold(c, "config", "");
	return h;
}

static void release_all(struct holds *h) {
	held_release(&h->configs);
	held_release(&h->secrets);
	held_release(&h->workloads);
}

int workload_create(struct core *c, const char *project, struct workload_spec *spec, struct noun **out, struct error *err) {
	_cleanup_(release_all) UNUSED struct holds h = hold_all(c);
	int r = create(c, project, spec, out, err);
	fields_free(&workload_spec_table, spec);
	workloads_poke(c);
	return r;
}

/* ---- change ---- */

static bool rolls(const struct workload *w) {
	const char *s = w->update.state;
	return s && !str_ends(s, "completed");
}

/* A template that stays leaves a rollout that is under way alone; one that was paused goes on. */
static void begin_update(struct workload *w, bool changed, const char *state, const char *message) {
	if (!changed && rolls(w) && !str_ends(w->update.state, "paused"))
		return;
	bool resumes = rolls(w);
	free(TAKE_PTR(w->update.state));
	free(TAKE_PTR(w->update.message));
	w->update.started_at = w->update.completed_at = 0;
	if (workload_is_job(&w->spec) || !(changed || resumes))
		return;
	w->update.state = str_copy(state);
	w->update.message = str_copy(message);
	w->update.started_at = time_now_ns();
}

static void forget_failures(struct workload *w) {
	for (size_t i = 0; i < w->failures.n; i++) {
		free(w->failures.items[i].run);
		free(w->failures.items[i].error);
	}
	w->failures.n = 0;
}

/* new is a copy of old with another spec. */
static void bump(const struct workload *old, struct workload *new) {
	bool changed = old->spec.force != new->spec.force ||
		       !fields_equal(&instance_spec_table, &old->spec.template, &new->spec.template);
	json_decref(new->previous);
	new->previous = fields_print_secrets(&workload_spec_table, &old->spec);
	new->previous_generation = old->generation;
	if (changed) {
		new->generation = ++new->last_generation;
		forget_failures(new);
	}
	begin_update(new, changed, "updating", "update in progress");
}

static int save_changed(struct core *c, const struct workload *old, struct workload *new, struct noun **out,
			struct error *err) {
	int r = check_spec(c, new->project, &new->spec, err);
	if (r < 0)
		return r;
	if (!str_same(old->spec.mode, new->spec.mode))
		return error_field(err, "mode", "of a workload cannot be changed");
	core_lock(c);
	if (!str_same(old->spec.name, new->spec.name))
		r = noun_name_free(c->workloads, new->project, new->spec.name, err);
	if (r == 0)
		r = settle_ports(c, new, &old->spec, err);
	core_unlock(c);
	new->version++;
	new->updated_at = time_now_ns();
	return r < 0 ? r : noun_save(c, c->workloads, new, "update", NULL, 0, out, err);
}

struct change {
	const json_t *patch;
	struct workload_spec *spec;
};

static int apply(const struct workload *old, struct workload *new, const struct change *how, struct error *err) {
	if (how->patch) {
		int r = fields_patch(&workload_spec_table, how->patch, false, &new->spec, err);
		if (r < 0)
			return r;
	} else if (how->spec) {
		fields_free(&workload_spec_table, &new->spec);
		new->spec = *how->spec;
		*how->spec = (struct workload_spec){0};
	}
	bump(old, new);
	return 0;
}

static int apply_rollback(const struct workload *old, struct workload *new, struct error *err) {
	if (!old->previous)
		return error_set(err, ERROR_CONFLICT, "workload %s does not have a previous spec", old->spec.name);
	json_t *previous = old->previous;
	struct workload_spec spec;
	int r = fields_parse(&workload_spec_table, previous, FIELDS_TRUSTED, &spec, err);
	if (r < 0)
		return error_wrap(err, "the previous spec");
	fields_free(&workload_spec_table, &new->spec);
	new->spec = spec;
	json_decref(new->previous);
	new->previous = fields_print_secrets(&workload_spec_table, &old->spec);
	new->generation = old->previous_generation;
	new->previous_generation = old->generation;
	forget_failures(new);
	begin_update(new, new->generation != old->generation, "rollback_started", "manually requested rollback");
	return 0;
}

static int change(struct core *c, const char *project, const char *name, int64_t version, const struct change *how,
		  struct noun **out, struct error *err) {
	_cleanup_(release_all) UNUSED struct holds h = hold_all(c);
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = noun_get(c, c->workloads, project, name, &o, err);
	if (r < 0)
		return r;
	const struct workload *old = o->of;
	if (version != ANY_VERSION && version != old->version)
		return error_set(err, ERROR_CONFLICT, "update out of sequence");
	struct workload new;
	fields_copy(&workload_table, old, &new);
	r = how ? apply(old, &new, how, err) : apply_rollback(old, &new, err);
	if (r == 0)
		r = save_changed(c, old, &new, out, err);
	fields_free(&workload_table, &new);
	workloads_poke(c);
	return r;
}

int workload_update(struct core *c, const char *project, const char *name, int64_t version, const json_t *patch,
		    struct noun **out, struct error *err) {
	return change(c, project, name, version, &(struct change){.patch = patch}, out, err);
}

int workload_replace(struct core *c, const char *project, const char *name, int64_t version, struct workload_spec *spec,
		     struct noun **out, struct error *err) {
	int r = change(c, project, name, version, &(struct change){.spec = spec}, out, err);
	fields_free(&workload_spec_table, spec);
	return r;
}

int workload_rollback(struct core *c, const char *project, const char *name, int64_t version, struct noun **out,
		      struct error *err) {
	return change(c, project, name, version, NULL, out, err);
}

int workload_delete(struct core *c, const char *project, const char *name, struct error *err) {
	_cleanup_(held_release) struct held h = hold(c, "workload", "");
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = noun_get(c, c->workloads, project, name, &o, err);
	if (r == 0)
		r = noun_delete(c, c->workloads, o->of, NULL, 0, err);
	workloads_poke(c);
	return r;
}
