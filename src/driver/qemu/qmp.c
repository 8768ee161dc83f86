/* What is said to QEMU and by it. Each command has a number, so that an answer that comes too late is known for what it is;
 * events come at any time, and wait in a queue for whoever asks. */
#include "driver/qemu/qmp.h"

#include "base/str.h"
#include "driver/qemu/lines.h"

#define BEGIN "{\"execute\":\"qmp_capabilities\"}\n"

struct qmp {
	struct lines lines;
	json_t *events;      /* objects as they came */
	size_t events_size;  /* bytes of their texts */
	json_int_t number;   /* of the last command */
	bool greeted;
	bool filled;         /* qmp_poll has taken something in since it last gave 0 */
};

/* Says of an error whose it is. */
static int of_qemu(int r, const char *what, struct error *err) {
	if (r < 0)
		error_wrap(err, "QEMU's %s", what);
	return r;
}

struct qmp *qmp_adopt(int fd) {
	struct qmp *q = NEW(struct qmp);
	lines_init(&q->lines, fd, QMP_MESSAGE_MAX);
	q->events = json_array();
	return q;
}

void qmp_free(struct qmp *q) {
	if (!q)
		return;
	lines_free(&q->lines);
	json_decref(q->events);
	free(q);
}

int qmp_fd(const struct qmp *q) {
	return q->lines.fd;
}

/* --- events --- */

static size_t text_size(const json_t *value) {
	return json_dumpb(value, NULL, 0, JSON_COMPACT);
}

/* The oldest go when nobody asks for them. */
static void keep_event(struct qmp *q, json_t *event) {
	q->events_size += text_size(event);
	json_array_append_new(q->events, event);
	while (q->events_size > QMP_MESSAGE_MAX && json_array_size(q->events) > 1) {
		q->events_size -= text_size(json_array_get(q->events, 0));
		json_array_remove(q->events, 0);
	}
}

/* Of the queue: 1, or 0. */
static int take_event(struct qmp *q, const char *name, char **event, json_t **data) {
	for (size_t i = 0; i < json_array_size(q->events); i++) {
		json_t *e = json_array_get(q->events, i);
		const char *its = json_get_str(e, "event");
		if (name && strcmp(name, its) != 0)
			continue;
		if (event)
			*event = str_copy(its);
		if (data)
			*data = json_incref(json_object_get(e, "data"));
		q->events_size -= text_size(e);
		json_array_remove(q->events, i);
		return 1;
	}
	return 0;
}

/* An event is kept, and *message is NULL afterwards. */
static void sort_out(struct qmp *q, json_t **message) {
	if (json_get_str(*message, "event"))
		keep_event(q, TAKE_PTR(*message));
}

/* --- commands --- */

static int said_error(const json_t *error, const char *command, struct error *err) {
	static const struct {
		const char *class;
		enum error_kind kind;
	} kinds[] = {{"DeviceNotFound", ERROR_NOT_FOUND}, {"CommandNotFound", ERROR_UNSUPPORTED}, {"DeviceNotActive", ERROR_CONFLICT}};
	const char *class = json_get_str(error, "class"), *text = json_get_str(error, "desc");
	enum error_kind kind = ERROR_INTERNAL;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (str_same(class, kinds[i].class))
			kind = kinds[i].kind;
	_cleanup_(free_ptr) char *shown = lines_words(text);
	return error_set(err, kind, "QEMU does not do %s: %s", command, shown);
}

/* Of the command with that number; others are answers that nobody waits for any more. */
static int await_answer(struct qmp *q, const char *command, int64_t deadline, json_t **ret, struct error *err) {
	for (;;) {
		_cleanup_(json_free_ptr) json_t *m = NULL;
		int r = lines_await(&q->lines, deadline, &m, err);
		if (r < 0)
			return of_qemu(r, command, err);
		sort_out(q, &m);
		const json_t *id = json_object_get(m, "id"), *error = json_object_get(m, "error");
		if (!json_is_integer(id) || json_integer_value(id) != q->number)
			continue;
		if (error)
			return said_error(error, command, err);
		if (ret)
			*ret = json_incref(json_object_get(m, "return"));
		return 0;
	}
}

static int send_command(struct qmp *q, const char *command, json_t *args, int fd, int64_t deadline, struct error *err) {
	_cleanup_(json_free_ptr) json_t *call = json_pack("{s:s,s:I}", "execute", command, "id", ++q->number);
	if (args)
		json_object_set_new(call, "arguments", args);
	_cleanup_(free_ptr) char *body = json_print(call);
	_cleanup_(free_ptr) char *text = str_format("%s\n", body);
	return of_qemu(lines_send(&q->lines, text, strlen(text), fd, deadline, err), command, err);
}

