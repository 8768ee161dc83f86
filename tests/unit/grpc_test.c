/* gRPC over a pair of sockets: both roles, streams both ways, errors, ends in the middle. */
#include "base/fs.h"
#include "grpc/grpc.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int echo(struct grpc_call *call, UNUSED void *context, struct error *err) {
	_cleanup_(buf_free) struct buf m = BUF_INIT;
	int r;
	while ((r = grpc_receive(call, &m, err)) > 0)
		if (grpc_send(call, buf_str(&m), m.len, err) < 0)
			return -err->kind;
	return r;
}

static int refuse(struct grpc_call *call, UNUSED void *context, struct error *err) {
	const char *who = grpc_header(call, "who");
	return error_set(err, ERROR_NOT_FOUND, "%s is not here: 100%% sure, naïve\n", who ? who : "nobody");
}

static int wait_for_end(struct grpc_call *call, void *context, struct error *err) {
	_cleanup_(buf_free) struct buf m = BUF_INIT;
	int r = grpc_receive(call, &m, err);
	__atomic_store_n((int *)context, r, __ATOMIC_SEQ_CST);
	return r;
}

static const struct grpc_method methods[] = {
	{"/t.T/Echo", echo}, {"/t.T/Refuse", refuse}, {"/t.T/Wait", wait_for_end}, {NULL, NULL}};

struct side {
	struct grpc_connection *c;
	pthread_t thread;
};
struct pair {
	struct side client, server;
	int seen;
	bool server_ended;
};

static void *run_side(void *arg) {
	grpc_run(arg, -1);
	return NULL;
}

static int setup(void **state) {
	struct pair *p = NEW(struct pair);
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	p->seen = 1000;
	p->client.c = grpc_open(fds[0], NULL, NULL, NULL, NULL);
	p->server.c = grpc_open(fds[1], NULL, methods, &p->seen, NULL);
	pthread_create(&p->client.thread, NULL, run_side, p->client.c);
	pthread_create(&p->server.thread, NULL, run_side, p->server.c);
	*state = p;
	return 0;
}

static int teardown(void **state) {
	struct pair *p = *state;
	grpc_close(p->client.c);
	pthread_join(p->client.thread, NULL);
	if (!p->server_ended)
		pthread_join(p->server.thread, NULL);
	assert_true(grpc_closed(p->server.c));
	grpc_unref(p->client.c);
	grpc_unref(p->server.c);
	free(p);
	return 0;
}

static void test_ask(void **state) {
	struct pair *p = *state;
	_cleanup_(buf_free) struct buf m = BUF_INIT;
	buf_adds(&m, "hello");
	assert_int_equal(grpc_ask(p->client.c, "/t.T/Echo", &m, &m, NULL), 0);
	assert_string_equal(buf_str(&m), "hello");
	buf_truncate(&m, 0);
	assert_int_equal(grpc_ask(p->client.c, "/t.T/Echo", &m, &m, NULL), 0);
	assert_int_equal(m.len, 0);
}

/* Many and large messages, more than any window; one thread writes while another reads. */
static void *write_many(void *arg) {
	_cleanup_(free_ptr) char *data = alloc_zero(300000);
	for (int i = 0; i < 100; i++) {
		memset(data, 'a' + i % 26, 300000);
		if (grpc_send(arg, data, (size_t)(i % 3 ? 300000 : i), NULL) < 0)
			break;
	}
	grpc_send_end(arg);
	return NULL;
}

static void test_stream(void **state) {
	struct pair *p = *state;
	_cleanup_(buf_free) struct buf m = BUF_INIT;
	_cleanup_(grpc_call_free_ptr) struct grpc_call *call = grpc_call(p->client.c, "/t.T/Echo", NULL, 0, NULL);
	pthread_t writer;
	pthread_create(&writer, NULL, write_many, call);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(grpc_receive(call, &m, NULL), 1);
		assert_int_equal(m.len, i % 3 ? 300000 : i);
		assert_true(!m.len || m.data[m.len - 1] == 'a' + i % 26);
	}
	assert_int_equal(grpc_receive(call, &m, NULL), 0);
	pthread_join(writer, NULL);
}

static void test_errors(void **state) {
	struct pair *p = *state;
	_cleanup_(buf_free) struct buf m = BUF_INIT;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	const struct grpc_header who = {"who", "Nobody"};
	_cleanup_(grpc_call_free_ptr) struct grpc_call *call = grpc_call(p->client.c, "/t.T/Refuse", &who, 1, NULL);
	assert_int_equal(grpc_receive(call, &m, &err), -ERROR_NOT_FOUND);
	assert_string_equal(error_text(&err), "Nobody is not here: 100% sure, naïve\n");
	assert_int_equal(grpc_ask(p->client.c, "/t.T/Nothing", &m, &m, &err), -ERROR_UNSUPPORTED);
	assert_string_equal(error_text(&err), "unknown method /t.T/Nothing");
}

/* A call that is given up, and one that is under way when the connection ends. */
static void test_given_up(void **state) {
	struct pair *p = *state;
	struct grpc_call *call = grpc_call(p->client.c, "/t.T/Wait", NULL, 0, NULL);
	grpc_call_free(call);
	_cleanup_(buf_free) struct buf m = BUF_INIT;
	_cleanup_(grpc_call_free_ptr) struct grpc_call *other = grpc_call(p->client.c, "/t.T/Wait", NULL, 0, NULL);
	grpc_close(p->server.c);
	assert_int_equal(grpc_receive(other, &m, NULL), -ERROR_UNAVAILABLE);
	assert_int_equal(grpc_send(other, "x", 1, NULL), -ERROR_UNAVAILABLE);
	pthread_join(p->server.thread, NULL); /* it has waited for its handlers */
	p->server_ended = true;
	assert_int_not_equal(p->seen, 1);
}

/* What is no HTTP/2 ends the connection, and nothing else. */
static void test_garbage(UNUSED void **state) {
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	struct grpc_connection *c = grpc_open(fds[1], NULL, methods, NULL, NULL);
	assert_int_equal(fs_write_all(fds[0], "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27), 0);
	grpc_run(c, -1);
	assert_true(grpc_closed(c));
	grpc_unref(c);
	close(fds[0]);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ask, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_given_up, setup, teardown),
		cmocka_unit_test(test_garbage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
