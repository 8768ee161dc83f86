/* Volumes and instances together: what a new instance mounts, and clones. Mounting while it runs: mounts-live.c. */
#include "core/volumes.h"

#include "base/log.h"
#include "base/str.h"
#include "core/tasks.h"
#include "core/volumes-priv.h"
#include "model/migration.h"

bool mount_is_volume(const struct mount *m) {
	return str_same(m->type, "volume");
}

static int make_missing(struct core *c, const char *project, struct mount *m, struct noun **out, struct error *err) {
	struct volume_spec spec;
	fields_init(&volume_spec_table, &spec);
	if (!m->source) {
		m->source = random_hex(INSTANCE_ID_LEN / 2);
		m->anonymous = true;
		pairs_set(&spec.labels, ANONYMOUS_VOLUME, "true");
	}
	spec.name = str_copy(m->source);
	return volume_create(c, project, &spec, out, err);
}

/* The volume that a mount means; made when there is none. *made says so. */
static int volume_for(struct core *c, const char *project, struct mount *m, bool *made, struct noun **out,
		      struct error *err) {
	*made = false;
	struct error why = ERROR_INIT;
	int r = m->source ? noun_get(c, c->volumes, project, m->source, out, &why) : -ERROR_NOT_FOUND;
	if (r == -ERROR_NOT_FOUND) {
		error_free(&why);
		r = make_missing(c, project, m, out, &why);
		*made = r == 0;
		if (r == -ERROR_EXISTS) { /* somebody else was quicker */
			error_free(&why);
			r = noun_get(c, c->volumes, project, m->source, out, &why);
		}
	}
	return r < 0 ? error_move(err, &why) : 0;
}

static int add_use(struct core *c, struct instance *i, const struct mount *m, const struct volume *v, struct error *err) {
	_cleanup_(free_ptr) char *pool_id = NULL;
	int r = pool_id_of(c, v->spec.pool, &pool_id, err);
	if (r < 0)
		return r;
	i->volumes.items = alloc_resize(i->volumes.items, i->volumes.n + 1, sizeof *i->volumes.items);
	i->volumes.items[i->volumes.n++] = (struct volume_use){
		.name = str_copy(m->source),
		.volume_id = str_copy(v->id),
		.pool_id = TAKE_PTR(pool_id),
		.kind = str_copy(v->spec.kind),
	};
	return 0;
}

const struct volume_use *volume_use_named(const struct instance *i, const char *name) {
	for (size_t k = 0; k < i->volumes.n; k++)
		if (str_same(i->volumes.items[k].name, name))
			return &i->volumes.items[k];
	return NULL;
}

static int resolve_mount(struct core *c, struct instance *i, struct mount *m, char ***made, struct error *err) {
	if (!mount_is_volume(m) || (m->source && volume_use_named(i, m->source)))
		return 0;
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	bool new = false;
	int r = volume_for(c, i->project, m, &new, &o, err);
	if (r < 0)
		return r;
	const struct volume *v = o->of;
	if (new)
		strv_add(made, v->id);
	return add_use(c, i, m, v, err);
}

static const struct image_use *image_named(const struct instance *i, const char *name) {
	for (size_t k = 0; k < i->images.n; k++)
		if (str_same(i->images.items[k].name, name))
			return &i->images.items[k];
	return NULL;
}

static int resolve_image(struct core *c, struct instance *i, const struct mount *m, struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	if (!str_same(m->type, "image") || image_named(i, m->source))
		return 0;
	int r = image_get(c, i->project, m->source, &snap, err);
	if (r < 0)
		return r;
	if (!image_is_oci(&snap->image) || !snap->image.layers.n)
		return error_field(err, "source", "%s has no files that could be mounted", m->source);
	i->images.items = alloc_resize(i->images.items, i->images.n + 1, sizeof *i->images.items);
	struct image_use *use = &i->images.items[i->images.n++];
	*use = (struct image_use){.name = str_copy(m->source), .image_id = str_copy(snap->image.id)};
	for (size_t k = 0; k < snap->image.layers.n; k++)
		strv_add(&use->layers, snap->image.layers.items[k].diff_id);
	return 0;
}

