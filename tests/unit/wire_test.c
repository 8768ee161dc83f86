/* wire: frames over a socket pair, and a call to a peer that behaves or does not. */
#include "wire/wire.h"

#include "base/fs.h"
#include "wire/messages.h"

#include <endian.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static int pair[2];

static int setup(UNUSED void **state) {
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
}

static int teardown(UNUSED void **state) {
	close_fd(&pair[0]);
	close_fd(&pair[1]);
	return 0;
}

static int count_fds(void) {
	int n = 0;
	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_requests(UNUSED void **state) {
	for (const struct wire_request *r = wire_requests; r->name; r++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		assert_ptr_equal(wire_request_find(r->name), r);
		assert_non_null(r->doc);
		assert_true(r->min_fds <= r->max_fds && r->max_fds <= WIRE_FDS_MAX);
		if (field_table_check(r->request, &err) < 0 || field_table_check(r->reply, &err) < 0)
			fail_msg("%s: %s", r->name, error_text(&err));
	}
	_cleanup_(error_free) struct error err = ERROR_INIT;
	assert_int_equal(field_table_check(&msg_event_table, &err), 0);
	assert_int_equal(field_table_check(&msg_progress_table, &err), 0);
	assert_null(wire_request_find("instance-"));
}

static void test_frame(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int before = count_fds();
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "id", ID);
	assert_int_equal(wire_send(pair[0], "instance-start", body, (int[]){0, 1}, 2, &err), 0);
	struct wire_frame f;
	assert_int_equal(wire_recv(pair[1], &f, &err), 0);
	assert_string_equal(f.type, "instance-start");
	assert_true(json_equal(f.body, body));
	assert_int_equal(f.nfds, 2);
	assert_int_equal(fcntl(f.fds[0], F_GETFD), FD_CLOEXEC);
	wire_frame_free(&f);
	assert_int_equal(count_fds(), before);
	close_fd(&pair[0]);
	assert_int_equal(wire_recv(pair[1], &f, &err), -ERROR_UNAVAILABLE);
}

static void test_error(UNUSED void **state) {
	struct error e = {.kind = ERROR_BUSY, .errnum = EBUSY, .message = (char *)"busy", .field = (char *)"id"};
	assert_int_equal(wire_send_error(pair[0], &e), 0);
	struct wire_frame f;
	assert_int_equal(wire_recv(pair[1], &f, NULL), 0);
	assert_string_equal(f.type, "error");
	assert_string_equal(json_get_str(f.body, "kind"), "busy");
	wire_frame_free(&f);
}

/* Writes a frame with a true length (or the one given) and hands it a descriptor. */
static void send_raw(uint32_t length, const char *text) {
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	uint32_t n = length ? length : (uint32_t)strlen(text);
	for (int i = 0; i < 4; i++)
		buf_addc(&b, (char)(n >> (8 * i) & 0xff));
	buf_adds(&b, text);
	int fd = 0;
	assert_int_equal(sock_send_fds(pair[0], b.data, b.len, &fd, 1), 0);
}

static void test_malformed(UNUSED void **state) {
	static const struct {
		uint32_t length;
		const char *text;
		int result;
	} rows[] = {
		{WIRE_FRAME_MAX + 1, "{}", -ERROR_INVALID},
		{UINT32_MAX, "", -ERROR_INVALID},
		{0, "{}", -ERROR_INVALID},
		{0, "[]", -ERROR_INVALID},
		{0, "x", -ERROR_INVALID},
		{0, "{\"type\":\"ok\"}", -ERROR_INVALID},
		{0, "{\"type\":\"ok\",\"body\":1}", -ERROR_INVALID},
		{0, "{\"type\":1,\"body\":{}}", -ERROR_INVALID},
		{0, "{\"type\":\"ok\",\"body\":{},\"more\":1}", -ERROR_INVALID},
		{0, "{\"type\":\"ok\",\"body\":{}}", 0},
		{5, "{", -ERROR_UNAVAILABLE},
	};
	int before = count_fds();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		send_raw(rows[i].length, rows[i].text);
		shutdown(pair[0], SHUT_WR);
		struct wire_frame f;
		assert_int_equal(wire_recv(pair[1], &f, &err), rows[i].result);
		wire_frame_free(&f);
		assert_int_equal(count_fds(), before);
		teardown(NULL);
		setup(NULL);
	}
	char zero[4] = {0};
	assert_int_equal(write(pair[0], zero, 4), 4);
	struct wire_frame f;
	assert_int_equal(wire_recv(pair[1], &f, NULL), -ERROR_INVALID);
}

