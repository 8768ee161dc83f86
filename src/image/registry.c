/* Pull: manifest, config and layers of one image into the content store. Nothing is taken at its word:
 * every blob is checked against its digest, every length against what was announced. */
#include "image/registry-priv.h"

#include "base/str.h"
#include "base/time.h"

#include <inttypes.h>
#include <unistd.h>

#define PARALLEL 3
#define PARALLEL_MAX 16
#define MANIFEST_TRIES 4
#define BLOB_TRIES 6
#define INDEX_DEPTH 4

static char *const accept_manifests[] = {
	"Accept: " TYPE_OCI_INDEX ", " TYPE_OCI_MANIFEST ", " TYPE_DOCKER_LIST ", " TYPE_DOCKER_MANIFEST
	", application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1",
	NULL,
};

/* --- threads --- */

struct jobs {
	pthread_mutex_t lock;
	size_t next, n;
	int (*job)(size_t i, CURL *curl, void *arg, struct error *err);
	void *arg;
	volatile bool *stop;
	int result;
	struct error failed;
};

static void *work(void *arg) {
	struct jobs *j = arg;
	_cleanup_(curl_cleanup) CURL *curl = curl_easy_init();
	if (!curl)
		abort(); /* memory */
	for (;;) {
		pthread_mutex_lock(&j->lock);
		size_t i = flag_is_set(j->stop) ? j->n : j->next++;
		pthread_mutex_unlock(&j->lock);
		if (i >= j->n)
			return NULL;
		_cleanup_(error_free) struct error err = ERROR_INIT;
		int r = j->job(i, curl, j->arg, &err);
		pthread_mutex_lock(&j->lock);
		if (r < 0 && j->result == 0) {
			j->result = r;
			error_move(&j->failed, &err);
			__atomic_store_n(j->stop, true, __ATOMIC_RELAXED);
		}
		pthread_mutex_unlock(&j->lock);
	}
}

int run_parallel(const struct registry_options *o, size_t n,
		 int (*job)(size_t i, CURL *curl, void *arg, struct error *err), void *arg, volatile bool *stop,
		 struct error *err) {
	struct jobs j = {.n = n, .job = job, .arg = arg, .stop = stop};
	pthread_mutex_init(&j.lock, NULL);
	pthread_t threads[PARALLEL_MAX];
	size_t want = MIN(n, (size_t)(o->parallel > 0 ? MIN(o->parallel, PARALLEL_MAX) : PARALLEL)), started = 0;
	while (started + 1 < want && pthread_create(&threads[started], NULL, work, &j) == 0)
		started++;
	work(&j); /* this thread is one of them */
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	pthread_mutex_destroy(&j.lock);
	return j.result < 0 ? error_move(err, &j.failed) : 0;
}

/* --- one blob --- */

struct download {
	struct ingest *ingest;
	const struct descriptor *blob;
	const struct registry_options *o;
	uint64_t from;	  /* the range that was asked for begins here */
	bool begun;	  /* the answer's first bytes have come */
	bool wrong_range; /* the answer is another range than was asked for */
};

static void report(const struct registry_options *o, const struct descriptor *d, uint64_t done, const char *what) {
	if (o->progress)
		o->progress(d->digest, done, (uint64_t)d->size, what, o->arg);
}

/* "bytes 100-199/200" begins at from? */
static bool range_begins(const char *range, uint64_t from) {
	if (!range || !str_starts(range, "bytes "))
		return false;
	struct str rest = str_view(range + 6);
	struct str first = str_cut(&rest, '-');
	_cleanup_(free_ptr) char *text = str_copyn(first.p, first.len);
	uint64_t n;
	return str_to_u64(text, 10, &n) == 0 && n == from;
}