int mounted_images_ensure(struct core *c, const struct instance *i, struct error *err) {
	int r = 0;
	for (size_t k = 0; r == 0 && k < i->images.n; k++) {
		core_lock(c);
		const struct image_entry *e = map_get(c->images, i->images.items[k].image_id);
		_cleanup_(image_snap_unref_ptr) struct image_snap *snap = e ? image_snap_ref(e->snap) : NULL;
		core_unlock(c);
		r = snap ? layers_ensure(c, &snap->image, err)
			 : error_set(err, ERROR_NOT_FOUND, "the image %s, which is to be mounted, is not there any more",
				     i->images.items[k].name);
	}
	return r;
}

int instance_resolve_storage(struct core *c, struct instance *i, char ***made, struct error *err) {
	*made = NULL;
	int r = pool_id_of(c, i->spec.pool ? i->spec.pool : "local", &i->pool_id, err);
	for (size_t k = 0; r == 0 && k < i->spec.mounts.n; k++) {
		r = resolve_mount(c, i, &i->spec.mounts.items[k], made, err);
		if (r == 0)
			r = resolve_image(c, i, &i->spec.mounts.items[k], err);
		if (r < 0) {
			_cleanup_(free_ptr) char *field = str_format("mounts[%zu]", k);
			error_in_field(err, field);
		}
	}
	return r;
}

void volumes_drop(struct core *c, const char *project, char *const *ids) {
	for (; ids && *ids; ids++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		if (volume_delete(c, project, *ids, &err) < 0 && err.kind != ERROR_NOT_FOUND)
			log_warn("volume %.12s is left over: %s", *ids, error_text(&err));
	}
}

static void drop_made(struct core *c, const struct instance *i, bool disks_alone) {
	for (size_t k = 0; k < i->spec.mounts.n; k++) {
		const struct mount *m = &i->spec.mounts.items[k];
		const struct volume_use *u = m->anonymous ? volume_use_named(i, m->source) : NULL;
		_cleanup_(error_free) struct error err = ERROR_INIT;
		if (!u || (disks_alone && !str_same(u->kind, "block")))
			continue;
		if (volume_delete(c, i->project, u->volume_id, &err) < 0 && err.kind != ERROR_NOT_FOUND && err.kind != ERROR_CONFLICT)
			log_warn("volume %.12s is left over: %s", u->volume_id, error_text(&err));
	}
}

void volumes_drop_anonymous(struct core *c, const struct instance *i) {
	drop_made(c, i, false);
}

/* Only those are block volumes that are made for a mount. */
void volumes_drop_disks(struct core *c, const struct instance *i) {
	drop_made(c, i, true);
}

/* ---- machines that come and go ---- */

int arrival_disks_make(struct core *c, const char *project, const struct migration_arrival *a, char ***made, struct error *err) {
	int r = 0;
	for (size_t k = 0; r == 0 && k < a->disks.n; k++) {
		const struct migration_disk *d = &a->disks.items[k];
		r = volume_create_arriving(c, project, d, err);
		if (r < 0)
			return error_wrap(err, "the disk %s", d->spec.name);
		strv_add(made, d->id);
	}
	return r;
}

static int pass(struct core *c, const struct instance *i, const struct volume_use *u, struct error *err) {
	_cleanup_(held_release) struct held h = {0};
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	_cleanup_(error_free) struct error why = ERROR_INIT;
	int r = volume_take_hold(c, i->project, u->volume_id, &h, &o, &why);
	if (r < 0)
		return r == -ERROR_NOT_FOUND ? 0 : error_move(err, &why);
	struct volume leaving = *(const struct volume *)o->of;
	leaving.transient = true;
	return noun_save(c, c->volumes, &leaving, "update", NULL, 0, NULL, err);
}

int volumes_pass(struct core *c, const struct instance *i, struct error *err) {
	int r = 0;
	for (size_t k = 0; r == 0 && k < i->volumes.n; k++) {
		core_lock(c);
		bool alone = !volume_other_user(c, i->volumes.items[k].volume_id, i->id); /* it was, when it began to leave */
		core_unlock(c);
		if (alone && str_same(i->volumes.items[k].kind, "block"))
			r = pass(c, i, &i->volumes.items[k], err);
	}
	return r;
}

void volumes_drop_passing(struct core *c, const struct instance *i) {
	for (size_t k = 0; k < i->volumes.n; k++) {
		_cleanup_(noun_unref_ptr) struct noun *o = NULL;
		char *const id[] = {i->volumes.items[k].volume_id, NULL};
		if (noun_get(c, c->volumes, i->project, id[0], &o, NULL) == 0 && ((const struct volume *)o->of)->transient)
			volumes_drop(c, i->project, id);
	}
}

/* ---- clones ---- */

