/* OVA: a tar with an OVF descriptor first, a manifest of digests, and the disks. Read once, from front to back, as it may come
 * through a pipe; nothing is written under a name that it gives. Its certificate, where it has one, is not looked at. */
#pragma once

#include "image/content.h"
#include "image/ovf.h"

struct ova {
	struct ovf ovf;
	char *digests[OVF_DISKS_MAX]; /* of the disks' files, which the content store has */
	int64_t sizes[OVF_DISKS_MAX];
};

/* n bytes (head) have been read from fd already. Under a hold of the content store. INVALID, UNSUPPORTED, CORRUPT: what is wrong,
 * and where; TOO_LARGE. out is empty then. */
int ova_load(struct content *c, const void *head, size_t n, int fd, struct ova *out, struct error *err);
void ova_free(struct ova *o);
DEFINE_CLEANUP(ova_free_ptr, struct ova *, ova_free);

/* The manifest's text: "SHA256(name)= …" lines. check: files are all of the archive's, each with the digests that it was found to
 * have. CORRUPT. */
struct ova_file {
	char *name;
	char *sums[3]; /* hexadecimal: SHA-1, SHA-256, SHA-512 */
};
int ova_manifest_check(const char *text, const struct ova_file *files, size_t n, struct error *err);

/* Writes one: files are the disks of o, in order, as regular files; name is that of descriptor and manifest. The names and
 * capacities of the disks are set in o. */
int ova_write(const struct ovf *o, const int *files, const char *name, int to, struct error *err);
