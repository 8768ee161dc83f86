/* An ext2, ext3 or ext4 file system becomes a tar. In the confined child alone: libext2fs reads what a guest, or a stranger, wrote. */
#include "image/ext-tree.h"

#include "base/map.h"
#include "base/str.h"
#include "image/layer-tar.h"

#include <ext2fs/ext2fs.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 200
#define ENTRIES_MAX 4000000
#define NAMES_MAX 500000 /* in one directory */
#define NAME_BYTES 255
#define XATTRS_MAX 64
#define XATTR_BYTES ((size_t)64 << 10)
#define LINK_MAX 4096
#define CHUNK ((size_t)256 << 10)
#define INODES_MAX (UINT32_C(1) << 28)

/* ---- reading the disk: libext2fs's own way would make system calls that the child has not ---- */

static struct {
	int disk;
	struct disk_part part;
} source;

static errcode_t disk_open(const char *name, int flags, io_channel *channel);

static errcode_t disk_close(io_channel c) {
	if (--c->refcount > 0)
		return 0;
	ext2fs_free_mem(&c->name);
	ext2fs_free_mem(&c);
	return 0;
}

static errcode_t disk_set_blksize(io_channel c, int size) {
	c->block_size = size;
	return size >= 512 && size <= 1 << 16 ? 0 : EXT2_ET_CORRUPT_SUPERBLOCK;
}

static errcode_t disk_read_blk64(io_channel c, unsigned long long block, int count, void *to) {
	uint64_t n = count < 0 ? (uint64_t)-(int64_t)count : (uint64_t)count * (uint64_t)c->block_size, at;
	if (__builtin_mul_overflow(block, (uint64_t)c->block_size, &at) || at > source.part.size || n > source.part.size - at)
		return EXT2_ET_SHORT_READ;
	for (uint64_t have = 0; have < n;) {
		ssize_t got = RETRY_EINTR(pread(source.disk, (char *)to + have, n - have, (off_t)(source.part.at + at + have)));
		if (got <= 0)
			return got < 0 ? errno : EXT2_ET_SHORT_READ;
		have += (uint64_t)got;
	}
	return 0;
}

static errcode_t disk_read_blk(io_channel c, unsigned long block, int count, void *to) {
	return disk_read_blk64(c, block, count, to);
}

static errcode_t disk_write_blk(UNUSED io_channel c, UNUSED unsigned long block, UNUSED int count, UNUSED const void *from) {
	return EXT2_ET_RO_FILSYS;
}

static errcode_t disk_write_blk64(UNUSED io_channel c, UNUSED unsigned long long block, UNUSED int count, UNUSED const void *from) {
	return EXT2_ET_RO_FILSYS;
}

static errcode_t disk_flush(UNUSED io_channel c) {
	return 0;
}

static struct struct_io_manager manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "disk",
	.open = disk_open,
	.close = disk_close,
	.set_blksize = disk_set_blksize,
	.read_blk = disk_read_blk,
	.write_blk = disk_write_blk,
	.flush = disk_flush,
	.read_blk64 = disk_read_blk64,
	.write_blk64 = disk_write_blk64,
};

static errcode_t disk_open(const char *name, UNUSED int flags, io_channel *channel) {
	io_channel c = NULL;
	errcode_t e = ext2fs_get_memzero(sizeof *c, &c);
	if (!e)
		e = ext2fs_get_mem(strlen(name) + 1, &c->name);
	if (e)
		return e;
	memcpy(c->name, name, strlen(name) + 1);
	c->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	c->manager = &manager;
	c->block_size = 1024;
	c->refcount = 1;
	*channel = c;
	return 0;
}

/* ---- a file system ---- */

struct walk {
	ext2_filsys fs;
	struct tar_writer *tar;
	struct map *links;    /* inode of a file with several names → the first */
	uint8_t *seen;        /* a bit for each directory's inode */
	uint64_t entries, bytes, bytes_max;
	char *chunk;
};

