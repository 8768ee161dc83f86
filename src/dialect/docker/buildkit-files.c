/* Directories and files between a session's client and us. */
#include "dialect/docker/buildkit-priv.h"
#include "dialect/buildkit.pb-c.h"

#include "base/time.h"

#include <unistd.h>

#define PIECE ((size_t)32 << 10)

/* ---- headers ---- */

struct headers {
	struct grpc_header *items;
	size_t n;
	char **values;
};

static void headers_free(struct headers *h) {
	free(h->items);
	strv_free(h->values);
}

static void add_header(struct headers *h, const char *name, char *value) {
	strv_take(&h->values, value);
	h->items = alloc_resize(h->items, h->n + 1, sizeof *h->items);
	h->items[h->n++] = (struct grpc_header){name, value};
}

static void add_list(struct headers *h, const char *name, char *const *values) {
	for (char *const *v = values; v && *v; v++)
		add_header(h, name, str_copy(*v));
}

/* ---- a directory of the client's ---- */

static int answer_all(struct bk_intake *i, struct grpc_call *call, struct error *err) {
	_cleanup_(buf_free) struct buf packet = BUF_INIT;
	int r;
	while ((r = bk_intake_answer(i, &packet, err)) > 0) {
		r = grpc_send(call, buf_str(&packet), packet.len, err);
		if (r < 0)
			break;
		buf_truncate(&packet, 0);
	}
	return r;
}

static int receive(struct bk_intake *i, const struct bk_directory *d, struct grpc_call *call, struct error *err) {
	_cleanup_(buf_free) struct buf message = BUF_INIT;
	int r;
	while ((r = grpc_receive(call, &message, err)) > 0) {
		r = bk_intake_packet(i, buf_str(&message), message.len, err);
		if (r == 1) /* what is left is how the call ends */
			grpc_send_end(call);
		else if (r == 0)
			r = answer_all(i, call, err);
		if (r < 0)
			return r;
		if (d->progress)
			d->progress(d->arg, bk_intake_bytes(i));
	}
	return r;
}

int bk_receive_files(struct grpc_connection *c, const struct bk_directory *d, struct tree *old, struct tree *to, struct error *err) {
	_cleanup_(headers_free) struct headers h = {0};
	_cleanup_(bk_intake_free_ptr) struct bk_intake *i = bk_intake_new(to, old);
	add_header(&h, "dir-name", str_copy(d->name));
	add_list(&h, "followpaths", d->follow);
	add_list(&h, "exclude-patterns", d->exclude);
	_cleanup_(grpc_call_free_ptr) struct grpc_call *call = grpc_call(c, "/moby.filesync.v1.FileSync/DiffCopy", h.items, h.n, err);
	int r = call ? receive(i, d, call, err) : -ERROR_UNAVAILABLE;
	return r < 0 ? error_wrap(err, "receiving %s from the client", d->name) : 0;
}

/* ---- a directory for the client ---- */

struct outgoing {
	struct grpc_call *call;
	struct tree *tree;
	const struct tree_node **files; /* by number; NULL: nothing to ask for */
	uint32_t n;
};

static int send_packet(struct outgoing *o, const Bk__Packet *p, struct error *err) {
	return bk_send(o->call, &p->base, err);
}

static uint32_t go_mode(mode_t mode) {
	uint32_t go = mode & 0777;
	go |= mode & S_ISUID ? 1u << 23 : 0;
	go |= mode & S_ISGID ? 1u << 22 : 0;
	go |= mode & S_ISVTX ? 1u << 20 : 0;
	switch (mode & S_IFMT) {
	case S_IFDIR: return go | 1u << 31;
	case S_IFLNK: return go | 1u << 27;
	case S_IFBLK: return go | 1u << 26;
	case S_IFCHR: return go | 1u << 26 | 1u << 21;
	case S_IFIFO: return go | 1u << 25;
	default: return go;
	}
}

static int send_stat(struct outgoing *o, const struct tree_node *n, char *path, struct error *err) {
	Bk__Stat s = BK__STAT__INIT;
	Bk__Stat__Xattr capability = BK__STAT__XATTR__INIT, *xattrs[] = {&capability};
	Bk__Packet p = BK__PACKET__INIT;
	s.path = path;
	s.mode = go_mode(n->mode);
	s.uid = n->uid;
	s.gid = n->gid;
	s.size = S_ISREG(n->mode) ? (int64_t)n->size : 0;
	s.mod_time = n->mtime > INT64_MAX / NS_PER_SEC || n->mtime < 0 ? 0 : n->mtime * NS_PER_SEC;
	if (n->link)
		s.linkname = n->link;
	s.devmajor = n->major;
	s.devminor = n->minor;
	if (n->capability) {
		capability.key = (char *)"security.capability";
		capability.value = (ProtobufCBinaryData){n->capability_len, n->capability};
		s.xattrs = xattrs;
		s.n_xattrs = 1;
	}
	p.stat = &s;
	o->files = alloc_resize(o->files, (size_t)o->n + 1, sizeof *o->files);
	o->files[o->n++] = S_ISREG(n->mode) ? n : NULL;
	return send_packet(o, &p, err);
}

