/* Authorization: Basic, and Docker's bearer tokens (distribution/docs/spec/auth), got when a registry asks
 * for them and kept for the endpoint; and trying again what may pass. Secrets go into headers and bodies of
 * requests alone, never into a message. */
#include "image/registry-priv.h"

#include "base/str.h"
#include "base/time.h"

#include <openssl/evp.h>
#include <time.h>

#define TOKEN_MAX ((size_t)65536)
#define RETRY_DELAY (500 * NS_PER_MS)
#define RETRY_DELAY_MAX (8 * NS_PER_SEC)
#define RETRY_AFTER_MAX_S 60

static void secret_free(char **s) {
	if (*s)
		explicit_bzero(*s, strlen(*s));
	free(*s);
}

static char *basic_value(const struct endpoint *e) {
	_cleanup_(secret_free) char *plain = str_format("%s:%s", e->username, e->password ? e->password : "");
	size_t n = strlen(plain);
	_cleanup_(secret_free) char *encoded = alloc_zero(4 * ((n + 2) / 3) + 1);
	EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)plain, (int)n);
	return str_format("Basic %s", encoded);
}

static void add_query(struct buf *b, CURL *curl, const char *name, const char *value) {
	if (!value || !*value)
		return;
	char *escaped = curl_easy_escape(curl, value, 0);
	if (!escaped)
		abort(); /* memory */
	buf_addf(b, "%s%s=%s", b->len ? "&" : "", name, escaped);
	explicit_bzero(escaped, strlen(escaped));
	curl_free(escaped);
}

/* The token of an answer, checked to be fit for a header. */
static int take_token(const struct endpoint *e, const struct request *q, char **out, struct error *err) {
	_cleanup_(json_free_ptr) json_t *o = json_parse(buf_str(&q->text), q->text.len, NULL);
	const char *token = json_get_str(o, "token");
	if (!token || !*token)
		token = json_get_str(o, "access_token");
	bool fit = token && *token && strlen(token) < TOKEN_MAX;
	for (const char *p = token; fit && *p; p++)
		fit = *p > ' ' && *p < 0x7f;
	if (!fit)
		return error_set(err, ERROR_CORRUPT, "the token server of %s does not answer with a token", e->name);
	*out = str_format("Bearer %s", token);
	return 0;
}

static void wipe(struct buf *b) {
	if (b->data)
		explicit_bzero(b->data, b->len);
	buf_free(b);
}

static int fetch_token(struct endpoint *e, CURL *curl, const struct challenge *c, char **out, struct error *err) {
	if (!c->realm)
		return error_set(err, ERROR_CORRUPT, "%s asks for a token but does not say from where", e->name);
	bool identity = e->username && strcmp(e->username, "<token>") == 0;
	_cleanup_(free_ptr) char *scope = e->repository ? str_format("repository:%s:%s", e->repository, e->actions) : NULL;
	_cleanup_(wipe) struct buf query = BUF_INIT;
	_cleanup_(secret_free) char *basic = e->username && !identity ? basic_value(e) : NULL;
	add_query(&query, curl, "service", c->service);
	add_query(&query, curl, "scope", scope);
	if (identity) {
		add_query(&query, curl, "grant_type", "refresh_token");
		add_query(&query, curl, "client_id", "wabe");
		add_query(&query, curl, "refresh_token", e->password);
	} else {
		add_query(&query, curl, "account", e->username);
	}
	_cleanup_(free_ptr) char *url =
		identity ? str_copy(c->realm)
			 : str_format("%s%c%s", c->realm, strchr(c->realm, '?') ? '&' : '?', buf_str(&query));
	char *form[] = {"Content-Type: application/x-www-form-urlencoded", NULL};
	_cleanup_(request_free) struct request q = {
		.method = identity ? "POST" : "GET",
		.url = url,
		.headers = identity ? form : NULL,
		.body = identity ? buf_str(&query) : NULL,
		.body_size = identity ? query.len : 0,
		.text_max = 4 * TOKEN_MAX,
	};
	struct retry t = retry_start(e, 3);
	int r;
	do
		r = http_exchange(e, curl, &q, basic, err);
	while (retry_again(&t, e, &q, r));
	if (r < 0)
		return error_wrap(err, "cannot get a token");
	if (!request_ok(&q))
		return login_error(e, &q, err);
	r = take_token(e, &q, out, err);
	if (q.text.data)
		explicit_bzero(q.text.data, q.text.len);
	return r;
}

