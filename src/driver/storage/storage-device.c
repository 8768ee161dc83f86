/* Finding out about devices, modules and programs. */
#include "base/proc.h"
#include "base/time.h"
#include "driver/storage/storage-priv.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MS 5000

int storage_load_module(const char *module, const char *what, struct error *err) {
	char *argv[] = {"modprobe", "-q", (char *)module, NULL};
	_cleanup_(buf_free) struct buf said = BUF_INIT_MAX(4096);
	struct proc load = {.argv = argv, .errors = &said, .deadline_ns = 10 * NS_PER_SEC};
	if (proc_run(&load, NULL) == 0 && load.status == 0)
		return 0;
	return error_set(err, ERROR_UNSUPPORTED, "this kernel has no %s (module %s)", what, module);
}

int storage_need_fs(const char *type, const char *module, struct error *err) {
	_cleanup_(buf_free) struct buf known = BUF_INIT;
	_cleanup_(free_ptr) char *line = str_format("\t%s\n", type);
	if (fs_read("/proc/filesystems", 65536, &known) == 0 && strstr(buf_str(&known), line))
		return 0;
	return storage_load_module(module, type, err);
}

int storage_need_program(const char *program, const char *package, struct error *err) {
	static const char *const dirs[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		_cleanup_(free_ptr) char *path = str_format("%s/%s", dirs[i], program);
		if (access(path, X_OK) == 0)
			return 0;
	}
	return error_set(err, ERROR_UNSUPPORTED, "the program %s is missing; install %s", program, package);
}

/* One value that blkid finds on the device; NULL: none. */
static int probe_value(const char *device, const char *tag, char **value, struct error *err) {
	char *argv[] = {"blkid", "-p", "-o", "value", "-s", (char *)tag, (char *)device, NULL};
	_cleanup_(buf_free) struct buf said = BUF_INIT_MAX(4096), errors = BUF_INIT_MAX(4096);
	struct proc x = {.argv = argv, .output = &said, .errors = &errors, .deadline_ns = 60 * NS_PER_SEC};
	int r = proc_run(&x, err);
	if (r < 0)
		return r;
	if (x.status == 8) { /* several at once: it holds something, of which nobody knows what */
		*value = str_copy("several signatures");
		return 0;
	}
	if (x.status != 0 && x.status != 2)
		return error_set(err, ERROR_INTERNAL, "cannot look at %s: %s", device, buf_str(&errors));
	char *text = buf_steal(&said);
	if (text)
		text[strcspn(text, "\n")] = '\0';
	*value = text && *text ? text : NULL;
	if (!*value)
		free(text);
	return 0;
}

int storage_signature(const char *device, char **type, char **label, struct error *err) {
	int r = probe_value(device, "TYPE", type, err);
	if (r == 0 && !*type)
		r = probe_value(device, "PTTYPE", type, err);
	if (r == 0 && label)
		r = probe_value(device, "LABEL", label, err);
	return r;
}

static int try_address(const struct addrinfo *a) {
	_cleanup_(close_fd) int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	struct pollfd ready = {fd, POLLOUT, 0};
	int why = 0;
	socklen_t len = sizeof why;
	if (RETRY_EINTR(poll(&ready, 1, ANSWER_MS)) <= 0)
		return -ETIMEDOUT;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &len);
	return -why;
}

int storage_ask(const char *server, const char *port, struct error *err) {
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
	int g = getaddrinfo(server, port, &hints, &found);
	if (g != 0)
		return error_set(err, ERROR_UNAVAILABLE, "cannot find the server %s: %s", server, gai_strerror(g));
	int r = try_address(found);
	freeaddrinfo(found);
	return r < 0 ? error_set(err, ERROR_UNAVAILABLE, "the server %s (port %s) does not answer: %s", server, port,
				 strerror(-r)) : 0;
}

int storage_portal(const char *text, const char *port, char **host, char **out, struct error *err) {
	const char *colon = strrchr(text, ':'), *close = strchr(text, ']');
	bool bracket = *text == '[' && close;
	if (colon && ((bracket && colon < close) || (!bracket && strchr(text, ':') != colon)))
		colon = NULL; /* of an IPv6 address */
	size_t len = colon ? (size_t)(colon - text) : strlen(text);
	*host = bracket ? str_copyn(text + 1, (size_t)(close - text - 1)) : str_copyn(text, len);
	*out = str_copy(colon ? colon + 1 : port);
	uint64_t n;
	if (!**host || **host == '-' || str_to_u64(*out, 10, &n) < 0 || n == 0 || n > 65535)
		return error_field(err, "servers", "must be ADDRESS or ADDRESS:PORT, not %s", text);
	return 0;
}
