/* What containers/create did in versions of the API before DOCKER_API: the body is made to say the same in today's. Members
 * that came later have no effect, what was then lenient is, and defaults are those of then. */
#include "dialect/docker/containers.h"

static void drop(json_t *object, const char *name) {
	json_object_del(object, name);
}

/* Of one member of HostConfig.Mounts. */
static void older_mount(json_t *mount, int api) {
	const char *type = json_get_str(mount, "Type");
	json_t *bind = json_object_get(mount, "BindOptions");
	if (api < 40)
		drop(bind, "NonRecursive");
	if (api < 42)
		drop(bind, "CreateMountpoint");
	if (api < 42 && !str_same(type, "volume"))
		drop(mount, "VolumeOptions");
	if (api < 42 && !str_same(type, "tmpfs"))
		drop(mount, "TmpfsOptions");
	if (api < 44)
		drop(bind, "ReadOnlyNonRecursive");
	if (api < 45)
		drop(json_object_get(mount, "VolumeOptions"), "Subpath");
}

/* IPC could be shared unless that was asked not to be. */
static void older_ipc(json_t *host) {
	const char *mode = json_get_str(host, "IpcMode");
	if (!mode || !*mode)
		json_set_str(host, "IpcMode", "shareable");
}

static void older_host(json_t *host, int api) {
	json_t *mount;
	size_t i;
	if (api < 25)
		drop(host, "AutoRemove"); /* the client removed it */
	if (api < 40)
		older_ipc(host);
	if (api < 41)
		drop(host, "CgroupnsMode");
	if (api < 43)
		drop(host, "Annotations");
	json_array_foreach(json_object_get(host, "Mounts"), i, mount)
		older_mount(mount, api);
}

int docker_older_create(int api, json_t *config, json_t **host, const json_t *networking, struct error *err) {
	if (api < 44 && json_object_size(json_object_get(networking, "EndpointsConfig")) > 1)
		return error_set(err, ERROR_INVALID, "Container cannot be created with multiple network endpoints");
	if (api < 44)
		drop(json_object_get(config, "Healthcheck"), "StartInterval");
	if (!*host && api < 40) {
		json_object_set_new(config, "HostConfig", json_object());
		*host = json_object_get(config, "HostConfig");
	}
	if (*host)
		older_host(*host, api);
	return 0;
}
