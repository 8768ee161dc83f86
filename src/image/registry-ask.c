/* What a registry is asked beside pull and push: its tags, what a reference leads to, whether credentials are good, and
 * what it has by some word. */
#include "image/registry-priv.h"

#include "base/str.h"

#define TRIES 4
#define SEARCH_HOST "index.docker.io" /* of docker.io */

/* One GET of the endpoint, with its retries. */
static int ask(struct endpoint *e, CURL *curl, const char *url, struct request *q, struct error *err) {
	*q = (struct request){.method = "GET", .url = url, .text_max = MANIFEST_MAX};
	struct retry t = retry_start(e, TRIES);
	int r;
	do
		r = endpoint_request(e, curl, q, err);
	while (retry_again(&t, e, q, r));
	return r;
}

static CURL *curl_new(void) {
	CURL *curl = curl_easy_init();
	if (!curl)
		abort(); /* memory */
	return curl;
}

/* --- tags --- */

#define TAG_PAGES 1000

/* Where the header Link has the next page: '</v2/x/tags/list?last=b>; rel="next"'. NULL: there is none, or a place of
 * others', who shall see no credentials. */
static char *next_page(const struct endpoint *e, const char *url, const char *link) {
	const char *end = link && *link == '<' ? strchr(link, '>') : NULL;
	if (!end || !strstr(end, "rel=\"next\""))
		return NULL;
	_cleanup_(free_ptr) char *place = str_copyn(link + 1, (size_t)(end - link - 1));
	_cleanup_(free_ptr) char *next = http_resolve(url, place, NULL), *own = str_format("%s/v2/", e->base);
	return next && str_starts(next, own) && !str_same(next, url) ? TAKE_PTR(next) : NULL;
}

/* One page; *next: where the one after it is. */
static int fetch_page(struct endpoint *e, CURL *curl, const char *url, const char *what, char ***tags, char **next,
		      struct error *err) {
	_cleanup_(request_free) struct request q = {0};
	int r = ask(e, curl, url, &q, err);
	if (r < 0)
		return error_wrap(err, "%s", what);
	if (!request_ok(&q))
		return request_error(e, &q, what, err);
	_cleanup_(json_free_ptr) json_t *o = json_parse(buf_str(&q.text), q.text.len, err);
	if (!json_is_array(json_object_get(o, "tags")))
		return error_set(err, ERROR_CORRUPT, "%s: the registry does not answer with a list of tags", what);
	_cleanup_(strv_free_ptr) char **page = json_get_strv(o, "tags");
	for (char **tag = page; tag && *tag; tag++)
		strv_add(tags, *tag);
	*next = page ? next_page(e, url, q.link) : NULL;
	return 0;
}

static int fetch_tags(struct endpoint *e, CURL *curl, const char *what, char ***tags, struct error *err) {
	char *url = endpoint_url(e, "tags/list");
	int r = 0;
	for (int pages = 0; r == 0 && url; pages++) {
		_cleanup_(free_ptr) char *here = url;
		url = NULL;
		r = pages == TAG_PAGES ? error_set(err, ERROR_TOO_LARGE, "%s: more than %d pages", what, TAG_PAGES)
				       : fetch_page(e, curl, here, what, tags, &url, err);
	}
	free(url);
	if (r < 0)
		strv_free(TAKE_PTR(*tags));
	return r;
}

int registry_tags(const struct image_ref *ref, const struct registry_options *o, char ***tags, struct error *err) {
	struct source s = {0};
	_cleanup_(curl_cleanup) CURL *curl = curl_new();
	_cleanup_(free_ptr) char *what = str_format("tags of %s/%s", ref->registry, ref->repository);
	*tags = NULL;
	int r = source_open(&s, ref, o, err);
	for (size_t i = 0; r == 0 && i < s.n; i++) {
		r = fetch_tags(&s.endpoints[i], curl, what, tags, err);
		if (r == 0 || r == -ERROR_CANCELLED)
			break;
		if (i + 1 < s.n)
			r = 0;
	}
	source_close(&s);
	return r;
}

/* --- what a reference leads to --- */

static void platform_add(struct registry_description *out, const char *os, const char *architecture, const char *variant) {
	out->platforms.items = alloc_resize(out->platforms.items, out->platforms.n + 1, sizeof *out->platforms.items);
	out->platforms.items[out->platforms.n++] = (struct registry_platform){
		os ? str_copy(os) : NULL, architecture ? str_copy(architecture) : NULL, variant ? str_copy(variant) : NULL};
}

/* An image that is no index says in its config what it is for. */
static int platform_from_config(struct endpoint *e, CURL *curl, const struct descriptor *config, const char *what,
				struct registry_description *out, struct error *err) {
	_cleanup_(free_ptr) char *url = endpoint_url(e, "blobs/%s", config->digest);
	_cleanup_(request_free) struct request q = {0};
	struct image image;
	_cleanup_(strv_free_ptr) char **diff_ids = NULL;
	int r = ask(e, curl, url, &q, err);
	if (r < 0 || !request_ok(&q))
		return r < 0 ? error_wrap(err, "%s", what) : request_error(e, &q, what, err);
	_cleanup_(free_ptr) char *digest = digest_of(buf_str(&q.text), q.text.len);
	if (strcmp(digest, config->digest) != 0)
		return error_set(err, ERROR_CORRUPT, "the config of %s is corrupt: its content is %s", what, digest);
	fields_init(&image_table, &image);
	r = config_parse(buf_str(&q.text), q.text.len, &image, &diff_ids, err);
	if (r == 0)
		platform_add(out, image.os, image.architecture, image.variant);
	fields_free(&image_table, &image);
	return r;
}

