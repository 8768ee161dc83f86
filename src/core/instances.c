/* Creating, changing, removing and listing instances. */
#include "core/volumes-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "model/migration.h"

#include <inttypes.h>

static int failed(struct error *err, enum error_kind kind) {
	return err && err->kind ? -(int)err->kind : -(int)kind;
}

char *instance_key(const char *project, const char *id) {
	return str_format("instances/%s/%s", project, id);
}

/* Puts it into the maps; needs the lock. Gives the entry with the maps' reference. */
static struct entry *entry_add(struct core *c, struct instance_snap *snap, bool creating) {
	struct entry *e = NEW(struct entry);
	*e = (struct entry){.refs = 1, .snap = snap, .creating = creating};
	_cleanup_(free_ptr) char *key = name_key(snap->instance.project, snap->instance.spec.name);
	map_set(c->by_id, snap->instance.id, e);
	map_set(c->by_name, key, e);
	return e;
}

/* Takes it out of the maps; needs the lock. The maps' reference becomes the caller's. */
static void entry_take_out(struct core *c, struct entry *e) {
	const struct instance *i = &e->snap->instance;
	_cleanup_(free_ptr) char *key = name_key(i->project, i->spec.name);
	instance_unclaim(c, i);
	selections_instance(c, i->id, NULL);
	map_take(c->by_id, i->id);
	if (map_get(c->by_name, key) == e)
		map_take(c->by_name, key);
	e->removed = true;
	c->generation++;
	pthread_cond_broadcast(&c->changed);
	follow_wake(c->follow);
}

static int compare_created(const void *a, const void *b) {
	const struct instance_snap *x = *(struct instance_snap *const *)a, *y = *(struct instance_snap *const *)b;
	return x->instance.created_at < y->instance.created_at ? -1 : x->instance.created_at > y->instance.created_at;
}

int instances_load(struct core *c, struct error *err) {
	_cleanup_(store_items_free) struct store_items list = {0};
	int r = store_list(c->store, "instances/", &list, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) struct instance_snap **snaps = alloc_array(list.n + 1, sizeof *snaps);
	size_t n = 0;
	for (size_t i = 0; i < list.n; i++) {
		_cleanup_(json_free_ptr) json_t *json = json_parse(list.items[i].value, strlen(list.items[i].value), err);
		struct instance one;
		if (!json || fields_parse(&instance_table, json, FIELDS_TRUSTED, &one, err) < 0) {
			for (size_t k = 0; k < n; k++)
				instance_snap_unref(snaps[k]);
			return error_wrap(err, "reading %s", list.items[i].key);
		}
		snaps[n++] = instance_snap_new(&one);
		fields_free(&instance_table, &one);
	}
	qsort(snaps, n, sizeof *snaps, compare_created);
	for (size_t i = 0; i < n; i++) {
		struct entry *e = entry_add(c, snaps[i], false);
		e->loaded = true;
		e->orphan = snaps[i]->instance.transient;
		instance_claim(c, &snaps[i]->instance);
	}
	return changes_load(c, err);
}

/* ---- create ---- */

/* "instance:NAME" becomes "instance:ID". Needs the lock. */
static int resolve_mode(struct core *c, const char *project, const char *field, char **mode, struct error *err) {
	if (!*mode || !str_starts(*mode, "instance:"))
		return 0;
	struct entry *e = entry_find(c, project, *mode + strlen("instance:"), err);
	if (!e) {
		error_in_field(err, field);
		return failed(err, ERROR_NOT_FOUND);
	}
	free(*mode);
	*mode = str_format("instance:%s", e->snap->instance.id);
	return 0;
}

