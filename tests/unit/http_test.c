/* The HTTP server, spoken to over raw sockets. */
#include "base/fs.h"
#include "base/time.h"
#include "http/http.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char *dir, *path;
	struct http_server *server;
};

static struct fixture fx;
static sem_t reached, proceed; /* a handler has come to a point; it may go on */
static atomic_int seen;        /* what a handler saw */

/* ---- handlers ---- */

static void on_hello(struct http_request *req) {
	http_reply(req, 200, "text/plain", "hello\n", 6);
}

static void on_instance(struct http_request *req) {
	_cleanup_(json_free_ptr) json_t *o = json_object();
	_cleanup_(strv_free_ptr) char **all = http_query_all(req, "x");
	_cleanup_(free_ptr) char *joined = strv_join(all, ",");
	uid_t uid = 12345;

	assert_int_equal(http_peer(req, &uid, NULL), 0);
	json_set_str(o, "project", http_param(req, "project"));
	json_set_str(o, "name", http_param(req, "name"));
	json_set_str(o, "x", http_query(req, "x"));
	json_set_str(o, "all", joined);
	json_set_str(o, "flag", http_query(req, "flag"));
	json_set_str(o, "header", http_header(req, "x-some-header"));
	json_set_str(o, "data", http_route_data(req));
	json_set_int(o, "uid", uid);
	http_reply_header(req, "X-Answer", "yes");
	http_reply_json(req, 200, o);
}

static void on_rest(struct http_request *req) {
	http_reply(req, 200, "text/plain", http_param(req, "rest"), strlen(http_param(req, "rest")));
}

static void on_echo(struct http_request *req) {
	struct str body = http_body(req);

	http_reply(req, 200, "application/octet-stream", body.p, body.len);
}

static void on_json(struct http_request *req) {
	struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *value = http_body_json(req, &err);

	if (value)
		http_reply_json(req, 200, value);
	else
		http_reply_error(req, 400, &err);
	error_free(&err);
}

/* Reads slowly: nothing before it is told to. */
static void on_upload(struct http_request *req) {
	_cleanup_(free_ptr) char *total = NULL;
	char part[5000];
	uint64_t n = 0;
	ssize_t r;

	sem_post(&reached);
	sem_wait(&proceed);
	while ((r = http_body_read(req, part, sizeof(part))) > 0)
		n += (uint64_t)r;
	atomic_store(&seen, (int)r);
	sem_post(&reached);
	total = str_format("%llu", (unsigned long long)n);
	http_reply(req, 200, "text/plain", total, strlen(total));
}

static void on_early_answer(struct http_request *req) {
	http_reply(req, 409, "text/plain", "no", 2);
}

static void on_silent(UNUSED struct http_request *req) {
}