struct clone {
	char *project, *instance, *name, *snapshot;
	bool linked, memory;
};

static void clone_free(void *arg) {
	struct clone *k = arg;
	free(k->project);
	free(k->instance);
	free(k->name);
	free(k->snapshot);
	free(k);
}

/* What belongs to one instance alone is not taken along. */
static void clone_spec(const struct instance *from, const char *name, struct instance_spec *out) {
	fields_copy(&instance_spec_table, &from->spec, out);
	free(out->name);
	out->name = name ? str_copy(name) : NULL;
	for (size_t i = 0; i < out->networks.n; i++) {
		free(TAKE_PTR(out->networks.items[i].ipv4));
		free(TAKE_PTR(out->networks.items[i].ipv6));
		free(TAKE_PTR(out->networks.items[i].mac));
	}
	for (size_t i = 0; i < out->ports.n; i++)
		out->ports.items[i].host_port = 0;
}

/* One that does not go on as its original is of no use. */
static int clone_start(struct core *c, const struct instance_snap *made, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *started = NULL;
	_cleanup_(error_free) struct error undo = ERROR_INIT;
	const struct instance *i = &made->instance;
	int r = instance_start(c, i->project, i->id, &started, err);
	if (r < 0 && instance_delete(c, i->project, i->id, true, &undo) < 0)
		log_warn("removing %s, which did not start: %s", i->spec.name, error_text(&undo));
	return r;
}

static int copy_disk(struct core *c, const struct instance *i, struct mount *m, const struct instance_origin *from, char ***made,
		     struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL, *copy = NULL;
	int r = noun_get(c, c->volumes, i->project, m->source, &o, err);
	if (r < 0 || !str_same(((const struct volume *)o->of)->spec.kind, "block"))
		return r;
	r = disk_copy_passing(c, from->task, i->project, m->source, from->linked, &copy, err);
	if (r < 0)
		return error_wrap(err, "the disk %s", m->source);
	const struct volume *v = copy->of;
	strv_add(made, v->id);
	free(m->source);
	m->source = str_copy(v->spec.name);
	m->anonymous = true;
	return 0;
}

int clone_disks_make(struct core *c, struct instance *i, const struct instance_origin *from, char ***made, struct error *err) {
	int r = 0;
	for (size_t k = 0; r == 0 && !from->memory && k < i->spec.mounts.n; k++) { /* with its memory such a one has no clones at all */
		struct mount *m = &i->spec.mounts.items[k];
		if (mount_is_volume(m) && m->source && !m->read_only)
			r = copy_disk(c, i, m, from, made, err);
	}
	return r;
}

static int clone_run(struct core *c, struct task_run *t, void *arg, char **result, struct error *err) {
	struct clone *k = arg;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *from = NULL, *made = NULL;
	int r = instance_get(c, k->project, k->instance, &from, err);
	if (r < 0)
		return r;
	_cleanup_(held_release) struct held h = hold(c, "instance", from->instance.id); /* its snapshots stay meanwhile */
	struct instance_origin origin = {
		.root = {
			.pool_id = from->instance.pool_id ? from->instance.pool_id : (char *)POOL_LOCAL_ID,
			.id = from->instance.id,
			.snapshot = k->snapshot,
		},
		.linked = k->linked,
		.memory = k->memory,
		.task = t,
	};
	struct instance_spec spec;
	clone_spec(&from->instance, k->name, &spec);
	r = instance_create_from(c, k->project, &spec, &origin, &made, err);
	if (r < 0)
		return r;
	*result = str_copy(made->instance.id);
	return k->memory ? clone_start(c, made, err) : 0;
}

int instance_clone(struct core *c, const char *project, const char *instance, const struct volume_copy_options *o, char **task,
		   struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *from = NULL;
	int r = instance_get(c, project, instance, &from, err);
	if (r == 0 && o->name)
		r = instance_name_check(o->name, err);
	if (r == 0 && o->memory && !instance_is_machine(&from->instance.spec))
		r = error_field(err, "memory", "is a machine's: instance %s is a container", from->instance.spec.name);
	if (r < 0)
		return r;
	struct clone *k = NEW(struct clone);
	*k = (struct clone){str_copy(project), str_copy(from->instance.id), o->name ? str_copy(o->name) : NULL,
			    o->snapshot ? str_copy(o->snapshot) : NULL, o->linked, o->memory};
	return task_start(c, project, "instance-clone", from->instance.spec.name, NULL, clone_run, k, clone_free, task, err);
}
