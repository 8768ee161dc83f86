/* A directory that a client sends, packet by packet, into a tree: first what there is, each with a number by its place in
 * that list, then the contents of those files that are asked for, several at a time in any order. */
#include "dialect/docker/buildkit-priv.h"
#include "dialect/buildkit.pb-c.h"

#include "base/time.h"

#include <errno.h>

#define FILES_AT_A_TIME 32
#define LINKS_MAX ((size_t)1000000)
#define CAPABILITY "security.capability"
#define PIECE ((size_t)64 << 10)

/* Go's os.FileMode. */
#define GO_DIR (1u << 31)
#define GO_SYMLINK (1u << 27)
#define GO_DEVICE (1u << 26)
#define GO_PIPE (1u << 25)
#define GO_SOCKET (1u << 24)
#define GO_SETUID (1u << 23)
#define GO_SETGID (1u << 22)
#define GO_CHAR (1u << 21)
#define GO_STICKY (1u << 20)
#define GO_IRREGULAR (1u << 19)

struct file {
	uint32_t id;
	struct tree_node *node;
	uint64_t size;
	struct tree_filling *filling; /* NULL: it is not asked for yet */
};

struct bk_intake {
	struct tree *tree, *old;
	uint32_t n_seen;      /* entries of the list so far */
	struct file *waiting; /* to be asked for; from `first` on */
	size_t first, n_waiting;
	struct file open[FILES_AT_A_TIME]; /* asked for */
	size_t n_open;
	struct pairs links; /* path and path: further names of files, which they become when those are here */
	bool listed, said_end; /* the list is over; all is here, and the client knows */
	uint64_t bytes;
};

struct bk_intake *bk_intake_new(struct tree *t, struct tree *old) {
	struct bk_intake *i = NEW(struct bk_intake);
	i->tree = t;
	i->old = old;
	return i;
}

void bk_intake_free(struct bk_intake *i) {
	if (!i)
		return;
	for (size_t k = 0; k < i->n_open; k++)
		tree_fill_end(i->open[k].filling);
	pairs_free(&i->links);
	free(i->waiting);
	free(i);
}

uint64_t bk_intake_bytes(const struct bk_intake *i) {
	return i->bytes;
}

/* ---- the list ---- */

static mode_t mode_of(uint32_t go) {
	mode_t mode = go & 0777;
	mode |= go & GO_SETUID ? S_ISUID : 0;
	mode |= go & GO_SETGID ? S_ISGID : 0;
	mode |= go & GO_STICKY ? S_ISVTX : 0;
	if (go & GO_DIR)
		return mode | S_IFDIR;
	if (go & GO_SYMLINK)
		return mode | S_IFLNK;
	if (go & GO_DEVICE)
		return mode | (go & GO_CHAR ? S_IFCHR : S_IFBLK);
	if (go & GO_PIPE)
		return mode | S_IFIFO;
	return go & (GO_SOCKET | GO_IRREGULAR) ? mode | S_IFSOCK : mode | S_IFREG;
}

static void take_xattrs(const Bk__Stat *s, struct tree_entry *e) {
	for (size_t k = 0; k < s->n_xattrs; k++)
		if (str_same(s->xattrs[k]->key, CAPABILITY)) {
			e->capability = s->xattrs[k]->value.data;
			e->capability_len = s->xattrs[k]->value.len;
		}
}

static void keep_waiting(struct bk_intake *i, uint32_t id, struct tree_node *n, uint64_t size) {
	if (!(i->n_waiting & (i->n_waiting - 1)))
		i->waiting = alloc_resize(i->waiting, i->n_waiting ? i->n_waiting * 2 : 1, sizeof *i->waiting);
	i->waiting[i->n_waiting++] = (struct file){.id = id, .node = n, .size = size};
}

static int keep_link(struct bk_intake *i, const Bk__Stat *s, struct error *err) {
	if (i->links.n >= LINKS_MAX)
		return error_set(err, ERROR_TOO_LARGE, "there are more than %zu hard links", LINKS_MAX);
	if (!(i->links.n & (i->links.n - 1)))
		i->links.items = alloc_resize(i->links.items, i->links.n ? i->links.n * 2 : 1, sizeof *i->links.items);
	i->links.items[i->links.n++] = (struct pair){str_copy(s->path), str_copy(s->linkname)};
	return 0;
}

static int make_links(struct bk_intake *i, struct error *err) {
	int r = 0;
	for (size_t k = 0; r == 0 && k < i->links.n; k++) {
		const struct tree_entry e = {.path = i->links.items[k].key, .hard = i->links.items[k].value};
		struct tree_node *n;
		r = tree_add(i->tree, &e, &n, err);
	}
	return r;
}

/* ---- what has come before ---- */

/* As BuildKit compares. Of a path through a link something else may have been meant; a file that was cut while it came is not what its
 * size says. */
static const struct tree_node *same_as_before(const struct bk_intake *i, const Bk__Stat *s, const struct tree_node *n) {
	const struct tree_node *before = i->old ? tree_find(i->old, s->path) : NULL;
	if (!before || before->mode != n->mode || before->uid != n->uid || before->gid != n->gid || before->size != (uint64_t)s->size ||
	    before->mtime != n->mtime || before->mtime_rest != n->mtime_rest)
		return NULL;
	_cleanup_(free_ptr) char *then = tree_path(before), *now = tree_path(n);
	return str_same(then, now) ? before : NULL;
}