static int damaged(const char *path, errcode_t e, struct error *err) {
	return error_set(err, ERROR_CORRUPT, "the disk's file system is damaged at /%s (libext2fs: %ld)", path, (long)e);
}

int ext_open(int disk, const struct disk_part *part, void **fs, struct error *err) {
	ext2_filsys opened;
	source.disk = disk;
	source.part = *part;
	errcode_t e = ext2fs_open("disk", EXT2_FLAG_64BITS, 0, 0, &manager, &opened);
	if (e == EXT2_ET_UNSUPP_FEATURE || e == EXT2_ET_RO_UNSUPP_FEATURE)
		return error_set(err, ERROR_UNSUPPORTED, "the disk's ext4 file system has features that are newer than this host's libext2fs");
	if (e)
		return error_set(err, ERROR_CORRUPT, "the disk's ext file system cannot be read (libext2fs: %ld)", (long)e);
	if (opened->super->s_inodes_count > INODES_MAX) {
		ext2fs_close_free(&opened);
		return error_set(err, ERROR_UNSUPPORTED, "the disk's file system has more than %u inodes", INODES_MAX);
	}
	*fs = opened;
	return 0;
}

void ext_close(void *fs) {
	ext2_filsys opened = fs;
	ext2fs_close_free(&opened);
}

bool ext_has(void *fs, const char *path) {
	ext2_ino_t ino;
	return ext2fs_namei_follow(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) == 0;
}

/* ---- names of a directory ---- */

struct name {
	ext2_ino_t ino;
	char text[NAME_BYTES + 1];
};
struct names {
	struct name *items;
	size_t n, room;
	bool too_many;
};

static int take_name(UNUSED ext2_ino_t dir, int entry, struct ext2_dir_entry *e, UNUSED int offset, UNUSED int size, UNUSED char *buf, void *arg) {
	struct names *l = arg;
	int n = ext2fs_dirent_name_len(e);
	if (entry != DIRENT_OTHER_FILE || !e->inode)
		return 0;
	if (l->n == l->room) {
		l->too_many = l->n > NAMES_MAX;
		if (l->too_many)
			return DIRENT_ABORT;
		l->room = l->room ? 2 * l->room : 32;
		l->items = alloc_resize(l->items, l->room, sizeof *l->items);
	}
	struct name *name = &l->items[l->n];
	name->ino = e->inode;
	memcpy(name->text, e->name, (size_t)n);
	name->text[n] = '\0';
	/* a name that is none is passed over, as the kernel cannot make one */
	if (n > 0 && strlen(name->text) == (size_t)n && !strchr(name->text, '/') && !str_same(name->text, ".") && !str_same(name->text, ".."))
		l->n++;
	return 0;
}