static void test_slow(UNUSED void **state) {
	struct timeval t = {.tv_usec = 1000};
	setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	assert_int_equal(write(pair[0], "\5", 1), 1);
	struct wire_frame f;
	assert_int_equal(wire_recv(pair[1], &f, NULL), -ERROR_TIMEOUT);
}

static void test_oversized_send(UNUSED void **state) {
	_cleanup_(free_ptr) char *big = alloc_zero(WIRE_FRAME_MAX + 1);
	memset(big, 'x', WIRE_FRAME_MAX);
	_cleanup_(json_free_ptr) json_t *body = json_pack("{s:s}", "big", big);
	assert_int_equal(wire_send(pair[0], "ok", body, NULL, 0, NULL), -ERROR_TOO_LARGE);
}

/* A forked agent that answers one call with the frames given; then it waits for the peer to leave. */
struct answer {
	const char *type, *body;
	int nfds;
};
struct agent {
	char *dir, *path;
	pid_t pid;
};

static void agent_main(int listener, const struct answer *answers) {
	int sock = accept(listener, NULL, NULL);
	struct wire_frame f;
	if (wire_recv(sock, &f, NULL) < 0 || strcmp(f.type, "instance-start") != 0)
		_exit(2);
	for (; answers->type; answers++) {
		json_t *body = json_loads(answers->body, 0, NULL);
		if (wire_send(sock, answers->type, body, (int[]){0, 1, 2}, (size_t)answers->nfds, NULL) < 0)
			_exit(3);
	}
	if (!answers->body) /* else stays until the caller goes */
		_exit(0);
	char c;
	_exit(read(sock, &c, 1) == 0 ? 0 : 4);
}

static struct agent agent_start(const struct answer *answers) {
	char dir[] = "/tmp/wabe-wire-XXXXXX";
	assert_non_null(mkdtemp(dir));
	struct agent a = {.dir = str_copy(dir), .path = str_format("%s/agent.sock", dir)};
	int listener = sock_listen_unix(a.path, 0600);
	assert_true(listener >= 0);
	a.pid = fork();
	if (a.pid == 0)
		agent_main(listener, answers);
	close(listener);
	return a;
}

static void agent_end(struct agent *a) {
	int status;
	assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
	assert_int_equal(status, 0);
	assert_int_equal(fs_remove_tree(a->dir), 0);
	free(a->dir);
	free(a->path);
}

static void count_progress(const json_t *body, void *arg) {
	*(int64_t *)arg += json_get_int(body, "done");
}

static int call(const struct answer *answers, struct msg_instance_state *reply, size_t fds_max, int *fds,
		int64_t *progress, struct error *err) {
	struct agent a = agent_start(answers);
	struct msg_id body = {.id = (char *)ID};
	struct wire_call c = {
		.socket_path = a.path, .request = wire_request_find("instance-start"), .body = &body, .reply = reply,
		.reply_fds = fds, .reply_fds_max = fds_max, .on_progress = count_progress, .arg = progress,
	};
	int r = wire_call(&c, err);
	if (r == 0)
		assert_int_equal(c.reply_nfds, fds_max);
	agent_end(&a);
	return r;
}

