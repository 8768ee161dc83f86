/* struct container_config: its beginning, its end, and the part of it that a container's state keeps. */
#include "driver/container/container-priv.h"

void container_config_init(struct container_config *c) {
	*c = (struct container_config){0};
}

static void process_free(struct container_process *p) {
	strv_free(p->args);
	strv_free(p->env);
	strv_free(p->groups);
	free(p->cwd);
	free(p->user);
	free(p->additional_gids);
	for (size_t i = 0; i < p->n_rlimits; i++)
		free(p->rlimits[i].type);
	free(p->rlimits);
	free(p->apparmor_profile);
	free(p->selinux_label);
}

void container_process_free(struct container_process *p) {
	process_free(p);
	*p = (struct container_process){0};
}

static void mounts_free(struct container_config *c) {
	for (size_t i = 0; i < c->n_mounts; i++) {
		struct container_mount *m = &c->mounts[i];
		free(m->source);
		free(m->target);
		free(m->type);
		free(m->data);
		free(m->subpath);
		strv_free(m->lowers);
		free(m->uid_maps);
		free(m->gid_maps);
	}
	free(c->mounts);
}

static void hooks_free(struct container_config *c) {
	for (int kind = 0; kind < HOOK_KINDS; kind++) {
		for (size_t i = 0; i < c->hooks[kind].n; i++) {
			struct container_hook *h = &c->hooks[kind].items[i];
			free(h->path);
			strv_free(h->args);
			strv_free(h->env);
		}
		free(c->hooks[kind].items);
	}
}

void container_config_free(struct container_config *c) {
	free(c->id);
	free(c->rootfs);
	strv_free(c->lowers);
	free(c->upper);
	free(c->work);
	free(c->hostname);
	free(c->domainname);
	for (size_t i = 0; i < c->n_namespaces; i++)
		free(c->namespaces[i].path);
	free(c->namespaces);
	free(c->uid_maps);
	free(c->gid_maps);
	mounts_free(c);
	for (size_t i = 0; i < c->n_files; i++) {
		free(c->files[i].target);
		free(c->files[i].data);
	}
	free(c->files);
	for (size_t i = 0; i < c->n_devices; i++)
		free(c->devices[i].path);
	free(c->devices);
	strv_free(c->masked_paths);
	strv_free(c->readonly_paths);
	pairs_free(&c->sysctls);
	pairs_free(&c->annotations);
	cgroup_config_free(&c->cgroup);
	json_decref(c->seccomp);
	process_free(&c->process);
	hooks_free(c);
	free(c->bundle);
	*c = (struct container_config){0};
}

/* --- what the state keeps --- */

static json_t *maps_print(const struct id_map *maps, size_t n) {
	json_t *a = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, json_pack("[III]", (json_int_t)maps[i].inside, (json_int_t)maps[i].host,
						   (json_int_t)maps[i].count));
	return a;
}

static void maps_parse(const json_t *a, struct id_map **maps, size_t *n) {
	*n = json_array_size(a);
	*maps = alloc_array(*n + 1, sizeof **maps);
	for (size_t i = 0; i < *n; i++) {
		const json_t *m = json_array_get(a, i);
		(*maps)[i] = (struct id_map){
			.inside = (uint32_t)json_integer_value(json_array_get(m, 0)),
			.host = (uint32_t)json_integer_value(json_array_get(m, 1)),
			.count = (uint32_t)json_integer_value(json_array_get(m, 2)),
		};
	}
}

static const char *const kept_hooks[HOOK_KINDS] = {[HOOK_POSTSTART] = "poststart", [HOOK_POSTSTOP] = "poststop"};

json_t *state_config_print(const struct container_config *c) {
	json_t *o = json_object();
	json_set_str(o, "rootfs", c->rootfs);
	if (c->lowers)
		json_object_set_new(o, "lowers", json_from_strv(c->lowers));
	json_set_str(o, "upper", c->upper);
	json_set_str(o, "work", c->work);
	json_set_str(o, "bundle", c->bundle);
	json_object_set_new(o, "uid_maps", maps_print(c->uid_maps, c->n_uid_maps));
	json_object_set_new(o, "gid_maps", maps_print(c->gid_maps, c->n_gid_maps));
	if (c->seccomp)
		json_object_set(o, "seccomp", c->seccomp);
	json_object_set_new(o, "annotations", pairs_print(&c->annotations));
	for (int kind = 0; kind < HOOK_KINDS; kind++)
		if (kept_hooks[kind] && c->hooks[kind].n)
			json_object_set_new(o, kept_hooks[kind], hooks_print(c->hooks[kind].items, c->hooks[kind].n));
	return o;
}

static char *copy_str(const json_t *o, const char *key) {
	const char *s = json_get_str(o, key);
	return s ? str_copy(s) : NULL;
}

int state_config_parse(const json_t *o, struct container_config *c, struct error *err) {
	if (!json_is_object(o))
		return error_set(err, ERROR_CORRUPT, "the state of the container is not readable");
	c->rootfs = copy_str(o, "rootfs");
	c->lowers = json_get_strv(o, "lowers");
	c->upper = copy_str(o, "upper");
	c->work = copy_str(o, "work");
	c->bundle = copy_str(o, "bundle");
	maps_parse(json_object_get(o, "uid_maps"), &c->uid_maps, &c->n_uid_maps);
	maps_parse(json_object_get(o, "gid_maps"), &c->gid_maps, &c->n_gid_maps);
	c->seccomp = json_incref(json_object_get(o, "seccomp"));
	pairs_read(&c->annotations, json_object_get(o, "annotations"));
	for (int kind = 0; kind < HOOK_KINDS; kind++)
		if (kept_hooks[kind])
			container_hooks_parse(json_object_get(o, kept_hooks[kind]), &c->hooks[kind].items, &c->hooks[kind].n);
	return 0;
}
