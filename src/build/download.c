/* ADD of a URL. */
#include "build/build-priv.h"

#include "base/str.h"

#include <curl/curl.h>
#include <unistd.h>

struct transfer {
	const struct fetching *fetching; /* NULL: nobody can give it up */
	int fd;
	bool gone;
};

static size_t on_data(char *data, size_t size, size_t n, void *arg) {
	struct transfer *t = arg;
	ssize_t done = RETRY_EINTR(write(t->fd, data, size * n));
	return done < 0 ? 0 : (size_t)done;
}

static int on_progress(void *arg, UNUSED curl_off_t a, UNUSED curl_off_t b, UNUSED curl_off_t c, UNUSED curl_off_t d) {
	struct transfer *t = arg;
	return t->gone = t->fetching && fetching_gone(t->fetching);
}

/* The last part of the URL's path. */
static char *name_of(const char *url) {
	_cleanup_(free_ptr) char *plain = str_copyn(url, strcspn(url, "?#"));
	const char *path = strstr(plain, "://") + 3, *slash = strchr(path, '/') ? strrchr(path, '/') + 1 : "";
	if (!*slash || str_same(slash, ".") || str_same(slash, ".."))
		return NULL;
	return str_copy(slash);
}

static int fetch(const char *url, struct transfer *t, int64_t *mtime, struct error *err) {
	CURL *curl = curl_easy_init();
	char why[CURL_ERROR_SIZE] = "";
	long status = 0, changed = -1;
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 10L);
	curl_easy_setopt(curl, CURLOPT_FILETIME, 1L);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30L);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
	CURLcode code = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(curl, CURLINFO_FILETIME, &changed);
	curl_easy_cleanup(curl);
	*mtime = changed > 0 ? changed : 0;
	if (t->gone)
		return build_cancelled(err);
	if (code != CURLE_OK)
		return error_set(err, ERROR_UNAVAILABLE, "Get \"%s\": %s", url, *why ? why : curl_easy_strerror(code));
	if (status >= 400)
		return error_set(err, ERROR_INVALID, "Failed to GET %s with status %ld", url, status);
	return 0;
}

/* *t has the file then. */
static int fetch_to_file(struct core *c, const char *url, struct transfer *t, int64_t *mtime, struct error *err) {
	t->fd = core_spool(c, err);
	if (t->fd < 0)
		return t->fd;
	int r = fetch(url, t, mtime, err);
	if (r == 0 && lseek(t->fd, 0, SEEK_SET) < 0)
		r = error_errno(err, errno, "reading what came from %s", url);
	if (r < 0)
		close_fd(&t->fd);
	return r;
}

int build_fetch(struct core *c, const char *url, struct error *err) {
	struct transfer t = {.fd = -1};
	int64_t mtime;
	int r = fetch_to_file(c, url, &t, &mtime, err);
	return r < 0 ? r : t.fd;
}

int download(const struct fetching *f, const char *url, struct tree *to, struct error *err) {
	_cleanup_(free_ptr) char *given = name_of(url), *name = given ? TAKE_PTR(given) : str_copy("download");
	struct transfer t = {.fetching = f, .fd = -1};
	int64_t mtime;
	int r = fetch_to_file(f->core, url, &t, &mtime, err);
	_cleanup_(close_fd) int fd = t.fd;
	return r < 0 ? r : tree_add_file(to, name, 0600, mtime, fd, err);
}

/* ---- a context from elsewhere ---- */

/* A tar, compressed or not, has its marks; what has no zero byte at its beginning is a text. */
static bool is_text(int fd) {
	char head[512];
	ssize_t n = RETRY_EINTR(pread(fd, head, sizeof head, 0));
	static const char *const magics[] = {"\x1f\x8b", "BZh", "\xfd" "7zXZ", "\x28\xb5\x2f\xfd"};
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if (n >= (ssize_t)strlen(magics[i]) && memcmp(head, magics[i], strlen(magics[i])) == 0)
			return false;
	return n >= 0 && !memchr(head, 0, (size_t)n);
}

/* As BuildKit reads it. */
static bool keeps_git(const struct build_request *o) {
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True", NULL};
	const char *value = strv_env_get(o->build_args, "BUILDKIT_CONTEXT_KEEP_GIT_DIR");
	return value && strv_has((char *const *)yes, value);
}

static bool is_http(const char *url) {
	return str_starts(url, "http://") || str_starts(url, "https://");
}

int build_fetch_context(struct core *c, const struct build_request *o, const struct build_sink *sink, const char *url,
			struct tree *context, const char **dockerfile, struct error *err) {
	const struct fetching f = {.core = c, .o = o, .sink = sink};
	if (build_is_repository(url))
		return repository_context(&f, url, keeps_git(o), context, err);
	_cleanup_(free_ptr) char *shown = text_shown(url);
	if (!is_http(url))
		return error_set(err, ERROR_INVALID, "remote context %s: a URL of http or https, or of a git repository, is wanted", shown);
	int64_t mtime;
	struct transfer t = {.fetching = &f, .fd = -1};
	int r = fetch_to_file(c, url, &t, &mtime, err);
	if (r < 0)
		return r == -ERROR_CANCELLED ? r : error_wrap(err, "unable to download remote context");
	_cleanup_(close_fd) int fd = t.fd;
	if (!is_text(fd))
		return tree_read(context, fd, "", false, err);
	*dockerfile = "Dockerfile";
	return tree_add_file(context, "Dockerfile", 0644, mtime, fd, err);
}

bool build_is_url(const char *url) {
	return is_http(url) || build_is_repository(url);
}

int build_fetch_directory(struct core *c, const struct build_request *o, const struct build_sink *sink, const char *url,
			  struct tree *to, struct error *err) {
	const struct fetching f = {.core = c, .o = o, .sink = sink};
	return build_is_repository(url) ? repository_context(&f, url, false, to, err) : download(&f, url, to, err);
}
