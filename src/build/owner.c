/* Names of users and groups, as the image knows them. */
#include "build/build-priv.h"

#include "base/str.h"
#include "core/instances.h"

#define ID_MAX 65535u /* of an instance's range */
#define FILE_MAX_READ ((size_t)1 << 20)

/* A small text of the image; empty where it is not there. */
static int read_file(struct stage *s, const char *path, struct buf *out, struct error *err) {
	_cleanup_(close_fd) int fd = -1;
	_cleanup_(tree_free_ptr) struct tree *t = NULL;
	struct msg_file file = {0};
	struct error why = ERROR_INIT;
	int r = image_tree(s->b->core, s->b->o->project, s->image, path, &file, &fd, &why);
	fields_free(&msg_file_table, &file);
	if (r < 0 && why.kind == ERROR_NOT_FOUND) {
		error_free(&why);
		return 0;
	}
	if (r < 0)
		return error_move(err, &why);
	int spool = core_spool(s->b->core, err);
	if (spool < 0)
		return spool;
	t = tree_new(spool);
	r = tree_read(t, fd, "", true, err);
	struct tree_node *n = r == 0 ? tree_find(t, strrchr(path, '/') + 1) : NULL;
	return n && S_ISREG(n->mode) ? tree_content(t, n, FILE_MAX_READ, out, err) : r;
}

/* The third field of the line whose first is `name`, and the fourth (of users). */
static bool find_line(const struct buf *file, const char *name, uint32_t *id, uint32_t *group) {
	struct str rest = {buf_str(file), file->len};
	while (rest.len) {
		struct str line = str_cut(&rest, '\n');
		uint64_t number;
		if (!str_is(str_cut(&line, ':'), name))
			continue;
		str_cut(&line, ':');
		struct str third = str_cut(&line, ':'), fourth = str_cut(&line, ':');
		_cleanup_(free_ptr) char *a = str_copyn(third.p, third.len), *b = str_copyn(fourth.p, fourth.len);
		if (str_to_u64(a, 10, &number) < 0 || number > UINT32_MAX)
			continue;
		*id = (uint32_t)number;
		if (group && str_to_u64(b, 10, &number) == 0 && number <= UINT32_MAX)
			*group = (uint32_t)number;
		return true;
	}
	return false;
}

static bool is_number(const char *text, uint32_t *id) {
	uint64_t number;
	if (str_to_u64(text, 10, &number) < 0 || number > UINT32_MAX)
		return false;
	*id = (uint32_t)number;
	return true;
}

static int find_name(struct stage *s, const char *path, const char *name, uint32_t *id, uint32_t *group, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int r = read_file(s, path, &text, err);
	if (r < 0 || find_line(&text, name, id, group))
		return r;
	_cleanup_(free_ptr) char *shown = text_shown(name);
	return error_set(err, ERROR_INVALID, "can't find %s for %s %s", group ? "uid" : "gid", group ? "user" : "group", shown);
}

int owner_find(struct stage *s, const char *chown, uint32_t *uid, uint32_t *gid, struct error *err) {
	const char *colon = strchr(chown, ':');
	_cleanup_(free_ptr) char *user = str_copyn(chown, strcspn(chown, ":"));
	*uid = *gid = 0;
	if (!*user || (colon && (!colon[1] || strchr(colon + 1, ':'))))
		return error_set(err, ERROR_INVALID, "invalid chown string provided: %.64s", chown);
	int r = is_number(user, uid) ? 0 : find_name(s, "/etc/passwd", user, uid, gid, err);
	/* without a group of its own: that of the same name or number */
	const char *group = colon ? colon + 1 : user;
	uint32_t own = *gid;
	if (r == 0 && !is_number(group, gid)) {
		struct error none = ERROR_INIT;
		r = find_name(s, "/etc/group", group, gid, NULL, colon ? err : &none);
		if (r < 0 && !colon) {
			*gid = own;
			r = 0;
		}
		error_free(&none);
	}
	if (r == 0 && (*uid > ID_MAX || *gid > ID_MAX))
		r = error_set(err, ERROR_INVALID, "%u:%u: ids end at %u", *uid, *gid, ID_MAX);
	return r < 0 ? error_wrap(err, "unable to convert uid/gid chown string to host mapping") : 0;
}
