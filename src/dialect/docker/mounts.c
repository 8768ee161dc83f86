/* The mounts of an instance in Docker's words: from the several places of containers/create, and back. Single ones are read in
 * mount-parse.c. */
#include "core/volumes.h"

#include "base/str.h"
#include "dialect/docker/containers.h"
#include "dialect/docker/networks-priv.h"

/* ---- the bodies ---- */

struct mounts_config {
	json_t *volumes;
};
static const struct field config_fields[] = {FIELD_AS("Volumes", struct mounts_config, volumes, FIELD_JSON)};
static const struct field_table config_table = {
	"Config", "", sizeof(struct mounts_config), config_fields, ARRAY_SIZE(config_fields),
};

struct mounts_host {
	char **binds, **volumes_from, *driver;
	FIELD_LIST_OF(struct docker_mount) mounts;
	struct pairs tmpfs;
};
static const struct field host_fields[] = {
	FIELD_AS("Binds", struct mounts_host, binds, FIELD_STRINGS),
	FIELD_AS("VolumesFrom", struct mounts_host, volumes_from, FIELD_STRINGS),
	FIELD_AS("VolumeDriver", struct mounts_host, driver, FIELD_STRING),
	FIELD_AS("Mounts", struct mounts_host, mounts, FIELD_LIST, .sub = &docker_mount_table),
	FIELD_AS("Tmpfs", struct mounts_host, tmpfs, FIELD_PAIRS),
};
static const struct field_table host_table = {
	"HostConfig", "", sizeof(struct mounts_host), host_fields, ARRAY_SIZE(host_fields),
};

/* ---- the list ---- */

static struct mount *mount_on(struct instance_spec *s, const char *target) {
	for (size_t i = 0; i < s->mounts.n; i++)
		if (str_same(s->mounts.items[i].target, target))
			return &s->mounts.items[i];
	return NULL;
}

static void mount_add(struct instance_spec *s, struct mount *m) {
	s->mounts.items = alloc_resize(s->mounts.items, s->mounts.n + 1, sizeof *s->mounts.items);
	s->mounts.items[s->mounts.n++] = *m;
	*m = (struct mount){0};
}

/* Takes m. The first n_from come from other containers, and give way. */
static int mount_put(struct instance_spec *s, size_t n_from, struct mount *m, struct error *err) {
	struct mount *there = mount_on(s, m->target);
	int r = 0;
	if (!there) {
		mount_add(s, m);
	} else if (there < s->mounts.items + n_from) {
		fields_free(&mount_table, there);
		*there = *m;
		*m = (struct mount){0};
	} else {
		r = error_set(err, ERROR_INVALID, "Duplicate mount point: %s", m->target);
	}
	fields_free(&mount_table, m);
	return r;
}

/* ---- VolumesFrom ---- */

static int read_only_from(const char *mode, bool *read_only, struct error *err) {
	_cleanup_(strv_free_ptr) char **words = strv_split(mode, ',');
	for (char **w = words; *w; w++) {
		*read_only = *read_only || str_same(*w, "ro");
		if (!str_same(*w, "ro") && !str_same(*w, "rw") && !str_same(*w, "z") && !str_same(*w, "Z")) {
			_cleanup_(free_ptr) char *shown = text_shown(mode);
			return error_set(err, ERROR_INVALID, "invalid mode: %s", shown);
		}
	}
	return 0;
}