static void on_file(struct http_request *req) {
	_cleanup_(free_ptr) char *path = str_format("%s/file", fx.dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	http_reply_fd(req, 200, "application/x-tar", fd, 3, 4);
}

static void dropped(void *arg) {
	free(arg);
	sem_post(&reached);
}

static void on_shared(struct http_request *req) {
	char *big = alloc_zero(1 << 20);

	memset(big, 'b', 1 << 20);
	http_reply_shared(req, 200, "text/plain", big, 1 << 20, dropped, big);
}

static void on_stream(struct http_request *req) {
	struct http_stream *s = http_stream_begin(req, 200, "text/event-stream");

	sem_wait(&proceed);
	http_stream_write(s, "one\n", 4);
	sem_wait(&proceed);
	http_stream_write(s, "two\n", 4);
	http_stream_end(s, !http_query(req, "cut"));
}

/* Writes until the client has gone. */
static void on_flood(struct http_request *req) {
	struct http_stream *s = http_stream_begin(req, 200, NULL);
	char block[10000];
	size_t n = 0;

	memset(block, 'f', sizeof(block));
	while (!http_stream_push(s, block, sizeof(block)))
		n += sizeof(block);
	atomic_store(&seen, (int)n);
	sem_post(&reached);
	while (!http_stream_write(s, block, sizeof(block)))
		n += sizeof(block);
	assert_true(http_stream_gone(s));
	http_stream_end(s, true);
	sem_post(&reached);
}

/* Waits for a client that never gets an answer. */
static void on_wait(struct http_request *req) {
	struct pollfd p = {.fd = http_client_fd(req), .events = POLLIN};

	assert_false(http_client_gone(req));
	sem_post(&reached);
	poll(&p, 1, -1);
	atomic_store(&seen, http_client_gone(req));
	sem_post(&reached);
	http_reply_empty(req, 204);
}

static void on_upgrade(struct http_request *req) {
	_cleanup_(buf_free) struct buf early = BUF_INIT;
	struct str body = http_body(req);
	char data[100];
	ssize_t n;
	int fd = http_upgrade(req, "echo", &early);

	assert_true(fd >= 0);
	fs_write_all(fd, body.p, body.len);
	if (early.len)
		fs_write_all(fd, early.data, early.len);
	while ((n = read(fd, data, sizeof(data))) > 0)
		fs_write_all(fd, data, (size_t)n);
	fs_write_all(fd, "end", 3);
	close(fd);
}

static int relay_end = -1;

static void on_relay(struct http_request *req) {
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	relay_end = pair[0];
	http_upgrade_relay(req, "raw", pair[1]);
	sem_post(&reached);
}

/* Letters become large on the way to fd and small on the way back; "?" is answered from here, "!" is the end. */
static int filter_in(UNUSED void *arg, const char *data, size_t n, struct buf *to_fd, struct buf *to_client) {
	for (size_t i = 0; i < n; i++) {
		if (data[i] == '!')
			return -1;
		buf_addc(data[i] == '?' ? to_client : to_fd, data[i] == '?' ? 'y' : (char)(data[i] - ('a' - 'A')));
	}
	if (!n)
		buf_adds(to_fd, "EOF");
	return 0;
}

static int filter_out(UNUSED void *arg, const char *data, size_t n, UNUSED struct buf *to_fd, struct buf *to_client) {
	for (size_t i = 0; i < n; i++)
		buf_addc(to_client, (char)(data[i] + ('a' - 'A')));
	if (!n)
		buf_adds(to_client, "eof");
	return 0;
}

static void filter_drop(void *arg) {
	sem_post(arg);
}

static void on_filter(struct http_request *req) {
	static const struct http_filter filter = {filter_in, filter_out, filter_drop, &proceed};
	struct buf early;
	int pair[2], client;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	relay_end = pair[0];
	http_reply_header(req, "Content-Type", "x/raw");
	client = http_upgrade(req, NULL, &early);
	assert_true(client >= 0);
	http_relay(req, client, &early, pair[1], &filter);
	sem_post(&reached);
}

static void render_error(struct http_request *req, UNUSED int status, const struct error *e) {
	_cleanup_(json_free_ptr) json_t *o = json_object();

	json_set_str(o, "error", error_text(e));
	json_set_str(o, "kind", error_kind_name(e->kind));
	http_reply_json(req, status, o);
}

static const struct http_route routes[] = {
	{"GET", "/", on_hello},
	{"GET", "/v1/hello", on_hello},
	{"GET", "/v1/projects/{project}/instances/{name}", on_instance, 0, "some data"},
	{"DELETE", "/v1/projects/{project}/instances/{name}", on_hello},
	{"GET", "/v1/projects/{project}/instances/special", on_hello},
	{"GET", "/v1/rest/{rest...}", on_rest},
	{"GET", "/v1/rest/{rest...}/json", on_hello},
	{"POST", "/v1/echo", on_echo},
	{"POST", "/v1/json", on_json},
	{"PUT", "/v1/upload", on_upload, HTTP_STREAM_BODY},
	{"PUT", "/v1/early", on_early_answer, HTTP_STREAM_BODY},
	{"GET", "/v1/silent", on_silent},
	{"GET", "/v1/file", on_file},
	{"GET", "/v1/shared", on_shared},
	{"GET", "/v1/stream", on_stream},
	{"GET", "/v1/flood", on_flood},
	{"GET", "/v1/wait", on_wait},
	{"POST", "/v1/upgrade", on_upgrade},
	{"POST", "/v1/relay", on_relay},
	{"POST", "/v1/filter", on_filter},
	{0},
};

/* ---- a client ---- */

static int start(UNUSED void **state) {
	struct http_config config = {.routes = routes, .max_body = 100000, .render_error = render_error};
	struct error err = ERROR_INIT;
	char dir[] = "/tmp/wabe-http-XXXXXX";
	int fd;

	assert_non_null(mkdtemp(dir));
	fx = (struct fixture){.dir = str_copy(dir), .path = str_format("%s/sock", dir)};
	fd = sock_listen_unix(fx.path, 0600);
	assert_true(fd >= 0);
	if (http_server_start(fd, &config, &fx.server, &err))
		fail_msg("%s", error_text(&err));
	sem_init(&reached, 0, 0);
	sem_init(&proceed, 0, 0);
	atomic_store(&seen, -1000);
	return 0;
}

static int stop(UNUSED void **state) {
	http_server_stop(TAKE_PTR(fx.server));
	fs_remove_tree(fx.dir);
	free(fx.dir);
	free(fx.path);
	return 0;
}

static int dial(void) {
	int fd = sock_connect_unix(fx.path);

	assert_true(fd >= 0);
	return fd;
}

static void say(int fd, const char *text) {
	assert_int_equal(fs_write_all(fd, text, strlen(text)), 0);
}

/* Reads until `text` has come, or the end. */
static void read_until(int fd, const char *text, struct buf *b) {
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char c;

	while (!text || !strstr(buf_str(b), text)) {
		if (poll(&p, 1, 20000) != 1)
			fail_msg("nothing more came after: %s", buf_str(b));
		if (read(fd, &c, 1) <= 0)
			return;
		buf_addc(b, c);
	}
}

/* One request on a connection of its own; the whole answer. */
static char *ask(const char *request) {
	struct buf b = BUF_INIT;
	int fd = dial();

	say(fd, request);
	read_until(fd, NULL, &b);
	close(fd);
	return buf_str(&b)[0] ? buf_steal(&b) : str_copy("");
}

static void assert_answer(const char *request, const char *start_of, const char *part) {
	_cleanup_(free_ptr) char *answer = ask(request);

	if (strncmp(answer, start_of, strlen(start_of)) || (part && !strstr(answer, part)))
		fail_msg("%s\ngave\n%s\nnot %s … %s", request, answer, start_of, part ? part : "");
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

/* ---- the tests ---- */

static void test_routes(UNUSED void **state) {
	assert_answer(GET("/v1/hello"), "HTTP/1.1 200 ", "\r\n\r\nhello\n");
	assert_answer(GET("/"), "HTTP/1.1 200 ", "\r\n\r\nhello\n");
	assert_answer(GET("http://host/v1/hello"), "HTTP/1.1 200 ", "\r\n\r\nhello\n");
	assert_answer(GET("/v1/projects/p/instances/special"), "HTTP/1.1 200 ", "\r\n\r\nhello\n");
	assert_answer(GET("/v1/rest/a/b%2Fc/d"), "HTTP/1.1 200 ", "\r\n\r\na/b/c/d");
	assert_answer(GET("/v1/rest/a/b/json"), "HTTP/1.1 200 ", "\r\n\r\nhello\n");
	assert_answer(GET("/v1/rest"), "HTTP/1.1 404 ", NULL);
	assert_answer(GET("/v1/rest/"), "HTTP/1.1 404 ", NULL);
	assert_answer(GET("/v1/hello/"), "HTTP/1.1 404 ", NULL);
	assert_answer(GET("/v1//hello"), "HTTP/1.1 404 ", NULL);
	assert_answer(GET("/nothing"), "HTTP/1.1 404 ", "there is nothing at /nothing");
	assert_answer(GET("/v1/silent"), "HTTP/1.1 500 ", "no answer was given");
	assert_answer("PATCH /v1/projects/p/instances/n HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 405 ",
		      "\r\nAllow: GET, HEAD, DELETE\r\n");
	assert_answer("PATCH /v1/hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody",
		      "HTTP/1.1 405 ", "\"kind\":\"invalid\"");
}

static void test_request(UNUSED void **state) {
	const char *request = "GET /v1/projects/a%2Fb/instances/%c3%a4+?x=1&x=a+b%26&flag&&y=%3D HTTP/1.1\r\nHost: x\r\n"
			      "X-Some-Header: some value\r\nConnection: close\r\n\r\n";
	_cleanup_(free_ptr) char *answer = ask(request), *uid = str_format("\"uid\":%d", (int)getuid());

	assert_non_null(strstr(answer, "\"project\":\"a/b\""));
	assert_non_null(strstr(answer, "\"name\":\"\xc3\xa4+\""));
	assert_non_null(strstr(answer, "\"x\":\"1\""));
	assert_non_null(strstr(answer, "\"all\":\"1,a b&\""));
	assert_non_null(strstr(answer, "\"flag\":\"\""));
	assert_non_null(strstr(answer, "\"header\":\"some value\""));
	assert_non_null(strstr(answer, "\"data\":\"some data\""));
	assert_non_null(strstr(answer, uid));
	assert_non_null(strstr(answer, "\r\nX-Answer: yes\r\n"));
	assert_non_null(strstr(answer, "\r\nContent-Type: application/json\r\n"));
}

static void test_bad_encoding(UNUSED void **state) {
	assert_answer(GET("/v1/rest/a%00b"), "HTTP/1.1 400 ", "not properly encoded");
	assert_answer(GET("/v1/rest/a%2"), "HTTP/1.1 400 ", NULL);
	assert_answer(GET("/v1/rest/a%"), "HTTP/1.1 400 ", NULL);
	assert_answer(GET("/v1/rest/a%zz"), "HTTP/1.1 400 ", NULL);
	assert_answer(GET("/v1/hello?a=%0"), "HTTP/1.1 400 ", NULL);
	assert_answer(GET("/v1/hello?a=%00"), "HTTP/1.1 400 ", NULL);
	assert_answer(GET("v1/hello"), "HTTP/1.1 400 ", NULL);
	assert_answer("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 400 ", NULL);
}

static void test_head(UNUSED void **state) {
	_cleanup_(free_ptr) char *answer = ask("HEAD /v1/hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");

	assert_non_null(strstr(answer, "\r\nContent-Length: 6\r\n"));
	assert_string_equal(answer + strlen(answer) - 4, "\r\n\r\n");
}

static void test_pipelining(UNUSED void **state) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	int fd = dial();

	say(fd, "GET /v1/rest/1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n222"
		"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/rest/4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	read_until(fd, NULL, &b);
	const char *one = strstr(b.data, "\r\n\r\n1"), *two = strstr(b.data, "\r\n\r\n222");
	const char *three = strstr(b.data, "404 Not Found"), *four = strstr(b.data, "\r\n\r\n4");
	assert_true(one && two && three && four);
	assert_true(one < two && two < three && three < four);
	close(fd);
}

static void test_bodies(UNUSED void **state) {
	assert_answer("POST /v1/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
		      "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", "HTTP/1.1 200 ", "\r\n\r\nabc0123456789");
	assert_answer("POST /v1/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 ",
		      "\r\nContent-Length: 0\r\n");
	assert_answer("POST /v1/json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 ", "\r\n\r\n{}");
	assert_answer("POST /v1/json HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n"
		      "Connection: close\r\n\r\n{\"a\": 1}", "HTTP/1.1 200 ", "\r\n\r\n{\"a\":1}");
	assert_answer("POST /v1/json HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\n{\"a\":",
		      "HTTP/1.1 400 ", "\"kind\":\"invalid\"");
	assert_answer("POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\nExpect: 100-continue\r\n\r\n",
		      "HTTP/1.1 413 ", "\"kind\":\"too-large\"");
	assert_answer("POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", "HTTP/1.1 413 ", NULL);
}

static char *post_of(const char *path, size_t n, char c) {
	struct buf b = BUF_INIT;

	buf_addf(&b, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", path, n);
	memset(buf_room(&b, n), c, n);
	buf_grown(&b, n);
	return buf_steal(&b);
}

static void test_limits(UNUSED void **state) {
	_cleanup_(free_ptr) char *most = post_of("/v1/echo", 100000, 'a'), *more = post_of("/v1/echo", 100001, 'a');
	_cleanup_(free_ptr) char *nested = post_of("/v1/json", 10000, '[');
	_cleanup_(buf_free) struct buf chunked = BUF_INIT, headers = BUF_INIT, target = BUF_INIT;

	assert_answer(most, "HTTP/1.1 200 ", "\r\n\r\naaaaaaaaaaaaa");
	assert_answer(more, "HTTP/1.1 413 ", "larger than 100000 bytes");
	assert_answer(nested, "HTTP/1.1 400 ", "levels");
	buf_adds(&chunked, "POST /v1/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (int i = 0; i < 101; i++)
		buf_addf(&chunked, "3E8\r\n%01000d\r\n", i);
	buf_adds(&chunked, "0\r\n\r\n");
	assert_answer(chunked.data, "HTTP/1.1 413 ", NULL);
	buf_adds(&target, "GET /v1/rest");
	for (int i = 0; i < 5000; i++)
		buf_adds(&target, "/x");
	buf_adds(&target, " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	assert_answer(target.data, "HTTP/1.1 400 ", NULL);
	buf_adds(&headers, "GET /v1/hello HTTP/1.1\r\nHost: x\r\n");
	for (int i = 0; i < 1000; i++)
		buf_addf(&headers, "X-%d: %0100d\r\n", i, i);
	buf_adds(&headers, "\r\n");
	int fd = dial();
	_cleanup_(buf_free) struct buf answer = BUF_INIT;
	(void)!write(fd, headers.data, headers.len); /* may be cut short */
	read_until(fd, NULL, &answer);
	assert_int_equal(strncmp(buf_str(&answer), "HTTP/1.1 4", 10), 0);
	close(fd);
	assert_answer(GET("/v1/hello"), "HTTP/1.1 200 ", NULL);
}

static void test_file_and_shared(UNUSED void **state) {
	_cleanup_(free_ptr) char *path = str_format("%s/file", fx.dir);

	assert_int_equal(fs_replace(path, "0123456789", 10, 0600), 0);
	assert_answer(GET("/v1/file"), "HTTP/1.1 200 ", "\r\n\r\n3456");
	_cleanup_(free_ptr) char *answer = ask(GET("/v1/shared"));
	assert_int_equal(strlen(strstr(answer, "\r\n\r\n")), 4 + (1 << 20));
	sem_wait(&reached);
}

static void test_upload(UNUSED void **state) {
	_cleanup_(buf_free) struct buf answer = BUF_INIT;
	char block[65536] = {0};
	size_t sent = 0;
	int fd = dial();

	say(fd, "PUT /v1/upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 6553600\r\n\r\n");
	sem_wait(&reached); /* runs before the body has come */
	fd_set_nonblock(fd, true);
	for (struct pollfd p = {.fd = fd, .events = POLLOUT}; poll(&p, 1, 300) == 1 && sent < 6553600;) {
		ssize_t n = write(fd, block, sizeof(block));
		sent += n > 0 ? (size_t)n : 0;
	}
	assert_true(sent < 2 << 20); /* nobody reads: it does not all go to memory */
	sem_post(&proceed);
	fd_set_nonblock(fd, false);
	while (sent < 6553600) {
		ssize_t n = write(fd, block, MIN(sizeof(block), 6553600 - sent));
		assert_true(n > 0);
		sent += (size_t)n;
	}
	read_until(fd, NULL, &answer);
	assert_non_null(strstr(buf_str(&answer), "\r\n\r\n6553600"));
	close(fd);
	sem_wait(&reached);
	assert_int_equal(atomic_load(&seen), 0);
}

static void test_upload_cut(UNUSED void **state) {
	int fd = dial();

	say(fd, "PUT /v1/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc");
	sem_wait(&reached);
	sem_post(&proceed);
	close(fd);
	sem_wait(&reached);
	assert_int_equal(atomic_load(&seen), -EPIPE);
}

static void test_early_answer(UNUSED void **state) {
	_cleanup_(free_ptr) char *request = NULL;
	struct buf b = BUF_INIT;

	buf_adds(&b, "PUT /v1/early HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3000000\r\n\r\n");
	memset(buf_room(&b, 3000000), 'x', 3000000);
	buf_grown(&b, 3000000);
	request = buf_steal(&b);
	assert_answer(request, "HTTP/1.1 409 ", "\r\n\r\nno");
}

static void test_stream(UNUSED void **state) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	int fd = dial();

	say(fd, "GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n");
	read_until(fd, "\r\n\r\n", &b); /* the headers come before anything is written */
	assert_non_null(strstr(b.data, "\r\nTransfer-Encoding: chunked\r\n"));
	sem_post(&proceed);
	read_until(fd, "4\r\none\n\r\n", &b);
	sem_post(&proceed);
	read_until(fd, "4\r\ntwo\n\r\n0\r\n\r\n", &b);
	/* the connection lives on; and a client that only says that it sends no more still gets its stream */
	say(fd, "GET /v1/stream?cut HTTP/1.1\r\nHost: x\r\n\r\n");
	buf_truncate(&b, 0);
	read_until(fd, "\r\n\r\n", &b);
	shutdown(fd, SHUT_WR);
	sem_post(&proceed);
	read_until(fd, "4\r\none\n\r\n", &b);
	sem_post(&proceed);
	read_until(fd, NULL, &b);
	assert_null(strstr(b.data, "0\r\n\r\n"));
	close(fd);
	assert_answer("HEAD /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 ", NULL);
	sem_post(&proceed);
	sem_post(&proceed);
}

static void test_stream_back_pressure(UNUSED void **state) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	char block[65536];
	size_t got = 0;
	int fd = dial();

	say(fd, "GET /v1/flood HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&reached);
	assert_in_range(atomic_load(&seen), 1 << 20, 4 << 20);
	while (got < 8 << 20) {
		ssize_t n = read(fd, block, sizeof(block));
		assert_true(n > 0);
		got += (size_t)n;
	}
	close(fd);
	sem_wait(&reached);
}

static void test_client_gone(UNUSED void **state) {
	int fd = dial();

	say(fd, "GET /v1/wait HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&reached);
	assert_int_equal(sem_trywait(&reached), -1);
	close(fd);
	sem_wait(&reached);
	assert_int_equal(atomic_load(&seen), 1);
}

static void test_upgrade(UNUSED void **state) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	int fd = dial();

	say(fd, "POST /v1/upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 4\r\n\r\n"
		"bodyearly");
	read_until(fd, "\r\n\r\nbodyearly", &b);
	assert_int_equal(strncmp(b.data, "HTTP/1.1 101 ", 13), 0);
	assert_non_null(strstr(b.data, "\r\nUpgrade: echo\r\n"));
	assert_non_null(strcasestr(b.data, "\r\nConnection: Upgrade\r\n"));
	say(fd, "more");
	read_until(fd, "more", &b);
	/* other requests on other connections don't disturb it, nor does libmicrohttpd's end of the connection */
	assert_answer(GET("/v1/hello"), "HTTP/1.1 200 ", NULL);
	say(fd, "last");
	shutdown(fd, SHUT_WR);
	read_until(fd, NULL, &b);
	assert_non_null(strstr(b.data, "lastend"));
	close(fd);
}

static int open_relay(struct buf *b) {
	int fd = dial();

	say(fd, "POST /v1/relay HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: raw\r\nContent-Length: 0\r\n\r\nearly");
	sem_wait(&reached);
	read_until(fd, "\r\n\r\n", b);
	assert_non_null(strstr(b->data, "\r\nUpgrade: raw\r\n"));
	return fd;
}

static void test_relay(UNUSED void **state) {
	_cleanup_(buf_free) struct buf client = BUF_INIT, far = BUF_INIT;
	int fd = open_relay(&client);

	read_until(relay_end, "early", &far);
	say(fd, "ping");
	read_until(relay_end, "ping", &far);
	say(relay_end, "pong");
	read_until(fd, "pong", &client);
	/* the client ends its sending; the other way stays open */
	shutdown(fd, SHUT_WR);
	read_until(relay_end, NULL, &far);
	say(relay_end, "still there");
	read_until(fd, "still there", &client);
	close(relay_end);
	read_until(fd, NULL, &client);
	close(fd);
	/* the other order */
	buf_truncate(&client, 0);
	fd = open_relay(&client);
	shutdown(relay_end, SHUT_WR);
	read_until(fd, NULL, &client);
	buf_truncate(&far, 0);
	say(fd, "late");
	close(fd);
	read_until(relay_end, NULL, &far);
	assert_string_equal(far.data, "earlylate");
	close(relay_end);
}

static int open_filter(struct buf *b) {
	int fd = dial();

	say(fd, "POST /v1/filter HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nearly");
	sem_wait(&reached);
	read_until(fd, "\r\n\r\n", b);
	assert_int_equal(strncmp(b->data, "HTTP/1.1 200 ", 13), 0);
	assert_non_null(strstr(b->data, "\r\nContent-Type: x/raw\r\n"));
	return fd;
}

/* A raw stream behind a 200, through a filter: both directions, both ends, and an end that the filter makes. */
static void test_filter(UNUSED void **state) {
	_cleanup_(buf_free) struct buf client = BUF_INIT, far = BUF_INIT;
	int fd = open_filter(&client);

	read_until(relay_end, "EARLY", &far);
	say(fd, "a?b");
	read_until(relay_end, "AB", &far);
	say(relay_end, "HELLO");
	read_until(fd, "hello", &client);
	assert_non_null(strstr(client.data, "y"));
	shutdown(fd, SHUT_WR);
	read_until(relay_end, NULL, &far);
	assert_true(str_ends(buf_str(&far), "EOF"));
	say(relay_end, "STILL");
	close(relay_end);
	read_until(fd, NULL, &client);
	assert_true(str_ends(buf_str(&client), "stilleof"));
	close(fd);
	sem_wait(&proceed);

	buf_truncate(&client, 0);
	buf_truncate(&far, 0);
	fd = open_filter(&client);
	say(fd, "last!not this");
	read_until(fd, NULL, &client);
	read_until(relay_end, NULL, &far);
	assert_string_equal(buf_str(&far), "EARLYLAST");
	sem_wait(&proceed);
	close(fd);
	close(relay_end);
}

static void *send_much(void *arg) {
	int fd = *(int *)arg;
	char block[100000];

	for (int i = 0; i < 100; i++) {
		memset(block, 'a' + i % 26, sizeof(block));
		if (fs_write_all(fd, block, sizeof(block)))
			return NULL;
	}
	shutdown(fd, SHUT_WR);
	return NULL;
}

static void read_much(int fd) {
	char block[65536];
	size_t got = 0;
	ssize_t n;

	while ((n = read(fd, block, sizeof(block))) > 0)
		for (ssize_t i = 0; i < n; i++, got++)
			if (block[i] != 'a' + (int)(got / 100000 % 26))
				fail_msg("byte %zu is wrong", got);
	assert_int_equal(got, 10000000);
}

static void test_relay_much(UNUSED void **state) {
	_cleanup_(buf_free) struct buf client = BUF_INIT, far = BUF_INIT;
	pthread_t there, back;
	int fd = open_relay(&client);

	read_until(relay_end, "early", &far);
	pthread_create(&there, NULL, send_much, &fd);
	pthread_create(&back, NULL, send_much, &relay_end);
	read_much(relay_end);
	read_much(fd);
	pthread_join(there, NULL);
	pthread_join(back, NULL);
	close(fd);
	close(relay_end);
	/* a far end that vanishes with the client still sending */
	buf_truncate(&client, 0);
	fd = open_relay(&client);
	close(relay_end);
	read_until(fd, NULL, &client);
	close(fd);
}

struct many {
	pthread_t thread;
	int failures;
};

static void *ask_many(void *arg) {
	struct many *m = arg;
	char data[512];

	int fd = sock_connect_unix(fx.path);
	for (int i = 0; i < 300; i++) {
		const char *request = "GET /v1/hello HTTP/1.1\r\nHost: x\r\n\r\n";
		size_t n = 0;

		if (fs_write_all(fd, request, strlen(request)))
			m->failures++;
		while (n < 6 || memcmp(data + n - 6, "hello\n", 6)) {
			ssize_t r = read(fd, data + n, sizeof(data) - n);
			if (r <= 0) {
				m->failures++;
				close(fd);
				return NULL;
			}
			n += (size_t)r;
		}
	}
	close(fd);
	return NULL;
}

static void test_many(UNUSED void **state) {
	struct many clients[16] = {0};

	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		pthread_create(&clients[i].thread, NULL, ask_many, &clients[i]);
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
		pthread_join(clients[i].thread, NULL);
		assert_int_equal(clients[i].failures, 0);
	}
}

/* What the teardown then does: stop, with a stream, a waiting handler, an upload and a relay under way. */
static void test_stop(UNUSED void **state) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	int wait = dial(), flood = dial(), relay = open_relay(&b), idle = dial();

	say(wait, "GET /v1/wait HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&reached);
	say(flood, "GET /v1/flood HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&reached);
	http_server_stop(TAKE_PTR(fx.server));
	buf_truncate(&b, 0);
	read_until(wait, NULL, &b);
	assert_int_equal(strncmp(buf_str(&b), "HTTP/1.1 204 ", 13), 0);
	assert_int_equal(atomic_load(&seen), 1);
	buf_truncate(&b, 0);
	read_until(flood, NULL, &b);
	read_until(relay, NULL, &b);
	read_until(relay_end, NULL, &b);
	assert_int_equal(sock_connect_unix(fx.path), -ECONNREFUSED);
	close(wait);
	close(flood);
	close(relay);
	close(relay_end);
	close(idle);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, start, stop)

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_routes),      TEST(test_request),    TEST(test_bad_encoding), TEST(test_head),
		TEST(test_pipelining),  TEST(test_bodies),     TEST(test_limits),       TEST(test_file_and_shared),
		TEST(test_upload),      TEST(test_upload_cut), TEST(test_early_answer), TEST(test_stream),
		TEST(test_stream_back_pressure), TEST(test_client_gone), TEST(test_upgrade), TEST(test_relay), TEST(test_filter),
		TEST(test_relay_much),  TEST(test_many),       TEST(test_stop),
	};

	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
