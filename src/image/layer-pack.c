/* layer_pack and tree_pack: a tree becomes a tar, in the order of its names.
 *
 * The tree may change under our eyes, by the hand of somebody hostile: an entry is opened once, as a path
 * descriptor that follows nothing, and all that is said about it comes from that descriptor. What vanishes
 * meanwhile is left out. */
#include "image/layer.h"

#include "base/fs.h"
#include "base/map.h"
#include "base/str.h"
#include "image/layer-tar.h"
#include "image/layer-walk.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

struct pack {
	struct tar_writer tar;
	uint32_t uid_base;
	bool layer;
	uint64_t size;	   /* bytes of file content so far */
	struct map *links; /* "device:inode" of what has several names: its path in the archive */
	char *names;	   /* room for the names of a file's xattrs */
	uint8_t *value;	   /* and for one value; TREE_XATTR_MAX each */
};

struct xattrs {
	struct tar_xattr *v;
	size_t n;
	bool opaque;
};

static void pack_free(struct pack *p) {
	tar_close(&p->tar);
	map_free(p->links);
	free(p->names);
	free(p->value);
}

static void xattrs_free(struct xattrs *x) {
	for (size_t i = 0; i < x->n; i++) {
		free(x->v[i].name);
		free(x->v[i].value);
	}
	free(x->v);
}

static bool gone(int r) {
	return r == -ENOENT || r == -ESTALE;
}

static int compare_xattrs(const void *a, const void *b) {
	return strcmp(((const struct tar_xattr *)a)->name, ((const struct tar_xattr *)b)->name);
}

static bool wanted_xattr(const char *name) {
	return strcmp(name, "security.capability") == 0 ||
	       (str_starts(name, "user.") && !str_starts(name, "user.overlay."));
}

static int add_xattr(const struct pack *p, const char *file, const char *name, struct xattrs *out) {
	ssize_t n = getxattr(file, name, p->value, TREE_XATTR_MAX);
	if (n < 0)
		return errno == ENODATA ? 0 : -errno;
	if (strcmp(name, "security.capability") == 0)
		n = tree_cap_unshift(p->value, (size_t)n, p->uid_base);
	if (n < 0) /* capabilities of another user namespace: of no use in an image */
		return 0;
	out->v = alloc_resize(out->v, out->n + 1, sizeof *out->v);
	out->v[out->n++] = (struct tar_xattr){
		.name = str_copy(name), .value = str_copyn((const char *)p->value, (size_t)n), .len = (size_t)n};
	return 0;
}

static int read_xattrs(const struct pack *p, int fd, const char *path, struct xattrs *out, struct error *err) {
	char file[FD_PATH_MAX];
	fd_path(fd, file);
	ssize_t n = listxattr(file, p->names, TREE_XATTR_MAX);
	if (n < 0)
		return errno == EOPNOTSUPP
			       ? 0
			       : error_errno(err, errno, "cannot list the extended attributes of \"%s\"", path);
	for (const char *name = p->names; name < p->names + n; name += strlen(name) + 1) {
		if (p->layer &&
		    (strcmp(name, "trusted.overlay.redirect") == 0 || strcmp(name, "trusted.overlay.metacopy") == 0))
			return error_set(err, ERROR_UNSUPPORTED,
					 "\"%s\" refers to its lower layer (%s): such an overlay cannot be packed",
					 path, name);
		int r = wanted_xattr(name) ? add_xattr(p, file, name, out) : 0;
		if (r < 0)
			return error_errno(err, r, "cannot read the extended attribute %s of \"%s\"", name, path);
		out->opaque |= p->layer && strcmp(name, "trusted.overlay.opaque") == 0 && tree_is_opaque(fd);
	}
	if (out->n)
		qsort(out->v, out->n, sizeof *out->v, compare_xattrs);
	return 0;
}

static struct tar_entry entry_of(const struct pack *p, const struct stat *st, char type, const char *path) {
	return (struct tar_entry){
		.type = type,
		.path = path,
		.mode = st->st_mode & 07777,
		.uid = tree_id_unshift(st->st_uid, p->uid_base),
		.gid = tree_id_unshift(st->st_gid, p->uid_base),
		.mtime = st->st_mtim,
	};
}

