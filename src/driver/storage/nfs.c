/* The driver nfs: an export of a server, NFS 4. All volumes are files on it, file systems ext4 in sparse ones (10 GiB unless
 * given): owners, attributes and id-mapped mounts are then as anywhere, whatever the server squashes. Several hosts may use
 * the pool at once, a volume one of them at a time.
 *
 * A server that is gone never holds anybody for ever: requests give up after some 30 s with an error (mount option
 * softerr; "hard" as the pool's option waits instead), and what asks after the pool asks the server first. */
#include "base/proc.h"
#include "base/time.h"
#include "driver/storage/files-priv.h"

#include <stdio.h>
#include <unistd.h>

static int nfs_probe(struct error *err) {
	int r = storage_need_program("mount.nfs4", "nfs-common", err);
	return r < 0 ? r : storage_need_fs("nfs4", "nfsv4", err);
}

/* SERVER:/EXPORT, the server perhaps in brackets. */
static int split_source(const struct storage_pool *p, char **server, char **export, struct error *err) {
	const char *source = p->pool->spec.source, *colon = strstr(source, ":/");
	if (!colon || colon == source || *source == '-')
		return error_field(err, "source", "must be SERVER:/EXPORT, not %s", source);
	bool brackets = *source == '[' && colon[-1] == ']';
	*server = brackets ? str_copyn(source + 1, (size_t)(colon - source - 2)) : str_copyn(source, (size_t)(colon - source));
	*export = str_copy(colon + 1);
	return 0;
}

int nfs_ask(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *server = NULL, *export = NULL;
	int r = split_source(p, &server, &export, err);
	if (r < 0)
		return r;
	const char *port = pairs_get(&p->pool->spec.options, "port");
	return storage_ask(server, port ? port : "2049", err);
}

/* Of the pool's options those that are for mount(8), as "a,b=c". */
static char *mount_options(const struct storage_pool *p) {
	struct pair items[POOL_OPTIONS_MAX];
	struct pairs options = storage_mount_options(p, items);
	struct buf text = BUF_INIT;
	buf_adds(&text, pairs_get(&p->pool->spec.options, "hard") ? "nodev" : "nodev,softerr,timeo=50,retrans=2");
	for (size_t i = 0; i < options.n; i++)
		buf_addf(&text, ",%s%s%s", options.items[i].key, *options.items[i].value ? "=" : "", options.items[i].value);
	return buf_steal(&text);
}

static int mount_export(const struct storage_pool *p, const char *root, struct error *err) {
	_cleanup_(free_ptr) char *options = mount_options(p);
	struct error why = ERROR_INIT;
	int made = fs_mkdir_p(root, 0700);
	if (made < 0)
		return error_errno(err, made, "cannot make %s", root);
	char *argv[] = {"mount.nfs4", p->pool->spec.source, (char *)root, "-o", options, NULL};
	if (proc_run_ok(&(struct proc){.argv = argv, .deadline_ns = 10 * NS_PER_SEC}, &why) == 0)
		return 0;
	int r = error_set(err, ERROR_UNAVAILABLE, "cannot mount %s: %s", p->pool->spec.source, error_text(&why));
	error_free(&why);
	return r;
}

static int nfs_mount(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *root = files_root(p);
	int r = nfs_ask(p, err);
	return r < 0 || storage_is_mounted(root) ? r : mount_export(p, root, err);
}

static int nfs_activate(const struct storage_pool *p, struct error *err) {
	int r = nfs_mount(p, err);
	return r < 0 ? r : files_check(p, err);
}

static int nfs_create(const struct storage_pool *p, struct error *err) {
	int r = nfs_mount(p, err);
	return r < 0 ? r : files_claim(p, err);
}

static int nfs_deactivate(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *root = files_root(p);
	return storage_unmount(root, err);
}

static int nfs_remove(const struct storage_pool *p, struct error *err) {
	int r = nfs_mount(p, err);
	if (r == 0)
		r = files_release(p, err);
	return r < 0 ? r : nfs_deactivate(p, err);
}

const struct storage_driver storage_nfs = {
	.name = "nfs",
	.can = {.filesystems = true, .blocks = true, .snapshots = true, .instant_snapshots = true, .linked_clones = true,
		.restore_older = true,
		.quotas = true, .grow_online = true, .shared = true, .persistent = true},
	.probe = nfs_probe,
	.create = nfs_create,
	.activate = nfs_activate,
	.deactivate = nfs_deactivate,
	.remove = nfs_remove,
	.status = files_status,
	FILES_OPERATIONS,
};
