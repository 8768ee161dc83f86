/* The registry of drivers, and what has no better place. */
#include "driver/storage/storage-priv.h"

#include <signal.h>
#include <unistd.h>

const struct storage_driver *const storage_drivers[] = {
	&storage_dir, &storage_btrfs, &storage_lvm_thin, &storage_nfs, &storage_iscsi, &storage_nvme_tcp, &storage_rbd, &storage_zfs,
	&storage_tmpfs, NULL,
};

const struct storage_driver *storage_driver_find(const char *name) {
	for (size_t i = 0; name && storage_drivers[i]; i++)
		if (strcmp(storage_drivers[i]->name, name) == 0)
			return storage_drivers[i];
	return NULL;
}

void storage_handle_free(struct storage_handle *h) {
	free(h->path);
	*h = (struct storage_handle){0};
}

char *storage_volume_path(const struct storage_pool *p, const char *id) {
	char *path = p->driver->volume_path ? p->driver->volume_path(p, id) : NULL;
	return path ? path : storage_mount_point(p, id, NULL);
}

void storage_fault(const char *name) {
	const char *wanted = getenv("WABE_FAULT");
	if (wanted && str_starts(wanted, "worker:") && strcmp(wanted + strlen("worker:"), name) == 0)
		kill(getpid(), SIGKILL);
}

struct pairs storage_mount_options(const struct storage_pool *p, struct pair items[POOL_OPTIONS_MAX]) {
	static const char *const own[] = {"volume-size", "hard"}; /* ours */
	const struct pairs *o = &p->pool->spec.options;
	struct pairs out = {items, 0};
	for (size_t i = 0; i < o->n && out.n < POOL_OPTIONS_MAX - 4; i++) {
		bool ours = false;
		for (size_t k = 0; k < ARRAY_SIZE(own); k++)
			ours = ours || strcmp(o->items[i].key, own[k]) == 0;
		if (!ours)
			items[out.n++] = o->items[i];
	}
	return out;
}
