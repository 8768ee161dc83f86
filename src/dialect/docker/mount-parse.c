/* Single mounts in Docker's words: "source:target:mode", members of HostConfig.Mounts, options of a tmpfs. */
#include "base/str.h"
#include "dialect/docker/networks-priv.h"

/* ---- paths ---- */

char *docker_clean_path(const char *path) {
	_cleanup_(strv_free_ptr) char **parts = strv_split(path ? path : "", '/'), **kept = NULL;
	size_t n = 0;
	for (char **p = parts; *p; p++) {
		if (str_same(*p, "") || str_same(*p, "."))
			continue;
		if (!str_same(*p, "..")) {
			strv_add(&kept, *p);
			n++;
		} else if (n) {
			free(TAKE_PTR(kept[--n]));
		}
	}
	_cleanup_(free_ptr) char *joined = strv_join(kept, "/");
	return str_format("/%s", joined);
}

static int set_target(const char *target, struct mount *m, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(target);
	if (!*target)
		return error_set(err, ERROR_INVALID, "field Target must not be empty");
	if (target[0] != '/')
		return error_set(err, ERROR_INVALID, "invalid mount path: '%s' mount path must be absolute", shown);
	m->target = docker_clean_path(target);
	if (str_same(m->target, "/"))
		return error_set(err, ERROR_INVALID, "invalid specification: destination can't be '/'");
	return path_check(m->target, err);
}

int docker_volume_name_check(const char *name, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(name);
	if (strlen(name) == 1)
		return error_set(err, ERROR_INVALID, "create %s: volume name is too short, names should be at least two alphanumeric "
				 "characters", shown);
	if (instance_name_check(name, NULL) < 0)
		return error_set(err, ERROR_INVALID, "create %s: \"%s\" includes invalid characters for a local volume name, only "
				 "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
				 shown, shown);
	return 0;
}

static bool is_one_of(const char *text, const char *const *words) {
	for (; *words; words++)
		if (strcmp(text, *words) == 0)
			return true;
	return false;
}

static bool is_propagation(const char *text) {
	static const char *const words[] = {"private", "rprivate", "slave", "rslave", "shared", "rshared", NULL};
	return is_one_of(text, words);
}

/* ---- "source:target:mode" ---- */

static int parse_mode(const char *mode, struct mount *m) {
	static const char *const without_effect[] = {"rw", "z", "Z", "consistent", "cached", "delegated", "default", NULL};
	_cleanup_(strv_free_ptr) char **words = strv_split(mode, ',');
	for (char **w = words; *w; w++) {
		bool bind = str_same(m->type, "bind");
		if (is_one_of(*w, without_effect))
			continue;
		if (str_same(*w, "ro"))
			m->read_only = true;
		else if (bind && is_propagation(*w) && !m->propagation)
			m->propagation = str_copy(*w);
		else if (!bind && str_same(*w, "nocopy"))
			strv_add(&m->options, "nocopy");
		else
			return -EINVAL;
	}
	return 0;
}

static int in_config(const struct mount *m, struct error *err) {
	return error_wrap(err, "invalid mount config for type \"%s\"", m->type ? m->type : "");
}

static int parse_parts(char **part, size_t n, struct mount *m, bool *bad_mode, struct error *err) {
	const char *source = n > 1 ? part[0] : NULL, *target = n > 1 ? part[1] : part[0];
	m->type = str_copy(source && source[0] == '/' ? "bind" : "volume");
	int r = set_target(target, m, err);
	if (r < 0)
		return in_config(m, err);
	*bad_mode = n == 3 && parse_mode(part[2], m) < 0;
	if (*bad_mode) {
		_cleanup_(free_ptr) char *shown = text_shown(part[2]);
		return error_set(err, ERROR_INVALID, "invalid mode: %s", shown);
	}
	m->create = str_same(m->type, "bind");
	if (source)
		m->source = m->create ? docker_clean_path(source) : str_copy(source);
	return 0;
}

