/* Directories and files of the host that an instance mounts: looked up once, judged, and what is mounted beneath them. */
#include "agent/agent-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "driver/container/container.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MOUNTINFO_MAX ((size_t)64 << 20)

static bool is_beneath(const char *path, const char *dir) {
	size_t n = strlen(dir);
	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static bool is_own(const struct agent *a, const char *real) {
	_cleanup_(free_ptr) char *state = realpath(a->options.state, NULL);
	_cleanup_(free_ptr) char *run = realpath(a->options.run, NULL);
	return (state && is_beneath(real, state)) || (run && is_beneath(real, run));
}

/* The sockets that clients speak to: whoever may start an instance may give it as much. */
static bool is_client_socket(const struct agent *a, const char *real) {
	const char *name = strrchr(real, '/') + 1;
	if (strcmp(name, "wabe.sock") != 0 && strcmp(name, "docker.sock") != 0)
		return false;
	_cleanup_(free_ptr) char *dir = str_copyn(real, (size_t)(name - 1 - real));
	_cleanup_(free_ptr) char *sockets = str_format("%s/sockets", a->options.state);
	_cleanup_(free_ptr) char *in_state = realpath(sockets, NULL), *in_run = realpath(a->options.run, NULL);
	return (in_state && strcmp(dir, in_state) == 0) || (in_run && strcmp(dir, in_run) == 0);
}

static int deny_own(const char *source, struct error *err) {
	error_set(err, ERROR_DENIED, "%s belongs to wabe itself and cannot be mounted", source);
	error_in_field(err, "spec.mounts.source");
	return -ERROR_DENIED;
}

/* A directory that is not there yet is made, but not in what is wabe's own. */
static int make_source(const struct agent *a, const char *source, struct error *err) {
	_cleanup_(free_ptr) char *above = str_copy(source);
	while (!fs_exists(above) && strrchr(above, '/') > above)
		*strrchr(above, '/') = '\0';
	_cleanup_(free_ptr) char *real = strcmp(above, source) == 0 ? NULL : realpath(above, NULL);
	if (real && is_own(a, real))
		return deny_own(source, err);
	int r = strcmp(above, source) == 0 ? 0 : fs_mkdir_p(source, 0755);
	return r < 0 ? error_errno(err, r, "cannot make %s, the source of a bind mount", source) : 0;
}

static int open_source(const struct mount *m, struct error *err) {
	_cleanup_(close_fd) int fd = open(m->source, O_PATH | O_CLOEXEC);
	if (fd < 0) {
		int r = error_errno(err, errno, "the source %s of a bind mount cannot be opened", m->source);
		error_in_field(err, "spec.mounts.source");
		return r;
	}
	if (!m->subpath || !*m->subpath)
		return TAKE_FD(fd);
	int sub = fs_open_in_root(fd, m->subpath, O_PATH, 0);
	if (sub < 0) {
		error_errno(err, sub, "the part %s of %s cannot be opened", m->subpath, m->source);
		error_in_field(err, "spec.mounts.subpath");
	}
	return sub;
}

/* A descriptor of what is to be bound, and its path; what it is found to be must not be wabe's own. */
static int find_source(const struct agent *a, const struct mount *m, char real[PATH_MAX], struct error *err) {
	if (!m->source || m->source[0] != '/')
		return error_field(err, "spec.mounts.source",
				   "the source of a bind mount is an absolute path on the host");
	int made = m->create ? make_source(a, m->source, err) : 0;
	if (made < 0)
		return made;
	_cleanup_(close_fd) int fd = open_source(m, err);
	if (fd < 0)
		return fd;
	char link[FD_PATH_MAX];
	ssize_t n = readlink(fd_path(fd, link), real, PATH_MAX - 1);
	if (n < 0)
		return error_errno(err, errno, "cannot tell the path of %s", m->source);
	real[n] = '\0';
	if (is_own(a, real) && !is_client_socket(a, real))
		return deny_own(m->source, err);
	return TAKE_FD(fd);
}

static unsigned long propagation_flag(const char *name) {
	static const struct {
		const char *name;
		unsigned long flag;
	} names[] = {
		{"private", MS_PRIVATE}, {"rprivate", MS_PRIVATE | MS_REC}, {"slave", MS_SLAVE},
		{"rslave", MS_SLAVE | MS_REC},
		{"shared", MS_SHARED}, {"rshared", MS_SHARED | MS_REC},
	};
	for (size_t i = 0; name && i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i].name, name) == 0)
			return names[i].flag;
	return MS_PRIVATE | MS_REC;
}

