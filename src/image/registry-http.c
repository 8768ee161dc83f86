/* One HTTP exchange with a registry: redirects, limits, time-outs, and what leaves this host. Must never
 * send a credential to an origin other than the one that it is for, nor use plain HTTP unasked. */
#include "image/registry-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#define REDIRECTS_MAX 5
#define ERROR_TEXT_MAX ((size_t)65536)
#define HEADER_VALUE_MAX 16384
#define WORDS_MAX 400
#define CONNECT_TIMEOUT_S 15L
#define STALL_TIMEOUT_S 30L
#define UPSTREAM_DOCKER "registry-1.docker.io"

static void global_init(void) {
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

void curl_cleanup(CURL **curl) {
	if (*curl)
		curl_easy_cleanup(*curl);
}

static void url_cleanup(CURLU **u) {
	curl_url_cleanup(*u);
}

static void part_free(char **s) {
	curl_free(*s);
}

static bool is_loopback(const char *host) {
	struct in_addr v4;
	if (strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, host, &v4) == 1 && (ntohl(v4.s_addr) >> 24) == 127;
}

/* The parts of a URL that say who is talked to. */
struct origin {
	char *scheme, *host, *port; /* curl's memory */
};

static void origin_free(struct origin *o) {
	curl_free(o->scheme);
	curl_free(o->host);
	curl_free(o->port);
}

static int origin_of(const char *url, struct origin *out) {
	*out = (struct origin){0};
	_cleanup_(url_cleanup) CURLU *u = curl_url();
	if (curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) ||
	    curl_url_get(u, CURLUPART_SCHEME, &out->scheme, 0) || curl_url_get(u, CURLUPART_HOST, &out->host, 0) ||
	    curl_url_get(u, CURLUPART_PORT, &out->port, CURLU_DEFAULT_PORT))
		return -EINVAL;
	return 0;
}

static bool same_origin(const struct origin *a, const struct origin *b) {
	return strcasecmp(a->scheme, b->scheme) == 0 && strcasecmp(a->host, b->host) == 0 &&
	       strcmp(a->port, b->port) == 0;
}

bool endpoint_owns(const struct endpoint *e, const char *url) {
	_cleanup_(origin_free) struct origin own = {0}, other = {0};
	return origin_of(e->base, &own) == 0 && origin_of(url, &other) == 0 && same_origin(&own, &other);
}

/* Whether the URL may be asked at all: https, or http where that was asked for. */
static int check_url(const struct endpoint *e, const char *url, struct origin *origin, struct error *err) {
	if (origin_of(url, origin) < 0)
		return error_set(err, ERROR_CORRUPT, "%s refers to an address that is not valid", e->name);
	if (strcasecmp(origin->scheme, "https") == 0)
		return 0;
	if (strcasecmp(origin->scheme, "http") != 0)
		return error_set(err, ERROR_DENIED, "%s refers to %s, which is neither http nor https", e->name,
				 origin->host);
	if (is_loopback(origin->host) || e->o->plain_http || endpoint_owns(e, url))
		return 0;
	return error_set(err, ERROR_DENIED, "%s leads to plain HTTP on %s, which has to be asked for", e->name,
			 origin->host);
}

bool endpoint_cancelled(const struct endpoint *e) {
	return flag_is_set(e->o->cancel) || flag_is_set(e->stop);
}

/* --- callbacks of curl --- */

static size_t on_body(char *data, size_t size, size_t n, void *arg) {
	struct request *q = arg;
	n *= size;
	if (request_ok(q) && q->sink)
		return q->sink(q, data, n, &q->failed) < 0 ? 0 : n;
	size_t max = request_ok(q) && q->text_max ? q->text_max : ERROR_TEXT_MAX;
	if (n <= max - q->text.len) {
		buf_add(&q->text, data, n);
		return n;
	}
	if (request_ok(q)) {
		error_set(&q->failed, ERROR_TOO_LARGE, "%s sends more than the limit of %zu bytes", q->e->name, max);
		return 0;
	}
	buf_add(&q->text, data, max - q->text.len);
	return 0; /* of a message for people that is enough */
}

static void keep_header(struct str line, const char *name, char **to) {
	size_t n = strlen(name);
	if (line.len <= n || line.len > HEADER_VALUE_MAX || line.p[n] != ':' || strncasecmp(line.p, name, n) != 0)
		return;
	line.p += n + 1;
	line.len -= n + 1;
	while (line.len && isspace((unsigned char)line.p[0])) {
		line.p++;
		line.len--;
	}
	while (line.len && isspace((unsigned char)line.p[line.len - 1]))
		line.len--;
	char *value = *to ? str_format("%.*s, %s", (int)line.len, line.p, *to) : str_copyn(line.p, line.len);
	if (*to && strlen(value) > HEADER_VALUE_MAX) {
		free(value);
		return;
	}
	free(*to);
	*to = value;
}