int docker_bind_parse(const char *text, struct mount *m, struct error *err) {
	_cleanup_(strv_free_ptr) char **part = strv_split(text, ':');
	_cleanup_(free_ptr) char *shown = text_shown(text);
	struct mount probe = {.type = (char *)"bind"};
	size_t n = strv_len(part);
	bool empty = false, mode = n == 2 && parse_mode(part[1], &probe) == 0;
	free(probe.propagation);
	fields_free(&mount_table, m);
	fields_init(&mount_table, m);
	for (size_t i = 0; i < n; i++)
		empty = empty || !*part[i];
	if (n > 3 || empty || mode)
		return error_set(err, ERROR_INVALID, "invalid volume specification: '%s'", shown);
	bool bad_mode = false;
	int r = parse_parts(part, n, m, &bad_mode, err);
	if (r < 0)
		return bad_mode ? r : error_wrap(err, "invalid volume specification: '%s'", shown);
	return m->source && !m->create ? docker_volume_name_check(m->source, err) : 0;
}

/* ---- options of a tmpfs ---- */

static int tmpfs_number(const char *option, const char *key, int64_t max, int64_t *out, bool *mine) {
	size_t n = strlen(key);
	if (!str_starts(option, key))
		return 0;
	*mine = true;
	return str_to_i64(option + n, out) < 0 || *out < 0 || *out > max ? -EINVAL : 0;
}

/* "size=64m", "mode=1777", "uid=1", "noexec" … */
static int tmpfs_option(const char *option, struct mount *m) {
	static const char *const without_effect[] = {"", "rw", "defaults", "rprivate", "private", "slave", "rslave", "shared", "rshared", NULL};
	bool mine = false;
	int r = tmpfs_number(option, "uid=", 65535, &m->uid, &mine);
	if (r == 0)
		r = tmpfs_number(option, "gid=", 65535, &m->gid, &mine);
	if (r == 0)
		r = tmpfs_number(option, "nr_inodes=", INT64_MAX, &m->inodes, &mine);
	if (r < 0 || mine || is_one_of(option, without_effect))
		return r;
	if (str_starts(option, "size="))
		return str_to_size(option + strlen("size="), &m->size);
	if (str_starts(option, "mode=")) {
		free(m->mode);
		m->mode = str_copy(option + strlen("mode="));
	} else if (str_same(option, "ro")) {
		m->read_only = true;
	} else if (strchr(option, '=')) {
		return -EINVAL;
	} else {
		strv_add(&m->options, option);
	}
	return 0;
}

/* What dockerd mounts is noexec unless asked otherwise. */
static void tmpfs_defaults(struct mount *m) {
	if (!strv_has(m->options, "exec") && !strv_has(m->options, "noexec"))
		strv_add(&m->options, "noexec");
}

static int tmpfs_options(char *const *options, struct mount *m, struct error *err) {
	for (; options && *options; options++)
		if (tmpfs_option(*options, m) < 0) {
			_cleanup_(free_ptr) char *shown = text_shown(*options);
			return error_set(err, ERROR_INVALID, "invalid tmpfs option [\"%s\"]", shown);
		}
	tmpfs_defaults(m);
	int r = fields_validate(&mount_table, m, err);
	return r < 0 ? error_wrap(err, "invalid tmpfs option") : 0;
}

int docker_tmpfs_parse(const char *target, const char *options, struct mount *m, struct error *err) {
	_cleanup_(strv_free_ptr) char **words = strv_split(options, ',');
	fields_init(&mount_table, m);
	free(m->type);
	m->type = str_copy("tmpfs");
	int r = set_target(target, m, err);
	return r < 0 ? in_config(m, err) : tmpfs_options(words, m, err);
}

/* ---- HostConfig.Mounts ---- */

static const struct field bind_fields[] = {
	FIELD_AS("Propagation", struct docker_bind_options, propagation, FIELD_STRING),
	FIELD_AS("NonRecursive", struct docker_bind_options, non_recursive, FIELD_BOOL),
	FIELD_AS("CreateMountpoint", struct docker_bind_options, create, FIELD_BOOL),
	FIELD_AS("ReadOnlyNonRecursive", struct docker_bind_options, ro_non_recursive, FIELD_BOOL),
	FIELD_AS("ReadOnlyForceRecursive", struct docker_bind_options, ro_force_recursive, FIELD_BOOL),
};
static const struct field_table bind_table = {
	"BindOptions", "", sizeof(struct docker_bind_options), bind_fields, ARRAY_SIZE(bind_fields),
};

