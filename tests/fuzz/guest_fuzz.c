/* A guest's agent that says anything: each line answers one more of our questions. */
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/guest.h"

#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT_MAX 65536 /* as much as a socket takes at once */
#define QUESTIONS 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int64_t soon(void) {
	return time_mono_ns() + NS_PER_SEC;
}

static void ask(struct guest *g, unsigned question) {
	char *const argv[] = {(char *)"x", NULL};
	_cleanup_(guest_result_free) struct guest_result result = {0};
	_cleanup_(guest_interfaces_free) struct guest_interfaces all = {0};
	_cleanup_(guest_os_free) struct guest_os os = {0};
	_cleanup_(buf_free) struct buf got = BUF_INIT;
	_cleanup_(free_ptr) char *name = NULL;
	int64_t number;
	bool flag;
	switch (question) {
	case 0: guest_interfaces(g, soon(), &all, NULL); break;
	case 1: guest_os(g, soon(), &os, NULL); break;
	case 2: guest_exec_status(g, 1, soon(), &result, NULL); break;
	case 3: guest_exec(g, &(struct guest_command){.argv = argv}, soon(), &number, NULL); break;
	case 4: guest_host_name(g, soon(), &name, NULL); break;
	case 5: guest_file_open(g, "x", "r", soon(), &number, NULL); break;
	case 6: guest_file_read(g, 1, 64, soon(), &got, &flag, NULL); break;
	case 7: guest_file_write(g, 1, "abc", 3, soon(), NULL); break;
	case 8: guest_frozen(g, soon(), &flag, NULL); break;
	case 9: guest_freeze(g, soon(), NULL, NULL); break;
	case 10: guest_shutdown(g, "halt", soon(), NULL); break;
	default: guest_ping(g, soon(), NULL);
	}
	if (got.len > 64)
		abort();
}

/* In step from the start, since numbers are drawn as 0 here: how that is reached is tried by guest_test. */
ssize_t getrandom(void *out, size_t n, UNUSED unsigned flags) {
	memset(out, 0, n);
	return (ssize_t)n;
}

static struct guest *open_with(const uint8_t *data, size_t n) {
	static const char step[] = "{\"return\":0}\n";
	int ends[2];
	struct guest *g = NULL;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 || write(ends[1], step, strlen(step)) < 0 ||
	    write(ends[1], data, n) != (ssize_t)n)
		abort();
	shutdown(ends[1], SHUT_WR);
	if (guest_adopt(ends[0], soon(), &g, NULL) < 0)
		abort();
	close(ends[1]);
	return g;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
	if (n == 0 || n > INPUT_MAX)
		return 0;
	for (unsigned question = 0; question < QUESTIONS; question++) {
		struct guest *g = open_with(data, n);
		ask(g, question);
		guest_free(g);
	}
	return 0;
}
