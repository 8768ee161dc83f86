#include "driver/qemu/guest.h"

#include "base/base64.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/lines.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/random.h>

#define MESSAGE_MAX ((size_t)1 << 20)
#define OUTPUT_MAX ((size_t)46 << 20) /* two streams of 16 MiB in base64 */
#define NAME_MAX_BYTES 256
#define ITEMS_MAX 1024 /* of a list from the guest */
#define MARK "\xff"

struct guest {
	struct lines lines;
};

void guest_free(struct guest *g) {
	if (g)
		lines_free(&g->lines);
	free(g);
}

/* --- getting in step --- */

static int no_agent(struct error *err) {
	return error_set(err, ERROR_UNAVAILABLE, "no agent answers in the machine: it may still be starting, or the guest has none (its "
			 "package is qemu-guest-agent)");
}

/* What has been left of earlier talks is thrown away, up to the answer to this. */
static int synchronize(struct guest *g, int64_t deadline, struct error *err) {
	uint32_t number;
	if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
		return error_errno(err, errno, "cannot draw a number");
	number &= INT32_MAX;
	_cleanup_(free_ptr) char *text =
		str_format(MARK "{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%u}}\n", number);
	int r = lines_send(&g->lines, text, strlen(text), -1, deadline, err);
	while (r == 0) {
		_cleanup_(json_free_ptr) json_t *m = NULL;
		r = lines_await(&g->lines, deadline, &m, err);
		const json_t *ret = json_object_get(m, "return");
		if (r == 0 && json_is_integer(ret) && json_integer_value(ret) == number)
			return 0;
		if (r == -ERROR_CORRUPT && time_mono_ns() < deadline)
			r = 0;
	}
	return r;
}

int guest_adopt(int fd, int64_t deadline, struct guest **out, struct error *err) {
	struct guest *g = NEW(struct guest);
	lines_init(&g->lines, fd, OUTPUT_MAX);
	int r = synchronize(g, deadline, err);
	g->lines.max = MESSAGE_MAX;
	if (r < 0) {
		guest_free(g);
		return r == -ERROR_TIMEOUT || r == -ERROR_UNAVAILABLE ? no_agent(err) : r;
	}
	*out = g;
	return 0;
}

int guest_open(const char *dir, const char *name, int64_t deadline, struct guest **out, struct error *err) {
	int fd = lines_connect(dir, name, deadline, err);
	return fd < 0 ? fd : guest_adopt(fd, deadline, out, err);
}

/* --- commands --- */

static int refused(const json_t *error, const char *command, struct error *err) {
	static const struct {
		const char *words;
		enum error_kind kind;
	} kinds[] = {{"has been disabled", ERROR_UNSUPPORTED}, {"No such file or directory", ERROR_NOT_FOUND},
		     {"Permission denied", ERROR_DENIED}};
	const char *text = json_get_str(error, "desc");
	enum error_kind kind = str_same(json_get_str(error, "class"), "CommandNotFound") ? ERROR_UNSUPPORTED : ERROR_CONFLICT;
	for (size_t i = 0; text && i < ARRAY_SIZE(kinds); i++)
		if (strstr(text, kinds[i].words))
			kind = kinds[i].kind;
	_cleanup_(free_ptr) char *shown = lines_words(text);
	return error_set(err, kind, "the guest's agent does not do %s: %s", command, shown);
}

static int call_of(struct guest *g, const char *command, json_t *args, size_t max, int64_t deadline, json_t **ret,
		   struct error *err) {
	_cleanup_(json_free_ptr) json_t *call = json_pack("{s:s}", "execute", command), *m = NULL;
	if (args)
		json_object_set_new(call, "arguments", args);
	_cleanup_(free_ptr) char *body = json_print(call);
	_cleanup_(free_ptr) char *text = str_format("%s\n", body);
	if (ret)
		*ret = NULL;
	int r = lines_send(&g->lines, text, strlen(text), -1, deadline, err);
	g->lines.max = max;
	if (r == 0)
		r = lines_await(&g->lines, deadline, &m, err);
	g->lines.max = MESSAGE_MAX;
	if (r < 0) {
		error_wrap(err, "the guest's agent, at %s", command);
		return r;
	}
	json_t *error = json_object_get(m, "error"), *value = json_object_get(m, "return");
	if (error)
		return refused(error, command, err);
	if (!value)
		return error_set(err, ERROR_CORRUPT, "the guest's agent gives no answer to %s", command);
	if (ret)
		*ret = json_incref(value);
	return 0;
}

