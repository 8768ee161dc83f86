/* Which hierarchies of control groups this host has, and the small file access that all the rest uses. */
#include "driver/container/cgroup-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define VALUE_MAX ((size_t)1 << 20)

static const char *const names[CGROUP_HIERARCHIES] = {
	[CGROUP_CPU] = "cpu",         [CGROUP_CPUACCT] = "cpuacct", [CGROUP_MEMORY] = "memory",
	[CGROUP_PIDS] = "pids",       [CGROUP_DEVICES] = "devices", [CGROUP_IO] = "blkio",
	[CGROUP_CPUSET] = "cpuset",   [CGROUP_HUGETLB] = "hugetlb", [CGROUP_FREEZER] = "freezer",
	[CGROUP_SYSTEMD] = "systemd", [CGROUP_UNIFIED] = "unified",
};

const char *cgroup_hierarchy_name(enum cgroup_hierarchy h) {
	return names[h];
}

/* The options of a v1 superblock: "rw,cpu,cpuacct" or "rw,xattr,name=systemd". */
static void note_v1(struct cgroup_host *host, struct str options, struct str mount) {
	while (options.len) {
		struct str option = str_cut(&options, ',');
		for (int h = 0; h < CGROUP_UNIFIED; h++) {
			const char *name = h == CGROUP_SYSTEMD ? "name=systemd" : names[h];
			if (!str_is(option, name) || host->mount[h])
				continue;
			host->mount[h] = str_copyn(mount.p, mount.len);
			if (h != CGROUP_SYSTEMD)
				host->version = 1;
		}
	}
}

/* "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755", with optional fields before "-". */
void cgroup_host_parse(const char *mountinfo, struct cgroup_host *out) {
	*out = (struct cgroup_host){.version = 2};
	struct str text = str_view(mountinfo);
	while (text.len) {
		struct str line = str_cut(&text, '\n'), mount = {0};
		for (int i = 0; i < 5; i++)
			mount = str_cut(&line, ' ');
		while (line.len && !str_is(str_cut(&line, ' '), "-"))
			;
		struct str type = str_cut(&line, ' ');
		str_cut(&line, ' ');
		if (str_is(type, "cgroup"))
			note_v1(out, line, mount);
		else if (str_is(type, "cgroup2") && !out->mount[CGROUP_UNIFIED])
			out->mount[CGROUP_UNIFIED] = str_copyn(mount.p, mount.len);
	}
}

const struct cgroup_host *cgroup_host(void) {
	static struct cgroup_host host;
	if (!host.version) {
		_cleanup_(buf_free) struct buf text = BUF_INIT;
		fs_read("/proc/self/mountinfo", (size_t)64 << 20, &text);
		cgroup_host_parse(buf_str(&text), &host);
	}
	return &host;
}

int cgroup_dir(struct cgroup_dirs *d, enum cgroup_hierarchy h) {
	const char *mount = cgroup_host()->mount[h];
	if (d->known & 1U << h)
		return d->fd[h];
	_cleanup_(free_ptr) char *full = mount ? str_format("%s/%s", mount, d->path) : NULL;
	d->fd[h] = full ? open(full, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	d->known |= 1U << h;
	return d->fd[h];
}

void cgroup_dirs_close(struct cgroup_dirs *d) {
	for (int h = 0; h < CGROUP_HIERARCHIES; h++)
		if (d->known & 1U << h)
			close_fd(&d->fd[h]);
	d->known = 0;
}

bool cgroup_has(int dir, const char *file) {
	return faccessat(dir, file, F_OK, 0) == 0;
}

/* "max" and v1's idea of no limit, a number near LLONG_MAX rounded to pages, are the same to callers. */
static uint64_t number(struct str s) {
	char digits[24];
	uint64_t v = 0;
	if (str_is(s, "max"))
		return UINT64_MAX;
	if (s.len >= sizeof digits)
		return 0;
	memcpy(digits, s.p, s.len);
	digits[s.len] = '\0';
	if (str_to_u64(digits, 10, &v) < 0)
		return 0;
	return v >= INT64_MAX - 0xffff ? UINT64_MAX : v;
}

uint64_t cgroup_read_number(int dir, const char *file) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (dir < 0 || fs_read_at(dir, file, VALUE_MAX, &text) < 0)
		return 0;
	struct str s = str_view(buf_str(&text));
	return number(str_cut(&s, '\n'));
}

uint64_t cgroup_read_key(int dir, const char *file, const char *key) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (dir < 0 || fs_read_at(dir, file, VALUE_MAX, &text) < 0)
		return 0;
	struct str all = str_view(buf_str(&text));
	while (all.len) {
		struct str line = str_cut(&all, '\n');
		if (str_is(str_cut(&line, ' '), key))
			return number(line);
	}
	return 0;
}

int cgroup_unsupported(struct error *err, const char *what, const char *needs) {
	return error_set(err, ERROR_UNSUPPORTED, "%s: this host's control groups do not have %s", what, needs);
}

void cgroup_values_add(struct cgroup_values *v, int dir, const char *file, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	v->items = alloc_resize(v->items, v->n + 1, sizeof *v->items);
	v->items[v->n++] = (struct cgroup_value){.dir = dir, .file = str_copy(file), .value = str_vformat(fmt, ap)};
	va_end(ap);
}

void cgroup_values_free(struct cgroup_values *v) {
	for (size_t i = 0; i < v->n; i++) {
		free(v->items[i].file);
		free(v->items[i].value);
		free(v->items[i].old);
	}
	free(v->items);
	*v = (struct cgroup_values){0};
}

/* What was in the file, in the form in which it can be written again: the first line; NULL where it cannot
 * (a list of devices). */
static char *read_old(const struct cgroup_value *v) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (strchr(v->value, ':') || fs_read_at(v->dir, v->file, VALUE_MAX, &text) < 0)
		return NULL;
	return str_copyn(buf_str(&text), strcspn(buf_str(&text), "\n"));
}

static void put_back(struct cgroup_values *v) {
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = v->n; i-- > 0;)
			if (v->items[i].done && v->items[i].old)
				fs_write_value_at(v->items[i].dir, v->items[i].file, v->items[i].old);
}

static int refused(const struct cgroup_value *v, int r, struct error *err) {
	if (r == -ENOENT || r == -EOPNOTSUPP)
		return cgroup_unsupported(err, "this limit", v->file);
	if (r == -EBUSY)
		return error_set(err, ERROR_BUSY, "%s = %s: below what is in use", v->file, v->value);
	if (r == -ERANGE || r == -EINVAL)
		return error_set(err, ERROR_INVALID, "the kernel refuses %s = %s", v->file, v->value);
	return error_errno(err, r, "cannot write %s to %s", v->value, v->file);
}

int cgroup_values_write(struct cgroup_values *v, bool undo, struct error *err) {
	for (int pass = 0; pass < 2; pass++) {
		size_t left = 0;
		for (size_t i = 0; i < v->n; i++) {
			struct cgroup_value *item = &v->items[i];
			if (item->done)
				continue;
			if (undo && !item->old)
				item->old = read_old(item);
			int r = fs_write_value_at(item->dir, item->file, item->value);
			item->done = r == 0;
			if (r == -EINVAL && pass == 0) {
				left++;
			} else if (r < 0) {
				if (undo)
					put_back(v);
				return refused(item, r, err);
			}
		}
		if (!left)
			break;
	}
	return 0;
}
