/* The image: what an instance starts from, with the part of the OCI image config that wabe uses. */
#pragma once

#include "model/field.h"
#include "model/instance.h"

struct image_layer {
	char *digest;     /* of the blob as stored, "sha256:…" */
	char *diff_id;    /* of the uncompressed tar */
	char *media_type;
	int64_t size;     /* of the blob, bytes */
	int64_t unpacked_size; /* of the files in it, bytes; 0 until it has been unpacked */
};

/* "config" of an OCI image configuration (image-spec/config.md), under wabe's names. */
struct image_config {
	char **entrypoint, **command, **env;
	char *workdir, *user, *stop_signal;
	struct pairs labels;
	char **volumes, **exposed_ports;
	struct health_check health;
	char **shell;    /* runs command lines while images are built on this one; empty: /bin/sh -c */
	char **on_build; /* instructions that a build upon this image begins with */
};

struct image {
	char *id;       /* digest of the config blob */
	char *digest;   /* of the manifest blob */
	char *kind;     /* oci (also NULL): a container's file systems | disk | iso | kernel: of machines, see image/artifact.h */
	char *media_type; /* of the manifest */
	char *index;      /* digest of the index that it is one of, where all of that is here; NULL */
	char **index_blobs; /* what the index consists of, itself too */
	char **names;   /* "docker.io/library/debian:bookworm", fully qualified; may be empty (dangling) */
	char **digests; /* "docker.io/library/debian@sha256:…": what repositories that it came from or went to call it.
			 * The digest is that of the index where there is one. Goes with the repository's last name */
	char *parent;   /* id of the image that it was built upon on this host; NULL when pulled */
	char *os, *architecture, *variant;
	int64_t created_at, size; /* size: sum of the layer blobs */
	int64_t virtual_size; /* of a disk: as a machine sees it, bytes; of others 0 */
	int64_t tagged_at; /* when it got its newest name */
	struct image_config config;
	struct machine_hardware machine; /* of a disk, where it is told */
	FIELD_LIST_OF(struct image_layer) layers; /* lowest first */
};

extern const struct field_table image_table, image_config_table;
/* Whether its layers are file systems, one upon the other. */
bool image_is_oci(const struct image *image);

/* A reference [host[:port]/]path[:tag][@digest] as people write it, normalised as Docker does:
 * "debian" is docker.io/library/debian:latest. */
struct image_ref {
	char *registry;   /* "docker.io" */
	char *repository; /* "library/debian" */
	char *tag;        /* NULL when only a digest is given */
	char *digest;     /* NULL or "sha256:…" */
};
int image_ref_parse(const char *text, struct image_ref *ref, struct error *err);
char *image_ref_print(const struct image_ref *ref); /* fully qualified */
/* As people like to read it: without docker.io/library/. */
char *image_ref_familiar(const struct image_ref *ref);
void image_ref_free(struct image_ref *ref);
char *image_ref_digest(const struct image_ref *ref, const char *digest); /* "registry/repository@digest" */
/* Whether two references in full, with whatever tag and digest, are of one repository. */
bool image_ref_same_repository(const char *a, const char *b);
/* "sha256:" and 64 lower-case hexadecimal digits. */
int digest_check(const char *digest, struct error *err);