static const struct field driver_fields[] = {
	FIELD_AS("Name", struct docker_volume_driver, name, FIELD_STRING),
	FIELD_AS("Options", struct docker_volume_driver, options, FIELD_PAIRS),
};
static const struct field_table driver_table = {
	"DriverConfig", "", sizeof(struct docker_volume_driver), driver_fields, ARRAY_SIZE(driver_fields),
};

static const struct field volume_fields[] = {
	FIELD_AS("NoCopy", struct docker_volume_options, no_copy, FIELD_BOOL),
	FIELD_AS("Labels", struct docker_volume_options, labels, FIELD_PAIRS),
	FIELD_AS("DriverConfig", struct docker_volume_options, driver, FIELD_OBJECT, .sub = &driver_table),
	FIELD_AS("Subpath", struct docker_volume_options, subpath, FIELD_STRING),
};
static const struct field_table volume_options_table = {
	"VolumeOptions", "", sizeof(struct docker_volume_options), volume_fields, ARRAY_SIZE(volume_fields),
};

static const struct field tmpfs_fields[] = {
	FIELD_AS("SizeBytes", struct docker_tmpfs_options, size, FIELD_INT),
	FIELD_AS("Mode", struct docker_tmpfs_options, mode, FIELD_INT),
	FIELD_AS("Options", struct docker_tmpfs_options, options, FIELD_JSON),
};
static const struct field_table tmpfs_table = {
	"TmpfsOptions", "", sizeof(struct docker_tmpfs_options), tmpfs_fields, ARRAY_SIZE(tmpfs_fields),
};

static const struct field image_fields[] = {
	FIELD_AS("Subpath", struct docker_image_options, subpath, FIELD_STRING),
};
static const struct field_table image_options_table = {
	"ImageOptions", "", sizeof(struct docker_image_options), image_fields, ARRAY_SIZE(image_fields),
};

static const struct field mount_fields[] = {
	FIELD_AS("Type", struct docker_mount, type, FIELD_STRING),
	FIELD_AS("Source", struct docker_mount, source, FIELD_STRING),
	FIELD_AS("Target", struct docker_mount, target, FIELD_STRING),
	FIELD_AS("ReadOnly", struct docker_mount, read_only, FIELD_BOOL),
	FIELD_AS("BindOptions", struct docker_mount, bind, FIELD_OBJECT, .sub = &bind_table),
	FIELD_AS("VolumeOptions", struct docker_mount, volume, FIELD_OBJECT, .sub = &volume_options_table),
	FIELD_AS("TmpfsOptions", struct docker_mount, tmpfs, FIELD_OBJECT, .sub = &tmpfs_table),
	FIELD_AS("ImageOptions", struct docker_mount, image, FIELD_OBJECT, .sub = &image_options_table),
};
const struct field_table docker_mount_table = {
	"Mount", "", sizeof(struct docker_mount), mount_fields, ARRAY_SIZE(mount_fields),
};

static char *given(const char *text) {
	return text && *text ? str_copy(text) : NULL;
}

static int absolute_source(const struct docker_mount *d, struct mount *m, struct error *err) {
	_cleanup_(free_ptr) char *shown = text_shown(d->source ? d->source : "");
	if (!d->source || !*d->source)
		return error_set(err, ERROR_INVALID, "field Source must not be empty");
	if (d->source[0] != '/')
		return error_set(err, ERROR_INVALID, "invalid mount path: '%s' mount path must be absolute", shown);
	m->source = docker_clean_path(d->source);
	return 0;
}

