/* The driver zfs: data sets below a pool or data set that the administrator has made. File-system volumes are data sets with
 * a quota, block volumes are zvols; snapshots and clones take no time. Nothing outside of the data set SOURCE/wabe-POOL is
 * touched. Restoring goes back in place and takes the snapshots since with it, so it is refused unless it is to the newest. */
#include "base/proc.h"
#include "base/time.h"
#include "driver/storage/disk-priv.h"

#include <poll.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEADLINE (120 * NS_PER_SEC)
#define CLONING "wabe-clone-" /* snapshots that a clone was made from */
#define NODE_WAITS 100
#define NODE_WAIT_MS 50

static int probe(struct error *err) {
	int r = storage_need_program("zfs", "zfsutils-linux (contrib)", err);
	return r < 0 ? r : storage_need_fs("zfs", "zfs", err);
}

static enum error_kind kind_of(const char *why) {
	static const struct {
		const char *text;
		enum error_kind kind;
	} table[] = {
		{"does not exist", ERROR_NOT_FOUND}, {"is busy", ERROR_BUSY},		  {"out of space", ERROR_NO_SPACE},
		{"no space", ERROR_NO_SPACE},	     {"dependent clones", ERROR_CONFLICT}, {"more recent snapshots", ERROR_CONFLICT},
		{"already exists", ERROR_EXISTS},    {"I/O is currently suspended", ERROR_UNAVAILABLE},
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strstr(why, table[i].text))
			return table[i].kind;
	return ERROR_INTERNAL;
}

static int run(const char *const *args, struct buf *output, struct error *err) {
	_cleanup_(strv_free_ptr) char **argv = NULL;
	_cleanup_(buf_free) struct buf errors = BUF_INIT_MAX(65536);
	strv_add(&argv, "zfs");
	for (size_t i = 0; args[i]; i++)
		strv_add(&argv, args[i]);
	struct proc x = {.argv = argv, .output = output, .errors = &errors, .deadline_ns = DEADLINE};
	int r = proc_run(&x, err);
	if (r < 0 || x.status == 0)
		return r;
	return error_set(err, kind_of(buf_str(&errors)), "zfs %s failed: %.*s", args[0],
			 (int)strcspn(buf_str(&errors), "\n"), buf_str(&errors));
}
#define ZFS(err, ...) run((const char *const[]){__VA_ARGS__, NULL}, NULL, err)

/* One line of values, separated by tabs; free it. NULL and *err on failure. */
static char *get(const char *properties, const char *of, struct error *err) {
	_cleanup_(buf_free) struct buf out = BUF_INIT_MAX(65536);
	if (run((const char *const[]){"list", "-H", "-p", "-o", properties, of, NULL}, &out, err) < 0)
		return NULL;
	char *line = buf_steal(&out);
	if (line)
		line[strcspn(line, "\n")] = '\0';
	return line ? line : str_copy("");
}

static char *base(const struct storage_pool *p) {
	return str_format("%s/wabe-%.16s", p->pool->spec.source, p->pool->id);
}

static char *dataset(const struct storage_pool *p, const char *id, const char *snapshot) {
	_cleanup_(free_ptr) char *top = base(p);
	return str_format("%s/%s%s%s", top, id, snapshot ? "@" : "", snapshot ? snapshot : "");
}

static bool there(const char *name) {
	_cleanup_(free_ptr) char *got = get("name", name, NULL);
	return got != NULL;
}

/* --- the pool --- */

static int check(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *top = base(p), *got = get("name", top, err);
	return got ? 0 : error_wrap(err, "the pool %s", p->pool->spec.name);
}

static int create(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *top = base(p), *got = NULL;
	if (*p->pool->spec.source == '-' || strpbrk(p->pool->spec.source, "@# "))
		return error_field(err, "source", "must be POOL or POOL/DATASET, not %s", p->pool->spec.source);
	if (there(top))
		return 0;
	got = get("name", p->pool->spec.source, err);
	return got ? ZFS(err, "create", "-o", "mountpoint=none", "-o", "acltype=posixacl", "-o", "xattr=sa", "-o", "atime=off",
			 top) : -ERROR_NOT_FOUND;
}

static int deactivate(const struct storage_pool *p, struct error *err) {
	(void)p, (void)err;
	return 0; /* the zpool is the administrator's */
}

static int status(const struct storage_pool *p, struct pool_status *out, struct error *err) {
	_cleanup_(free_ptr) char *top = base(p), *line = get("used,avail", top, err);
	intmax_t used, free_bytes;
	if (!line)
		return -ERROR_UNAVAILABLE;
	if (sscanf(line, "%jd\t%jd", &used, &free_bytes) == 2) {
		out->used = used;
		out->total = used + free_bytes;
	}
	out->capabilities = p->driver->can;
	return 0;
}