static int take_bytes(struct request *q, const void *data, size_t n, struct error *err) {
	struct download *d = q->arg;
	if (!d->begun) {
		d->begun = true;
		if (q->status == 206 && !range_begins(q->content_range, d->from)) {
			d->wrong_range = true;
			return error_set(err, ERROR_CORRUPT, "%s sends another part of blob %s than was asked for",
					 q->e->name, d->blob->digest);
		}
		if (q->status != 206 && d->from)
			ingest_restart(d->ingest);
	}
	if (n > (uint64_t)d->blob->size - ingest_offset(d->ingest))
		return error_set(err, ERROR_CORRUPT,
				 "blob %s is longer than the %" PRId64 " bytes that its manifest says", d->blob->digest,
				 d->blob->size);
	int r = ingest_write(d->ingest, data, n, err);
	if (r == 0)
		report(d->o, d->blob, ingest_offset(d->ingest), "downloading");
	return r;
}

/* One request for what is missing of the blob. */
static int download_once(struct endpoint *e, CURL *curl, struct download *d, struct request *q, struct error *err) {
	char range[64];
	snprintf(range, sizeof range, "Range: bytes=%" PRIu64 "-", ingest_offset(d->ingest));
	char *headers[] = {range, NULL};
	d->from = ingest_offset(d->ingest);
	d->begun = d->wrong_range = false;
	q->method = "GET";
	q->headers = d->from ? headers : NULL;
	q->sink = take_bytes;
	q->arg = d;
	int r = endpoint_request(e, curl, q, err);
	q->headers = NULL;
	if (d->wrong_range || (r == 0 && q->status == 416)) {
		ingest_restart(d->ingest);
		q->transient = true;
		return r < 0 ? r
			     : error_set(err, ERROR_CORRUPT, "%s does not have the rest of blob %s", e->name,
					 d->blob->digest);
	}
	if (r < 0 || !request_ok(q))
		return r;
	if (q->status != 206 && d->from && !d->begun)
		ingest_restart(d->ingest); /* an answer without a single byte */
	if (ingest_offset(d->ingest) == (uint64_t)d->blob->size)
		return 0;
	q->transient = true;
	return error_set(err, ERROR_CORRUPT, "blob %s ends after %" PRIu64 " of %" PRId64 " bytes", d->blob->digest,
			 ingest_offset(d->ingest), d->blob->size);
}

/* Fills the ingest; goes on where a connection broke, for as long as that gets further. */
static int download(struct endpoint *e, CURL *curl, struct download *d, struct error *err) {
	uint64_t size = (uint64_t)d->blob->size, furthest = ingest_offset(d->ingest);
	struct retry t = retry_start(e, BLOB_TRIES);
	if (furthest > size)
		ingest_restart(d->ingest);
	if (size && ingest_offset(d->ingest) == size)
		return 0;
	_cleanup_(free_ptr) char *url = endpoint_url(e, "blobs/%s", d->blob->digest);
	for (;;) {
		_cleanup_(request_free) struct request q = {.url = url};
		int r = download_once(e, curl, d, &q, err);
		if (r == 0 && request_ok(&q))
			return 0;
		if (ingest_offset(d->ingest) > furthest) {
			furthest = ingest_offset(d->ingest);
			t = retry_start(e, BLOB_TRIES);
		}
		if (retry_again(&t, e, &q, r)) {
			report(d->o, d->blob, ingest_offset(d->ingest), "retrying");
			continue;
		}
		if (r < 0)
			return r;
		_cleanup_(free_ptr) char *what =
			str_format("blob %s of %s/%s", d->blob->digest, e->name, e->repository);
		return request_error(e, &q, what, err);
	}
}

static int fetch_once(struct content *c, struct source *s, const struct registry_options *o,
		      const struct descriptor *blob, CURL *curl, bool *resumed, struct error *err) {
	struct ingest *ingest;
	int r = content_ingest_until(c, blob->digest, o->cancel ? o->cancel : &s->stop, &ingest, err);
	if (r < 0)
		return r;
	if (!ingest) {
		report(o, blob, (uint64_t)blob->size, "present");
		return 0;
	}
	*resumed = ingest_offset(ingest) > 0;
	struct download d = {.ingest = ingest, .blob = blob, .o = o};
	for (size_t i = s->at; i < s->n; i++) {
		r = download(&s->endpoints[i], curl, &d, err);
		if (r == 0 || r == -ERROR_CANCELLED || r == -ERROR_NO_SPACE || r == -ERROR_QUOTA)
			break;
	}
	if (r < 0) {
		ingest_abort(ingest);
		return r;
	}
	report(o, blob, (uint64_t)blob->size, "verifying");
	r = ingest_commit(ingest, NULL, err);
	if (r == 0)
		report(o, blob, (uint64_t)blob->size, "done");
	return r;
}