static int copy_content(struct bk_intake *i, const struct tree_node *from, struct tree_node *to, struct error *err) {
	_cleanup_(free_ptr) char *piece = alloc_zero(PIECE);
	struct tree_filling *f = tree_fill_begin(i->tree, to, from->size, err);
	int r = f ? 0 : -ERROR_TOO_LARGE;
	for (uint64_t at = 0; r == 0 && at < from->size;) {
		ssize_t n = tree_pread(i->old, from, at, piece, PIECE);
		r = n <= 0 ? error_errno(err, n < 0 ? (int)n : -EIO, "reading %s as it came before", from->name)
			   : tree_fill(f, piece, (size_t)n, err);
		at += n > 0 ? (uint64_t)n : 0;
	}
	if (f)
		tree_fill_end(f);
	return r;
}

static int take_stat(struct bk_intake *i, const Bk__Stat *s, struct error *err) {
	struct tree_entry e = {
		.path = s->path,
		.mode = mode_of(s->mode),
		.uid = s->uid,
		.gid = s->gid,
		.mtime = s->mod_time / NS_PER_SEC,
		.mtime_rest = s->mod_time % NS_PER_SEC,
		.major = (uint32_t)s->devmajor,
		.minor = (uint32_t)s->devminor,
	};
	bool regular = S_ISREG(e.mode);
	struct tree_node *n;
	uint32_t id = i->n_seen++;
	if (*s->linkname && !regular)
		e.link = s->linkname;
	take_xattrs(s, &e);
	if (i->listed)
		return error_set(err, ERROR_INVALID, "%s comes after the end of the list of files", s->path);
	/* a second entry of a path would leave the first one's content without a place */
	if (tree_find(i->tree, s->path) && !S_ISDIR(e.mode))
		return error_set(err, ERROR_INVALID, "%s comes twice, or is below a link", s->path);
	if (*s->linkname && regular)
		return keep_link(i, s, err);
	int r = tree_add(i->tree, &e, &n, err);
	if (r < 0 || !n || !regular)
		return r;
	if (s->size < 0)
		return error_set(err, ERROR_INVALID, "%s has a negative size", s->path);
	const struct tree_node *before = same_as_before(i, s, n);
	if (before)
		return copy_content(i, before, n, err);
	keep_waiting(i, id, n, (uint64_t)s->size);
	return 0;
}

/* ---- contents ---- */

/* The size in the list is what counts of a file that grows meanwhile; one that is cut is as it came. */
static int take_data(struct bk_intake *i, uint32_t id, const ProtobufCBinaryData *data, struct error *err) {
	struct file *f = i->open;
	while (f < i->open + i->n_open && f->id != id)
		f++;
	if (f == i->open + i->n_open)
		return error_set(err, ERROR_INVALID, "content came that was not asked for (file %u)", id);
	i->bytes += data->len;
	if (data->len)
		return tree_fill(f->filling, data->data, data->len, err);
	tree_fill_end(f->filling);
	*f = i->open[--i->n_open];
	return 0;
}

static int take_packet(struct bk_intake *i, const Bk__Packet *p, struct error *err) {
	switch (p->type) {
	case BK__PACKET__TYPE__STAT:
		if (p->stat)
			return take_stat(i, p->stat, err);
		i->listed = true;
		return 0;
	case BK__PACKET__TYPE__DATA:
		return take_data(i, p->id, &p->data, err);
	case BK__PACKET__TYPE__FIN:
		return i->said_end ? 1 : error_set(err, ERROR_INVALID, "the client ends before all files are here");
	case BK__PACKET__TYPE__ERR:
		return error_set(err, ERROR_UNAVAILABLE, "error from sender: %.*s", (int)MIN(p->data.len, (size_t)1024),
				 (const char *)p->data.data);
	default:
		return error_set(err, ERROR_INVALID, "a packet of type %d is none that a client sends", (int)p->type);
	}
}

int bk_intake_packet(struct bk_intake *i, const void *data, size_t n, struct error *err) {
	Bk__Packet *p = bk__packet__unpack(NULL, n, data);
	if (!p)
		return error_set(err, ERROR_INVALID, "what came is no packet of files");
	int r = take_packet(i, p, err);
	bk__packet__free_unpacked(p, NULL);
	return r;
}

int bk_intake_answer(struct bk_intake *i, struct buf *packet, struct error *err) {
	Bk__Packet p = BK__PACKET__INIT;
	if (i->first < i->n_waiting && i->n_open < FILES_AT_A_TIME) {
		struct file *f = &i->waiting[i->first];
		f->filling = tree_fill_begin(i->tree, f->node, f->size, err);
		if (!f->filling)
			return -ERROR_TOO_LARGE;
		i->open[i->n_open++] = *f;
		i->first++;
		p.type = BK__PACKET__TYPE__REQ;
		p.id = f->id;
	} else if (i->listed && !i->n_open && i->first == i->n_waiting && !i->said_end) {
		int r = make_links(i, err);
		if (r < 0)
			return r;
		i->said_end = true;
		p.type = BK__PACKET__TYPE__FIN;
	} else {
		return 0;
	}
	bk_pack(&p.base, packet);
	return 1;
}