/* --- volumes --- */

/* What there is: "filesystem", "volume"; whether it is finished. */
static int find(const struct storage_pool *p, const char *id, bool block, const char *snapshot, struct error *err) {
	_cleanup_(free_ptr) char *name = dataset(p, id, NULL), *type = get("type,wabe:state", name, NULL);
	if (!type || strstr(type, "unfinished"))
		return error_set(err, ERROR_NOT_FOUND, "the pool %s has no volume %s", p->pool->spec.name, id);
	if (str_starts(type, "volume") != block)
		return error_set(err, ERROR_INVALID, "the volume %s is %s block volume", id, block ? "no" : "a");
	_cleanup_(free_ptr) char *snap = snapshot ? dataset(p, id, snapshot) : NULL;
	if (snap && !there(snap))
		return error_set(err, ERROR_NOT_FOUND, "the volume %s has no snapshot %s", id, snapshot);
	return 0;
}

static int mount_at(const char *name, bool read_only, const char *target, struct error *err) {
	return storage_mount("zfs", name, NULL, read_only ? MOUNT_ATTR_RDONLY : 0, target, err);
}

static int make_root(const struct storage_pool *p, const char *name, const struct storage_volume *v, struct error *err) {
	_cleanup_(free_ptr) char *salt = random_hex(6), *temporary = str_format("tmp-%s", salt);
	_cleanup_(free_ptr) char *mount = storage_mount_point(p, temporary, NULL);
	int r = mount_at(name, false, mount, err);
	if (r < 0)
		return r;
	int made = chown(mount, v->uid, v->gid) < 0 || chmod(mount, v->mode) < 0 ? -errno : 0;
	r = storage_unmount(mount, err);
	return made < 0 ? error_errno(err, made, "cannot make the root directory of %s", name) : r;
}

static int volume_create(const struct storage_pool *p, const struct storage_volume *v, struct error *err) {
	_cleanup_(free_ptr) char *name = dataset(p, v->id, NULL), *size = str_format("%jd", (intmax_t)v->size);
	_cleanup_(free_ptr) char *quota = str_format("refquota=%s", v->size ? size : "none");
	if (find(p, v->id, v->block, NULL, NULL) == 0)
		return 0;
	if (v->block)
		return ZFS(err, "create", "-s", "-V", size, name);
	int r = there(name) ? 0 : ZFS(err, "create", "-o", "mountpoint=legacy", "-o", quota, "-o", "wabe:state=unfinished", name);
	storage_fault("storage-made");
	if (r == 0)
		r = make_root(p, name, v, err);
	if (r == 0)
		r = ZFS(err, "inherit", "wabe:state", name);
	storage_fault("storage-renamed");
	if (r < 0)
		ZFS(NULL, "destroy", name);
	return r;
}

static int volume_remove(const struct storage_pool *p, const char *id, bool block, struct error *err) {
	_cleanup_(free_ptr) char *name = dataset(p, id, NULL);
	(void)block;
	int r = disk_close(p, id, NULL, err);
	if (r < 0 || !there(name))
		return r;
	r = ZFS(err, "destroy", "-r", name);
	return r == -ERROR_CONFLICT ? error_wrap(err, "linked clones need the volume, remove or copy them first") : r;
}

static int volume_resize(const struct storage_pool *p, const struct storage_volume *v, int64_t size, struct error *err) {
	_cleanup_(free_ptr) char *name = dataset(p, v->id, NULL), *now = NULL;
	_cleanup_(free_ptr) char *to = size ? str_format("%s=%jd", v->block ? "volsize" : "refquota", (intmax_t)size)
					    : str_copy("refquota=none");
	int r = find(p, v->id, v->block, NULL, err);
	if (r < 0)
		return r;
	now = get(v->block ? "volsize" : "refer", name, err);
	int64_t bytes = 0;
	if (!now || str_to_i64(now, &bytes) < 0)
		return -ERROR_INTERNAL;
	if (size < bytes && (size || v->block))
		return error_set(err, ERROR_CONFLICT, "the volume has %jd bytes and cannot become smaller", (intmax_t)bytes);
	return ZFS(err, "set", to, name);
}

static int volume_usage(const struct storage_pool *p, const char *id, bool block, int64_t *size, int64_t *used,
			struct error *err) {
	_cleanup_(free_ptr) char *name = dataset(p, id, NULL), *line = NULL;
	intmax_t a = 0, b = 0;
	int r = find(p, id, block, NULL, err);
	if (r < 0)
		return r;
	line = get(block ? "volsize,refer" : "refquota,refer", name, err);
	if (!line)
		return -ERROR_INTERNAL;
	sscanf(line, "%jd\t%jd", &a, &b);
	*size = a;
	*used = b;
	return 0;
}