static int fetch_blob(struct content *c, struct source *s, const struct registry_options *o,
		      const struct descriptor *blob, CURL *curl, struct error *err) {
	bool resumed = false;
	int r = fetch_once(c, s, o, blob, curl, &resumed, err);
	if (r == -ERROR_CORRUPT && resumed) /* what an earlier try left may have been at fault */
		r = fetch_once(c, s, o, blob, curl, &resumed, err);
	return r;
}

/* --- manifests --- */

int fetch_manifest(struct endpoint *e, CURL *curl, const char *reference, const char *what, struct buf *text,
			  char **type, char **digest, struct error *err) {
	_cleanup_(free_ptr) char *url = endpoint_url(e, "manifests/%s", reference);
	_cleanup_(request_free) struct request q = {
		.method = "GET", .url = url, .headers = accept_manifests, .text_max = MANIFEST_MAX};
	struct retry t = retry_start(e, MANIFEST_TRIES);
	int r;
	do
		r = endpoint_request(e, curl, &q, err);
	while (retry_again(&t, e, &q, r));
	if (r < 0)
		return error_wrap(err, "%s", what);
	if (!request_ok(&q))
		return request_error(e, &q, what, err);
	_cleanup_(free_ptr) char *real = digest_of(buf_str(&q.text), q.text.len);
	const char *said = str_starts(reference, "sha256:") ? reference : q.digest;
	if (said && str_starts(said, "sha256:") && strcmp(said, real) != 0)
		return error_set(err, ERROR_CORRUPT, "the manifest of %s is corrupt: it should be %.80s and is %s",
				 what, said, real);
	buf_truncate(text, 0);
	buf_add(text, buf_str(&q.text), q.text.len);
	*digest = TAKE_PTR(real);
	*type = q.content_type ? str_copyn(q.content_type, strcspn(q.content_type, "; ")) : NULL;
	return 0;
}

struct pull {
	struct index_parts parts; /* all_platforms */
	struct content *c;
	const struct image_ref *ref;
	const struct registry_options *o;
	struct source source;
	char *what; /* the reference, for messages */
	struct buf text;
	char *digest; /* of text */
	char *top;    /* of the first text, which the reference leads to */
	struct manifest manifest;
	struct image image;
	size_t *unique, n_unique; /* positions of layers, each digest once */
	pthread_mutex_t ready;
};

/* From the content store, or from the endpoint. */
static int get_manifest(struct pull *p, struct endpoint *e, CURL *curl, const char *reference, struct error *err) {
	_cleanup_(free_ptr) char *type = NULL;
	free(TAKE_PTR(p->digest));
	buf_truncate(&p->text, 0);
	if (str_starts(reference, "sha256:") && content_has(p->c, reference) &&
	    content_read(p->c, reference, &p->text, NULL) == 0)
		p->digest = str_copy(reference);
	int r = p->digest ? 0 : fetch_manifest(e, curl, reference, p->what, &p->text, &type, &p->digest, err);
	if (r < 0)
		return r;
	manifest_free(&p->manifest);
	r = manifest_parse(buf_str(&p->text), p->text.len, type, &p->manifest, err);
	return r < 0 ? error_wrap(err, "%s", p->what) : 0;
}