int guest_call(struct guest *g, const char *command, json_t *args, int64_t deadline, json_t **ret, struct error *err) {
	return call_of(g, command, args, MESSAGE_MAX, deadline, ret, err);
}

int guest_ping(struct guest *g, int64_t deadline, struct error *err) {
	return guest_call(g, "guest-ping", NULL, deadline, NULL, err);
}

static int nonsense(const char *command, struct error *err) {
	return error_set(err, ERROR_CORRUPT, "what the guest's agent answers to %s is not what it should be", command);
}

/* One whose answer is a number. */
static int call_number(struct guest *g, const char *command, json_t *args, int64_t deadline, int64_t *out, struct error *err) {
	_cleanup_(json_free_ptr) json_t *ret = NULL;
	int r = guest_call(g, command, args, deadline, &ret, err);
	if (r == 0 && !json_is_integer(ret))
		r = nonsense(command, err);
	if (r == 0 && out)
		*out = json_integer_value(ret);
	return r;
}

static json_t *base64_json(const void *data, size_t n) {
	_cleanup_(free_ptr) char *text = base64_encode(data, n);
	return json_string(text);
}

/* --- commands of the guest's --- */

/* NULL when one is not UTF-8: it would arrive as something else. */
static json_t *words_json(char *const *words) {
	json_t *all = json_array();
	for (size_t i = 0; words && words[i]; i++)
		if (json_array_append_new(all, json_string(words[i])) < 0) {
			json_decref(all);
			return NULL;
		}
	return all;
}

int guest_exec(struct guest *g, const struct guest_command *c, int64_t deadline, int64_t *pid, struct error *err) {
	_cleanup_(json_free_ptr) json_t *ret = NULL;
	json_t *args = json_pack("{s:s,s:o,s:o,s:b}", "path", c->argv[0], "arg", words_json(c->argv + 1), "env", words_json(c->env),
				 "capture-output", c->capture);
	if (!args)
		return error_set(err, ERROR_INVALID, "the command has bytes that are not UTF-8, which the guest's agent cannot be told");
	if (!c->env)
		json_object_del(args, "env");
	if (c->input_len)
		json_object_set_new(args, "input-data", base64_json(c->input, c->input_len));
	int r = guest_call(g, "guest-exec", args, deadline, &ret, err);
	if (r == -ERROR_NOT_FOUND || r == -ERROR_DENIED) {
		r = r == -ERROR_NOT_FOUND ? -ERROR_NO_COMMAND : -ERROR_NO_EXEC;
		if (err)
			err->kind = (enum error_kind)-r;
	}
	if (r == 0 && !json_is_integer(json_object_get(ret, "pid")))
		r = nonsense("guest-exec", err);
	if (r == 0)
		*pid = json_get_int(ret, "pid");
	return r;
}

static int decode(const json_t *o, const char *key, struct buf *out) {
	const char *text = json_get_str(o, key);
	return text ? base64_decode(text, out) : 0;
}

int guest_exec_status(struct guest *g, int64_t pid, int64_t deadline, struct guest_result *out, struct error *err) {
	_cleanup_(json_free_ptr) json_t *ret = NULL;
	*out = (struct guest_result){0};
	int r = call_of(g, "guest-exec-status", json_pack("{s:I}", "pid", (json_int_t)pid), OUTPUT_MAX, deadline, &ret, err);
	if (r < 0)
		return r;
	int64_t code = json_get_int(ret, "exitcode"), signo = json_get_int(ret, "signal");
	if (decode(ret, "out-data", &out->out) < 0 || decode(ret, "err-data", &out->err) < 0 || code < 0 || code > 255 || signo < 0 ||
	    signo > 127 || !json_is_boolean(json_object_get(ret, "exited"))) {
		guest_result_free(out);
		return nonsense("guest-exec-status", err);
	}
	out->exited = json_get_bool(ret, "exited");
	out->status = (int)(signo ? 128 + signo : code);
	out->out_truncated = json_get_bool(ret, "out-truncated");
	out->err_truncated = json_get_bool(ret, "err-truncated");
	return 0;
}

void guest_result_free(struct guest_result *r) {
	buf_free(&r->out);
	buf_free(&r->err);
	*r = (struct guest_result){0};
}

/* --- files --- */