static void drop_answer(struct request *q) {
	char **fields[] = {&q->content_type, &q->digest, &q->location, &q->content_range, &q->challenge, &q->link};
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		free(*fields[i]);
		*fields[i] = NULL;
	}
	q->retry_after = 0;
	q->status = 0;
	buf_truncate(&q->text, 0);
}

static size_t on_header(char *data, size_t size, size_t n, void *arg) {
	struct request *q = arg;
	n *= size;
	struct str line = {data, n};
	if (n > 5 && strncasecmp(data, "HTTP/", 5) == 0) {
		drop_answer(q); /* of a 100 Continue, or of a proxy */
		const char *space = memchr(data, ' ', n);
		for (const char *p = space ? space + 1 : data;
		     p < data + n && isdigit((unsigned char)*p) && q->status < 100; p++)
			q->status = q->status * 10 + (*p - '0');
		return n;
	}
	_cleanup_(free_ptr) char *retry = NULL;
	keep_header(line, "Content-Type", &q->content_type);
	keep_header(line, "Docker-Content-Digest", &q->digest);
	keep_header(line, "Location", &q->location);
	keep_header(line, "Link", &q->link);
	keep_header(line, "Content-Range", &q->content_range);
	keep_header(line, "WWW-Authenticate", &q->challenge);
	keep_header(line, "Retry-After", &retry);
	if (retry && str_to_i64(retry, &q->retry_after) < 0)
		q->retry_after = 0;
	return n;
}

static size_t on_read(char *to, size_t size, size_t n, void *arg) {
	struct request *q = arg;
	n = MIN(n * size, (size_t)MIN(q->body_size - q->body_sent, (uint64_t)1 << 30));
	if (q->body) {
		memcpy(to, (const char *)q->body + q->body_sent, n);
	} else if (q->has_body_fd && n) {
		ssize_t r = RETRY_EINTR(pread(q->body_fd, to, n, (off_t)q->body_sent));
		if (r <= 0) {
			error_set(&q->failed, ERROR_CORRUPT, "a blob is shorter than its size");
			return CURL_READFUNC_ABORT;
		}
		n = (size_t)r;
	}
	q->body_sent += n;
	return n;
}

static int on_seek(void *arg, curl_off_t offset, int origin) {
	struct request *q = arg;
	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > q->body_size)
		return CURL_SEEKFUNC_CANTSEEK;
	q->body_sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static int on_progress(void *arg, UNUSED curl_off_t dl_total, UNUSED curl_off_t dl, UNUSED curl_off_t ul_total,
		       UNUSED curl_off_t ul) {
	struct request *q = arg;
	if (q->sent && q->body_sent)
		q->sent(q->body_sent, q->arg);
	return endpoint_cancelled(q->e);
}

/* --- one exchange --- */

static void list_free(struct curl_slist **l) {
	curl_slist_free_all(*l);
}

static void add_header(struct curl_slist **l, const char *line) {
	struct curl_slist *more = curl_slist_append(*l, line);
	if (!more)
		abort(); /* memory */
	*l = more;
}

static void set_options(struct endpoint *e, CURL *curl, struct request *q, const struct origin *to, char *detail) {
	char authorities[FD_PATH_MAX];
	long stall = e->o->stall_timeout ? (long)(e->o->stall_timeout / NS_PER_SEC) : STALL_TIMEOUT_S;
	if (q->body_size)
		stall *= 4; /* a registry checks what it got before it answers */
	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "wabe/" WABE_VERSION);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, MAX(stall, 1L));
	curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 131072L);
	if (e->certificates.authorities >= 0)
		curl_easy_setopt(curl, CURLOPT_CAINFO, fd_path(e->certificates.authorities, authorities));
	if (e->o->insecure_tls) {
		curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (is_loopback(to->host))
		curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, q);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, q);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, q);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	if (strcmp(q->method, "HEAD") == 0)
		curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
	if (strcmp(q->method, "PUT") == 0 || strcmp(q->method, "POST") == 0) {
		curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, q->method);
		curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(curl, CURLOPT_READDATA, q);
		curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(curl, CURLOPT_SEEKDATA, q);
		curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->body_size);
	}
}

static int explain(struct endpoint *e, struct request *q, CURLcode code, const char *detail, struct error *err) {
	if (q->failed.kind != ERROR_NONE)
		return error_move(err, &q->failed);
	if (endpoint_cancelled(e))
		return error_set(err, ERROR_CANCELLED, "cancelled");
	if (code == CURLE_WRITE_ERROR && q->status >= 300)
		return 0; /* a long error page was cut */
	const char *why = detail[0] ? detail : curl_easy_strerror(code);
	q->transient = true;
	if (code == CURLE_OPERATION_TIMEDOUT)
		return error_set(err, ERROR_TIMEOUT, "%s does not answer: %s", e->name, why);
	if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_CERTPROBLEM)
		q->transient = false;
	return error_set(err, ERROR_UNAVAILABLE, "cannot talk to %s: %s", e->name, why);
}