/* The manifest for the platform, through indexes. */
static int resolve(struct pull *p, struct endpoint *e, CURL *curl, struct error *err) {
	_cleanup_(free_ptr) char *reference = str_copy(p->ref->digest ? p->ref->digest : p->ref->tag);
	int64_t size = -1;
	for (int depth = 0; depth < INDEX_DEPTH; depth++) {
		int r = get_manifest(p, e, curl, reference, err);
		if (r == 0 && !p->top)
			p->top = str_copy(p->digest);
		if (r == 0 && size >= 0 && (uint64_t)size != p->text.len)
			r = error_set(err, ERROR_CORRUPT, "%s: manifest %s has %zu bytes, its index says %" PRId64,
				      p->what, reference, p->text.len, size);
		if (r < 0 || !p->manifest.index)
			return r;
		const struct descriptor *d;
		r = manifest_select(&p->manifest, p->o, &d, err);
		if (r < 0)
			return error_wrap(err, "%s", p->what);
		free(reference);
		reference = str_copy(d->digest);
		size = d->size;
	}
	return error_set(err, ERROR_INVALID, "%s: indexes refer to indexes without end", p->what);
}

static int resolve_anywhere(struct pull *p, CURL *curl, struct error *err) {
	struct source *s = &p->source;
	int r = 0;
	for (s->at = 0; s->at < s->n; s->at++) {
		free(TAKE_PTR(p->top));
		r = resolve(p, &s->endpoints[s->at], curl, err);
		if (r == 0 || r == -ERROR_CANCELLED || s->at + 1 == s->n)
			return r;
	}
	return r;
}

/* --- the whole --- */

int source_open(struct source *s, const struct image_ref *ref, const struct registry_options *o, struct error *err) {
	bool docker = strcmp(ref->registry, "docker.io") == 0;
	size_t mirrors = docker ? strv_len((char **)o->mirrors) : 0;
	s->endpoints = alloc_array(mirrors + 1, sizeof *s->endpoints);
	int r = 0;
	for (size_t i = 0; r == 0 && i <= mirrors; i++) {
		struct endpoint *e = &s->endpoints[s->n++];
		const char *host = i < mirrors ? o->mirrors[i] : ref->registry;
		r = endpoint_open(e, host, host, ref->repository, "pull", o, err);
		e->stop = &s->stop;
		if (i == mirrors) {
			e->username = o->username;
			e->password = o->password;
		}
	}
	return r;
}

void source_close(struct source *s) {
	for (size_t i = 0; i < s->n; i++)
		endpoint_close(&s->endpoints[i]);
	free(s->endpoints);
}

static int fetch_config(struct pull *p, CURL *curl, struct error *err) {
	_cleanup_(buf_free) struct buf config = BUF_INIT_MAX(CONFIG_MAX + 16384);
	const struct descriptor *d = &p->manifest.config;
	int r = content_has(p->c, d->digest) ? content_read(p->c, d->digest, &config, NULL) : -ERROR_NOT_FOUND;
	if (r < 0) { /* not there, or broken, and then it has been dropped */
		buf_truncate(&config, 0);
		r = fetch_blob(p->c, &p->source, p->o, d, curl, err);
		if (r == 0)
			r = content_read(p->c, d->digest, &config, err);
	}
	if (r == 0)
		r = image_from_parts(&p->manifest, p->digest, buf_str(&config), config.len, &p->image, err);
	return r < 0 ? error_wrap(err, "%s", p->what) : 0;
}

/* An image that is no index says in its config what it is for. */
static int check_platform(const struct pull *p, struct error *err) {
	const struct image *i = &p->image;
	const struct descriptor is = {.os = i->os, .architecture = i->architecture, .variant = i->variant};
	if (!p->o->architecture || platform_fits(&is, p->o))
		return 0;
	return error_set(err, ERROR_NOT_FOUND, "%s is for the platform %s/%s%s%s, not for %s/%s%s%s", p->what, i->os,
			 i->architecture, i->variant ? "/" : "", i->variant ? i->variant : "",
			 p->o->os ? p->o->os : "linux", p->o->architecture, p->o->variant ? "/" : "",
			 p->o->variant ? p->o->variant : "");
}

static void find_unique(struct pull *p) {
	size_t n = p->manifest.items.n;
	p->unique = alloc_array(n, sizeof *p->unique);
	for (size_t i = 0; i < n; i++) {
		size_t k = 0;
		while (k < i && strcmp(p->manifest.items.items[k].digest, p->manifest.items.items[i].digest) != 0)
			k++;
		if (k == i)
			p->unique[p->n_unique++] = i;
	}
}

