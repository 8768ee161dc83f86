/* A bzImage holds the kernel proper, an ELF file, packed: https://docs.kernel.org/arch/x86/boot.html. QEMU enters the ELF at once
 * where it says how, by a note (PVH): https://xenbits.xen.org/docs/unstable/misc/pvh.html. */
#include "image/kernel-priv.h"

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>

#define SECTOR 512
#define SETUP_SECTORS 0x1f1
#define MAGIC 0x202
#define VERSION 0x206
#define PAYLOAD_OFFSET 0x248
#define PAYLOAD_LENGTH 0x24c
#define NOTE_PVH 18 /* XEN_ELFNOTE_PHYS32_ENTRY */

static uint32_t le32(const char *p) {
	const unsigned char *u = (const unsigned char *)p;
	return u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

static bool payload(const struct buf *image, struct str *out) {
	const char *p = image->data;
	if (image->len < 2 * SECTOR || memcmp(p + MAGIC, "HdrS", 4) != 0 || (le32(p + VERSION) & 0xffff) < 0x208)
		return false;
	size_t sectors = (unsigned char)p[SETUP_SECTORS] ? (unsigned char)p[SETUP_SECTORS] : 4;
	size_t start = (sectors + 1) * SECTOR, offset = le32(p + PAYLOAD_OFFSET), length = le32(p + PAYLOAD_LENGTH);
	if (start > image->len || offset > image->len - start || length > image->len - start - offset || length < 4)
		return false;
	*out = (struct str){p + start + offset, length - 4}; /* its size unpacked stands behind it */
	return true;
}

static bool unpack(struct str packed, struct buf *out) {
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	bool good = false;
	archive_read_support_filter_all(a);
	archive_read_support_format_raw(a);
	if (archive_read_open_memory(a, packed.p, packed.len) == ARCHIVE_OK && archive_read_next_header(a, &e) == ARCHIVE_OK) {
		char chunk[65536];
		la_ssize_t n;
		while ((n = archive_read_data(a, chunk, sizeof chunk)) > 0 && !buf_overflowed(out))
			buf_add(out, chunk, (size_t)n);
		good = n == 0 && !buf_overflowed(out);
	}
	archive_read_free(a);
	return good;
}

static bool notes_have_pvh(const char *p, size_t n) {
	Elf64_Nhdr h;
	while (n >= sizeof h) {
		memcpy(&h, p, sizeof h);
		size_t name = ((size_t)h.n_namesz + 3) & ~(size_t)3, size = sizeof h + name + (((size_t)h.n_descsz + 3) & ~(size_t)3);
		if (size > n)
			return false;
		if (h.n_type == NOTE_PVH && h.n_namesz == 4 && memcmp(p + sizeof h, "Xen", 4) == 0)
			return true;
		p += size;
		n -= size;
	}
	return false;
}

static bool has_pvh(const struct buf *elf) {
	Elf64_Ehdr h;
	if (elf->len < sizeof h)
		return false;
	memcpy(&h, elf->data, sizeof h);
	if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_phentsize != sizeof(Elf64_Phdr))
		return false;
	for (size_t i = 0; i < h.e_phnum; i++) {
		Elf64_Phdr s;
		size_t at = h.e_phoff + i * sizeof s;
		if (at > elf->len || elf->len - at < sizeof s)
			return false;
		memcpy(&s, elf->data + at, sizeof s);
		if (s.p_type == PT_NOTE && s.p_offset <= elf->len && s.p_filesz <= elf->len - s.p_offset &&
		    notes_have_pvh(elf->data + s.p_offset, s.p_filesz))
			return true;
	}
	return false;
}

bool kernel_unpack(const struct buf *image, struct buf *out) {
	struct str packed;
	return payload(image, &packed) && unpack(packed, out) && has_pvh(out);
}