int guest_file_open(struct guest *g, const char *path, const char *mode, int64_t deadline, int64_t *handle, struct error *err) {
	json_t *args = json_pack("{s:s,s:s}", "path", path, "mode", mode);
	if (!args)
		return error_set(err, ERROR_INVALID, "the path has bytes that are not UTF-8, which the guest's agent cannot be told");
	return call_number(g, "guest-file-open", args, deadline, handle, err);
}

int guest_file_read(struct guest *g, int64_t handle, size_t n, int64_t deadline, struct buf *out, bool *end, struct error *err) {
	_cleanup_(json_free_ptr) json_t *ret = NULL;
	n = MIN(n, GUEST_CHUNK);
	int r = guest_call(g, "guest-file-read", json_pack("{s:I,s:I}", "handle", (json_int_t)handle, "count", (json_int_t)n), deadline,
			   &ret, err);
	if (r < 0)
		return r;
	const char *text = json_get_str(ret, "buf-b64");
	ssize_t size = text ? base64_size(text) : -EINVAL;
	if (size < 0 || (size_t)size > n || base64_decode(text, out) < 0)
		return nonsense("guest-file-read", err);
	*end = json_get_bool(ret, "eof") || size == 0;
	return 0;
}

int guest_file_write(struct guest *g, int64_t handle, const void *data, size_t n, int64_t deadline, struct error *err) {
	const char *from = data;
	while (n) {
		_cleanup_(json_free_ptr) json_t *ret = NULL;
		json_t *args = json_pack("{s:I,s:o}", "handle", (json_int_t)handle, "buf-b64", base64_json(from, MIN(n, GUEST_CHUNK)));
		int r = guest_call(g, "guest-file-write", args, deadline, &ret, err);
		int64_t count = json_get_int(ret, "count");
		if (r == 0 && (count <= 0 || (uint64_t)count > MIN(n, GUEST_CHUNK)))
			r = nonsense("guest-file-write", err);
		if (r < 0)
			return r;
		from += count;
		n -= (size_t)count;
	}
	return 0;
}

int guest_file_close(struct guest *g, int64_t handle, int64_t deadline, struct error *err) {
	return guest_call(g, "guest-file-close", json_pack("{s:I}", "handle", (json_int_t)handle), deadline, NULL, err);
}

/* --- file systems --- */

int guest_freeze(struct guest *g, int64_t deadline, int64_t *count, struct error *err) {
	return call_number(g, "guest-fsfreeze-freeze", NULL, deadline, count, err);
}

int guest_thaw(struct guest *g, int64_t deadline, int64_t *count, struct error *err) {
	return call_number(g, "guest-fsfreeze-thaw", NULL, deadline, count, err);
}

int guest_frozen(struct guest *g, int64_t deadline, bool *frozen, struct error *err) {
	_cleanup_(json_free_ptr) json_t *ret = NULL;
	int r = guest_call(g, "guest-fsfreeze-status", NULL, deadline, &ret, err);
	if (r == 0 && !json_is_string(ret))
		r = nonsense("guest-fsfreeze-status", err);
	if (r == 0)
		*frozen = !strcmp(json_string_value(ret), "frozen");
	return r;
}

/* --- what it has --- */

/* An address that is one, or nothing. */
static void add_address(const json_t *o, char ***to) {
	const char *text = json_get_str(o, "ip-address");
	int64_t prefix = json_get_int(o, "prefix");
	uint8_t bytes[16];
	bool v4 = text && inet_pton(AF_INET, text, bytes) == 1;
	if (v4 || (text && inet_pton(AF_INET6, text, bytes) == 1 && prefix >= 0 && prefix <= 128))
		if (prefix >= 0 && prefix <= (v4 ? 32 : 128))
			strv_take(to, str_format("%s/%lld", text, (long long)prefix));
}

static bool is_mac(const char *text) {
	return text && strlen(text) == 17 && strspn(text, "0123456789abcdefABCDEF:") == 17;
}

static void add_interface(const json_t *o, struct guest_interfaces *all) {
	const char *name = json_get_str(o, "name"), *mac = json_get_str(o, "hardware-address");
	const json_t *addresses = json_object_get(o, "ip-addresses");
	if (!name || strlen(name) > NAME_MAX_BYTES)
		return;
	struct guest_interface *i = &all->items[all->n++];
	i->name = lines_words(name);
	i->mac = is_mac(mac) ? str_copy(mac) : NULL;
	for (size_t k = 0; k < MIN(json_array_size(addresses), ITEMS_MAX); k++)
		add_address(json_array_get(addresses, k), &i->addresses);
}