/* "container", "container:ro" */
static int add_from(struct core *c, const char *text, struct instance_spec *spec, struct error *err) {
	_cleanup_(free_ptr) char *name = str_copyn(text, strcspn(text, ":"));
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	bool read_only = false;
	if (!*name)
		return error_set(err, ERROR_INVALID, "invalid volumes-from specification: %s", text);
	if (text[strlen(name)] && read_only_from(text + strlen(name) + 1, &read_only, err) < 0)
		return -ERROR_INVALID;
	if (instance_get(c, DOCKER_PROJECT, name, &snap, NULL) < 0)
		return error_set(err, ERROR_INVALID, "No such container: %s", name); /* 404 would mean the image */
	for (size_t i = 0; i < snap->instance.spec.mounts.n; i++) {
		const struct mount *from = &snap->instance.spec.mounts.items[i];
		struct mount m;
		if (str_same(from->type, "tmpfs"))
			continue;
		fields_copy(&mount_table, from, &m);
		m.read_only = m.read_only || read_only;
		if (str_same(m.type, "volume") && !strv_has(m.options, "nocopy"))
			strv_add(&m.options, "nocopy");
		struct mount *there = mount_on(spec, m.target);
		if (there) {
			fields_free(&mount_table, there);
			*there = m;
		} else {
			mount_add(spec, &m);
		}
	}
	return 0;
}

/* ---- the rest ---- */

static int add_binds(const struct mounts_host *h, size_t n_from, struct instance_spec *spec, struct error *err) {
	int r = docker_volume_driver_check(h->driver, err);
	for (char **b = h->binds; r == 0 && b && *b; b++) {
		struct mount m = {0};
		r = docker_bind_parse(*b, &m, err);
		if (r == 0)
			r = mount_put(spec, n_from, &m, err);
		fields_free(&mount_table, &m);
	}
	return r;
}

/* A volume that is not just any is made now. */
static int make_volume(struct core *c, const struct docker_volume_options *o, struct mount *m, struct error *err) {
	_cleanup_(free_ptr) char *made = NULL;
	if (!str_same(m->type, "volume") || (!o->labels.n && !o->driver.options.n && !(o->driver.name && *o->driver.name)))
		return 0;
	int r = docker_volume_make(c, m->source, &o->driver, &o->labels, &made, err);
	if (r < 0)
		return r;
	m->anonymous = !m->source;
	free(m->source);
	m->source = TAKE_PTR(made);
	return 0;
}

static int add_mounts(struct core *c, const struct mounts_host *h, size_t n_from, struct instance_spec *spec,
		      struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < h->mounts.n; i++) {
		struct mount m = {0};
		r = docker_mount_parse(&h->mounts.items[i], &m, err);
		if (r == 0)
			r = make_volume(c, &h->mounts.items[i].volume, &m, err);
		if (r == 0)
			r = mount_put(spec, n_from, &m, err);
		fields_free(&mount_table, &m);
	}
	for (size_t i = 0; r == 0 && i < h->tmpfs.n; i++) {
		struct mount m = {0};
		r = docker_tmpfs_parse(h->tmpfs.items[i].key, h->tmpfs.items[i].value, &m, err);
		if (r == 0)
			r = mount_put(spec, n_from, &m, err);
		fields_free(&mount_table, &m);
	}
	return r;
}

/* A volume of its own, where nothing else is mounted. */
static int add_anonymous(const char *target, struct instance_spec *spec, struct error *err) {
	struct mount m = {0};
	int r = docker_bind_parse(target, &m, err);
	if (r == 0 && !m.source && !mount_on(spec, m.target))
		mount_add(spec, &m);
	fields_free(&mount_table, &m);
	return r;
}

static int spec_mounts(struct core *c, const struct mounts_config *config, const struct mounts_host *host,
		       const struct image *image, struct instance_spec *spec, struct error *err) {
	int r = 0;
	for (char **from = host->volumes_from; r == 0 && from && *from; from++)
		r = add_from(c, *from, spec, err);
	size_t n_from = spec->mounts.n;
	if (r == 0)
		r = add_binds(host, n_from, spec, err);
	if (r == 0)
		r = add_mounts(c, host, n_from, spec, err);
	const char *target;
	json_t *value;
	json_object_foreach(config->volumes, target, value) {
		if (r == 0)
			r = add_anonymous(target, spec, err);
	}
	for (char **v = image ? image->config.volumes : NULL; r == 0 && v && *v; v++)
		r = add_anonymous(*v, spec, err);
	return r;
}