/* An empty file that only its name gives a meaning. */
static int pack_marker(struct pack *p, const char *dir, const char *prefix, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s%s%s%s", dir, dir[0] ? "/" : "", prefix, name);
	return tar_add(&p->tar, &(struct tar_entry){.type = '0', .path = path}, err);
}

static int pack_file(struct pack *p, int fd, const struct stat *st, const char *path, struct error *err) {
	_cleanup_(close_fd) int content = tree_reopen(fd, O_RDONLY | O_NONBLOCK);
	if (content < 0)
		return error_errno(err, content, "cannot open \"%s\"", path);
	_cleanup_(xattrs_free) struct xattrs x = {0};
	int r = read_xattrs(p, content, path, &x, err);
	if (r < 0)
		return r;
	struct tar_entry e = entry_of(p, st, '0', path);
	e.size = (uint64_t)st->st_size;
	e.xattrs = x.v;
	e.n_xattrs = x.n;
	p->size += e.size;
	r = tar_add(&p->tar, &e, err);
	if (r == 0)
		r = tar_file(&p->tar, content, e.size, err);
	if (r < 0)
		error_wrap(err, "\"%s\"", path);
	return r;
}

static int pack_symlink(struct pack *p, int fd, const struct stat *st, const char *path, struct error *err) {
	char to[TREE_PATH_MAX + 1];
	ssize_t n = readlinkat(fd, "", to, TREE_PATH_MAX);
	if (n < 0)
		return error_errno(err, errno, "cannot read the link \"%s\"", path);
	to[n] = '\0';
	struct tar_entry e = entry_of(p, st, '2', path);
	e.mode = 0777;
	e.link = to;
	return tar_add(&p->tar, &e, err);
}

static int pack_node(struct pack *p, const struct stat *st, const char *path, struct error *err) {
	struct tar_entry e = entry_of(p, st, S_ISCHR(st->st_mode) ? '3' : S_ISBLK(st->st_mode) ? '4' : '6', path);
	e.major = S_ISFIFO(st->st_mode) ? 0 : major(st->st_rdev);
	e.minor = S_ISFIFO(st->st_mode) ? 0 : minor(st->st_rdev);
	return tar_add(&p->tar, &e, err);
}

/* Was another name of the same file written before? Then this one becomes a link to it. */
static bool pack_link(struct pack *p, const struct stat *st, const char *path, int *r, struct error *err) {
	if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
		return false;
	char key[64];
	snprintf(key, sizeof key, "%llx:%llx", (unsigned long long)st->st_dev, (unsigned long long)st->st_ino);
	const char *first = map_get(p->links, key);
	if (!first) {
		map_set(p->links, key, str_copy(path));
		return false;
	}
	struct tar_entry e = entry_of(p, st, '1', path);
	e.link = first;
	*r = tar_add(&p->tar, &e, err);
	return true;
}

static int pack_any(struct pack *p, int fd, const struct stat *st, const char *path, struct error *err);

static int pack_child(struct pack *p, int dir, const char *dir_path, const char *name, struct error *err) {
	_cleanup_(free_ptr) char *path = str_format("%s%s%s", dir_path, dir_path[0] ? "/" : "", name);
	if (strlen(path) > TREE_PATH_MAX)
		return error_set(err, ERROR_INVALID, "a path of more than %d bytes cannot be packed: \"%.64s…\"",
				 TREE_PATH_MAX, path);
	_cleanup_(close_fd) int fd = fs_open_entry(dir, name, O_PATH);
	struct stat st;
	if (fd == -EXDEV) /* a mount: its place is packed, not its content */
		return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)
			       ? tar_add(&p->tar, &(struct tar_entry){.type = '5', .path = path, .mode = 0755}, err)
			       : 0;
	int r = fd < 0 ? fd : fstat(fd, &st) < 0 ? -errno : 0;
	if (gone(r))
		return 0;
	if (r < 0)
		return error_errno(err, r, "cannot open \"%s\"", path);
	if (tree_is_whiteout(&st))
		return p->layer ? pack_marker(p, dir_path, ".wh.", name, err) : 0;
	if (p->layer && str_starts(name, ".wh."))
		return error_set(err, ERROR_UNSUPPORTED,
				 "\"%s\" has a name that means a deletion in a layer; rename it first", path);
	return pack_any(p, fd, &st, path, err);
}