int guest_interfaces(struct guest *g, int64_t deadline, struct guest_interfaces *out, struct error *err) {
	_cleanup_(json_free_ptr) json_t *ret = NULL;
	*out = (struct guest_interfaces){0};
	int r = guest_call(g, "guest-network-get-interfaces", NULL, deadline, &ret, err);
	if (r == 0 && !json_is_array(ret))
		r = nonsense("guest-network-get-interfaces", err);
	if (r < 0)
		return r;
	size_t n = MIN(json_array_size(ret), ITEMS_MAX);
	out->items = alloc_array(n + 1, sizeof *out->items);
	for (size_t i = 0; i < n; i++)
		add_interface(json_array_get(ret, i), out);
	return 0;
}

void guest_interfaces_free(struct guest_interfaces *all) {
	for (size_t i = 0; i < all->n; i++) {
		free(all->items[i].name);
		free(all->items[i].mac);
		strv_free(all->items[i].addresses);
	}
	free(all->items);
	*all = (struct guest_interfaces){0};
}

static char *words_or_null(const json_t *o, const char *key) {
	const char *text = json_get_str(o, key);
	return text && *text ? lines_words(text) : NULL;
}

int guest_os(struct guest *g, int64_t deadline, struct guest_os *out, struct error *err) {
	_cleanup_(json_free_ptr) json_t *ret = NULL;
	*out = (struct guest_os){0};
	int r = guest_call(g, "guest-get-osinfo", NULL, deadline, &ret, err);
	if (r == 0 && !json_is_object(ret))
		r = nonsense("guest-get-osinfo", err);
	if (r < 0)
		return r;
	*out = (struct guest_os){
		.id = words_or_null(ret, "id"),
		.name = words_or_null(ret, "pretty-name"),
		.version = words_or_null(ret, "version-id"),
		.kernel = words_or_null(ret, "kernel-release"),
		.machine = words_or_null(ret, "machine"),
	};
	return 0;
}

void guest_os_free(struct guest_os *os) {
	free(os->id);
	free(os->name);
	free(os->version);
	free(os->kernel);
	free(os->machine);
	*os = (struct guest_os){0};
}

int guest_host_name(struct guest *g, int64_t deadline, char **name, struct error *err) {
	_cleanup_(json_free_ptr) json_t *ret = NULL;
	int r = guest_call(g, "guest-get-host-name", NULL, deadline, &ret, err);
	const char *text = json_get_str(ret, "host-name");
	if (r == 0 && (!text || strlen(text) > NAME_MAX_BYTES))
		r = nonsense("guest-get-host-name", err);
	if (r == 0)
		*name = lines_words(text);
	return r;
}

/* --- changes --- */

/* It answers only what has gone wrong; then it answers the next, or is gone. */
int guest_shutdown(struct guest *g, const char *how, int64_t deadline, struct error *err) {
	_cleanup_(free_ptr) char *text =
		str_format("{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"%s\"}}\n{\"execute\":\"guest-ping\"}\n", how);
	_cleanup_(json_free_ptr) json_t *m = NULL;
	_cleanup_(error_free) struct error silence = ERROR_INIT;
	int r = lines_send(&g->lines, text, strlen(text), -1, deadline, err);
	if (r < 0 || lines_await(&g->lines, deadline, &m, &silence) < 0)
		return r;
	const json_t *error = json_object_get(m, "error");
	_cleanup_(json_free_ptr) json_t *pong = NULL;
	if (!error)
		return 0;
	lines_await(&g->lines, deadline, &pong, &silence);
	return refused(error, "guest-shutdown", err);
}

int guest_set_password(struct guest *g, const char *user, const char *password, bool hashed, int64_t deadline, struct error *err) {
	json_t *args = json_pack("{s:s,s:o,s:b}", "username", user, "password", base64_json(password, strlen(password)), "crypted", hashed);
	if (!args)
		return error_set(err, ERROR_INVALID, "the user's name has bytes that are not UTF-8");
	return guest_call(g, "guest-set-user-password", args, deadline, NULL, err);
}

int guest_set_time(struct guest *g, int64_t ns, int64_t deadline, struct error *err) {
	return guest_call(g, "guest-set-time", json_pack("{s:I}", "time", (json_int_t)ns), deadline, NULL, err);
}