static int exchange_once(struct endpoint *e, CURL *curl, struct request *q, const char *url, const struct origin *to,
			 const char *authorization, struct error *err) {
	char detail[CURL_ERROR_SIZE] = "";
	_cleanup_(list_free) struct curl_slist *headers = NULL;
	for (size_t i = 0; q->headers && q->headers[i]; i++)
		add_header(&headers, q->headers[i]);
	if (authorization) {
		_cleanup_(free_ptr) char *line = str_format("Authorization: %s", authorization);
		add_header(&headers, line);
	}
	drop_answer(q);
	q->e = e;
	q->body_sent = 0;
	q->transient = false;
	set_options(e, curl, q, to, detail);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	if (e->certificates.client && endpoint_owns(e, url)) {
		curl_easy_setopt(curl, CURLOPT_SSLCERT, e->certificates.client);
		curl_easy_setopt(curl, CURLOPT_SSLKEY, e->certificates.key);
	}
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	CURLcode code = curl_easy_perform(curl);
	return code == CURLE_OK ? 0 : explain(e, q, code, detail, err);
}

char *http_resolve(const char *base, const char *location, struct error *err) {
	_cleanup_(url_cleanup) CURLU *u = curl_url();
	_cleanup_(part_free) char *url = NULL;
	if (curl_url_set(u, CURLUPART_URL, base, 0) || curl_url_set(u, CURLUPART_URL, location, CURLU_DISALLOW_USER) ||
	    curl_url_get(u, CURLUPART_URL, &url, 0)) {
		error_set(err, ERROR_CORRUPT, "the registry refers to an address that is not valid");
		return NULL;
	}
	return str_copy(url);
}

static bool is_redirect(const struct request *q) {
	return (q->status == 301 || q->status == 302 || q->status == 303 || q->status == 307 || q->status == 308) &&
	       q->location;
}

int http_exchange(struct endpoint *e, CURL *curl, struct request *q, const char *authorization, struct error *err) {
	_cleanup_(origin_free) struct origin first = {0};
	_cleanup_(free_ptr) char *url = str_copy(q->url);
	int r = check_url(e, url, &first, err);
	for (int hops = 0; r == 0; hops++) {
		_cleanup_(origin_free) struct origin now = {0};
		r = check_url(e, url, &now, err);
		q->strayed = r == 0 && !same_origin(&first, &now);
		if (r == 0)
			r = exchange_once(e, curl, q, url, &now, q->strayed ? NULL : authorization, err);
		if (r < 0 || !is_redirect(q))
			return r;
		if (hops == REDIRECTS_MAX)
			return error_set(err, ERROR_UNAVAILABLE, "%s redirects without end", e->name);
		char *next = http_resolve(url, q->location, err);
		free(url);
		url = next;
		r = next ? 0 : -ERROR_CORRUPT;
	}
	return r;
}

void request_free(struct request *q) {
	drop_answer(q);
	buf_free(&q->text);
	error_free(&q->failed);
}

bool request_ok(const struct request *q) {
	return q->status >= 200 && q->status < 300;
}