static int resolve_modes(struct core *c, const char *project, struct instance_spec *s, struct error *err) {
	struct {
		const char *field;
		char **mode;
	} modes[] = {{"pid_mode", &s->pid_mode}, {"ipc_mode", &s->ipc_mode}, {"uts_mode", &s->uts_mode},
		     {"cgroup_mode", &s->cgroup_mode}, {"network", &s->network}};
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		int r = resolve_mode(c, project, modes[i].field, modes[i].mode, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int links_resolve(struct core *c, const char *project, struct instance_spec *s, struct error *err) {
	for (char **link = s->links; link && *link; link++) {
		char *alias = strchr(*link, ':');
		_cleanup_(free_ptr) char *name = str_copyn(*link, alias ? (size_t)(alias - *link) : strlen(*link));
		struct entry *e = alias ? entry_find(c, project, name, err) : NULL;
		if (!e) {
			error_in_field(err, "links");
			return failed(err, ERROR_INVALID);
		}
		_cleanup_(free_ptr) char *old = *link;
		*link = str_format("%s%s", e->snap->instance.id, alias);
	}
	return 0;
}

/* Needs the lock. */
static int choose_name(struct core *c, const char *project, struct instance_spec *s, struct error *err) {
	while (!s->name) {
		_cleanup_(free_ptr) char *name = instance_name_random();
		_cleanup_(free_ptr) char *key = name_key(project, name);
		if (!map_get(c->by_name, key))
			s->name = TAKE_PTR(name);
	}
	_cleanup_(free_ptr) char *key = name_key(project, s->name);
	struct entry *other = map_get(c->by_name, key);
	if (!other)
		return 0;
	int r = error_set(err, ERROR_EXISTS, "the name %s is taken by instance %.12s: remove or rename that one first",
			  s->name, other->snap->instance.id);
	error_in_field(err, "name");
	return r;
}

static int check_image(struct core *c, const struct instance_spec *spec, struct error *err) {
	WITH_LOCK(c);
	if (instance_is_blank(spec) || image_find(c, spec->image, err))
		return 0;
	error_in_field(err, "image");
	return failed(err, ERROR_NOT_FOUND);
}

/* What a workload's template may have, and whoever fills that in has not. */
static int check_filled(const struct instance_spec *s, struct error *err) {
	if (s->hostname && strstr(s->hostname, "{{"))
		return error_field(err, "hostname", "has a placeholder, which only the template of a workload may have");
	for (size_t i = 0; i < s->mounts.n; i++)
		if (s->mounts.items[i].source && strstr(s->mounts.items[i].source, "{{"))
			return error_field(err, "mounts.source", "has a placeholder, which only the template of a workload may have");
	return 0;
}

/* Checks the spec against what is there and holds id, name, image, addresses and ports by an entry that nobody sees yet. */
/* arrives: the id that it has already; NULL: another one. */
static int reserve(struct core *c, const char *project, struct instance_spec *spec, bool transient, const char *arrives,
		   struct entry **out, struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	struct image_entry *image = instance_is_blank(spec) ? NULL : image_find(c, spec->image, err);
	if (!image && !instance_is_blank(spec)) {
		error_in_field(err, "image");
		return failed(err, ERROR_NOT_FOUND);
	}
	r = choose_name(c, project, spec, err);
	if (r == 0)
		r = resolve_modes(c, project, spec, err);
	if (r == 0)
		r = links_resolve(c, project, spec, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *id = arrives ? str_copy(arrives) : random_hex(INSTANCE_ID_LEN / 2);
	if (map_get(c->by_id, id))
		return error_set(err, ERROR_EXISTS, "instance %.12s is here already", id);
	struct instance i = {
		.id = id,
		.project = (char *)project,
		.created_at = time_now_ns(),
		.transient = transient,
		.image_id = image ? image->snap->image.id : NULL,
		.spec = *spec,
		.status = {.state = (char *)"created"},
	};
	r = instance_resolve(c, &i, NULL, true, true, err);
	if (r == 0) {
		*out = entry_add(c, instance_snap_new(&i), true);
		(*out)->refs++;
	}
	instance_resolved_free(&i);
	return r;
}

/* What the root begins as is there: layers, or a disk. *layers is to be freed, not what is in it. */
static int prepare_root(struct core *c, const struct instance *i, const struct image *image, bool copied,
			struct msg_instance_create *body, char ***layers, struct error *err) {
	if (image_is_oci(image)) {
		*layers = body->layers = alloc_array(image->layers.n + 1, sizeof **layers);
		for (size_t k = 0; k < image->layers.n; k++)
			body->layers[k] = image->layers.items[k].diff_id;
		return layers_ensure(c, image, err);
	}
	if (!str_same(i->spec.kind, "machine") || !str_same(image->kind, "disk"))
		return error_field(err, "image", str_same(image->kind, "disk") ? "is a machine's disk, and no container's: --vm"
						 : "is a medium or kernel of machines, and none starts from it alone");
	body->disk = image->layers.items[0].digest;
	return copied ? 0 : template_ensure(c, image, i->pool_id ? i->pool_id : POOL_LOCAL_ID, err);
}

int instance_make(struct core *c, const struct instance *i, const struct instance_origin *from, struct msg_instance_state *state,
		  struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *image = instance_image(c, i);
	if (!image && i->image_id)
		return error_set(err, ERROR_NOT_FOUND, "its image %.19s is not there any more", i->image_id);
	struct msg_instance_create body = {.instance = *i};
	_cleanup_(free_ptr) char **layers = NULL;
	int r = image ? prepare_root(c, i, &image->image, from != NULL, &body, &layers, err) : 0;
	if (r == 0)
		r = mounted_images_ensure(c, i, err);
	if (r < 0)
		return r;
	if (image)
		body.config = image->image.config;
	if (from && from->arrives) {
		body.disk = NULL;
	} else if (from) {
		body.root = from->root;
		body.linked = from->linked;
		body.memory = from->memory;
	}
	_cleanup_(media_close) struct media_files media = {.files = -1};
	_cleanup_(free_ptr) struct instance_file *sized = alloc_array(i->spec.files.n + 1, sizeof *sized);
	if (i->spec.files.n)
		memcpy(sized, i->spec.files.items, i->spec.files.n * sizeof *sized);
	body.instance.spec.files.items = sized;
	r = kept_files_open(c, i->project, &body.instance.spec.files, &media.files, err);
	if (r == 0)
		r = media_collect(c, i, image ? &image->image : NULL, &media, err);
	body.media.items = media.items;
	body.media.n = media.n;
	return r < 0 ? r : agent_call_fds(c, "instance-create", &body, media.fds, media.nfds, state, err);
}

/* One transaction for the instance and its name. */
static int store_new(struct core *c, const struct instance_snap *s, struct error *err) {
	const struct instance *i = &s->instance;
	_cleanup_(free_ptr) char *key = instance_key(i->project, i->id);
	_cleanup_(free_ptr) char *name = str_format("names/%s/%s", i->project, i->spec.name);
	struct store_op ops[] = {{STORE_PUT, key, s->json, STORE_ABSENT}, {STORE_PUT, name, i->id, STORE_ABSENT}};
	return events_txn(c, ops, ARRAY_SIZE(ops), err);
}

static int store_gone(struct core *c, const struct instance *i, struct error *err) {
	_cleanup_(free_ptr) char *key = instance_key(i->project, i->id);
	_cleanup_(free_ptr) char *name = str_format("names/%s/%s", i->project, i->spec.name);
	_cleanup_(free_ptr) char *snapshots_key = str_format("snapshots/%s", i->id);
	struct store_op ops[] = {{STORE_DELETE, key, NULL, STORE_ANY},
				 {STORE_DELETE, name, NULL, STORE_ANY},
				 {STORE_DELETE, snapshots_key, NULL, STORE_ANY}};
	return events_txn(c, ops, ARRAY_SIZE(ops), err);
}

static void unreserve(struct core *c, struct entry *e) {
	core_lock(c);
	entry_take_out(c, e);
	core_unlock(c);
	entry_unref(c, e);
}

/* The instance stands in the store before the agent hears of it: were this process to die in between, the
 * next one would have it made. */
static int create_reserved(struct core *c, struct entry *e, const struct instance_origin *from, struct error *err) {
	const struct instance *i = &e->snap->instance; /* nobody else changes it yet */
	struct msg_instance_state state = {0};
	int r = store_new(c, e->snap, err);
	if (r < 0)
		return r;
	r = instance_make(c, i, from, &state, err);
	if (r < 0) {
		_cleanup_(error_free) struct error undo = ERROR_INIT;
		if (store_gone(c, i, &undo) < 0)
			log_error("instance %.12s could not be made, and stays in the store: %s", i->id, error_text(&undo));
		return r;
	}
	WITH_LOCK(c);
	struct instance made = *i;
	made.status = state.status;
	made.uid_base = state.uid_base;
	e->creating = false;
	entry_set(c, e, instance_snap_new(&made));
	fields_free(&msg_instance_state_table, &state);
	i = &e->snap->instance;
	event_add(c, "instance", "create", i->project, i->id, i->spec.name, "image", i->spec.image, NULL);
	return 0;
}

static struct image_snap *image_of(struct core *c, const char *id) {
	WITH_LOCK(c);
	struct image_entry *found = id ? image_find(c, id, NULL) : NULL;
	return found ? image_snap_ref(found->snap) : NULL;
}

/* What the spec names of storage becomes ids, in an entry that nobody sees yet, and the further disks of its image, or of what it is a
 * copy of, become volumes. *made: volumes that were made for it. */
static int resolve_storage(struct core *c, struct entry *e, const struct instance_origin *from, char ***made, struct error *err) {
	struct instance i;
	fields_copy(&instance_table, &e->snap->instance, &i);
	_cleanup_(image_snap_unref_ptr) struct image_snap *image = from ? NULL : image_of(c, i.image_id);
	_cleanup_(strv_free_ptr) char **disks = NULL;
	int r = image ? image_disks_make(c, &i, &image->image, &disks, err) : 0;
	if (from && !from->arrives && instance_is_machine(&i.spec))
		r = clone_disks_make(c, &i, from, &disks, err);
	else if (from && from->arrives)
		r = arrival_disks_make(c, i.project, from->arrives, &disks, err);
	if (r == 0)
		r = instance_resolve_storage(c, &i, made, err);
	for (char **id = disks; id && *id; id++)
		strv_add(made, *id);
	if (r == 0) {
		WITH_LOCK(c);
		entry_set(c, e, instance_snap_new(&i));
	}
	fields_free(&instance_table, &i);
	return r;
}

/* The console of a machine is a terminal that is always there, but where it is that of a container's image. A copy has all that its
 * original has. */
static int complete_machine(struct core *c, const char *project, struct instance_spec *s, bool copied, struct error *err) {
	WITH_LOCK(c);
	const struct image_entry *image = instance_is_machine(s) && !instance_is_blank(s) ? image_find(c, s->image, NULL) : NULL;
	if (!instance_is_machine(s) || (image && image_is_oci(&image->snap->image)))
		return 0;
	s->tty = s->stdin_open = true;
	s->stdin_once = false;
	return image && !copied ? image_hardware_fill(c, project, &image->snap->image, s, err) : 0;
}

static int create(struct core *c, const char *project, struct instance_spec *spec, bool transient,
		  const struct instance_origin *from, struct instance_snap **out, struct error *err) {
	_cleanup_(entry_ref_drop) struct entry_ref ref = {c, NULL};
	_cleanup_(strv_free_ptr) char **made = NULL;
	int r = core_project_check(c, project, err);
	if (r == 0)
		r = check_image(c, spec, err);
	if (r == 0)
		r = complete_machine(c, project, spec, from != NULL, err);
	if (r == 0)
		r = check_filled(spec, err);
	if (r == 0)
		r = kept_files_check(c, project, spec, err);
	if (r == 0)
		r = default_network_ensure(c, project, spec, err);
	if (r == 0)
		r = reserve(c, project, spec, transient, from && from->arrives ? from->arrives->id : NULL, &ref.entry, err);
	fields_free(&instance_spec_table, spec);
	if (r < 0)
		return r;
	r = resolve_storage(c, ref.entry, from, &made, err);
	if (r == 0)
		r = create_reserved(c, ref.entry, from, err);
	if (r < 0) {
		unreserve(c, ref.entry);
		volumes_drop(c, project, made);
		return r;
	}
	selections_send(c); /* rules that mean it shall do so from its start on */
	*out = entry_snap(c, ref.entry);
	if (!transient)
		image_disks_keep(c, *out);
	return 0;
}

int instance_create(struct core *c, const char *project, struct instance_spec *spec, struct instance_snap **out,
		    struct error *err) {
	return create(c, project, spec, false, NULL, out, err);
}

int instance_create_from(struct core *c, const char *project, struct instance_spec *spec, const struct instance_origin *from,
			 struct instance_snap **out, struct error *err) {
	return create(c, project, spec, from->arrives != NULL, from, out, err);
}

int instance_create_passing(struct core *c, const char *project, struct instance_spec *spec, struct instance_snap **out,
			    struct error *err) {
	return create(c, project, spec, true, NULL, out, err);
}

int instance_keep(struct core *c, const char *project, const char *name, struct error *err) {
	_cleanup_(entry_ref_drop) struct entry_ref ref = {c, NULL};
	int r = entry_get(c, project, name, &ref.entry, err);
	if (r == 0)
		r = entry_acquire(c, ref.entry, err);
	if (r < 0)
		return r;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = entry_snap(c, ref.entry), *kept = NULL;
	struct instance i = snap->instance;
	image_disks_keep(c, snap);
	i.transient = false;
	kept = instance_snap_new(&i);
	_cleanup_(free_ptr) char *key = instance_key(project, i.id);
	struct store_op op = {STORE_PUT, key, kept->json, STORE_ANY};
	r = events_txn(c, &op, 1, err);
	if (r == 0) {
		WITH_LOCK(c);
		struct instance now = ref.entry->snap->instance;
		now.transient = false;
		entry_set(c, ref.entry, instance_snap_new(&now));
	}
	entry_release(c, ref.entry);
	return r;
}

int instance_get(struct core *c, const char *project, const char *name, struct instance_snap **out, struct error *err) {
	WITH_LOCK(c);
	struct entry *e = entry_find(c, project, name, err);
	if (!e)
		return failed(err, ERROR_NOT_FOUND);
	*out = instance_snap_ref(e->snap);
	return 0;
}

/* ---- remove ---- */

/* The store first: were this process to die in between, the next one would find that the agent has what the
 * store has not, and finish. */
static int remove_acquired(struct core *c, struct entry *e, bool force, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = entry_snap(c, e);
	const struct instance *i = &snap->instance;
	if (!force && state_is_up(i->status.state))
		return error_set(err, ERROR_CONFLICT, "instance %s is %s: stop it first, or remove it by force", i->spec.name,
				 i->status.state);
	bool moved = i->status.moved && !i->status.moves_keep; /* and so have its disks */
	int r = moved ? volumes_pass(c, i, err) : 0;
	if (r == 0)
		r = store_gone(c, i, err);
	if (r < 0)
		return r;
	struct msg_instance_delete body = {.id = i->id, .force = force};
	struct error gone = ERROR_INIT;
	bool up = state_is_up(i->status.state) && !str_same(i->status.state, "restarting");
	core_lock(c);
	unsigned ends = e->ends;
	if (up)
		event_add(c, "instance", "kill", i->project, i->id, i->spec.name, "image", i->spec.image, "signal", "KILL", NULL);
	core_unlock(c);
	r = agent_call(c, "instance-delete", &body, NULL, &gone);
	if (r == 0 && up)
		event_await(c, &e->ends, ends);
	if (r < 0 && gone.kind != ERROR_NOT_FOUND) {
		if (store_new(c, snap, NULL) < 0)
			log_error("instance %.12s has left the store, but not the agent", i->id);
		return error_move(err, &gone);
	}
	error_free(&gone);
	/* gone before anybody hears that the instance is */
	core_lock(c);
	e->leaving = true;
	core_unlock(c);
	if (i->spec.auto_remove)
		volumes_drop_anonymous(c, i);
	else
		volumes_drop_disks(c, i);
	if (moved)
		volumes_drop_passing(c, i);
	core_lock(c);
	event_add(c, "instance", "destroy", i->project, i->id, i->spec.name, "image", i->spec.image, NULL);
	entry_take_out(c, e);
	execs_drop_instance(c, i->id);
	bool orphan = i->image_id && map_get(c->orphans, i->image_id);
	core_unlock(c);
	entry_unref(c, e);
	snapshots_forget(c, i->id);
	if (orphan)
		orphans_drop(c);
	return 0;
}

int instance_remove_entry(struct core *c, struct entry *e, bool force, struct error *err) {
	if (entry_acquire(c, e, NULL) < 0)
		return 0; /* somebody else has removed it */
	int r = remove_acquired(c, e, force, err);
	entry_release(c, e);
	return r;
}

static int keep_arrived(struct core *c, struct entry *e, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = entry_snap(c, e);
	return instance_keep(c, snap->instance.project, snap->instance.id, err);
}

/* The agent first: it alone knows whether the machine is ours by now. The entry is held: nobody makes it again meanwhile. */
static int undo_arrival(struct core *c, struct entry *e, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = entry_snap(c, e);
	const struct instance *i = &snap->instance;
	struct msg_instance_delete body = {.id = i->id, .force = true, .unstarted = true};
	int r = agent_call(c, "instance-delete", &body, NULL, err);
	if (r == 0)
		r = store_gone(c, i, err);
	if (r < 0)
		return r;
	core_lock(c);
	event_add(c, "instance", "destroy", i->project, i->id, i->spec.name, "image", i->spec.image, NULL);
	entry_take_out(c, e);
	e->refs--; /* the maps'; the caller has its own */
	core_unlock(c);
	volumes_drop_passing(c, i);
	return 0;
}

int instance_arrival_end(struct core *c, struct entry *e, struct error *err) {
	struct error why = ERROR_INIT;
	if (entry_acquire(c, e, NULL) < 0)
		return 0; /* somebody has removed it */
	int r = undo_arrival(c, e, &why);
	entry_release(c, e);
	if (r == -ERROR_CONFLICT) {
		error_free(&why);
		r = keep_arrived(c, e, &why);
	}
	WITH_LOCK(c);
	e->orphan = r < 0;
	return r < 0 ? error_move(err, &why) : 0;
}

int instance_delete(struct core *c, const char *project, const char *name, bool force, struct error *err) {
	_cleanup_(entry_ref_drop) struct entry_ref ref = {c, NULL};
	int r = entry_get(c, project, name, &ref.entry, err);
	return r < 0 ? r : instance_remove_entry(c, ref.entry, force, err);
}

/* ---- list ---- */

bool label_fits(const struct pairs *labels, const char *wanted) {
	struct str value = str_view(wanted);
	struct str key = str_cut(&value, '=');
	_cleanup_(free_ptr) char *name = str_copyn(key.p, key.len);
	const char *have = pairs_get(labels, name);
	return have && (!strchr(wanted, '=') || str_same(have, strchr(wanted, '=') + 1));
}

static bool fits(const struct entry *e, const char *project, const struct instance_filter *f) {
	const struct instance *i = &e->snap->instance;
	if (e->creating || !str_same(i->project, project))
		return false;
	if (f->state ? !str_same(i->status.state, f->state) : !f->all && !state_is_up(i->status.state))
		return false;
	if (f->name && !strstr(i->spec.name, f->name))
		return false;
	if ((f->owned && !i->spec.owner.workload) || (f->workload && !str_same(i->spec.owner.workload, f->workload)))
		return false;
	for (char *const *l = f->labels; l && *l; l++)
		if (!label_fits(&i->spec.labels, *l))
			return false;
	return true;
}

/* The newest first. Needs the lock; the snapshots are not referenced. */
static struct instance_snap **collect(struct core *c, const char *project, const struct instance_filter *f, size_t *n) {
	struct instance_snap **all = alloc_array(map_count(c->by_id) + 1, sizeof(*all));
	size_t count = 0;
	void *value;
	for (size_t i = 0; map_next(c->by_id, &i, NULL, &value);)
		if (fits(value, project, f))
			all[count++] = ((struct entry *)value)->snap;
	for (size_t i = 0; i < count / 2; i++) {
		struct instance_snap *swap = all[i];
		all[i] = all[count - 1 - i];
		all[count - 1 - i] = swap;
	}
	*n = f->limit > 0 && (size_t)f->limit < count ? (size_t)f->limit : count;
	all[*n] = NULL;
	return all;
}

static struct list_text *list_text_ref(struct list_text *t) {
	__atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
	return t;
}

void list_text_unref(struct list_text *t) {
	if (!t || __atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	free(t->data);
	free(t);
}

/* Needs the lock. */
static struct list_text *list_build(struct core *c, const char *project, const struct instance_filter *f) {
	size_t n;
	_cleanup_(free_ptr) struct instance_snap **snaps = collect(c, project, f, &n);
	struct buf text = BUF_INIT;
	buf_addf(&text, "{\"revision\":%" PRId64 ",\"instances\":[", c->events.revision);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_addc(&text, ',');
		buf_add(&text, snaps[i]->json, snaps[i]->json_len);
	}
	buf_adds(&text, "]}");
	struct list_text *t = NEW(struct list_text);
	t->refs = 1;
	t->len = text.len;
	t->data = buf_steal(&text);
	return t;
}

/* Needs the lock. The text must also carry the present revision: both are compared. */
static struct list_cache *cache_find(struct core *c, const char *key) {
	for (size_t i = 0; i < ARRAY_SIZE(c->lists); i++)
		if (str_same(c->lists[i].key, key))
			return &c->lists[i];
	struct list_cache *slot = &c->lists[c->next_list++ % ARRAY_SIZE(c->lists)];
	free(slot->key);
	list_text_unref(slot->text);
	*slot = (struct list_cache){.key = str_copy(key)};
	return slot;
}

int instance_list(struct core *c, const char *project, const struct instance_filter *f, const char *cache_key,
		  struct list_text **out, struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	struct list_cache *cache = cache_key ? cache_find(c, cache_key) : NULL;
	if (cache && cache->text && cache->generation == c->generation && cache->revision == c->events.revision) {
		*out = list_text_ref(cache->text);
		return 0;
	}
	*out = list_build(c, project, f);
	if (cache) {
		list_text_unref(cache->text);
		cache->text = list_text_ref(*out);
		cache->generation = c->generation;
		cache->revision = c->events.revision;
	}
	return 0;
}

int instance_snaps(struct core *c, const char *project, const struct instance_filter *f, struct instance_snap ***out,
		   struct error *err) {
	WITH_LOCK(c);
	int r = core_project_check(c, project, err);
	if (r < 0)
		return r;
	size_t n;
	*out = collect(c, project, f, &n);
	for (size_t i = 0; i < n; i++)
		instance_snap_ref((*out)[i]);
	return 0;
}