/* The names below a data set, "" for itself, with one of their properties. */
static int list(const struct storage_pool *p, const char *below, const char *type, const char *columns, char ***lines,
		struct error *err) {
	_cleanup_(buf_free) struct buf out = BUF_INIT_MAX((size_t)64 << 20);
	int r = run((const char *const[]){"list", "-H", "-p", "-d", "1", "-t", type, "-o", columns, below, NULL}, &out, err);
	(void)p;
	*lines = r < 0 || !out.len ? NULL : strv_split(buf_str(&out), '\n');
	return r;
}

static int volume_list(const struct storage_pool *p, char ***ids, struct error *err) {
	_cleanup_(free_ptr) char *top = base(p);
	_cleanup_(strv_free_ptr) char **lines = NULL;
	int r = list(p, top, "filesystem,volume", "name,wabe:state", &lines, err);
	*ids = NULL;
	for (size_t i = 0; lines && lines[i]; i++) {
		char *tab = strchr(lines[i], '\t');
		if (tab)
			*tab++ = '\0';
		if (tab && strlen(lines[i]) > strlen(top) && strcmp(tab, "unfinished") != 0)
			strv_add(ids, lines[i] + strlen(top) + 1);
	}
	return r;
}

/* The device node comes a moment after the volume. */
static int wait_for(const char *device, struct error *err) {
	for (int i = 0; i < NODE_WAITS; i++) {
		if (fs_exists(device))
			return 0;
		poll(NULL, 0, NODE_WAIT_MS);
	}
	return error_set(err, ERROR_UNAVAILABLE, "the device %s does not appear", device);
}

static int volume_open(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
		       struct storage_handle *out, struct error *err) {
	_cleanup_(free_ptr) char *name = dataset(p, id, snapshot), *device = str_format("/dev/zvol/%s", name);
	int r = find(p, id, block, snapshot, err);
	if (r < 0)
		return r;
	if (block) {
		_cleanup_(free_ptr) char *volume = dataset(p, id, NULL);
		if (snapshot)
			r = ZFS(err, "set", "snapdev=visible", volume);
		if (r == 0)
			r = wait_for(device, err);
		return r < 0 ? r : disk_open(p, device, id, true, snapshot, out, err);
	}
	_cleanup_(free_ptr) char *mount = storage_mount_point(p, id, snapshot);
	r = mount_at(name, snapshot != NULL, mount, err);
	if (r == 0)
		*out = (struct storage_handle){TAKE_PTR(mount), true};
	return r;
}

static int volume_close(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
			struct error *err) {
	(void)block;
	return disk_close(p, id, snapshot, err);
}

/* --- snapshots --- */

static int snapshot_create(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
			   struct error *err) {
	_cleanup_(free_ptr) char *name = dataset(p, id, snapshot);
	int r = find(p, id, block, NULL, err);
	r = r < 0 || there(name) ? r : ZFS(err, "snapshot", name);
	storage_fault("storage-snapshot-made");
	return r;
}

static int snapshot_remove(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
			   struct error *err) {
	_cleanup_(free_ptr) char *name = dataset(p, id, snapshot);
	(void)block;
	int r = disk_close(p, id, snapshot, err);
	if (r < 0 || !there(name))
		return r;
	r = ZFS(err, "destroy", name);
	return r == -ERROR_CONFLICT ? error_wrap(err, "linked clones need the snapshot, remove or copy them first") : r;
}

static int snapshot_restore(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
			    struct error *err) {
	_cleanup_(free_ptr) char *name = dataset(p, id, snapshot);
	int r = find(p, id, block, snapshot, err);
	if (r == 0)
		r = disk_close(p, id, NULL, err);
	if (r == 0)
		r = ZFS(err, "rollback", name);
	storage_fault("storage-restored");
	return r == -ERROR_CONFLICT ? error_wrap(err, "zfs goes back to the newest snapshot only; clone this one instead") : r;
}

static int snapshot_list(const struct storage_pool *p, const char *id, bool block, snapshots *out, struct error *err) {
	_cleanup_(free_ptr) char *name = dataset(p, id, NULL);
	_cleanup_(strv_free_ptr) char **lines = NULL;
	int r = find(p, id, block, NULL, err);
	if (r == 0)
		r = list(p, name, "snapshot", "name,creation", &lines, err);
	if (r < 0)
		return r;
	*out = (snapshots){.items = alloc_array(strv_len(lines) + 1, sizeof *out->items)};
	for (size_t i = 0; lines && lines[i]; i++) {
		char *at = strchr(lines[i], '@'), *tab = at ? strchr(at, '\t') : NULL;
		int64_t when = 0;
		if (!tab || str_starts(at + 1, CLONING))
			continue;
		*tab++ = '\0';
		str_to_i64(tab, &when);
		out->items[out->n++] = (struct snapshot){.name = str_copy(at + 1), .created_at = when * NS_PER_SEC};
	}
	return 0;
}

