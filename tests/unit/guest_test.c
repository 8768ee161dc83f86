/* The client of the guest's agent: against Debian's own agent, which runs here on a socket with all that would change this host
 * forbidden, and against one that answers what it is told to. */
#include "driver/qemu/guest.h"

#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT (60 * NS_PER_SEC)
#define FORBIDDEN                                                                                                              \
	"guest-shutdown,guest-set-time,guest-fsfreeze-freeze,guest-fsfreeze-freeze-list,guest-fsfreeze-thaw,guest-fstrim,"      \
	"guest-suspend-disk,guest-suspend-ram,guest-suspend-hybrid,guest-set-vcpus,guest-set-user-password,guest-set-memory-blocks,"  \
	"guest-ssh-add-authorized-keys,guest-ssh-remove-authorized-keys"

static char top[64];

static int64_t soon(void) {
	return time_mono_ns() + WAIT;
}

static void expect_at(int line, int r, const struct error *err) {
	if (r < 0)
		fail_msg("line %d: %s", line, error_text(err));
}
#define OK(call)                                                   \
	do {                                                       \
		_cleanup_(error_free) struct error err = ERROR_INIT; \
		expect_at(__LINE__, call, &err);                   \
	} while (0)
#define REFUSED(call, kind_, words)                                  \
	do {                                                         \
		_cleanup_(error_free) struct error err = ERROR_INIT; \
		assert_int_equal(call, -(int)(kind_));               \
		if (!strstr(error_text(&err), words))                \
			fail_msg("line %d: %s", __LINE__, error_text(&err)); \
	} while (0)

/* --- the real one --- */

static void await_socket(void) {
	_cleanup_(close_fd) int watch = inotify_init1(IN_CLOEXEC);
	_cleanup_(free_ptr) char *path = str_format("%s/agent", top);
	assert_true(inotify_add_watch(watch, top, IN_CREATE) >= 0);
	for (;;) {
		int sock = sock_connect_unix(path);
		char events[4096];
		struct pollfd p = {watch, POLLIN, 0};
		if (sock >= 0) {
			close(sock);
			return;
		}
		/* it is bound before it listens: then there is no event to wait for */
		assert_true(poll(&p, 1, sock == -ECONNREFUSED ? 10 : 60000) >= 0);
		if (p.revents)
			assert_true(read(watch, events, sizeof events) > 0);
	}
}

static pid_t start_agent(void) {
	_cleanup_(free_ptr) char *path = str_format("%s/agent", top);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		execl("/usr/sbin/qemu-ga", "qemu-ga", "-m", "unix-listen", "-p", path, "-t", top, "-b", FORBIDDEN, NULL);
		_exit(127);
	}
	await_socket();
	return pid;
}

static void run_to_end(struct guest *g, const struct guest_command *c, struct guest_result *result) {
	int64_t pid;
	OK(guest_exec(g, c, soon(), &pid, &err));
	for (int64_t until = soon(); time_mono_ns() < until; guest_result_free(result)) {
		OK(guest_exec_status(g, pid, soon(), result, &err));
		if (result->exited)
			return;
		usleep(10000); /* the agent tells of no end by itself */
	}
	fail_msg("it has not ended");
}

static void real_exec(struct guest *g) {
	char *const argv[] = {(char *)"sh", (char *)"-c", (char *)"cat; echo $X; echo wrong >&2; exit 7", NULL};
	char *const env[] = {(char *)"X=some text", (char *)"PATH=/bin", NULL}, *const none[] = {(char *)"/no/such", NULL};
	char *const killed[] = {(char *)"sh", (char *)"-c", (char *)"kill -9 $$", NULL}, *const bad[] = {(char *)"echo", (char *)"\xfe", NULL};
	struct guest_command c = {.argv = argv, .env = env, .input = "in\0put\n", .input_len = 7, .capture = true};
	_cleanup_(guest_result_free) struct guest_result r = {0};
	int64_t pid;
	run_to_end(g, &c, &r);
	assert_int_equal(r.status, 7);
	assert_int_equal(r.out.len, 17);
	assert_memory_equal(r.out.data, "in\0put\nsome text\n", 17);
	assert_string_equal(buf_str(&r.err), "wrong\n");
	guest_result_free(&r);
	run_to_end(g, &(struct guest_command){.argv = killed}, &r);
	assert_int_equal(r.status, 128 + SIGKILL);
	assert_int_equal(r.out.len, 0);
	REFUSED(guest_exec(g, &(struct guest_command){.argv = none}, soon(), &pid, &err), ERROR_NO_COMMAND, "/no/such");
	REFUSED(guest_exec(g, &(struct guest_command){.argv = bad}, soon(), &pid, &err), ERROR_INVALID, "UTF-8");
	REFUSED(guest_exec_status(g, 1, soon(), &r, &err), ERROR_CONFLICT, "guest-exec-status");
}