/* A file system in which the kernel shows itself, or devices: nobody keeps files there, it is never mounted idmapped. */
static bool is_kernels(int fd) {
	static const unsigned long magic[] = {
		PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC,
		SECURITYFS_MAGIC, BPF_FS_MAGIC, PSTOREFS_MAGIC, EFIVARFS_MAGIC, DEVPTS_SUPER_MAGIC,
	};
	struct statfs fs;
	struct stat own, dev;
	if (fstatfs(fd, &fs) < 0)
		return false;
	if (fs.f_type == TMPFS_MAGIC && fstat(fd, &own) == 0 && stat("/dev", &dev) == 0 && own.st_dev == dev.st_dev)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(magic); i++)
		if ((unsigned long)fs.f_type == magic[i])
			return true;
	return false;
}

enum idmap { IDMAP_NO, IDMAP, IDMAP_IF_POSSIBLE };

/* Owns fd: what was judged is what is mounted. */
static int add_one(int fd, const char *target, const struct mount *m, enum idmap idmap, struct container_config *c,
		   struct error *err) {
	char link[FD_PATH_MAX];
	struct container_mount *to = config_add_mount(c);
	to->source = str_copy(fd_path(fd, link));
	to->target = str_copy(target);
	to->type = str_copy("bind");
	to->flags = MS_BIND | (m->read_only ? MS_RDONLY : 0);
	to->propagation = propagation_flag(m->propagation);
	to->idmap = idmap != IDMAP_NO;
	to->idmap_optional = idmap == IDMAP_IF_POSSIBLE;
	for (size_t i = 0; m->options && m->options[i]; i++)
		if (config_mount_flag(m->options[i], &to->flags, &to->clear_flags) < 0)
			return error_field(err, "spec.mounts.options", "a bind mount has no option \"%s\"",
					   m->options[i]);
	return 0;
}

/* --- what is mounted beneath --- */

/* "\040" and the like, as mountinfo writes what would end a word. */
static char *unescape(struct str s) {
	char *out = str_copyn(s.p, s.len), *to = out;
	for (const char *p = out; *p; p++) {
		bool octal = *p == '\\' && p[1] && p[2] && p[3];
		int code = octal ? (p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0') : *p;
		*to++ = (char)code;
		p += octal ? 3 : 0;
	}
	*to = '\0';
	return out;
}

/* The mount at path, if it is the one with this number and not one below or above it. */
static int open_mount(const char *path, uint64_t id) {
	_cleanup_(close_fd) int fd = open(path, O_PATH | O_CLOEXEC);
	struct statx st;
	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0 || st.stx_mnt_id != id)
		return -1;
	return TAKE_FD(fd);
}

/* Each mount beneath `real` as a bind of its own: some may be idmapped and others not, and wabe's own stay out. Whether
 * there are any. */
static int add_beneath(const struct agent *a, const struct mount *m, const char *real, struct container_config *c, bool *any,
		       struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(MOUNTINFO_MAX);
	int r = fs_read("/proc/self/mountinfo", MOUNTINFO_MAX, &text);
	if (r < 0)
		return error_errno(err, r, "cannot read the host's mounts");
	size_t top = strcmp(real, "/") == 0 ? 0 : strlen(real);
	for (struct str rest = str_view(buf_str(&text)); r == 0 && rest.len;) {
		struct str line = str_cut(&rest, '\n'), id = str_cut(&line, ' '), word = {0};
		for (int i = 0; i < 4; i++)
			word = str_cut(&line, ' ');
		_cleanup_(free_ptr) char *path = unescape(word);
		if (strlen(path) <= top + 1 || strncmp(path, real, top) != 0 || path[top] != '/' || is_own(a, path))
			continue;
		int fd = open_mount(path, strtoull(id.p, NULL, 10));
		if (fd < 0)
			continue;
		_cleanup_(free_ptr) char *target = str_format("%s%s", strcmp(m->target, "/") == 0 ? "" : m->target, path + top);
		r = add_one(fd, target, m, IDMAP_IF_POSSIBLE, c, err);
		*any = true;
	}
	return r;
}

int config_bind(const struct agent *a, const struct mount *m, bool idmap, struct container_config *c, struct error *err) {
	char real[PATH_MAX];
	bool split = false;
	int fd = find_source(a, m, real, err);
	if (fd < 0)
		return fd;
	int r = add_one(fd, m->target, m, !idmap ? IDMAP_NO : is_kernels(fd) ? IDMAP_IF_POSSIBLE : IDMAP, c, err);
	size_t at = c->n_mounts - 1;
	if (r == 0 && m->recursive && idmap)
		r = add_beneath(a, m, real, c, &split, err);
	if (m->recursive && !split) {
		c->mounts[at].flags |= MS_REC;
		c->mounts[at].recursive_readonly = m->read_only;
	}
	return r;
}
