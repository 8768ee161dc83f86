/* What pull and push share: one HTTP exchange, an endpoint with its credentials, retries. Not for others. */
#pragma once

#include "base/buf.h"
#include "image/challenge.h"
#include "image/manifest.h"
#include "image/registry.h"

#include <curl/curl.h>
#include <pthread.h>

/* What is laid down for one host: authorities are for all that is asked on its behalf, the client's for its own origin alone. */
struct certificates {
	int directory, authorities; /* authorities: a file, with the host's own; -1: nothing is laid down */
	char *client, *key;         /* paths; NULL: none */
};

/* A registry, or a mirror of one, as one repository of it is used. Shared by threads; each brings a CURL
 * handle of its own. */
struct endpoint {
	char *base; /* "https://host[:port]" */
	char *name; /* as it is named in messages: "docker.io" */
	char *repository;
	const char *actions;		 /* "pull" or "pull,push" */
	const char *username, *password; /* NULL for a mirror */
	struct certificates certificates;
	const struct registry_options *o;
	const volatile bool *stop; /* true: a fellow thread has failed; may be NULL */
	pthread_mutex_t lock;	   /* over the two below */
	char *authorization;	   /* the header's value; NULL: none needed so far */
	unsigned generation;	   /* counts changes of authorization */
};

/* One request and its answer. Zero what is not needed; request_free drops the answer. */
struct request {
	const char *method; /* GET HEAD POST PUT */
	const char *url;
	char *const *headers; /* "Name: value" */
	const void *body;     /* of PUT and POST: text … */
	int body_fd;	      /* … or, if body is NULL and has_body_fd, a file from its start */
	bool has_body_fd;
	uint64_t body_size;
	void (*sent)(uint64_t done, void *arg); /* may be NULL */
	/* takes the body of a 2xx answer; NULL: it goes to `text` */
	int (*sink)(struct request *q, const void *data, size_t n, struct error *err);
	void *arg;
	size_t text_max; /* of `text`; past it TOO_LARGE; 0: 64 KiB */

	long status;
	bool strayed;	 /* a redirect has led to another origin: the answer is not the registry's own */
	bool transient;	 /* the failure may pass: worth another try */
	struct buf text; /* body of an answer without sink, or with an error status (then cut at 64 KiB) */
	char *content_type, *digest, *location, *content_range, *challenge, *link;
	int64_t retry_after; /* seconds */
	/* while it runs */
	struct endpoint *e;
	uint64_t body_sent;
	struct error failed;
};

/* registry-certs.c */
/* host: as endpoint_open takes it. UNAVAILABLE: what is there cannot be used. Drop *c in any case. */
int certificates_read(struct certificates *c, const int *directories, const char *host, struct error *err);
void certificates_free(struct certificates *c);

/* registry-http.c */
/* repository: NULL where none is meant. host: a registry as in a reference, or a URL ("http://…") of a mirror. */
int endpoint_open(struct endpoint *e, const char *host, const char *name, const char *repository, const char *actions,
		  const struct registry_options *o, struct error *err);
void endpoint_close(struct endpoint *e);
bool endpoint_cancelled(const struct endpoint *e);
bool endpoint_owns(const struct endpoint *e, const char *url); /* whether it is of the endpoint's own origin */
char *endpoint_url(const struct endpoint *e, const char *fmt, ...) PRINTF(2, 3); /* BASE/v2/REPOSITORY/… */
/* One request, redirects followed; authorization goes to the origin of the request's own URL alone. 0 when
 * there is an answer, whatever its status. UNAVAILABLE, TIMEOUT, CANCELLED, DENIED, or what sink gave. */
int http_exchange(struct endpoint *e, CURL *curl, struct request *q, const char *authorization, struct error *err);
/* Resolves a Location against the URL that it answered. NULL and *err. */
char *http_resolve(const char *base, const char *location, struct error *err);
void request_free(struct request *q);
/* The kind that fits the status, with the registry's own words. what: "manifest of docker.io/library/x:1". */
int request_error(const struct endpoint *e, const struct request *q, const char *what, struct error *err);
/* The same for the answer of a token server. */
int login_error(const struct endpoint *e, const struct request *q, struct error *err);
bool request_ok(const struct request *q); /* 2xx */

/* registry-auth.c */
/* http_exchange with the endpoint's authorization, which is got when the registry asks for it. Other origins
 * (of a redirect, of an upload's Location) neither get it nor can ask for it. */
int endpoint_request(struct endpoint *e, CURL *curl, struct request *q, struct error *err);

struct retry {
	int left;
	int64_t delay; /* ns before the next try */
};
struct retry retry_start(const struct endpoint *e, int tries);
/* After a request that gave r (or an answer that is no success): whether to try again; waits before it
 * says yes. */
bool retry_again(struct retry *t, struct endpoint *e, const struct request *q, int r);

/* registry.c */
/* Endpoints that may have the image: mirrors, then the registry itself. */
struct source {
	struct endpoint *endpoints;
	size_t n;
	size_t at; /* the one that gave the manifest */
	volatile bool stop;
};
int source_open(struct source *s, const struct image_ref *ref, const struct registry_options *o, struct error *err);
void source_close(struct source *s);
/* Fetches by tag or digest; *digest is that of the text. */
int fetch_manifest(struct endpoint *e, CURL *curl, const char *reference, const char *what, struct buf *text, char **type,
		   char **digest, struct error *err);
/* Runs job(i) for 0 ≤ i < n on up to o->parallel threads; stops at the first failure, which it
 * gives. *stop is set for the others then. */
int run_parallel(const struct registry_options *o, size_t n,
		 int (*job)(size_t i, CURL *curl, void *arg, struct error *err), void *arg, volatile bool *stop,
		 struct error *err);

void curl_cleanup(CURL **curl);
