/* Users and groups by name, from /etc/passwd and /etc/group inside the root: files of a stranger, so they
 * are opened in the root, capped, and parsed line by line without libc's NSS. */
#include "base/fs.h"
#include "driver/container/container-priv.h"

#include <fcntl.h>
#include <sys/stat.h>

#define FILE_MAX_SIZE ((size_t)8 << 20)
#define GROUPS_MAX 65536

static int read_file(int root, const char *path, struct buf *out, struct error *err) {
	_cleanup_(close_fd) int fd = fs_open_in_root(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, fd < 0 ? fd : errno, "cannot open %s in the container", path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_INVALID, "%s in the container is not a file", path);
	int r = fs_read_fd(fd, FILE_MAX_SIZE, out);
	return r < 0 ? error_errno(err, r, "cannot read %s in the container", path) : 0;
}

static bool number(struct str s, uint32_t *out) {
	uint64_t v = 0;
	if (s.len == 0 || s.len > 10)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(s.p[i] - '0');
	}
	*out = (uint32_t)v;
	return v < UINT32_MAX;
}

struct entry {
	struct str name, rest; /* rest: behind the id (and for passwd behind the group id) */
	uint32_t id, group;
};

/* The next line that parses; false at the end. */
static bool next_entry(struct str *text, bool passwd, struct entry *e) {
	while (text->len) {
		struct str line = str_cut(text, '\n');
		e->name = str_cut(&line, ':');
		str_cut(&line, ':');
		if (e->name.len == 0 || !number(str_cut(&line, ':'), &e->id))
			continue;
		if (passwd && !number(str_cut(&line, ':'), &e->group))
			continue;
		e->rest = line;
		return true;
	}
	return false;
}

static bool find(const struct buf *file, bool passwd, const char *name, const uint32_t *id, struct entry *e) {
	struct str text = {buf_str(file), file->len};
	while (next_entry(&text, passwd, e))
		if (name ? str_is(e->name, name) : e->id == *id)
			return true;
	return false;
}

static void add_group(struct user_ids *u, uint32_t gid) {
	for (size_t i = 0; i < u->n_groups; i++)
		if (u->groups[i] == gid)
			return;
	if (u->n_groups == GROUPS_MAX)
		return;
	u->groups = alloc_resize(u->groups, u->n_groups + 1, sizeof *u->groups);
	u->groups[u->n_groups++] = gid;
}

static void add_member_groups(struct user_ids *u, const struct buf *groups, struct str user) {
	struct str text = {buf_str(groups), groups->len};
	for (struct entry e; next_entry(&text, false, &e);)
		while (e.rest.len) {
			struct str member = str_cut(&e.rest, ',');
			if (member.len == user.len && memcmp(member.p, user.p, user.len) == 0) {
				add_group(u, e.id);
				break;
			}
		}
}

static int resolve_group(const struct buf *groups, const char *name, uint32_t *out, struct error *err) {
	struct entry e;
	if (find(groups, false, name, NULL, &e)) {
		*out = e.id;
		return 0;
	}
	if (number(str_view(name), out))
		return 0;
	return error_set(err, ERROR_INVALID, "unable to find group %s: no matching entries in group file", name);
}

/* "user", "user:group", "1000", "1000:100". */
static int resolve_spec(const struct buf *users, const struct buf *groups, const char *spec, struct user_ids *out,
			struct error *err) {
	struct str rest = str_view(spec);
	struct str part = str_cut(&rest, ':');
	_cleanup_(free_ptr) char *name = str_copyn(part.p, part.len);
	_cleanup_(free_ptr) char *group = str_copyn(rest.p, rest.len);
	struct entry e;
	bool known = find(users, true, name, NULL, &e);
	if (!known && *name && !number(str_view(name), &out->uid))
		return error_set(err, ERROR_INVALID, "unable to find user %s: no matching entries in passwd file",
				 name);
	if (!known && *name)
		known = find(users, true, NULL, &out->uid, &e);
	if (known) {
		out->uid = e.id;
		out->gid = e.group;
	}
	if (*group)
		return resolve_group(groups, group, &out->gid, err);
	if (known)
		add_member_groups(out, groups, e.name);
	return 0;
}

static void find_home(const struct buf *users, struct user_ids *u) {
	struct entry e;
	if (find(users, true, NULL, &u->uid, &e)) {
		str_cut(&e.rest, ':'); /* the comment */
		struct str home = str_cut(&e.rest, ':');
		if (home.len && home.p[0] == '/' && !memchr(home.p, '\0', home.len))
			u->home = str_copyn(home.p, home.len);
	}
	if (!u->home)
		u->home = str_copy("/");
}

int users_resolve(int root, const struct container_process *p, struct user_ids *out, struct error *err) {
	bool wants_home = !strv_env_get(p->env, "HOME"), named = p->user && *p->user;
	_cleanup_(buf_free) struct buf users = BUF_INIT, groups = BUF_INIT;
	*out = (struct user_ids){.uid = p->uid, .gid = p->gid};
	int r = wants_home || named ? read_file(root, "/etc/passwd", &users, err) : 0;
	if (r == 0 && (named || p->groups))
		r = read_file(root, "/etc/group", &groups, err);
	if (r == 0 && named)
		r = resolve_spec(&users, &groups, p->user, out, err);
	if (r == 0 && named) /* else who gives up its group could reach what is closed to that group and open to all others */
		add_group(out, out->gid);
	for (size_t i = 0; r == 0 && p->groups && p->groups[i]; i++) {
		uint32_t gid;
		r = resolve_group(&groups, p->groups[i], &gid, err);
		if (r == 0)
			add_group(out, gid);
	}
	for (size_t i = 0; i < p->n_additional_gids; i++)
		add_group(out, p->additional_gids[i]);
	if (r == 0 && wants_home)
		find_home(&users, out);
	if (r < 0)
		user_ids_free(out);
	return r;
}

void user_ids_free(struct user_ids *u) {
	free(u->groups);
	free(u->home);
	*u = (struct user_ids){0};
}
