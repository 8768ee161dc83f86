/* wabe usb-redirect: bytes from standard input to the machine, and from there to standard output. */
#include "cli/cli.h"

#include "base/fs.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 65536

/* 1: it goes on, 0: that side has ended. */
static int pass(int from, int to, struct error *err) {
	char chunk[CHUNK];
	ssize_t n = RETRY_EINTR(read(from, chunk, sizeof chunk));
	int r = n < 0 ? -errno : fs_write_all(to, chunk, (size_t)n);
	if (r == -EPIPE || r == -ECONNRESET)
		return 0;
	return r < 0 ? error_errno(err, r, "cannot pass on what came") : n > 0;
}

static int relay(int sock, struct error *err) {
	struct pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, {sock, POLLIN, 0}};
	int r = 1;
	while (r > 0) {
		if (RETRY_EINTR(poll(fds, ARRAY_SIZE(fds), -1)) < 0)
			return error_errno(err, errno, "cannot wait for input");
		if (fds[1].revents)
			r = pass(sock, STDOUT_FILENO, err);
		if (r > 0 && fds[0].revents)
			r = pass(STDIN_FILENO, sock, err);
	}
	return r;
}

static int run(struct invocation *in, struct error *err) {
	_cleanup_(free_ptr) char *path = api_path(in, "/instances/%s/usb", in->args[0]);
	_cleanup_(buf_free) struct buf early = BUF_INIT;
	_cleanup_(close_fd) int sock = -1;
	signal(SIGPIPE, SIG_IGN);
	int r = client_upgrade(in->client, path, NULL, &sock, &early, err);
	if (r == 0)
		r = fs_write_all(STDOUT_FILENO, early.data, early.len) < 0 ? 0 : relay(sock, err);
	return r;
}

const struct command command_usb_redirect = {
	.name = "usb-redirect",
	.group = "Instances",
	.usage = "MACHINE",
	.doc = "Give a machine a USB device of yours: a stream of usbredir on standard input and output",
	.details = "The device is the machine's until the stream ends. What speaks usbredir is a program such as usbredirect.",
	.examples = "socat TCP-LISTEN:4000,bind=127.0.0.1 EXEC:'wabe usb-redirect desk' &\nusbredirect --device 046d:c52b --to 127.0.0.1:4000",
	.min_args = 1,
	.complete = "instance",
	.run = run,
};