static int fetch_layer(size_t job, CURL *curl, void *arg, struct error *err) {
	struct pull *p = arg;
	size_t i = p->unique[job];
	int r = fetch_blob(p->c, &p->source, p->o, &p->manifest.items.items[i], curl, err);
	if (r < 0 || !p->o->layer_ready)
		return r;
	pthread_mutex_lock(&p->ready);
	p->o->layer_ready(&p->image.layers.items[i], p->o->arg);
	pthread_mutex_unlock(&p->ready);
	return 0;
}

/* --- all platforms --- */

struct needing {
	struct pull *p;
	CURL *curl;
};

static int need_manifest(const struct descriptor *d, void *arg, struct error *err) {
	struct needing *x = arg;
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(2 * MANIFEST_MAX);
	_cleanup_(free_ptr) char *type = NULL, *digest = NULL;
	if (content_has(x->p->c, d->digest))
		return 0;
	int r = fetch_manifest(&x->p->source.endpoints[x->p->source.at], x->curl, d->digest, x->p->what, &text, &type, &digest, err);
	return r < 0 ? r : content_put(x->p->c, buf_str(&text), text.len, NULL, err);
}

static int fetch_part(size_t job, CURL *curl, void *arg, struct error *err) {
	struct pull *p = arg;
	return fetch_blob(p->c, &p->source, p->o, &p->parts.blobs.items[job], curl, err);
}

static int fetch_index(struct pull *p, CURL *curl, struct error *err) {
	struct needing x = {p, curl};
	int r = index_read(p->c, p->top, need_manifest, &x, &p->parts, err);
	if (r == 0)
		r = run_parallel(p->o, p->parts.blobs.n, fetch_part, p, &p->source.stop, err);
	if (r == 0)
		image_take_index(&p->image, &p->parts);
	return r < 0 ? error_wrap(err, "%s", p->what) : 0;
}

static int pull(struct pull *p, struct error *err) {
	int r = source_open(&p->source, p->ref, p->o, err);
	if (r < 0)
		return r;
	_cleanup_(curl_cleanup) CURL *curl = curl_easy_init();
	if (!curl)
		abort(); /* memory */
	r = resolve_anywhere(p, curl, err);
	if (r == 0)
		r = fetch_config(p, curl, err);
	if (r == 0)
		r = check_platform(p, err);
	if (r < 0)
		return r;
	strv_take(&p->image.digests, image_ref_digest(p->ref, p->top));
	if (p->o->resolved)
		p->o->resolved(&p->image, p->o->arg);
	find_unique(p);
	r = run_parallel(p->o, p->n_unique, fetch_layer, p, &p->source.stop, err);
	if (r < 0)
		return error_wrap(err, "%s", p->what);
	r = content_put(p->c, buf_str(&p->text), p->text.len, NULL, err);
	return r == 0 && p->o->all_platforms && !str_same(p->top, p->digest) ? fetch_index(p, curl, err) : r;
}

int registry_pull(struct content *c, const struct image_ref *ref, const struct registry_options *o, struct image *out,
		  struct error *err) {
	struct pull p = {.c = c, .ref = ref, .o = o, .what = image_ref_print(ref)};
	p.text.max = 2 * MANIFEST_MAX;
	pthread_mutex_init(&p.ready, NULL);
	content_hold(c);
	int r = pull(&p, err);
	content_release(c);
	if (r == 0) {
		strv_add(&p.image.names, p.what);
		*out = p.image;
		if (err) /* of tries that came before */
			error_free(err);
	} else {
		fields_free(&image_table, &p.image);
	}
	source_close(&p.source);
	free(p.what);
	buf_free(&p.text);
	free(p.digest);
	free(p.top);
	manifest_free(&p.manifest);
	index_parts_free(&p.parts);
	free(p.unique);
	pthread_mutex_destroy(&p.ready);
	return r;
}