static int compare_names(const void *a, const void *b) {
	return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

/* ---- entries ---- */

struct attributes {
	struct tar_xattr items[XATTRS_MAX];
	size_t n;
};

static int take_xattr(char *name, char *value, size_t n, void *arg) {
	struct attributes *a = arg;
	if (a->n == XATTRS_MAX || n > XATTR_BYTES || (!str_starts(name, "user.") && !str_same(name, "security.capability")))
		return 0;
	void *copy = alloc_zero(n + 1);
	memcpy(copy, value, n);
	a->items[a->n++] = (struct tar_xattr){str_copy(name), copy, n};
	return 0;
}

static int compare_xattrs(const void *a, const void *b) {
	return strcmp(((const struct tar_xattr *)a)->name, ((const struct tar_xattr *)b)->name);
}

static void read_xattrs(struct walk *w, ext2_ino_t ino, struct attributes *a) {
	struct ext2_xattr_handle *h = NULL;
	if (ext2fs_xattrs_open(w->fs, ino, &h) == 0 && ext2fs_xattrs_read(h) == 0)
		ext2fs_xattrs_iterate(h, take_xattr, a);
	if (h)
		ext2fs_xattrs_close(&h);
	qsort(a->items, a->n, sizeof *a->items, compare_xattrs);
}

static void attributes_free(struct attributes *a) {
	for (size_t i = 0; i < a->n; i++) {
		free(a->items[i].name);
		free(a->items[i].value);
	}
}

static int read_content(struct walk *w, ext2_ino_t ino, struct ext2_inode *inode, const char *path, uint64_t size, struct error *err) {
	ext2_file_t file;
	errcode_t e = ext2fs_file_open2(w->fs, ino, inode, 0, &file);
	if (e)
		return damaged(path, e, err);
	int r = 0;
	for (uint64_t left = size; r == 0 && left;) {
		unsigned got = 0;
		e = ext2fs_file_read(file, w->chunk, (unsigned)MIN(left, (uint64_t)CHUNK), &got);
		r = e || !got ? damaged(path, e, err) : tar_bytes(w->tar, w->chunk, got, err);
		left -= got;
	}
	ext2fs_file_close(file);
	return r < 0 ? r : tar_pad(w->tar, size, err);
}

static int read_link(struct walk *w, ext2_ino_t ino, struct ext2_inode *inode, const char *path, char **out, struct error *err) {
	uint64_t size = EXT2_I_SIZE(inode);
	if (size == 0 || size >= LINK_MAX)
		return damaged(path, 0, err);
	*out = alloc_zero(size + 1);
	if (ext2fs_is_fast_symlink(inode)) {
		if (size > sizeof inode->i_block)
			return damaged(path, 0, err);
		memcpy(*out, inode->i_block, size);
		return 0;
	}
	ext2_file_t file;
	unsigned got = 0;
	errcode_t e = ext2fs_file_open2(w->fs, ino, inode, 0, &file);
	if (e)
		return damaged(path, e, err);
	e = ext2fs_file_read(file, *out, (unsigned)size, &got);
	ext2fs_file_close(file);
	return e || got != size || strlen(*out) != size ? damaged(path, e, err) : 0;
}

/* As the kernel keeps numbers of devices: the old way in the first word, the new one in the second. */
static void read_device(const struct ext2_inode *inode, struct tar_entry *t) {
	uint32_t old = inode->i_block[0], new = inode->i_block[1];
	t->major = old ? old >> 8 & 0xff : new >> 8 & 0xfff;
	t->minor = old ? old & 0xff : (new & 0xff) | (new >> 12 & 0xfff00);
}

static char type_of(uint16_t mode) {
	switch (mode & LINUX_S_IFMT) {
	case LINUX_S_IFREG: return '0';
	case LINUX_S_IFLNK: return '2';
	case LINUX_S_IFCHR: return '3';
	case LINUX_S_IFBLK: return '4';
	case LINUX_S_IFDIR: return '5';
	case LINUX_S_IFIFO: return '6';
	default: return 0; /* a socket, or nothing that there is */
	}
}

/* *link: where the entry has one, to be freed. *first: another name of the same file, where there was one. */
static int describe(struct walk *w, ext2_ino_t ino, struct ext2_inode *inode, const char *path, struct tar_entry *t, char **link, struct error *err) {
	const char *first = NULL;
	_cleanup_(free_ptr) char *key = str_format("%u", ino);
	*t = (struct tar_entry){.type = type_of(inode->i_mode), .path = path, .mode = inode->i_mode & 07777, .uid = inode_uid(*inode),
				.gid = inode_gid(*inode), .mtime = {.tv_sec = inode->i_mtime}};
	if (inode->i_flags & EXT4_ENCRYPT_FL)
		return error_set(err, ERROR_UNSUPPORTED, "/%s on the disk is encrypted", path);
	if (t->type && t->type != '5' && inode->i_links_count > 1) {
		first = map_get(w->links, key);
		if (!first)
			map_set(w->links, key, str_copy(path));
	}
	if (first) {
		t->type = '1';
		t->link = first;
	} else if (t->type == '0') {
		t->size = EXT2_I_SIZE(inode);
	} else if (t->type == '2') {
		int r = read_link(w, ino, inode, path, link, err);
		t->link = *link;
		return r;
	} else if (t->type == '3' || t->type == '4') {
		read_device(inode, t);
	}
	return 0;
}

static int add_entry(struct walk *w, ext2_ino_t ino, const char *path, bool *directory, struct error *err) {
	struct ext2_inode inode;
	struct tar_entry t;
	struct attributes a = {.n = 0};
	_cleanup_(free_ptr) char *link = NULL;
	errcode_t e = ext2fs_read_inode(w->fs, ino, &inode);
	if (e)
		return damaged(path, e, err);
	int r = describe(w, ino, &inode, path, &t, &link, err);
	*directory = r == 0 && t.type == '5';
	if (r < 0 || !t.type)
		return r;
	if (++w->entries > ENTRIES_MAX || (w->bytes += t.size) > w->bytes_max || w->bytes < t.size)
		return error_set(err, ERROR_TOO_LARGE, "the disk's files claim to have more than %llu bytes, or are more than %d: the last was /%s",
				 (unsigned long long)w->bytes_max, ENTRIES_MAX, path);
	if (t.type == '0' || t.type == '5')
		read_xattrs(w, ino, &a);
	t.xattrs = a.items;
	t.n_xattrs = a.n;
	r = tar_add(w->tar, &t, err);
	attributes_free(&a);
	return r == 0 && t.type == '0' ? read_content(w, ino, &inode, path, t.size, err) : r;
}

static bool shown_empty(const char *path) {
	static const char *const kernels[] = {"dev", "proc", "run", "sys", "lost+found"};
	for (size_t i = 0; i < ARRAY_SIZE(kernels); i++)
		if (str_same(path, kernels[i]))
			return true;
	return false;
}

static int walk(struct walk *w, ext2_ino_t dir, const char *path, int depth, struct error *err) {
	struct names l = {0};
	if (depth > DEPTH_MAX || dir > w->fs->super->s_inodes_count || w->seen[dir / 8] >> dir % 8 & 1)
		return error_set(err, ERROR_CORRUPT, "the disk's directories are within each other: at /%.200s", path);
	w->seen[dir / 8] |= (uint8_t)(1 << dir % 8);
	errcode_t e = ext2fs_dir_iterate2(w->fs, dir, 0, NULL, take_name, &l);
	int r = e || l.too_many ? damaged(path, e, err) : 0;
	if (l.n)
		qsort(l.items, l.n, sizeof *l.items, compare_names);
	for (size_t i = 0; r == 0 && i < l.n; i++) {
		_cleanup_(free_ptr) char *below = str_format("%s%s%s", path, *path ? "/" : "", l.items[i].text);
		bool directory = false;
		r = add_entry(w, l.items[i].ino, below, &directory, err);
		if (r == 0 && directory && !shown_empty(below))
			r = walk(w, l.items[i].ino, below, depth + 1, err);
	}
	free(l.items);
	return r;
}

int ext_tree(void *opened, int out, struct error *err) {
	ext2_filsys fs = opened;
	struct tar_writer tar = {0};
	struct walk w = {.fs = fs, .tar = &tar, .links = map_new(free)};
	if (ext2fs_has_feature_journal_needs_recovery(fs->super))
		return error_set(err, ERROR_CONFLICT, "the disk's file system was not put away cleanly: start the machine and have it shut down first");
	w.seen = alloc_zero((size_t)fs->super->s_inodes_count / 8 + 1);
	w.chunk = alloc_zero(CHUNK);
	w.bytes_max = 2 * source.part.size + ((uint64_t)1 << 30);
	tar_open(&tar, out);
	int r = walk(&w, EXT2_ROOT_INO, "", 0, err);
	if (r == 0)
		r = tar_finish(&tar, err);
	tar_close(&tar);
	map_free(w.links);
	free(w.seen);
	free(w.chunk);
	return r;
}