int qmp_call(struct qmp *q, const char *command, json_t *args, int fd, int64_t deadline, json_t **ret, struct error *err) {
	if (ret)
		*ret = NULL;
	int r = send_command(q, command, args, fd, deadline, err);
	return r < 0 ? r : await_answer(q, command, deadline, ret, err);
}

int qmp_post(struct qmp *q, const char *command, int64_t deadline, struct error *err) {
	return send_command(q, command, NULL, -1, deadline, err);
}

static int greet(struct qmp *q, int64_t deadline, struct error *err) {
	_cleanup_(json_free_ptr) json_t *m = NULL;
	int r = lines_await(&q->lines, deadline, &m, err);
	if (r < 0)
		return r;
	if (!json_object_get(m, "QMP"))
		return error_set(err, ERROR_CORRUPT, "whoever answers is not QEMU");
	q->greeted = true;
	return qmp_call(q, "qmp_capabilities", NULL, -1, deadline, NULL, err);
}

int qmp_open(const char *dir, const char *name, int64_t deadline, struct qmp **out, struct error *err) {
	int fd = lines_connect(dir, name, deadline, err);
	return fd < 0 ? of_qemu(fd, "monitor", err) : qmp_begin(fd, deadline, out, err);
}

int qmp_begin(int fd, int64_t deadline, struct qmp **out, struct error *err) {
	struct qmp *q = qmp_adopt(fd);
	int r = greet(q, deadline, err);
	if (r < 0) {
		qmp_free(q);
		if (r == -ERROR_UNAVAILABLE) /* it ended before it took us in: as if it had been gone before */
			r = error_set(err, ERROR_NOT_FOUND, "nobody listens any more");
		return of_qemu(r, "monitor", err);
	}
	*out = q;
	return 0;
}

int qmp_event(struct qmp *q, const char *name, int64_t deadline, char **event, json_t **data, struct error *err) {
	while (!take_event(q, name, event, data)) {
		_cleanup_(json_free_ptr) json_t *m = NULL;
		int r = lines_await(&q->lines, deadline, &m, err);
		if (r < 0)
			return of_qemu(r, name ? name : "events", err);
		sort_out(q, &m);
	}
	return 0;
}

/* --- for an event loop --- */

/* The greeting is answered, an event kept, what is answered to that is nobody's. */
static int take_in(struct qmp *q, struct error *err) {
	_cleanup_(json_free_ptr) json_t *m = NULL;
	int r = lines_next(&q->lines, &m, err);
	if (r <= 0)
		return r;
	sort_out(q, &m);
	if (q->greeted || !json_object_get(m, "QMP"))
		return 1;
	q->greeted = true;
	r = lines_send(&q->lines, BEGIN, strlen(BEGIN), -1, 0, err);
	return r < 0 ? r : 1;
}

/* Takes in once between two times that it gives 0: one that never stops does not hold the loop. */
int qmp_poll(struct qmp *q, char **event, json_t **data, struct error *err) {
	for (;;) {
		if (take_event(q, NULL, event, data))
			return 1;
		int r = take_in(q, err);
		if (r == 0 && q->filled) {
			q->filled = false;
			return 0;
		}
		if (r == 0)
			r = lines_fill(&q->lines, err);
		if (r <= 0)
			return r;
		q->filled = true;
	}
}

int qmp_give(struct qmp *q, const char *name, int fd, int64_t deadline, struct error *err) {
	return qmp_call(q, "getfd", json_pack("{s:s}", "fdname", name), fd, deadline, NULL, err);
}

int qmp_lend(struct qmp *q, const char *word, int fd, int64_t deadline, char **path, struct error *err) {
	_cleanup_(json_free_ptr) json_t *ret = NULL;
	int r = qmp_call(q, "add-fd", json_pack("{s:s}", "opaque", word), fd, deadline, &ret, err);
	const json_t *set = r == 0 ? json_object_get(ret, "fdset-id") : NULL;
	if (r == 0 && !json_is_integer(set))
		return error_set(err, ERROR_CORRUPT, "QEMU does not say which descriptors it has");
	if (r == 0)
		*path = str_format("/dev/fdset/%lld", (long long)json_integer_value(set));
	return r;
}

void qmp_take_back(struct qmp *q, const char *word, int64_t deadline) {
	_cleanup_(json_free_ptr) json_t *sets = NULL;
	qmp_call(q, "query-fdsets", NULL, -1, deadline, &sets, NULL);
	for (size_t i = 0; i < json_array_size(sets); i++) {
		const json_t *set = json_array_get(sets, i), *fds = json_object_get(set, "fds");
		if (str_same(json_get_str(json_array_get(fds, 0), "opaque"), word))
			qmp_call(q, "remove-fd", json_pack("{s:O}", "fdset-id", json_object_get(set, "fdset-id")), -1, deadline, NULL, NULL);
	}
}