static void real_files(struct guest *g) {
	_cleanup_(free_ptr) char *path = str_format("%s/file", top);
	_cleanup_(buf_free) struct buf wrote = BUF_INIT, got = BUF_INIT;
	int64_t handle;
	bool end = false;
	for (size_t i = 0; i < 3 * GUEST_CHUNK / 2; i++)
		buf_addc(&wrote, (char)(i * 7 + i / 251));
	OK(guest_file_open(g, path, "w", soon(), &handle, &err));
	OK(guest_file_write(g, handle, wrote.data, wrote.len, soon(), &err));
	OK(guest_file_close(g, handle, soon(), &err));
	OK(guest_file_open(g, path, "r", soon(), &handle, &err));
	while (!end)
		OK(guest_file_read(g, handle, GUEST_CHUNK, soon(), &got, &end, &err));
	OK(guest_file_close(g, handle, soon(), &err));
	assert_int_equal(got.len, wrote.len);
	assert_memory_equal(got.data, wrote.data, got.len);
	REFUSED(guest_file_close(g, handle, soon(), &err), ERROR_CONFLICT, "guest-file-close");
	REFUSED(guest_file_open(g, "/no/such", "r", soon(), &handle, &err), ERROR_NOT_FOUND, "/no/such");
}

static void real_facts(struct guest *g) {
	_cleanup_(guest_os_free) struct guest_os os;
	_cleanup_(guest_interfaces_free) struct guest_interfaces all;
	_cleanup_(free_ptr) char *name = NULL;
	char own[256] = "";
	bool frozen = true, loopback = false;
	OK(guest_ping(g, soon(), &err));
	OK(guest_os(g, soon(), &os, &err));
	assert_string_equal(os.machine, "x86_64");
	OK(guest_host_name(g, soon(), &name, &err));
	gethostname(own, sizeof own - 1);
	assert_string_equal(name, own);
	OK(guest_frozen(g, soon(), &frozen, &err));
	assert_false(frozen);
	OK(guest_interfaces(g, soon(), &all, &err));
	for (size_t i = 0; i < all.n; i++)
		loopback |= !strcmp(all.items[i].name, "lo") && strv_has(all.items[i].addresses, "127.0.0.1/8");
	assert_true(loopback);
	REFUSED(guest_shutdown(g, "halt", soon(), &err), ERROR_UNSUPPORTED, "disabled");
	REFUSED(guest_set_time(g, 1, soon(), &err), ERROR_UNSUPPORTED, "disabled");
	REFUSED(guest_call(g, "guest-nothing", NULL, soon(), NULL, &err), ERROR_UNSUPPORTED, "guest-nothing");
}

static void real(void **state) {
	(void)state;
	struct guest *g;
	pid_t pid = start_agent();
	for (int i = 0; i < 2; i++) { /* one after the other */
		OK(guest_open(top, "agent", soon(), &g, &err));
		real_facts(g);
		real_exec(g);
		real_files(g);
		guest_free(g);
	}
	kill(pid, SIGKILL);
	proc_wait(pid);
	REFUSED(guest_open(top, "agent", soon(), &g, &err), ERROR_NOT_FOUND, "agent");
}

/* --- one that says what it is told to --- */

struct answer {
	const char *command, *text;
};

static void fake_answer(int fd, const char *line, const struct answer *answers) {
	_cleanup_(json_free_ptr) json_t *m = json_parse(line, strlen(line), NULL);
	const char *command = json_get_str(m, "execute");
	if (!command)
		_exit(3);
	for (size_t i = 0; answers[i].command; i++)
		if (!strcmp(command, answers[i].command)) {
			fs_write_all(fd, answers[i].text, strlen(answers[i].text));
			return;
		}
	int64_t id = json_get_int(json_object_get(m, "arguments"), "id");
	_cleanup_(free_ptr) char *text =
		!strcmp(command, "guest-sync-delimited")
			? str_format("half\":}\n[]\n\xff{\"return\":%lld}\n\xff{\"return\":%lld}\n", (long long)id + 1, (long long)id)
			: str_format("{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no\\u0007 %s\"}}\n", command);
	fs_write_all(fd, text, strlen(text));
}

/* Gives our end. It ends with it. */
static int start_fake(const struct answer *answers) {
	int ends[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		close(ends[0]);
		FILE *in = fdopen(ends[1], "r");
		char line[4096];
		while (fgets(line, sizeof line, in))
			fake_answer(ends[1], *line == '\xff' ? line + 1 : line, answers);
		_exit(0);
	}
	close(ends[1]);
	return ends[0];
}

static struct guest *open_fake(const struct answer *answers) {
	struct guest *g = NULL;
	OK(guest_adopt(start_fake(answers), soon(), &g, &err));
	return g;
}

static void end_fake(struct guest *g) {
	guest_free(g);
	assert_true(wait(NULL) > 0);
}