static int describe(struct endpoint *e, CURL *curl, const struct image_ref *ref, const char *what,
		    struct registry_description *out, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT_MAX(2 * MANIFEST_MAX);
	_cleanup_(free_ptr) char *type = NULL;
	struct manifest m = {0};
	int r = fetch_manifest(e, curl, ref->digest ? ref->digest : ref->tag, what, &text, &type, &out->digest, err);
	if (r < 0)
		return r;
	r = manifest_parse(buf_str(&text), text.len, type, &m, err);
	if (r < 0)
		return error_wrap(err, "%s", what);
	out->media_type = str_copy(m.media_type);
	out->size = (int64_t)text.len;
	for (size_t i = 0; m.index && i < m.items.n; i++)
		platform_add(out, m.items.items[i].os, m.items.items[i].architecture, m.items.items[i].variant);
	if (!m.index)
		r = platform_from_config(e, curl, &m.config, what, out, err);
	manifest_free(&m);
	return r;
}

int registry_describe(const struct image_ref *ref, const struct registry_options *o, struct registry_description *out,
		      struct error *err) {
	struct source s = {0};
	_cleanup_(curl_cleanup) CURL *curl = curl_new();
	_cleanup_(free_ptr) char *what = image_ref_print(ref);
	*out = (struct registry_description){0};
	int r = source_open(&s, ref, o, err);
	for (size_t i = 0; r == 0 && i < s.n; i++) {
		r = describe(&s.endpoints[i], curl, ref, what, out, err);
		if (r == 0)
			break;
		registry_description_free(out);
		if (i + 1 < s.n)
			r = 0;
	}
	source_close(&s);
	return r;
}

void registry_description_free(struct registry_description *d) {
	free(d->media_type);
	free(d->digest);
	for (size_t i = 0; i < d->platforms.n; i++) {
		free(d->platforms.items[i].os);
		free(d->platforms.items[i].architecture);
		free(d->platforms.items[i].variant);
	}
	free(d->platforms.items);
	*d = (struct registry_description){0};
}

/* --- credentials --- */

int registry_login(const char *host, const struct registry_options *o, struct error *err) {
	struct endpoint e;
	_cleanup_(curl_cleanup) CURL *curl = curl_new();
	_cleanup_(request_free) struct request q = {0};
	int r = endpoint_open(&e, host, host, NULL, "", o, err);
	e.username = o->username;
	e.password = o->password;
	_cleanup_(free_ptr) char *url = str_format("%s/v2/", e.base ? e.base : "");
	if (r == 0)
		r = ask(&e, curl, url, &q, err);
	if (r == 0 && q.status == 401)
		r = error_set(err, ERROR_UNAUTHORIZED, "login attempt to %s failed with status: 401 Unauthorized", url);
	else if (r == 0 && !request_ok(&q))
		r = error_set(err, ERROR_UNAVAILABLE, "login attempt to %s failed with status: %ld", url, q.status);
	q.url = NULL;
	endpoint_close(&e);
	return r;
}

/* --- searching --- */

static int search_once(const char *host, const char *term, int limit, const struct registry_options *o, json_t **out,
		       struct error *err) {
	struct endpoint e;
	_cleanup_(curl_cleanup) CURL *curl = curl_new();
	_cleanup_(request_free) struct request q = {0};
	int r = endpoint_open(&e, host, host, NULL, "", o, err);
	char *escaped = curl_easy_escape(curl, term, 0);
	_cleanup_(free_ptr) char *url = str_format("%s/v1/search?q=%s&n=%d", e.base ? e.base : "", escaped, limit);
	curl_free(escaped);
	if (r == 0)
		r = ask(&e, curl, url, &q, err);
	if (r == 0 && !request_ok(&q))
		r = error_set(err, q.status == 404 ? ERROR_UNSUPPORTED : ERROR_UNAVAILABLE,
			      "%s cannot be searched: it answers %ld", host, q.status);
	_cleanup_(json_free_ptr) json_t *answer = r == 0 ? json_parse(buf_str(&q.text), q.text.len, err) : NULL;
	json_t *results = json_object_get(answer, "results");
	if (r == 0 && !json_is_array(results))
		r = error_set(err, ERROR_CORRUPT, "%s does not answer a search with results", host);
	if (r == 0)
		*out = json_incref(results);
	q.url = NULL;
	endpoint_close(&e);
	return r;
}

int registry_search(const char *host, const char *term, int limit, const struct registry_options *o, json_t **out,
		    struct error *err) {
	bool docker = strcmp(host, "docker.io") == 0;
	for (char *const *m = docker ? o->mirrors : NULL; m && *m; m++)
		if (search_once(*m, term, limit, o, out, NULL) == 0)
			return 0;
	return search_once(docker ? SEARCH_HOST : host, term, limit, o, out, err);
}