static int bind_of(const struct docker_mount *d, struct mount *m, struct error *err) {
	const struct docker_bind_options *o = &d->bind;
	int r = absolute_source(d, m, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *shown = text_shown(o->propagation ? o->propagation : "");
	if (o->propagation && *o->propagation && !is_propagation(o->propagation))
		return error_set(err, ERROR_INVALID, "invalid propagation mode: %s", shown);
	if (o->ro_non_recursive)
		return error_set(err, ERROR_UNSUPPORTED, "BindOptions.ReadOnlyNonRecursive: what is read-only is so with all "
				 "that is mounted below it");
	if (o->ro_force_recursive && !m->read_only)
		return error_set(err, ERROR_INVALID, "mount option \"ReadOnlyForceRecursive\" requires \"ReadOnly\" to be set");
	m->propagation = given(o->propagation);
	m->recursive = !o->non_recursive;
	m->create = o->create;
	return 0;
}

static int volume_of(const struct docker_mount *d, struct mount *m, struct error *err) {
	const struct docker_volume_options *o = &d->volume;
	m->source = given(d->source);
	if (o->no_copy)
		strv_add(&m->options, "nocopy");
	if (o->subpath && *o->subpath && !m->source)
		return error_set(err, ERROR_INVALID, "must not set Subpath when using anonymous volumes");
	m->subpath = given(o->subpath);
	if (m->subpath && (m->subpath[0] == '/' || fields_validate(&mount_table, m, NULL) < 0)) {
		_cleanup_(free_ptr) char *shown = text_shown(m->subpath);
		return error_set(err, ERROR_INVALID, "invalid mount path: '%s' subpath must be a relative path within the volume",
				 shown);
	}
	return m->source ? docker_volume_name_check(m->source, err) : 0;
}

/* [["noexec"],["uid","1000"]] */
static char **option_words(const json_t *options) {
	char **words = NULL;
	const json_t *one;
	size_t i;
	json_array_foreach(options, i, one) {
		const char *key = json_string_value(json_array_get(one, 0)), *value = json_string_value(json_array_get(one, 1));
		strv_take(&words, value ? str_format("%s=%s", key ? key : "", value) : str_copy(key ? key : ""));
	}
	return words;
}

static int tmpfs_of(const struct docker_mount *d, struct mount *m, struct error *err) {
	_cleanup_(strv_free_ptr) char **words = option_words(d->tmpfs.options);
	if (d->source && *d->source)
		return error_set(err, ERROR_INVALID, "field Source must not be specified");
	m->size = d->tmpfs.size;
	if (d->tmpfs.mode)
		m->mode = str_format("%llo", (unsigned long long)(d->tmpfs.mode & 07777));
	return tmpfs_options(words, m, err);
}

/* Its files can be read, whether or not the client says so. */
static int image_of(const struct docker_mount *d, struct mount *m, struct error *err) {
	m->source = given(d->source);
	m->read_only = true;
	if (!m->source)
		return error_set(err, ERROR_INVALID, "field Source must not be empty");
	if (d->image.subpath && *d->image.subpath)
		return error_set(err, ERROR_UNSUPPORTED, "ImageOptions.Subpath: an image is mounted as a whole");
	return 0;
}

int docker_mount_options_check(const json_t *mounts, struct error *err) {
	static const struct {
		const char *type, *member;
	} all[] = {{"bind", "BindOptions"}, {"volume", "VolumeOptions"}, {"tmpfs", "TmpfsOptions"}, {"image", "ImageOptions"}};
	const json_t *one;
	size_t i;
	json_array_foreach(mounts, i, one) {
		const char *type = json_get_str(one, "Type");
		for (size_t k = 0; type && k < ARRAY_SIZE(all); k++) {
			if (str_same(type, all[k].type) || !json_is_object(json_object_get(one, all[k].member)))
				continue;
			_cleanup_(free_ptr) char *shown = text_shown(type);
			return error_set(err, ERROR_INVALID, "invalid mount config for type \"%s\": field %s must not be specified", shown,
					 all[k].member);
		}
	}
	return 0;
}

int docker_mount_parse(const struct docker_mount *d, struct mount *m, struct error *err) {
	const char *type = d->type ? d->type : "";
	fields_init(&mount_table, m);
	free(m->type);
	m->type = str_copy(type);
	m->read_only = d->read_only;
	int r = set_target(d->target ? d->target : "", m, err);
	if (r < 0)
		return in_config(m, err);
	if (str_same(type, "bind"))
		r = bind_of(d, m, err);
	else if (str_same(type, "volume"))
		r = volume_of(d, m, err);
	else if (str_same(type, "tmpfs"))
		r = tmpfs_of(d, m, err);
	else if (str_same(type, "image"))
		r = image_of(d, m, err);
	else if (str_same(type, "cluster") || str_same(type, "npipe"))
		r = error_set(err, ERROR_UNSUPPORTED, "HostConfig.Mounts: mounts of this type are not there");
	else
		r = error_set(err, ERROR_INVALID, "mount type unknown");
	return r < 0 ? in_config(m, err) : 0;
}