/* path "" is the top of an archive without a leading directory. */
static int pack_dir(struct pack *p, int fd, const struct stat *st, const char *path, struct error *err) {
	_cleanup_(xattrs_free) struct xattrs x = {0};
	int r = read_xattrs(p, fd, path, &x, err);
	if (r < 0)
		return r;
	struct tar_entry e = entry_of(p, st, '5', path[0] ? path : ".");
	e.xattrs = x.v;
	e.n_xattrs = x.n;
	r = tar_add(&p->tar, &e, err);
	if (r == 0 && x.opaque)
		r = pack_marker(p, path, ".wh..wh..opq", "", err);
	if (r < 0)
		return r;
	_cleanup_(strv_free_ptr) char **names = NULL;
	r = fs_names(fd, &names);
	if (r < 0)
		return gone(r) ? 0 : error_errno(err, r, "cannot list \"%s\"", path);
	for (char **name = names; name && *name; name++) {
		r = pack_child(p, fd, path, *name, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int pack_any(struct pack *p, int fd, const struct stat *st, const char *path, struct error *err) {
	int r = 0;
	if (pack_link(p, st, path, &r, err))
		return r;
	switch (st->st_mode & S_IFMT) {
	case S_IFDIR:
		return pack_dir(p, fd, st, path, err);
	case S_IFREG:
		return pack_file(p, fd, st, path, err);
	case S_IFLNK:
		return pack_symlink(p, fd, st, path, err);
	case S_IFSOCK:
		return 0; /* means nothing without the process behind it */
	default:
		return pack_node(p, st, path, err);
	}
}

static int pack_tree(struct pack *p, int top, const char *as, int out, struct error *err) {
	p->links = map_new(free);
	p->names = alloc_zero(TREE_XATTR_MAX);
	p->value = alloc_zero(TREE_XATTR_MAX);
	tar_open(&p->tar, out);
	struct stat st;
	if (fstat(top, &st) < 0)
		return error_errno(err, errno, "cannot look at what is to be packed");
	int r = pack_any(p, top, &st, as, err);
	return r < 0 ? r : tar_finish(&p->tar, err);
}

int tree_pack(int root, const char *path, const char *as, uint32_t uid_base, int out, struct error *err) {
	_cleanup_(close_fd) int top = fs_open_in_root(root, path, O_PATH | O_NOFOLLOW, 0);
	if (top < 0)
		return error_errno(err, top, "cannot open \"%s\"", path);
	if (tree_is_kernel_interface(top))
		return error_set(err, ERROR_INVALID, "\"%s\" is an interface of the kernel: it cannot be copied", path);
	const char *names = strcmp(as, ".") == 0 ? "" : strcmp(as, "./") == 0 ? "." : as;
	_cleanup_(pack_free) struct pack p = {.uid_base = uid_base};
	int r = pack_tree(&p, top, names, out, err);
	if (r < 0)
		error_wrap(err, "cannot pack \"%s\"", path);
	return r;
}

static void add_to_digest(void *digest, const void *data, size_t n) {
	EVP_DigestUpdate(digest, data, n);
}

static char *digest_text(EVP_MD_CTX *digest) {
	uint8_t value[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	char hex[2 * EVP_MAX_MD_SIZE + 1];
	EVP_DigestFinal_ex(digest, value, &n);
	hex_encode(value, n, hex);
	return str_format("sha256:%s", hex);
}

int layer_pack(int upper, uint32_t uid_base, int out, char **diff_id, uint64_t *size, struct error *err) {
	_cleanup_(pack_free) struct pack p = {.uid_base = uid_base, .layer = true};
	EVP_MD_CTX *digest = diff_id ? EVP_MD_CTX_new() : NULL;
	if (digest) {
		EVP_DigestInit_ex(digest, EVP_sha256(), NULL);
		p.tar.tap = add_to_digest;
		p.tar.tap_arg = digest;
	}
	int r = pack_tree(&p, upper, "", out, err);
	if (r < 0)
		error_wrap(err, "cannot pack the layer");
	if (r == 0 && digest)
		*diff_id = digest_text(digest);
	if (r == 0 && size)
		*size = p.size;
	EVP_MD_CTX_free(digest);
	return r;
}