/* Fit to be printed. */
static char *safe_words(const char *message) {
	size_t n = strnlen(message, WORDS_MAX);
	while (n && ((unsigned char)message[n] & 0xc0) == 0x80) /* not inside a character */
		n--;
	char *words = str_copyn(message, n);
	for (char *p = words; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	return words;
}

/* The registry's own words: {"errors":[{"code","message"}]}, made safe to print. *code may be NULL afterwards. */
static char *own_words(const struct request *q, char **code) {
	_cleanup_(json_free_ptr) json_t *o = json_parse(buf_str(&q->text), q->text.len, NULL);
	const json_t *first = json_array_get(json_object_get(o, "errors"), 0);
	const char *message = json_get_str(first, "message"), *c = json_get_str(first, "code");
	if (!message || !*message)
		message = c ? c : json_get_str(o, "details");
	*code = c && *c ? safe_words(c) : NULL;
	return message && *message ? safe_words(message) : NULL;
}

int login_error(const struct endpoint *e, const struct request *q, struct error *err) {
	_cleanup_(free_ptr) char *code = NULL, *words = own_words(q, &code);
	if (q->status >= 500 || q->status == 429)
		return error_set(err, ERROR_UNAVAILABLE, "the token server of %s answers %ld: %s", e->name, q->status,
				 words ? words : "try again later");
	return error_set(err, ERROR_UNAUTHORIZED, "%s refuses the login: %s", e->name,
			 words ? words : "user name or password is wrong");
}

static int set_request_error(const struct endpoint *e, const struct request *q, const char *what, const char *words,
			     struct error *err) {
	switch (q->status) {
	case 401:
		return error_set(err, ERROR_UNAUTHORIZED, "%s asks for a login to %s, or does not have it: %s", e->name,
				 what, words ? words : "authentication required");
	case 403:
		return error_set(err, ERROR_DENIED, "%s denies access to %s: %s", e->name, what,
				 words ? words : "forbidden");
	case 404:
		return error_set(err, ERROR_NOT_FOUND, "%s not found%s%s", what, words ? ": " : "", words ? words : "");
	case 413:
		return error_set(err, ERROR_TOO_LARGE, "%s is too large for %s", what, e->name);
	case 429:
		return error_set(err, ERROR_UNAVAILABLE, "%s gets too many requests: %s", e->name,
				 words ? words : "try again later, or log in");
	default:
		return error_set(err, q->status >= 500 ? ERROR_UNAVAILABLE : ERROR_INVALID, "%s answers %ld for %s%s%s",
				 e->name, q->status, what, words ? ": " : "", words ? words : "");
	}
}

int request_error(const struct endpoint *e, const struct request *q, const char *what, struct error *err) {
	_cleanup_(free_ptr) char *code = NULL, *words = own_words(q, &code);
	int r = set_request_error(e, q, what, words, err);
	if (code && words)
		error_said(err, code, words);
	return r;
}

/* --- endpoints --- */

/* Whether the base's scheme is the one that the server speaks. 400 is what a TLS server says to those who do
 * not speak TLS; a certificate that is not good is one all the same. */
static bool speaks(struct endpoint *e) {
	_cleanup_(curl_cleanup) CURL *curl = curl_easy_init();
	_cleanup_(free_ptr) char *url = str_format("%s/v2/", e->base);
	_cleanup_(request_free) struct request q = {.method = "GET", .url = url};
	int r = curl ? http_exchange(e, curl, &q, NULL, NULL) : -ERROR_INTERNAL;
	return r == 0 ? q.status != 400 : r == -ERROR_TIMEOUT || !q.transient;
}

/* Loopback registries, and others for which plain HTTP was asked for, may still speak TLS; those with certificates do. */
static void choose_scheme(struct endpoint *e, const char *host) {
	_cleanup_(origin_free) struct origin o = {0};
	char *http = str_format("http://%s", host), *https = str_format("https://%s", host);
	bool plain = e->certificates.directory < 0 && origin_of(http, &o) == 0 && (is_loopback(o.host) || e->o->plain_http);
	e->base = http;
	if (plain && speaks(e)) {
		free(https);
		return;
	}
	e->base = https;
	if (plain && !speaks(e)) {
		free(https);
		e->base = http;
		return;
	}
	free(http);
}

int endpoint_open(struct endpoint *e, const char *host, const char *name, const char *repository, const char *actions,
		  const struct registry_options *o, struct error *err) {
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, global_init);
	*e = (struct endpoint){.name = str_copy(name), .repository = repository ? str_copy(repository) : NULL, .actions = actions, .o = o};
	e->certificates = (struct certificates){.directory = -1, .authorities = -1};
	pthread_mutex_init(&e->lock, NULL);
	if (o->username && strchr(o->username, ':'))
		return error_set(err, ERROR_INVALID, "a user name for a registry cannot hold a colon");
	int r = certificates_read(&e->certificates, o->certificates, host, err);
	if (r < 0)
		return r;
	if (strstr(host, "://")) {
		size_t n = strlen(host);
		e->base = str_copyn(host, n && host[n - 1] == '/' ? n - 1 : n);
	} else if (strcmp(host, "docker.io") == 0) {
		e->base = str_copy("https://" UPSTREAM_DOCKER);
	} else {
		choose_scheme(e, host);
	}
	_cleanup_(origin_free) struct origin origin = {0};
	return check_url(e, e->base, &origin, err);
}

void endpoint_close(struct endpoint *e) {
	free(e->base);
	free(e->name);
	free(e->repository);
	certificates_free(&e->certificates);
	if (e->authorization)
		explicit_bzero(e->authorization, strlen(e->authorization));
	free(e->authorization);
	pthread_mutex_destroy(&e->lock);
	*e = (struct endpoint){0};
}

char *endpoint_url(const struct endpoint *e, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	_cleanup_(free_ptr) char *rest = str_vformat(fmt, ap);
	va_end(ap);
	return str_format("%s/v2/%s/%s", e->base, e->repository, rest);
}
