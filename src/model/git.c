/* See git.h. */
#include "model/git.h"

#include "base/base64.h"
#include "base/str.h"
#include "model/field.h"

#include <ctype.h>

#define URL_MAX 2048
#define REF_MAX 255
#define DIRECTORY_MAX 4096

/* ---- URLs ---- */

static bool is_http(const char *url) {
	return str_starts(url, "https://") || str_starts(url, "http://");
}

static bool is_scheme(const char *url) {
	return is_http(url) || str_starts(url, "git://") || str_starts(url, "ssh://");
}

static bool is_word(char c) {
	return isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-';
}

/* "user@", or nothing; neither begins with a dash. NULL: it is something else. */
static const char *skip_user(const char *p) {
	const char *end = p;
	while (is_word(*end))
		end++;
	return *end != '@' ? p : *p == '-' || end == p ? NULL : end + 1;
}

/* A name or an IPv4 address, or an IPv6 one in brackets; NULL: it is none. */
static const char *skip_host(const char *p) {
	if (*p == '[') {
		const char *end = p + 1 + strspn(p + 1, "0123456789abcdefABCDEF:.");
		return *end == ']' && end > p + 1 ? end + 1 : NULL;
	}
	if (!isalnum((unsigned char)*p))
		return NULL;
	while (is_word(*p))
		p++;
	return p;
}

/* "git@host:path": git and ssh would take a path with a dash at its beginning for an option. */
static bool is_of_ssh(const char *url) {
	const char *host = skip_user(url), *end = host && host != url ? skip_host(host) : NULL;
	return end && *end == ':' && end[1] && end[1] != '-' && end[1] != ':';
}

static bool is_url(const char *url) {
	const char *host = strstr(url, "://") + 3, *end;
	host = is_http(url) ? host : skip_user(host);
	end = host ? skip_host(host) : NULL;
	if (end && *end == ':')
		end += 1 + strspn(end + 1, "0123456789");
	return end && *end == '/' && end[1];
}

bool git_source_is(const char *text) {
	size_t n = strcspn(text, "#");
	_cleanup_(free_ptr) char *url = str_copyn(text, n);
	return is_http(url) ? str_ends(url, ".git") : is_scheme(url) || is_of_ssh(url);
}

int git_url_check(const char *url, struct error *err) {
	bool plain = strlen(url) <= URL_MAX;
	for (const char *p = url; plain && *p; p++)
		plain = *p > ' ' && *p < 0x7f && *p != '#';
	if (plain && (is_scheme(url) ? is_url(url) : is_of_ssh(url)))
		return 0;
	_cleanup_(free_ptr) char *shown = text_shown(url);
	return error_set(err, ERROR_INVALID, "%s is not the URL of a git repository: https://, http://, git://, ssh:// or user@host:path "
			 "is wanted", shown);
}

/* ---- what of it ---- */

/* As git-check-ref-format(1) has it. */
int git_ref_check(const char *ref, struct error *err) {
	size_t n = strlen(ref);
	bool good = n && n <= REF_MAX && !strchr("-/.", *ref) && !strchr("/.", ref[n - 1]) && !str_ends(ref, ".lock") &&
		    !strstr(ref, "..") && !strstr(ref, "//") && !strstr(ref, "/.") && !strstr(ref, "@{");
	for (const char *p = ref; good && *p; p++)
		good = (unsigned char)*p > ' ' && *p != 0x7f && !strchr("~^:?*[\\", *p);
	if (good)
		return 0;
	_cleanup_(free_ptr) char *shown = text_shown(ref);
	return error_set(err, ERROR_INVALID, "invalid refspec: %s", shown);
}

bool git_is_commit(const char *ref) {
	size_t n = strlen(ref);
	return (n == 40 || n == 64) && strspn(ref, "0123456789abcdef") == n;
}

int git_commit_check(const char *commit, struct error *err) {
	return git_is_commit(commit) ? 0 : error_set(err, ERROR_INVALID, "is not the id of a commit");
}

int git_directory_check(const char *directory, struct error *err) {
	_cleanup_(strv_free_ptr) char **parts = strv_split(directory, '/');
	bool good = strlen(directory) <= DIRECTORY_MAX;
	for (char **p = parts; good && *p; p++)
		good = **p && !str_same(*p, ".") && !str_same(*p, "..");
	if (good)
		return 0;
	_cleanup_(free_ptr) char *shown = text_shown(directory);
	return error_set(err, ERROR_INVALID, "%s is not a directory beneath the repository", shown);
}

/* It becomes a line of a header. */
int git_authorization_check(const char *value, struct error *err) {
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
	if (str_starts(value, "Basic ") && !value[6 + strspn(value + 6, allowed)])
		return 0;
	return error_set(err, ERROR_INVALID, "is not what HTTP calls Basic");
}

/* ---- as people write it ---- */

