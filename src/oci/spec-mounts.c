/* config.json's mounts: fstab-like options into flags, propagation and what is left for the file system. */
#include "oci/oci-priv.h"

#include <sys/mount.h>

static const struct {
	const char *name;
	unsigned long set, clear;
} flags[] = {
	{"ro", MS_RDONLY, 0}, {"rw", 0, MS_RDONLY}, {"nosuid", MS_NOSUID, 0}, {"suid", 0, MS_NOSUID},
	{"nodev", MS_NODEV, 0}, {"dev", 0, MS_NODEV}, {"noexec", MS_NOEXEC, 0}, {"exec", 0, MS_NOEXEC},
	{"noatime", MS_NOATIME, 0}, {"atime", 0, MS_NOATIME}, {"nodiratime", MS_NODIRATIME, 0},
	{"diratime", 0, MS_NODIRATIME}, {"relatime", 0, 0}, {"norelatime", 0, 0},
	{"strictatime", MS_STRICTATIME, 0}, {"nostrictatime", 0, MS_STRICTATIME}, {"nosymfollow", MS_NOSYMFOLLOW, 0},
	{"symfollow", 0, MS_NOSYMFOLLOW}, {"bind", MS_BIND, 0}, {"rbind", MS_BIND | MS_REC, 0}, {"defaults", 0, 0},
	{"async", 0, 0}, {"nomand", 0, 0}, {"mand", 0, 0}, {"iversion", 0, 0}, {"noiversion", 0, 0}, {"silent", 0, 0},
	{"loud", 0, 0},
};

static const struct {
	const char *name;
	unsigned long propagation;
} propagations[] = {
	{"private", MS_PRIVATE}, {"rprivate", MS_PRIVATE | MS_REC}, {"slave", MS_SLAVE}, {"rslave", MS_SLAVE | MS_REC},
	{"shared", MS_SHARED}, {"rshared", MS_SHARED | MS_REC}, {"unbindable", MS_UNBINDABLE},
	{"runbindable", MS_UNBINDABLE | MS_REC},
};

unsigned long spec_propagation(const char *name) {
	for (size_t i = 0; i < ARRAY_SIZE(propagations); i++)
		if (str_same(name, propagations[i].name))
			return propagations[i].propagation;
	return 0;
}

static bool flag_option(const char *option, struct container_mount *m) {
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (str_same(option, flags[i].name)) {
			m->flags = (m->flags & ~flags[i].clear) | flags[i].set;
			m->clear_flags = (m->clear_flags & ~flags[i].set) | flags[i].clear;
			return true;
		}
	return false;
}

static int one_option(const char *option, struct container_mount *m, struct buf *data, struct error *err) {
	if (flag_option(option, m))
		return 0;
	if (spec_propagation(option)) {
		m->propagation = spec_propagation(option);
	} else if (str_same(option, "rro")) {
		m->recursive_readonly = true;
		m->flags |= MS_RDONLY;
	} else if (str_same(option, "tmpcopyup")) {
		m->copy_up = true;
	} else if (str_same(option, "idmap") || str_same(option, "ridmap")) {
		m->idmap = true;
	} else if (str_same(option, "remount") || (option[0] == 'r' && flag_option(option + 1, &(struct container_mount){0}))) {
		return error_set(err, ERROR_UNSUPPORTED, "the mount option %s", option);
	} else if (!(m->flags & MS_BIND) && !str_same(m->type, "bind")) {
		buf_addf(data, "%s%s", data->len ? "," : "", option);
	}
	return 0;
}

int spec_id_maps(const json_t *list, struct id_map **out, size_t *n, struct error *err) {
	*n = json_array_size(list);
	*out = *n ? alloc_array(*n, sizeof **out) : NULL;
	for (size_t i = 0; i < *n; i++) {
		const json_t *m = json_array_get(list, i);
		int64_t inside = json_get_int(m, "containerID"), host = json_get_int(m, "hostID"), size = json_get_int(m, "size");
		if (inside < 0 || host < 0 || size <= 0 || inside + size > UINT32_MAX || host + size > UINT32_MAX)
			return error_set(err, ERROR_INVALID, "id map %zu is out of range", i);
		(*out)[i] = (struct id_map){(uint32_t)inside, (uint32_t)host, (uint32_t)size};
	}
	return 0;
}

static int one_mount(const json_t *o, struct container_mount *m, struct error *err) {
	const char *target = json_get_str(o, "destination"), *type = json_get_str(o, "type"), *source = json_get_str(o, "source");
	if (!target || !*target)
		return error_set(err, ERROR_INVALID, "a mount has no destination");
	/* relative ones were permitted once, and meant "/" before them */
	m->target = target[0] == '/' ? str_copy(target) : str_format("/%s", target);
	m->source = source ? str_copy(source) : NULL;
	_cleanup_(buf_free) struct buf data = BUF_INIT;
	_cleanup_(strv_free_ptr) char **options = json_get_strv(o, "options");
	if (type && !str_same(type, "none"))
		m->type = str_copy(type);
	for (int pass = 0; pass < 2; pass++) /* bind may stand behind what depends on it */
		for (size_t i = 0; options && options[i]; i++) {
			bool binds = str_same(options[i], "bind") || str_same(options[i], "rbind");
			if (binds != (pass == 0))
				continue;
			int r = one_option(options[i], m, &data, err);
			if (r < 0)
				return r;
		}
	if (!m->type && !(m->flags & MS_BIND))
		return error_set(err, ERROR_INVALID, "the mount on %s has no type", m->target);
	if (data.len)
		m->data = buf_steal(&data);
	int r = spec_id_maps(json_object_get(o, "uidMappings"), &m->uid_maps, &m->n_uid_maps, err);
	if (r == 0)
		r = spec_id_maps(json_object_get(o, "gidMappings"), &m->gid_maps, &m->n_gid_maps, err);
	m->idmap |= m->n_uid_maps > 0;
	return r;
}

int spec_mounts(const json_t *mounts, struct container_config *out, struct error *err) {
	out->mounts = alloc_array(json_array_size(mounts) + 1, sizeof *out->mounts);
	for (size_t i = 0; i < json_array_size(mounts); i++) {
		out->n_mounts = i + 1;
		int r = one_mount(json_array_get(mounts, i), &out->mounts[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}
