/* Pull and push: the OCI distribution protocol (distribution-spec v1), and Docker's tokens
 * (distribution/docs/spec/auth). Runs in control, unprivileged. */
#pragma once

#include "base/json.h"
#include "image/content.h"
#include "model/image.h"

struct registry_options {
	const char *username, *password; /* NULL: anonymous; username "<token>": password is an identity token */
	bool plain_http;		 /* HTTP also to hosts other than loopback */
	bool insecure_tls;		 /* do not check certificates */
	char *const *mirrors;	  /* for docker.io: "http://127.0.0.1:5000", tried first, in order, anonymously */
	const int *certificates;  /* open directories as Docker's certs.d, ended by -1: what the first that has one of the
				   * registry's name ("host:port") holds is used; NULL: none */
	const char *architecture; /* NULL: the host's; as in GOARCH */
	const char *os, *variant;
	bool all_platforms; /* where the reference leads to an index: all that it consists of, so that it can be pushed as it is */
	int parallel; /* blobs at once; 0: 3 */
	void (*progress)(const char *blob, uint64_t done, uint64_t total, const char *what,
			 void *arg); /* any thread; may be NULL */
	/* called once the manifest and the config are there: what is to be fetched (without names); may be NULL */
	void (*resolved)(const struct image *image, void *arg);
	/* called as each layer's blob has arrived, in any order, to begin unpacking; one call at a time, once for
	 * each digest; may be NULL */
	void (*layer_ready)(const struct image_layer *layer, void *arg);
	void *arg;
	const volatile bool *cancel; /* true: stop soon with CANCELLED; may be NULL */
	int64_t retry_delay;	     /* ns before the first retry, doubled for each further one; 0: 500 ms */
	int64_t stall_timeout;	     /* ns without a byte before a connection is given up; 0: 30 s */
};

/* Fetches manifest, config and layers into the content store; fills *out (names: the reference; digests: what the
 * repository calls it, which is the index where the reference leads to one). What progress says of a blob: waiting,
 * downloading, retrying, verifying, done, present; of pushing uploading, done, present. Hold the
 * content store (content_hold) until the image is filed. UNAUTHORIZED, DENIED, NOT_FOUND (also when there is
 * nothing for the platform), UNAVAILABLE, TIMEOUT, CORRUPT, TOO_LARGE, UNSUPPORTED, NO_SPACE, CANCELLED. */
int registry_pull(struct content *c, const struct image_ref *ref, const struct registry_options *o, struct image *out,
		  struct error *err);
/* The tags of the reference's repository; NULL-terminated. */
int registry_tags(const struct image_ref *ref, const struct registry_options *o, char ***tags, struct error *err);
struct registry_platform {
	char *os, *architecture, *variant; /* NULL: not said */
};
struct registry_description {
	char *media_type, *digest; /* of the manifest or index */
	int64_t size;
	FIELD_LIST_OF(struct registry_platform) platforms;
};
/* What the registry has under the reference, without fetching it. */
int registry_describe(const struct image_ref *ref, const struct registry_options *o, struct registry_description *out,
		      struct error *err);
void registry_description_free(struct registry_description *d);
/* Whether the registry takes the credentials. UNAUTHORIZED. */
int registry_login(const char *host, const struct registry_options *o, struct error *err);
/* An array of what the registry's search (Docker's API, version 1) finds. UNSUPPORTED: it has none. */
int registry_search(const char *host, const char *term, int limit, const struct registry_options *o, json_t **out,
		    struct error *err);
/* What a push to that reference sends: the index, where all of it is here and no other digest is asked for; or the manifest. */
const char *image_pushed_digest(const struct image *image, const struct image_ref *ref);
/* Sends what the registry has not: blobs, then manifests and index as they are, so that the digest stays. */
int registry_push(struct content *c, const struct image *image, const struct image_ref *ref,
		  const struct registry_options *o, struct error *err);

/* Reads manifest and config of an image that the content store holds. manifest_digest may be that of an
 * index: then the platform's manifest is taken (platform NULL: the host's). That the layers are there is
 * not checked. */
int image_from_content(struct content *c, const char *manifest_digest, const struct registry_options *platform,
		       struct image *out, struct error *err);