/* A directory, then what is in it, in order of names, as the receiver wants it. */
static int send_below(struct outgoing *o, const struct tree_node *dir, struct error *err) {
	_cleanup_(free_ptr) struct tree_node **list = tree_list(dir);
	int r = 0;
	for (size_t i = 0; r == 0 && list[i]; i++) {
		_cleanup_(free_ptr) char *path = tree_path(list[i]);
		r = send_stat(o, list[i], path, err);
		if (r == 0 && S_ISDIR(list[i]->mode))
			r = send_below(o, list[i], err);
	}
	return r;
}

static int send_content(struct outgoing *o, uint32_t id, struct error *err) {
	const struct tree_node *n = id < o->n ? o->files[id] : NULL;
	uint8_t piece[PIECE];
	Bk__Packet p = BK__PACKET__INIT;
	p.type = BK__PACKET__TYPE__DATA;
	p.id = id;
	if (!n)
		return error_set(err, ERROR_INVALID, "the client asks for file %u, which is none", id);
	for (uint64_t at = 0; at < n->size;) {
		ssize_t got = tree_pread(o->tree, n, at, piece, sizeof piece);
		if (got < 0)
			return error_errno(err, (int)got, "reading %s", n->name);
		p.data = (ProtobufCBinaryData){(size_t)got, piece};
		int r = send_packet(o, &p, err);
		if (r < 0)
			return r;
		at += (uint64_t)got;
	}
	p.data = (ProtobufCBinaryData){0, NULL};
	return send_packet(o, &p, err);
}

/* 1: the client has all. */
static int take_request(struct outgoing *o, const struct buf *message, struct error *err) {
	Bk__Packet *p = bk__packet__unpack(NULL, message->len, (const uint8_t *)buf_str(message));
	Bk__Packet end = BK__PACKET__INIT;
	end.type = BK__PACKET__TYPE__FIN;
	int r;
	if (p && p->type == BK__PACKET__TYPE__REQ)
		r = send_content(o, p->id, err);
	else if (p && p->type == BK__PACKET__TYPE__FIN)
		r = send_packet(o, &end, err) < 0 ? -err->kind : 1;
	else if (p && p->type == BK__PACKET__TYPE__ERR)
		r = error_set(err, ERROR_UNAVAILABLE, "error from receiver: %.*s", (int)MIN(p->data.len, (size_t)1024),
			      (const char *)p->data.data);
	else
		r = error_set(err, ERROR_INVALID, "the client's packet is none of a receiver");
	if (p)
		bk__packet__free_unpacked(p, NULL);
	return r;
}

static int send_tree(struct outgoing *o, struct error *err) {
	_cleanup_(buf_free) struct buf message = BUF_INIT;
	Bk__Packet end = BK__PACKET__INIT; /* of the list */
	int r = send_below(o, tree_root(o->tree), err);
	if (r == 0)
		r = send_packet(o, &end, err);
	while (r == 0) {
		r = grpc_receive(o->call, &message, err);
		if (r == 0)
			return error_set(err, ERROR_UNAVAILABLE, "the client has ended before it had all files");
		r = r < 0 ? r : take_request(o, &message, err);
	}
	if (r < 0)
		return r;
	grpc_send_end(o->call);
	r = grpc_receive(o->call, &message, err);
	return r > 0 ? 0 : r;
}

int bk_send_files(struct grpc_connection *c, struct tree *t, struct error *err) {
	_cleanup_(grpc_call_free_ptr) struct grpc_call *call = grpc_call(c, "/moby.filesync.v1.FileSend/DiffCopy", NULL, 0, err);
	struct outgoing o = {.call = call, .tree = t};
	int r = call ? send_tree(&o, err) : -ERROR_UNAVAILABLE;
	free(o.files);
	return r < 0 ? error_wrap(err, "sending the result to the client") : 0;
}

static int send_pieces(struct grpc_call *call, int fd, struct error *err) {
	uint8_t piece[PIECE];
	for (;;) {
		ssize_t n = RETRY_EINTR(read(fd, piece, sizeof piece));
		if (n < 0)
			return error_errno(err, errno, "reading the result");
		if (n == 0)
			break;
		Bk__Bytes m = BK__BYTES__INIT;
		m.data = (ProtobufCBinaryData){(size_t)n, piece};
		int r = bk_send(call, &m.base, err);
		if (r < 0)
			return r;
	}
	grpc_send_end(call);
	_cleanup_(buf_free) struct buf message = BUF_INIT;
	int r;
	while ((r = grpc_receive(call, &message, err)) > 0)
		;
	return r;
}

int bk_send_stream(struct grpc_connection *c, int fd, struct error *err) {
	_cleanup_(grpc_call_free_ptr) struct grpc_call *call = grpc_call(c, "/moby.filesync.v1.FileSend/DiffCopy", NULL, 0, err);
	int r = call ? send_pieces(call, fd, err) : -ERROR_UNAVAILABLE;
	return r < 0 ? error_wrap(err, "sending the result to the client") : 0;
}