/* Answers the challenge of q. Gives 0 with *out NULL where nothing can answer it. */
static int answer(struct endpoint *e, CURL *curl, const struct request *q, char **out, struct error *err) {
	struct challenge c;
	challenge_parse(q->challenge ? q->challenge : "", &c);
	int r = 0;
	if (c.bearer)
		r = fetch_token(e, curl, &c, out, err);
	else if (c.basic && e->username)
		*out = basic_value(e);
	challenge_free(&c);
	return r;
}

static char *current(struct endpoint *e, unsigned *generation) {
	pthread_mutex_lock(&e->lock);
	char *value = e->authorization ? str_copy(e->authorization) : NULL;
	*generation = e->generation;
	pthread_mutex_unlock(&e->lock);
	return value;
}

/* Renews the authorization unless another thread has done so since `seen`. *renewed: there is a new one. */
static int renew(struct endpoint *e, CURL *curl, const struct request *q, unsigned seen, bool *renewed,
		 struct error *err) {
	_cleanup_(secret_free) char *fresh = NULL;
	int r = 0;
	pthread_mutex_lock(&e->lock);
	if (e->generation == seen) {
		r = answer(e, curl, q, &fresh, err);
		if (r == 0 && fresh && !str_same(fresh, e->authorization)) {
			char *old = e->authorization;
			e->authorization = TAKE_PTR(fresh);
			e->generation++;
			secret_free(&old);
		}
	}
	*renewed = e->generation != seen;
	pthread_mutex_unlock(&e->lock);
	return r;
}

int endpoint_request(struct endpoint *e, CURL *curl, struct request *q, struct error *err) {
	if (!endpoint_owns(e, q->url))
		return http_exchange(e, curl, q, NULL, err);
	for (bool again = true;; again = false) {
		unsigned generation;
		_cleanup_(secret_free) char *authorization = current(e, &generation);
		int r = http_exchange(e, curl, q, authorization, err);
		if (r < 0 || q->status != 401 || q->strayed || !again)
			return r;
		bool renewed;
		r = renew(e, curl, q, generation, &renewed, err);
		if (r < 0 || !renewed)
			return r;
	}
}

struct retry retry_start(const struct endpoint *e, int tries) {
	return (struct retry){tries, e->o->retry_delay ? e->o->retry_delay : RETRY_DELAY};
}

static void wait_unless_cancelled(const struct endpoint *e, int64_t ns) {
	int64_t until = time_mono_ns() + ns;
	for (int64_t left; !endpoint_cancelled(e) && (left = until - time_mono_ns()) > 0;) {
		left = MIN(left, 100 * NS_PER_MS);
		struct timespec t = {.tv_sec = left / NS_PER_SEC, .tv_nsec = left % NS_PER_SEC};
		nanosleep(&t, NULL);
	}
}

bool retry_again(struct retry *t, struct endpoint *e, const struct request *q, int r) {
	bool passing = r < 0 ? q->transient : q->status >= 500 || q->status == 429 || q->status == 408;
	if (!passing || --t->left <= 0 || endpoint_cancelled(e))
		return false;
	int64_t wait = t->delay;
	if (q->retry_after > 0)
		wait = MIN(q->retry_after, RETRY_AFTER_MAX_S) * NS_PER_SEC;
	wait_unless_cancelled(e, wait);
	t->delay = MIN(t->delay * 2, RETRY_DELAY_MAX);
	return !endpoint_cancelled(e);
}
