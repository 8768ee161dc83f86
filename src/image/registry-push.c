/* Push: the blobs that the registry has not, then the manifest as it is in the content store. */
#include "image/registry-priv.h"

#include "base/str.h"

#include <unistd.h>

#define TRIES 6

struct push {
	struct content *c;
	const struct registry_options *o;
	struct endpoint endpoint;
	struct index_parts parts; /* what is sent; of a single image as of an index */
	char *what;
	volatile bool stop;
};

struct upload {
	const struct push *push;
	const struct descriptor *blob;
	int fd;
};

static void report(const struct push *p, const struct descriptor *d, uint64_t done, const char *what) {
	if (p->o->progress)
		p->o->progress(d->digest, done, (uint64_t)d->size, what, p->o->arg);
}

static void sent(uint64_t done, void *arg) {
	const struct upload *u = arg;
	report(u->push, u->blob, done, "uploading");
}

/* Whether the registry has it: 1, 0, or the error. */
static int exists(struct push *p, CURL *curl, const struct descriptor *blob, struct error *err) {
	_cleanup_(free_ptr) char *url = endpoint_url(&p->endpoint, "blobs/%s", blob->digest);
	_cleanup_(request_free) struct request q = {.method = "HEAD", .url = url};
	struct retry t = retry_start(&p->endpoint, TRIES);
	int r;
	do
		r = endpoint_request(&p->endpoint, curl, &q, err);
	while (retry_again(&t, &p->endpoint, &q, r));
	if (r < 0)
		return r;
	if (q.status == 401 || q.status == 403)
		return request_error(&p->endpoint, &q, p->what, err);
	return request_ok(&q);
}

/* Location, which may be relative, with the digest added to its query. */
static char *upload_url(const struct request *q, const char *digest, struct error *err) {
	if (!q->location) {
		error_set(err, ERROR_CORRUPT, "the registry does not say where to send the blob");
		return NULL;
	}
	_cleanup_(free_ptr) char *url = http_resolve(q->url, q->location, err);
	return url ? str_format("%s%cdigest=%s", url, strchr(url, '?') ? '&' : '?', digest) : NULL;
}

/* One try: begin an upload, send the whole. q holds the last answer. */
static int upload_once(struct push *p, CURL *curl, struct upload *u, struct request *q, struct error *err) {
	_cleanup_(free_ptr) char *begin = endpoint_url(&p->endpoint, "blobs/uploads/");
	_cleanup_(free_ptr) char *put = NULL;
	*q = (struct request){.method = "POST", .url = begin};
	int r = endpoint_request(&p->endpoint, curl, q, err);
	if (r == 0 && request_ok(q)) {
		put = upload_url(q, u->blob->digest, err);
		if (!put)
			return -ERROR_CORRUPT;
		char *headers[] = {"Content-Type: application/octet-stream", NULL};
		request_free(q);
		*q = (struct request){.method = "PUT",
				      .url = put,
				      .headers = headers,
				      .body_fd = u->fd,
				      .has_body_fd = true,
				      .body_size = (uint64_t)u->blob->size,
				      .sent = sent,
				      .arg = u};
		r = endpoint_request(&p->endpoint, curl, q, err);
		q->headers = NULL;
	}
	q->url = NULL;
	return r;
}

static int upload(struct push *p, CURL *curl, const struct descriptor *blob, struct error *err) {
	uint64_t size;
	_cleanup_(close_fd) int fd = content_blob(p->c, blob->digest, &size, err);
	if (fd < 0)
		return fd;
	if (size != (uint64_t)blob->size)
		return error_set(err, ERROR_CORRUPT, "blob %s has another size than its manifest says", blob->digest);
	struct upload u = {p, blob, fd};
	struct retry t = retry_start(&p->endpoint, TRIES);
	for (;;) {
		_cleanup_(request_free) struct request q = {0};
		int r = upload_once(p, curl, &u, &q, err);
		if (r == 0 && request_ok(&q)) {
			report(p, blob, size, "done");
			return 0;
		}
		if (retry_again(&t, &p->endpoint, &q, r))
			continue;
		_cleanup_(free_ptr) char *what = str_format("blob %s of %s", blob->digest, p->what);
		return r < 0 ? r : request_error(&p->endpoint, &q, what, err);
	}
}