static void test_call(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	int before = count_fds(), fds[2];
	int64_t progress = 0;
	struct msg_instance_state reply;
	static const struct answer good[] = {
		{"progress", "{\"done\":1}", 0}, {"progress", "{\"done\":2}", 3},
		{"ok", "{\"id\":\"" ID "\",\"status\":{\"state\":\"running\",\"pid\":7,\"later\":1}}", 3}, {0},
	};
	assert_int_equal(call(good, &reply, 2, fds, &progress, &err), 0);
	assert_int_equal(progress, 3);
	assert_int_equal(reply.status.pid, 7);
	fields_free(&msg_instance_state_table, &reply);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(count_fds(), before);

	static const struct answer failed[] = {{"error", "{\"kind\":\"busy\",\"message\":\"m\",\"field\":\"f\"}", 0},
					       {0}};
	assert_int_equal(call(failed, &reply, 0, NULL, &progress, &err), -ERROR_BUSY);
	assert_string_equal(error_text(&err), "m");
	assert_string_equal(err.field, "f");
	static const struct answer none[] = {{"error", "{\"kind\":\"none\"}", 0}, {0}};
	assert_int_equal(call(none, &reply, 0, NULL, &progress, &err), -ERROR_INTERNAL);
	static const struct answer wrong[] = {{"ok", "{\"id\":\"../x\"}", 1}, {0}};
	assert_int_equal(call(wrong, &reply, 0, NULL, &progress, &err), -ERROR_INVALID);
	static const struct answer other[] = {{"hello", "{}", 1}, {0}};
	assert_int_equal(call(other, &reply, 0, NULL, &progress, &err), -ERROR_CORRUPT);
	static const struct answer died[] = {{"progress", "{\"done\":1}", 0}, {0}};
	assert_int_equal(call(died, &reply, 0, NULL, &progress, &err), -ERROR_UNAVAILABLE);
	assert_int_equal(count_fds(), before);
}

/* Larger than a request may be, as the list of thousands of instances is. */
static void big_agent(int listener) {
	int sock = accept(listener, NULL, NULL);
	struct wire_frame f;
	_cleanup_(free_ptr) char *name = alloc_zero(2 * WIRE_FRAME_MAX + 1);
	memset(name, 'x', 2 * WIRE_FRAME_MAX);
	_cleanup_(free_ptr) char *text = str_format("{\"type\":\"progress\",\"body\":{\"message\":\"%s\",\"done\":5}}",
						    name);
	uint32_t n = htole32((uint32_t)strlen(text));
	if (wire_recv(sock, &f, NULL) < 0 || fs_write_all(sock, &n, sizeof n) < 0 || fs_write_all(sock, text, strlen(text)) < 0)
		_exit(2);
	_exit(wire_send_error(sock, &(struct error){.kind = ERROR_BUSY}) < 0);
}

static void test_big_answer(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	char dir[] = "/tmp/wabe-wire-XXXXXX";
	assert_non_null(mkdtemp(dir));
	struct agent a = {.dir = str_copy(dir), .path = str_format("%s/agent.sock", dir)};
	int listener = sock_listen_unix(a.path, 0600);
	int64_t progress = 0;
	a.pid = fork();
	if (a.pid == 0)
		big_agent(listener);
	close(listener);
	struct wire_call c = {.socket_path = a.path, .request = wire_request_find("instance-list"),
			      .on_progress = count_progress, .arg = &progress};
	assert_int_equal(wire_call(&c, &err), -ERROR_BUSY);
	assert_int_equal(progress, 5);
	agent_end(&a);
}

static void test_cancel(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	static const struct answer waits[] = {{NULL, "waits", 0}};
	struct agent a = agent_start(waits);
	struct msg_id body = {.id = (char *)ID};
	struct wire_call c = {.socket_path = a.path, .request = wire_request_find("instance-start"), .body = &body,
			      .cancel_fd = pair[0]};
	assert_int_equal(write(pair[1], "x", 1), 1);
	assert_int_equal(wire_call(&c, &err), -ERROR_CANCELLED);
	agent_end(&a);
}

static void test_no_agent(UNUSED void **state) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct wire_call c = {.socket_path = "/nonexistent/agent.sock", .request = wire_request_find("hello")};
	assert_int_equal(wire_call(&c, &err), -ERROR_UNAVAILABLE);
}

int main(void) {
#define UNIT(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		UNIT(test_requests), UNIT(test_frame), UNIT(test_error),  UNIT(test_malformed), UNIT(test_slow),
		UNIT(test_oversized_send), UNIT(test_call), UNIT(test_big_answer), UNIT(test_cancel), UNIT(test_no_agent),
	};
	return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
