/* A pull or push as Docker tells it: a line of JSON for each step of each layer. The answer begins with the first step, so
 * that what fails before it has a status of its own; it outlives the handler. */
#include "dialect/docker/images-priv.h"

#include <pthread.h>

struct watch {
	int refs; /* the handler's, the follower's */
	enum docker_transfer kind;
	char *name;                /* that was asked for, in full */
	char *shown;               /* the same as people see it */
	struct http_request *req;  /* until the handler has returned */
	struct line_stream *lines; /* NULL until the first step */
	bool fresh;                /* an image that was not here as it is now has come */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool begun;   /* the answer has */
	bool settled; /* that, or the task has ended */
	bool ended;
	struct error failed;
};

static void watch_unref(struct watch *w) {
	if (__atomic_sub_fetch(&w->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	free(w->name);
	free(w->shown);
	error_free(&w->failed);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->changed);
	free(w);
}

/* ---- lines ---- */

/* Four digits, powers of 1000: "1.234MB". */
static void size_text(int64_t size, char out[32]) {
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	double value = (double)size;
	size_t i = 0;
	for (; value >= 1000 && i + 1 < ARRAY_SIZE(units); i++)
		value /= 1000;
	snprintf(out, 32, "%.4g%s", value, units[i]);
}

/* "[=====>    ]  1.2MB/3.4MB" */
static char *bar(int64_t done, int64_t total) {
	char current[32], all[32], line[64];
	size_text(done, current);
	if (total <= 0)
		return str_format("%8s", current);
	size_text(total, all);
	int n = (int)MIN((double)done / (double)total * 50, 50.0);
	memset(line, '=', sizeof line);
	return str_format("[%.*s>%*s] %8s%s%s", n, line, 50 - n, "", current, done > total ? "" : "/", done > total ? "" : all);
}

static int send_line(struct watch *w, json_t *line) {
	_cleanup_(free_ptr) char *text = json_print(line);
	json_decref(line);
	return line_stream_push(w->lines, text, strlen(text));
}

static json_t *status_line(const char *status, const char *id) {
	json_t *line = json_object();
	json_set_str(line, "status", status);
	json_set_str(line, "id", id);
	return line;
}

static int send_status(struct watch *w, const char *status, const char *id) {
	return send_line(w, status_line(status, id));
}

/* part: a digest; its first digits are what people see. */
static json_t *layer_line(const char *part, const char *status, int64_t done, int64_t total) {
	json_t *line = json_object(), *detail = json_object();
	json_set_str(line, "status", status);
	json_object_set_new(line, "progressDetail", detail);
	if (total > 0) {
		_cleanup_(free_ptr) char *text = bar(done, total);
		json_set_int(detail, "current", done);
		json_set_int(detail, "total", total);
		json_set_str(line, "progress", text);
	}
	_cleanup_(free_ptr) char *id = str_copyn(part + strlen("sha256:"), 12);
	json_set_str(line, "id", id);
	return line;
}

json_t *docker_error_json(const char *message, int64_t code) {
	json_t *detail = json_object(), *line = json_object();
	if (code)
		json_set_int(detail, "code", code);
	json_object_set_new(detail, "message", json_from_str(message));
	json_object_set_new(line, "errorDetail", detail);
	json_object_set_new(line, "error", json_from_str(message));
	return line;
}

char *docker_error_line(const char *message) {
	_cleanup_(json_free_ptr) json_t *line = docker_error_json(message, 0);
	return json_print(line);
}

/* ---- steps in Docker's words ---- */

static const struct {
	const char *step, *pull, *push;
	bool bytes;
} words[] = {
	{"queued", "Pulling fs layer", "Preparing", false},
	{"present", "Already exists", "Layer already exists", false},
	{"waiting", "Waiting", "Waiting", false},
	{"downloading", "Downloading", NULL, true},
	{"retrying", "Retrying", "Retrying", false},
	{"verifying", "Verifying Checksum", NULL, false},
	{"downloaded", "Download complete", NULL, false},
	{"unpacking", "Extracting", NULL, true},
	{"uploading", NULL, "Pushing", true},
	{"done", "Pull complete", "Pushed", false},
};

static json_t *found_line(const char *full) {
	struct image_ref ref;
	if (image_ref_parse(full, &ref, NULL) < 0)
		return NULL;
	_cleanup_(free_ptr) char *status = str_format("Pulling from %s", ref.repository);
	json_t *line = status_line(status, ref.digest ? ref.digest : ref.tag);
	image_ref_free(&ref);
	return line;
}

json_t *docker_step_line(enum docker_transfer kind, const struct task_step *s) {
	if (str_same(s->message, "found"))
		return found_line(s->part);
	if (str_starts(s->message, "digest ")) {
		_cleanup_(free_ptr) char *status = str_format("Digest: %s", s->message + strlen("digest "));
		return status_line(status, NULL);
	}
	for (size_t i = 0; str_starts(s->part, "sha256:") && i < ARRAY_SIZE(words); i++) {
		const char *word = kind == DOCKER_PULL ? words[i].pull : words[i].push;
		if (word && str_same(words[i].step, s->message))
			return layer_line(s->part, word, words[i].bytes ? s->done : 0, words[i].bytes ? s->total : 0);
	}
	return NULL;
}

/* "sha256:… 528" */
static int send_pushed(struct watch *w, const char *full, const char *what) {
	struct str rest = str_view(what);
	struct str digest = str_cut(&rest, ' ');
	const char *tag = strrchr(full, ':');
	tag = tag && !strchr(tag, '/') ? tag + 1 : "";
	_cleanup_(free_ptr) char *digest_text = str_copyn(digest.p, digest.len);
	_cleanup_(free_ptr) char *status = str_format("%s: digest: %s size: %.*s", tag, digest_text, (int)rest.len, rest.p);
	int r = send_status(w, status, NULL);
	json_t *line = json_object(), *aux = json_object();
	json_object_set_new(line, "progressDetail", json_object());
	json_object_set_new(line, "aux", aux);
	json_set_str(aux, "Tag", tag);
	json_set_str(aux, "Digest", digest_text);
	json_set_int(aux, "Size", atoll(rest.p));
	return r < 0 ? (json_decref(line), r) : send_line(w, line);
}

static int send_step(struct watch *w, const struct task_step *s) {
	json_t *line = docker_step_line(w->kind, s);
	if (line)
		return send_line(w, line);
	if (str_starts(s->message, "pushed "))
		return send_pushed(w, s->part, s->message + strlen("pushed "));
	w->fresh |= str_same(s->message, "new");
	return 0;
}

static void begin(struct watch *w) {
	pthread_mutex_lock(&w->lock);
	if (!w->lines) {
		w->lines = line_stream_new(w->req, JSON_TYPE);
		line_stream_begin(w->lines);
		w->begun = w->settled = true;
		pthread_cond_broadcast(&w->changed);
	}
	pthread_mutex_unlock(&w->lock);
}

static int on_step(void *arg, const struct task_step *s) {
	struct watch *w = arg;
	begin(w);
	return send_step(w, s);
}

static bool on_gone(void *arg) {
	struct watch *w = arg;
	pthread_mutex_lock(&w->lock);
	bool gone = w->lines ? line_stream_gone(w->lines) : http_client_gone(w->req);
	pthread_mutex_unlock(&w->lock);
	return gone;
}

/* ---- the end ---- */

char *docker_registry_words(const struct error *err, const char *otherwise) {
	if (!err->said)
		return str_copy(otherwise);
	char *text = str_copy(err->said), *colon = strchr(text, ':');
	for (char *p = text; colon && p < colon; p++)
		*p = *p == '_' ? ' ' : (char)(*p >= 'A' && *p <= 'Z' ? *p + 'a' - 'A' : *p);
	return text;
}

/* Docker's message for what has failed; *status for when nothing has been sent yet. */
static char *failure_text(const struct watch *w, int *status) {
	const struct error *err = &w->failed;
	_cleanup_(free_ptr) char *name = docker_familiar_name(w->name);
	const char *code = err->said ? err->said : "";
	bool denied = err->kind == ERROR_DENIED && (err->said || !strstr(error_text(err), "plain HTTP"));
	bool hub = err->kind == ERROR_UNAUTHORIZED && str_starts(w->name, "docker.io/");
	*status = 500;
	if (w->kind == DOCKER_PUSH && (denied || err->kind == ERROR_UNAUTHORIZED))
		return docker_registry_words(err, denied ? "denied: requested access to the resource is denied" : "unauthorized: authentication required");
	if (w->kind == DOCKER_PUSH)
		return str_copy(error_text(err));
	if (err->kind == ERROR_NOT_FOUND || denied || hub)
		*status = 404;
	if (denied || hub) {
		_cleanup_(free_ptr) char *words = denied ? docker_registry_words(err, "denied: requested access to the resource is denied")
							 : str_copy("denied: requested access to the resource is denied");
		return str_format("pull access denied for %s, repository does not exist or may require 'docker login': %s", name, words);
	}
	_cleanup_(free_ptr) char *words = docker_registry_words(err, "manifest unknown: manifest unknown");
	if (err->kind == ERROR_NOT_FOUND && str_starts(code, "NAME_UNKNOWN"))
		return str_format("repository %s not found: %s", name, words);
	if (err->kind == ERROR_NOT_FOUND && (err->said || !strstr(error_text(err), "platform")))
		return str_format("manifest for %s not found: %s", w->shown, words);
	if (err->kind == ERROR_UNAUTHORIZED)
		return docker_registry_words(err, "unauthorized: authentication required");
	return str_copy(error_text(err));
}

static void send_end(struct watch *w) {
	if (w->failed.kind) {
		int status;
		_cleanup_(free_ptr) char *text = failure_text(w, &status), *line = docker_error_line(text);
		line_stream_push(w->lines, line, strlen(line));
	} else if (w->kind == DOCKER_PULL) {
		_cleanup_(free_ptr) char *status = str_format(
			w->fresh ? "Status: Downloaded newer image for %s" : "Status: Image is up to date for %s", w->shown);
		send_status(w, status, NULL);
	}
	line_stream_end(TAKE_PTR(w->lines), true);
}

static void on_end(void *arg, const struct task *task, const struct error *err) {
	struct watch *w = arg;
	if (!task)
		error_set(&w->failed, ERROR_CANCELLED, "context canceled");
	else if (err->kind) {
		error_set(&w->failed, err->kind, "%s", error_text(err));
		w->failed.said = err->said ? str_copy(err->said) : NULL;
	}
	pthread_mutex_lock(&w->lock);
	if (w->lines)
		send_end(w);
	w->settled = w->ended = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	watch_unref(w);
}

/* ---- the beginning ---- */

static void answer_failure(struct watch *w, struct http_request *req) {
	int status;
	_cleanup_(free_ptr) char *text = failure_text(w, &status);
	docker_fail(req, status, "%s", text);
}

/* Waits until the answer has begun, or there will be none. */
static void settle(struct watch *w, struct http_request *req) {
	pthread_mutex_lock(&w->lock);
	while (!w->settled)
		pthread_cond_wait(&w->changed, &w->lock);
	bool begun = w->begun;
	w->req = NULL;
	bool failed = w->ended && w->failed.kind;
	pthread_mutex_unlock(&w->lock);
	if (!begun && failed)
		answer_failure(w, req);
	else if (!begun)
		docker_reply_lines(req, "", 0);
}

/* "The push refers to repository [docker.io/library/x]" */
static char *push_status(const char *full) {
	struct image_ref ref;
	if (image_ref_parse(full, &ref, NULL) < 0)
		return str_copy("The push refers to no repository");
	char *status = str_format("The push refers to repository [%s/%s]", ref.registry, ref.repository);
	image_ref_free(&ref);
	return status;
}

void docker_push_refused(struct http_request *req, const char *name, const char *why) {
	_cleanup_(free_ptr) char *status = push_status(name), *error = docker_error_line(why);
	_cleanup_(json_free_ptr) json_t *line = json_object();
	json_set_str(line, "status", status);
	_cleanup_(free_ptr) char *first = json_print(line), *text = str_format("%s\n%s\n", first, error);
	docker_reply_lines(req, text, strlen(text));
}

void docker_follow_transfer(struct http_request *req, enum docker_transfer kind, const char *name, const char *shown,
			    char *task) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(free_ptr) char *text = task;
	_cleanup_(json_free_ptr) json_t *json = json_parse(text, strlen(text), &err);
	struct watch *w = NEW(struct watch);
	*w = (struct watch){.refs = 2, .kind = kind, .name = str_copy(name), .req = req};
	w->shown = shown ? str_copy(shown) : docker_familiar(name);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	const struct task_step_sink sink = {on_step, on_gone, on_end, w};
	if (kind == DOCKER_PUSH) { /* comes first, whatever follows */
		_cleanup_(free_ptr) char *status = push_status(name);
		begin(w);
		send_status(w, status, NULL);
	}
	if (task_follow_steps(core_of(req), DOCKER_PROJECT, json_get_str(json, "id"), &sink, &err) < 0) {
		error_move(&w->failed, &err);
		w->settled = w->ended = true;
		if (w->lines)
			send_end(w);
		watch_unref(w);
	}
	settle(w, req);
	watch_unref(w);
}