/* %XX. A zero byte ends nothing that is sent: it is left as it stands. */
static char *decode(const char *p, size_t n) {
	struct buf out = BUF_INIT;
	for (size_t i = 0; i < n; i++) {
		const char hex[3] = {i + 2 < n ? p[i + 1] : 0, i + 2 < n ? p[i + 2] : 0};
		bool escaped = p[i] == '%' && isxdigit((unsigned char)hex[0]) && isxdigit((unsigned char)hex[1]);
		char c = escaped ? (char)strtoul(hex, NULL, 16) : 0;
		buf_addc(&out, c ? c : p[i]);
		i += c ? 2 : 0;
	}
	return buf_steal(&out);
}

/* Takes "user:password@" out of a URL of HTTP. */
static char *take_login(char **url) {
	char *host = strstr(*url, "://") + 3, *at = NULL;
	for (char *p = host; *p && *p != '/'; p++)
		at = *p == '@' ? p : at;
	if (!at)
		return NULL;
	size_t n = (size_t)(at - host), user = strcspn(host, ":");
	_cleanup_(free_ptr) char *name = decode(host, MIN(user, n));
	_cleanup_(free_ptr) char *password = user < n ? decode(host + user + 1, n - user - 1) : str_copy("");
	_cleanup_(free_ptr) char *both = str_format("%s:%s", name, password), *text = base64_encode(both, strlen(both));
	char *plain = str_format("%.*s%s", (int)(host - *url), *url, at + 1);
	explicit_bzero(*url, strlen(*url));
	explicit_bzero(both, strlen(both));
	explicit_bzero(password, strlen(password));
	free(*url);
	*url = plain;
	return str_format("Basic %s", text);
}

/* Without what path_clean would leave of it: "a/./b/" is "a/b". */
static int take_directory(const char *text, char **out, struct error *err) {
	_cleanup_(strv_free_ptr) char **parts = strv_split(text, '/'), **kept = NULL;
	for (char **p = parts; *p; p++)
		if (**p && !str_same(*p, "."))
			strv_add(&kept, *p);
	if (!kept)
		return 0;
	*out = strv_join(kept, "/");
	return git_directory_check(*out, err);
}

int git_source_parse(const char *text, struct git_source *out, struct error *err) {
	size_t n = strcspn(text, "#");
	const char *what = text[n] ? text + n + 1 : "", *directory = strchr(what, ':');
	*out = (struct git_source){
		.url = str_format("%s%.*s", str_starts(text, "github.com/") ? "https://" : "", (int)MIN(n, (size_t)URL_MAX + 1), text),
	};
	if (is_http(out->url))
		out->authorization = take_login(&out->url);
	if (*what && *what != ':')
		out->ref = str_copyn(what, strcspn(what, ":"));
	int r = git_url_check(out->url, err);
	if (r == 0 && out->ref)
		r = git_ref_check(out->ref, err);
	if (r == 0 && directory)
		r = take_directory(directory + 1, &out->directory, err);
	if (r < 0)
		git_source_free(out);
	return r;
}

bool git_source_is_ssh(const struct git_source *s) {
	return str_starts(s->url, "ssh://") || !is_scheme(s->url);
}

void git_source_free(struct git_source *s) {
	free(s->url);
	if (s->authorization)
		explicit_bzero(s->authorization, strlen(s->authorization));
	free(s->authorization);
	free(s->ref);
	free(s->directory);
	*s = (struct git_source){0};
}

char *git_source_print(const struct git_source *s) {
	const char *ref = s->ref ? s->ref : "", *directory = s->directory ? s->directory : "";
	return str_format("%s%s%s%s%s", s->url, *ref || *directory ? "#" : "", ref, *directory ? ":" : "", directory);
}

/* ---- what a repository has ---- */

/* The id in the line of that name, with what is behind it; NULL. */
static char *listed(const char *listing, const char *name, const char *behind) {
	struct str rest = str_view(listing);
	_cleanup_(free_ptr) char *wanted = str_format("%s%s", name, behind);
	while (rest.len) {
		struct str line = str_cut(&rest, '\n'), id = str_cut(&line, '\t');
		_cleanup_(free_ptr) char *text = str_copyn(id.p, id.len);
		if (str_is(line, wanted) && git_is_commit(text))
			return TAKE_PTR(text);
	}
	return NULL;
}

int git_listed_ref(const char *listing, const char *ref, char **name, char **commit, struct error *err) {
	const char *const before[] = {"refs/", "refs/heads/", "refs/tags/"};
	const char *plain = ref && str_starts(ref, "refs/") ? ref + strlen("refs/") : ref;
	for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
		*name = ref && !str_same(ref, "HEAD") ? str_format("%s%s", before[i], plain) : str_copy("HEAD");
		*commit = listed(listing, *name, "^{}"); /* of a tag that is an object of its own */
		if (!*commit)
			*commit = listed(listing, *name, "");
		if (*commit)
			return 0;
		free(TAKE_PTR(*name));
	}
	return error_set(err, ERROR_NOT_FOUND, "repository does not contain ref %s", ref ? ref : "HEAD");
}