static int push_blob(size_t job, CURL *curl, void *arg, struct error *err) {
	struct push *p = arg;
	const struct descriptor *blob = &p->parts.blobs.items[job];
	int r = exists(p, curl, blob, err);
	if (r > 0)
		report(p, blob, (uint64_t)blob->size, "present");
	return r > 0 ? 0 : r < 0 ? r : upload(p, curl, blob, err);
}

static int push_manifest(struct push *p, CURL *curl, const struct descriptor *d, const char *reference, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(2 * CONTENT_READ_MAX);
	const char *digest = d->digest;
	int r = content_read(p->c, digest, &text, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *url = endpoint_url(&p->endpoint, "manifests/%s", reference);
	_cleanup_(free_ptr) char *type = str_format("Content-Type: %s", d->media_type);
	char *headers[] = {type, NULL};
	_cleanup_(request_free) struct request q = {
		.method = "PUT", .url = url, .headers = headers, .body = buf_str(&text), .body_size = text.len};
	struct retry t = retry_start(&p->endpoint, TRIES);
	do
		r = endpoint_request(&p->endpoint, curl, &q, err);
	while (retry_again(&t, &p->endpoint, &q, r));
	if (r < 0)
		return r;
	if (!request_ok(&q))
		return request_error(&p->endpoint, &q, p->what, err);
	if (q.digest && str_starts(q.digest, "sha256:") && strcmp(q.digest, digest) != 0)
		return error_set(err, ERROR_CORRUPT,
				 "%s stored the manifest of %s under the digest %.80s instead of %s", p->endpoint.name,
				 p->what, q.digest, digest);
	return 0;
}

const char *image_pushed_digest(const struct image *image, const struct image_ref *ref) {
	return image->index && !str_same(ref->digest, image->digest) ? image->index : image->digest;
}

/* What there is to send. The types of a single image are looked at, those of an index's parts are the registry's affair. */
static int find_parts(struct push *p, const struct image *image, const char *digest, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(2 * CONTENT_READ_MAX);
	struct manifest m = {0};
	int r = content_read(p->c, image->digest, &text, err);
	if (r == 0)
		r = manifest_parse(buf_str(&text), text.len, image->media_type, &m, err);
	if (r == 0 && m.index)
		r = error_set(err, ERROR_UNSUPPORTED, "%s is an index of images: push one of them", image->digest);
	if (r == 0)
		r = index_read(p->c, digest, NULL, NULL, &p->parts, err);
	if (r == 0 && str_same(digest, image->digest)) {
		free(p->parts.manifests.items[0].media_type);
		p->parts.manifests.items[0].media_type = str_copy(m.media_type);
	}
	manifest_free(&m);
	return r;
}

static int push(struct push *p, const struct image *image, const struct image_ref *ref, struct error *err) {
	const char *digest = image_pushed_digest(image, ref);
	if (ref->digest && strcmp(ref->digest, digest) != 0)
		return error_set(err, ERROR_INVALID, "%s names another digest than the image's, %s", p->what, digest);
	int r = find_parts(p, image, digest, err);
	if (r == 0)
		r = endpoint_open(&p->endpoint, ref->registry, ref->registry, ref->repository, "pull,push", p->o, err);
	if (r < 0)
		return r;
	p->endpoint.username = p->o->username;
	p->endpoint.password = p->o->password;
	p->endpoint.stop = &p->stop;
	r = run_parallel(p->o, p->parts.blobs.n, push_blob, p, &p->stop, err);
	if (r < 0)
		return r;
	_cleanup_(curl_cleanup) CURL *curl = curl_easy_init();
	if (!curl)
		abort(); /* memory */
	for (size_t i = 0; r == 0 && i < p->parts.manifests.n; i++) {
		const struct descriptor *d = &p->parts.manifests.items[i];
		bool last = i + 1 == p->parts.manifests.n;
		r = push_manifest(p, curl, d, last && ref->tag ? ref->tag : d->digest, err);
	}
	return r;
}

int registry_push(struct content *c, const struct image *image, const struct image_ref *ref,
		  const struct registry_options *o, struct error *err) {
	struct push p = {.c = c, .o = o, .what = image_ref_print(ref)};
	int r = push(&p, image, ref, err);
	if (r < 0)
		error_wrap(err, "cannot push %s", p.what);
	else if (err) /* of tries that came before */
		error_free(err);
	if (p.endpoint.o)
		endpoint_close(&p.endpoint);
	index_parts_free(&p.parts);
	free(p.what);
	return r;
}
