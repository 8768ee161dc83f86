/* What a volume mounts instead of having content of its own: a directory of the host, a tmpfs, an export of an NFS server, a
 * share of a CIFS server. Always on one place below the pool's directory, so that what a crash leaves is found. */
#include "base/proc.h"
#include "base/time.h"
#include "driver/storage/storage-priv.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#define MOUNT_DEADLINE (20 * NS_PER_SEC)

char *storage_foreign_path(const struct storage_pool *p, const char *id) {
	_cleanup_(free_ptr) char *mount = storage_mount_point(p, id, NULL);
	return str_format("%s.mount", mount);
}

/* --- options --- */

static const struct {
	const char *word;
	uint64_t attrs; /* MOUNT_ATTR_*; of a time: how */
	bool clear;
} words[] = {
	{"ro", MOUNT_ATTR_RDONLY, false},	  {"rw", MOUNT_ATTR_RDONLY, true},
	{"nosuid", MOUNT_ATTR_NOSUID, false},	  {"suid", MOUNT_ATTR_NOSUID, true},
	{"noexec", MOUNT_ATTR_NOEXEC, false},	  {"exec", MOUNT_ATTR_NOEXEC, true},
	{"noatime", MOUNT_ATTR_NOATIME, false},	  {"strictatime", MOUNT_ATTR_STRICTATIME, false},
	{"nodiratime", MOUNT_ATTR_NODIRATIME, false}, {"diratime", MOUNT_ATTR_NODIRATIME, true},
	{"nodev", 0, false},			  {"relatime", 0, false},
	{"defaults", 0, false},
};

/* Of those of the mount itself; the others are the file system's, "name=value" or "name" alone. */
static bool take_word(const char *word, uint64_t *attrs) {
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(words[i].word, word) != 0)
			continue;
		*attrs = words[i].clear ? *attrs & ~words[i].attrs : *attrs | words[i].attrs;
		return true;
	}
	return false;
}

static int failed(const struct volume_mount_spec *m, const char *target, int errnum, struct error *err) {
	_cleanup_(free_ptr) char *reason = str_copy(strerror(errnum < 0 ? -errnum : errnum));
	reason[0] |= 0x20;
	return error_set(err, ERROR_INVALID, "failed to mount local volume: mount %s:%s: %s", m->device ? m->device : m->type, target,
			 reason);
}

/* --- kinds --- */

static int mount_bind(const struct volume_mount_spec *m, const char *target, struct error *err) {
	uint64_t attrs = MOUNT_ATTR_NODEV;
	bool recursive = false;
	for (char **w = m->options; w && *w; w++) {
		if (strcmp(*w, "rbind") == 0)
			recursive = true;
		else if (strcmp(*w, "bind") != 0 && !take_word(*w, &attrs))
			return error_field(err, "mount.options", "a bind mount does not take the option %s", *w);
	}
	bool times = attrs & (MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME);
	struct mount_attr attr = {.attr_set = attrs, .attr_clr = times ? MOUNT_ATTR__ATIME : 0, .propagation = MS_PRIVATE};
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0);
	_cleanup_(close_fd) int tree = open_tree(AT_FDCWD, m->device, flags);
	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof attr) < 0)
		return failed(m, target, errno, err);
	struct stat st;
	if (fstat(tree, &st) < 0 || !S_ISDIR(st.st_mode))
		return failed(m, target, ENOTDIR, err);
	return storage_mount_attach(tree, target, err);
}

static int mount_tmpfs(const struct volume_mount_spec *m, const char *target, struct error *err) {
	_cleanup_(strv_free_ptr) char **given = strv_copy(m->options);
	_cleanup_(free_ptr) struct pair *items = alloc_array(strv_len(given) + 1, sizeof *items);
	struct pairs options = {items, 0};
	uint64_t attrs = 0;
	for (char **w = given; w && *w; w++) {
		char *equals = strchrnul(*w, '=');
		if (take_word(*w, &attrs))
			continue;
		items[options.n++] = (struct pair){*w, *equals ? equals + 1 : equals};
		*equals = '\0';
	}
	return storage_mount("tmpfs", m->device ? m->device : "tmpfs", &options, attrs, target, err);
}

/* The server of SERVER:/PATH or //SERVER/SHARE. Nobody waits for one that is away. */
static int ask_server(const struct volume_mount_spec *m, struct error *err) {
	bool cifs = strcmp(m->type, "cifs") == 0;
	const char *from = cifs ? m->device + 2 : m->device;
	size_t n = cifs ? strcspn(from, "/") : (size_t)(strstr(from, ":/") - from);
	bool brackets = n > 2 && from[0] == '[' && from[n - 1] == ']';
	_cleanup_(free_ptr) char *server = brackets ? str_copyn(from + 1, n - 2) : str_copyn(from, n), *port = str_copy(cifs ? "445" : "2049");
	for (char **w = m->options; w && *w; w++)
		if (str_starts(*w, "port=")) {
			free(port);
			port = str_copy(*w + strlen("port="));
		}
	return storage_ask(server, port, err);
}

static int mount_server(const struct volume_mount_spec *m, const char *target, struct error *err) {
	bool cifs = strcmp(m->type, "cifs") == 0;
	_cleanup_(free_ptr) char *program = str_format("mount.%s", m->type), *given = strv_join(m->options, ",");
	_cleanup_(free_ptr) char *options = str_format("nodev%s%s", *given ? "," : "", given);
	_cleanup_(error_free) struct error why = ERROR_INIT;
	int r = storage_need_program(program, cifs ? "cifs-utils" : "nfs-common", err);
	if (r == 0)
		r = storage_need_fs(cifs ? "cifs" : "nfs4", cifs ? "cifs" : "nfsv4", err);
	if (r == 0 && (r = fs_mkdir_p(target, 0700)) < 0)
		return error_errno(err, r, "cannot make the mount point %s", target);
	if (r < 0)
		return r;
	char *argv[] = {program, m->device, (char *)target, "-o", options, NULL};
	if (ask_server(m, &why) == 0 && proc_run_ok(&(struct proc){.argv = argv, .deadline_ns = MOUNT_DEADLINE}, &why) == 0)
		return 0;
	/* not UNAVAILABLE: that is said of a pool, which is well */
	return error_set(err, ERROR_INVALID, "failed to mount local volume: mount %s:%s: %s", m->device, target, error_text(&why));
}

/* --- all --- */

int storage_foreign_mount(const struct storage_pool *p, const char *id, const struct volume_mount_spec *m, char **path,
			  struct error *err) {
	_cleanup_(free_ptr) char *target = storage_foreign_path(p, id);
	int r = storage_is_mounted(target)     ? 0
		: strcmp(m->type, "bind") == 0	? mount_bind(m, target, err)
		: strcmp(m->type, "tmpfs") == 0 ? mount_tmpfs(m, target, err)
						: mount_server(m, target, err);
	storage_fault("storage-foreign-mounted");
	if (r < 0)
		rmdir(target);
	else
		*path = TAKE_PTR(target);
	return r;
}

int storage_foreign_unmount(const struct storage_pool *p, const char *id, struct error *err) {
	_cleanup_(free_ptr) char *target = storage_foreign_path(p, id);
	return storage_unmount(target, err);
}