static void told(void **state) {
	static const struct answer answers[] = {
		{"guest-fsfreeze-freeze", "{\"return\":3}\n"}, {"guest-fsfreeze-thaw", "{\"return\":\"3\"}\n"},
		{"guest-fsfreeze-status", "{\"return\":\"frozen\"}\n"}, {"guest-set-user-password", "{\"return\":{}}\n"},
		{"guest-shutdown", ""}, {"guest-ping", "{\"return\":{}}\n"}, {"guest-set-time", "{\"ret\":1}\n"},
		{"guest-file-read", "{\"return\":{\"count\":1,\"buf-b64\":\"QUJDREVGRw==\",\"eof\":true}}\n"},
		{"guest-file-write", "{\"return\":{\"count\":100}}\n"}, {"guest-exec", "{\"return\":{}}\n"},
		{"guest-exec-status", "{\"return\":{\"exited\":true,\"exitcode\":-1}}\n"},
		{"guest-network-get-interfaces",
		 "{\"return\":[3,{\"name\":\"e\\u001bth0\",\"hardware-address\":\"<script>\",\"ip-addresses\":[{\"ip-address\":\"10.0.0.5\",\"prefix\":24},"
		 "{\"ip-address\":\"10.0.0.6\",\"prefix\":77},{\"ip-address\":\"x\"},{\"ip-address\":\"fe80::1\",\"prefix\":64}]}]}\n"},
		{NULL, NULL},
	};
	(void)state;
	char *const argv[] = {(char *)"x", NULL};
	struct guest *g = open_fake(answers);
	_cleanup_(guest_interfaces_free) struct guest_interfaces all;
	_cleanup_(guest_result_free) struct guest_result result;
	_cleanup_(buf_free) struct buf got = BUF_INIT;
	int64_t count = 0;
	bool flag = false;
	OK(guest_freeze(g, soon(), &count, &err));
	assert_int_equal(count, 3);
	OK(guest_frozen(g, soon(), &flag, &err));
	assert_true(flag);
	OK(guest_set_password(g, "root", "secret", false, soon(), &err));
	OK(guest_shutdown(g, "powerdown", soon(), &err));
	REFUSED(guest_thaw(g, soon(), &count, &err), ERROR_CORRUPT, "guest-fsfreeze-thaw");
	REFUSED(guest_set_time(g, 1, soon(), &err), ERROR_CORRUPT, "guest-set-time");
	REFUSED(guest_file_read(g, 1, 5, soon(), &got, &flag, &err), ERROR_CORRUPT, "guest-file-read");
	REFUSED(guest_file_write(g, 1, "abc", 3, soon(), &err), ERROR_CORRUPT, "guest-file-write");
	REFUSED(guest_exec(g, &(struct guest_command){.argv = argv}, soon(), &count, &err), ERROR_CORRUPT, "guest-exec");
	REFUSED(guest_exec_status(g, 1, soon(), &result, &err), ERROR_CORRUPT, "guest-exec-status");
	REFUSED(guest_call(g, "x", NULL, soon(), NULL, &err), ERROR_UNSUPPORTED, "no  x");
	OK(guest_interfaces(g, soon(), &all, &err));
	assert_int_equal(all.n, 1);
	assert_string_equal(all.items[0].name, "e th0");
	assert_null(all.items[0].mac);
	assert_int_equal(strv_len(all.items[0].addresses), 2);
	assert_string_equal(all.items[0].addresses[1], "fe80::1/64");
	end_fake(g);
}

static void silent(void **state) {
	static const struct answer nothing[] = {{"guest-sync-delimited", ""}, {NULL, NULL}}, late[] = {{"guest-ping", ""}, {NULL, NULL}};
	(void)state;
	struct guest *g;
	REFUSED(guest_adopt(start_fake(nothing), time_mono_ns() + 20 * NS_PER_MS, &g, &err), ERROR_UNAVAILABLE, "qemu-guest-agent");
	assert_true(wait(NULL) > 0);
	g = open_fake(late);
	REFUSED(guest_ping(g, time_mono_ns() + 20 * NS_PER_MS, &err), ERROR_TIMEOUT, "guest-ping");
	end_fake(g);
}

/* A message without end. */
static void flood(void **state) {
	(void)state;
	int ends[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	pid_t pid = fork();
	if (pid == 0) {
		static char some[65536];
		memset(some, '{', sizeof some);
		close(ends[0]);
		while (send(ends[1], some, sizeof some, MSG_NOSIGNAL) > 0)
			;
		_exit(0);
	}
	close(ends[1]);
	struct guest *g;
	REFUSED(guest_adopt(ends[0], soon(), &g, &err), ERROR_TOO_LARGE, "longer");
	assert_int_equal(proc_wait(pid), 0);
}

static int setup(void **state) {
	(void)state;
	snprintf(top, sizeof top, "/tmp/wabe-guest-test.XXXXXX");
	return mkdtemp(top) ? 0 : -1;
}

static int teardown(void **state) {
	(void)state;
	return fs_remove_tree(top);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(told), cmocka_unit_test(silent), cmocka_unit_test(flood), cmocka_unit_test(real),
	};
	if (getenv("WABE_TEST"))
		cmocka_set_test_filter(getenv("WABE_TEST"));
	return cmocka_run_group_tests_name("guest", tests, setup, teardown);
}
