/* Image manifests, indexes and configurations (image-spec, and Docker's schema 2): JSON from strangers to
 * structs and back. Pure data, no I/O. */
#pragma once

#include "base/buf.h"
#include "base/json.h"
#include "image/registry.h"
#include "model/image.h"

#define MANIFEST_MAX ((size_t)4 << 20)
#define CONFIG_MAX CONTENT_READ_MAX

#define TYPE_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define TYPE_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define TYPE_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define TYPE_OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define TYPE_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define TYPE_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define TYPE_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define TYPE_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"

struct descriptor {
	char *media_type, *digest;
	int64_t size;
	char *os, *architecture, *variant; /* an index's entry; NULL when not given */
	char *name;			   /* annotation io.containerd.image.name */
	char *ref_name;			   /* annotation org.opencontainers.image.ref.name */
	bool attestation;		   /* says something about another entry, is not an image */
};

typedef FIELD_LIST_OF(struct descriptor) descriptors;
void descriptor_free(struct descriptor *d);

struct manifest {
	bool index;
	char *media_type;
	struct descriptor config;		/* of a manifest */
	descriptors items; /* layers, lowest first; or the entries of an index */
};

/* media_type: what came along with the text (a Content-Type, a descriptor's), or NULL. INVALID,
 * UNSUPPORTED. On failure *out is empty. */
int manifest_parse(const char *text, size_t n, const char *media_type, struct manifest *out, struct error *err);
void manifest_free(struct manifest *m);
/* The index's entry that fits the platform best; NOT_FOUND names those that there are. */
int manifest_select(const struct manifest *index, const struct registry_options *platform,
		    const struct descriptor **out, struct error *err);
/* Whether the entry is for the platform at all. */
bool platform_fits(const struct descriptor *d, const struct registry_options *platform);

/* Fills out's id-independent part (platform, time, config) from an image configuration; *diff_ids: those of
 * its layers. */
int config_parse(const char *text, size_t n, struct image *out, char ***diff_ids, struct error *err);
/* The "config" object of an image configuration. */
json_t *config_print(const struct image_config *c);

/* An OCI manifest over the config blob (image->id, of config_size bytes) and image->layers. */
char *manifest_print(const struct image *image, int64_t config_size);
/* Joins what manifest and config say into *out, all but names. */
int image_from_parts(const struct manifest *m, const char *manifest_digest, const char *config, size_t n,
		     struct image *out, struct error *err);

/* All that an index consists of, each thing once. */
struct index_parts {
	descriptors manifests; /* indexes too; what is referred to comes first, the index itself last */
	descriptors blobs;     /* configs and layers */
};
/* Brings a manifest into the content store before it is read there. */
typedef int index_need(const struct descriptor *d, void *arg, struct error *err);
/* need NULL: they are there. Whether the blobs are there is not looked at. Attestations count like images. */
int index_read(struct content *c, const char *digest, index_need *need, void *arg, struct index_parts *out, struct error *err);
void index_parts_free(struct index_parts *p);
/* Says of an image that it is one of that index, and that all of it is here. */
void image_take_index(struct image *image, const struct index_parts *p);

/* The host's architecture and variant in Go's words ("arm", "v7"). */
const char *host_architecture(void);
const char *host_variant(void);