int docker_spec_mounts(struct core *c, const json_t *config, const json_t *host, const struct image *image,
		       struct instance_spec *spec, struct error *err) {
	struct mounts_config cb;
	struct mounts_host hb;
	int r = docker_parse_part(&config_table, config, &cb, err);
	if (r < 0)
		return r;
	r = docker_parse_part(&host_table, host, &hb, err);
	if (r == 0) {
		r = docker_mount_options_check(json_object_get(host, "Mounts"), err);
		r = r < 0 ? r : spec_mounts(c, &cb, &hb, image, spec, err);
		fields_free(&host_table, &hb);
	}
	fields_free(&config_table, &cb);
	return r;
}

/* ---- out ---- */

static char *mode_text(const struct mount *m) {
	_cleanup_(strv_free_ptr) char **words = NULL;
	if (m->read_only)
		strv_add(&words, "ro");
	if (m->propagation)
		strv_add(&words, m->propagation);
	return strv_join(words, ",");
}

static void set_volume(struct core *c, const struct mount *m, json_t *out) {
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	json_set_str(out, "Name", m->source ? m->source : "");
	const char *path = volume_find(c, DOCKER_PROJECT, m->source ? m->source : "", &o, NULL) == 0
				   ? ((const struct volume *)o->of)->path : NULL;
	_cleanup_(free_ptr) char *shown = m->subpath && path ? str_format("%s/%s", path, m->subpath) : str_copy(path ? path : "");
	json_set_str(out, "Source", shown);
}

/* It came as a member of HostConfig.Mounts, which knows no modes. */
static bool is_listed(const struct mount *m, const json_t *listed) {
	const json_t *one;
	size_t i;
	json_array_foreach(listed, i, one) {
		_cleanup_(free_ptr) char *target = docker_clean_path(json_get_str(one, "Target"));
		if (str_same(target, m->target))
			return true;
	}
	return false;
}

static json_t *one_mount(struct core *c, const struct mount *m, const json_t *listed) {
	bool plain = is_listed(m, listed);
	_cleanup_(free_ptr) char *mode = plain ? str_copy("") : mode_text(m);
	bool bind = str_same(m->type, "bind"), volume = str_same(m->type, "volume"), image = str_same(m->type, "image");
	json_t *out = json_object();
	json_set_str(out, "Type", m->type);
	if (volume)
		set_volume(c, m, out);
	else
		json_set_str(out, "Source", (bind || image) && m->source ? m->source : "");
	json_set_str(out, "Destination", m->target);
	if (volume)
		json_set_str(out, "Driver", "local");
	/* as dockerd has it, with SELinux or without */
	json_set_str(out, "Mode", volume && (plain || !m->anonymous) && !*mode ? "z" : mode);
	json_set_bool(out, "RW", !m->read_only);
	json_set_str(out, "Propagation", !bind ? "" : m->propagation ? m->propagation : "rprivate");
	return out;
}

/* What came as HostConfig.Tmpfs is shown there alone. */
json_t *docker_mounts(struct core *c, const struct instance *i) {
	_cleanup_(json_free_ptr) json_t *note = docker_note(i, NOTE_HOST);
	const json_t *tmpfs = json_object_get(note, "Tmpfs"), *listed = json_object_get(note, "Mounts");
	json_t *list = json_array();
	for (size_t k = 0; k < i->spec.mounts.n; k++) {
		const struct mount *m = &i->spec.mounts.items[k];
		if (!str_same(m->type, "tmpfs") || !json_object_get(tmpfs, m->target))
			json_array_append_new(list, one_mount(c, m, listed));
	}
	return list;
}

int docker_remove_anonymous(struct core *c, const struct instance *i, UNUSED struct error *err) {
	volumes_drop_anonymous(c, i);
	return 0;
}