static int clone_volume(const struct storage_pool *p, const char *from, const char *snapshot,
			const struct storage_volume *to, struct error *err) {
	_cleanup_(free_ptr) char *own = snapshot ? NULL : str_format(CLONING "%.16s", to->id);
	_cleanup_(free_ptr) char *source = dataset(p, from, snapshot ? snapshot : own), *name = dataset(p, to->id, NULL);
	_cleanup_(free_ptr) char *quota = str_format("refquota=%jd", (intmax_t)to->size);
	int r = find(p, from, to->block, snapshot, err);
	if (r < 0 || find(p, to->id, to->block, NULL, NULL) == 0)
		return r;
	if (own && !there(source))
		r = ZFS(err, "snapshot", source);
	if (r == 0 && to->block)
		r = ZFS(err, "clone", source, name);
	else if (r == 0 && to->size)
		r = ZFS(err, "clone", "-o", "mountpoint=legacy", "-o", quota, source, name);
	else if (r == 0)
		r = ZFS(err, "clone", "-o", "mountpoint=legacy", source, name);
	if (r == 0 && own)
		r = ZFS(err, "destroy", "-d", source); /* once the clone is gone */
	storage_fault("storage-made");
	return r == 0 && to->block && to->size ? volume_resize(p, to, to->size, err) : r;
}

/* --- streams --- */

static int send_snapshot(const struct storage_pool *p, const char *id, bool block, const char *snapshot,
			 const char *since, int fd, struct error *err) {
	_cleanup_(free_ptr) char *name = dataset(p, id, snapshot), *before = since ? dataset(p, id, since) : NULL;
	int r = find(p, id, block, snapshot, err);
	if (r == 0 && since)
		r = find(p, id, block, since, err);
	char *whole[] = {"zfs", "send", name, NULL}, *differences[] = {"zfs", "send", "-i", before, name, NULL};
	return r < 0 ? r : proc_run_ok(&(struct proc){.argv = since ? differences : whole, .stdout_fd = fd}, err);
}

static int receive_snapshot(const struct storage_pool *p, const struct storage_volume *to, const char *snapshot, int fd,
			    struct error *err) {
	_cleanup_(free_ptr) char *name = dataset(p, to->id, snapshot);
	if (there(name))
		return 0;
	char *fs[] = {"zfs", "receive", "-F", "-u", "-o", "mountpoint=legacy", name, NULL}, *disk[] = {"zfs", "receive", "-F", name, NULL};
	return proc_run_ok(&(struct proc){.argv = to->block ? disk : fs, .stdin_fd = fd}, err);
}

static int recover(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *top = base(p);
	_cleanup_(strv_free_ptr) char **lines = NULL;
	int r = storage_mount_recover(p, err);
	if (r == 0)
		r = list(p, top, "filesystem,volume", "name,wabe:state", &lines, err);
	for (size_t i = 0; r == 0 && lines && lines[i]; i++) {
		char *tab = strchr(lines[i], '\t');
		if (!tab || strcmp(tab + 1, "unfinished") != 0)
			continue;
		*tab = '\0';
		r = ZFS(err, "destroy", "-r", lines[i]);
	}
	return r;
}

static int remove_pool(const struct storage_pool *p, struct error *err) {
	_cleanup_(free_ptr) char *top = base(p);
	_cleanup_(strv_free_ptr) char **ids = NULL;
	if (!there(top))
		return 0;
	int r = volume_list(p, &ids, err);
	if (r == 0 && ids)
		return error_set(err, ERROR_CONFLICT, "the pool %s still holds volumes", p->pool->spec.name);
	if (r == 0)
		r = recover(p, err);
	return r < 0 ? r : ZFS(err, "destroy", top);
}

const struct storage_driver storage_zfs = {
	.name = "zfs",
	.can = {.filesystems = true, .blocks = true, .snapshots = true, .instant_snapshots = true, .linked_clones = true,
		.quotas = true, .grow_online = true, .send = true, .persistent = true, .full_safe = true},
	.probe = probe,
	.create = create,
	.activate = check,
	.deactivate = deactivate,
	.remove = remove_pool,
	.status = status,
	.volume_create = volume_create,
	.volume_remove = volume_remove,
	.volume_resize = volume_resize,
	.volume_usage = volume_usage,
	.volume_list = volume_list,
	.volume_open = volume_open,
	.volume_close = volume_close,
	.snapshot_create = snapshot_create,
	.snapshot_remove = snapshot_remove,
	.snapshot_restore = snapshot_restore,
	.snapshot_list = snapshot_list,
	.clone = clone_volume,
	.send = send_snapshot,
	.receive = receive_snapshot,
	.recover = recover,
};
