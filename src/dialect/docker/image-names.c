/* Images by Docker's names: short forms, tags and digests apart, and what is said where there is none. */
#include "dialect/docker/images-priv.h"

#include "base/json.h"
#include "base/time.h"
#include "build/ignore.h"

/* A member that is not given fits anything. */
static bool platform_fits(const json_t *wanted, const struct image *i) {
	const char *const members[][2] = {{"os", i->os}, {"architecture", i->architecture}, {"variant", i->variant}};
	for (size_t k = 0; k < ARRAY_SIZE(members); k++) {
		const char *value = json_get_str(wanted, members[k][0]);
		if (value && *value && members[k][1] && *members[k][1] && !str_same(value, members[k][1]))
			return false;
	}
	return true;
}

bool docker_platform_is(struct http_request *req, const char *parameter, int since, const struct image *i) {
	_cleanup_(strv_free_ptr) char **all = docker_api(req) >= since ? http_query_all(req, parameter) : NULL;
	for (char **text = all; text && *text; text++) {
		_cleanup_(json_free_ptr) json_t *wanted = **text ? json_parse(*text, strlen(*text), NULL) : json_object();
		if (!json_is_object(wanted)) {
			docker_fail(req, 400, "failed to parse platform: %s: an object of OCI's is wanted", parameter);
			return false;
		}
		if (!i || platform_fits(wanted, i))
			continue;
		const char *os = json_get_str(wanted, "os"), *architecture = json_get_str(wanted, "architecture");
		docker_fail(req, 404, "image with reference %s was found but does not provide the specified platform (%.40s/%.40s)",
			    http_param(req, "name") ? http_param(req, "name") : i->id, os ? os : "", architecture ? architecture : "");
		return false;
	}
	return true;
}

char *docker_platform(const char *text, struct error *err) {
	static const char *const systems[] = {"aix", "darwin", "freebsd", "illumos", "netbsd", "openbsd", "solaris", "windows", NULL};
	static const char *const machines[][2] = {
		{"386", "386"}, {"i386", "386"}, {"amd64", "amd64"}, {"x86_64", "amd64"}, {"x86-64", "amd64"}, {"arm", "arm"},
		{"armhf", "arm/v7"}, {"armel", "arm/v6"}, {"arm64", "arm64"}, {"aarch64", "arm64"}, {"loong64", "loong64"},
		{"mips64le", "mips64le"}, {"ppc64le", "ppc64le"}, {"riscv64", "riscv64"}, {"s390x", "s390x"}, {"wasm", "wasm"}};
	if (!text || !*text || str_same(text, "linux"))
		return str_copy("");
	const char *slash = strchr(text, '/'), *machine = slash ? slash + 1 : text;
	_cleanup_(free_ptr) char *os = slash ? str_copyn(text, (size_t)(slash - text)) : str_copy("linux");
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++)
		if (str_same(machine, machines[i][0]))
			return str_format("%s/%s", os, machines[i][1]);
	_cleanup_(strv_free_ptr) char **parts = strv_split(text, '/');
	if (slash && strv_len(parts) <= 3)
		return str_copy(text);
	if (strv_has((char *const *)systems, text))
		return str_format("%s/amd64", text);
	_cleanup_(free_ptr) char *shown = text_shown(text);
	error_set(err, ERROR_INVALID, "\"%s\": unknown operating system or architecture: invalid argument", shown);
	return NULL;
}

char *docker_familiar(const char *full) {
	struct image_ref ref;
	if (image_ref_parse(full, &ref, NULL) < 0)
		return str_copy(full);
	if (ref.digest)
		free(TAKE_PTR(ref.tag));
	char *text = image_ref_familiar(&ref);
	image_ref_free(&ref);
	return text;
}

char *docker_familiar_name(const char *full) {
	struct image_ref ref;
	if (image_ref_parse(full, &ref, NULL) < 0)
		return str_copy(full);
	free(TAKE_PTR(ref.tag));
	free(TAKE_PTR(ref.digest));
	char *text = image_ref_familiar(&ref);
	image_ref_free(&ref);
	return text;
}

static bool is_id(const char *name) {
	const char *digits = str_starts(name, "sha256:") ? name + strlen("sha256:") : name;
	size_t n = strspn(digits, "0123456789abcdef");
	return !digits[n] && n > 0 && (n == 64 || digits != name);
}

static bool has_upper(const char *s) {
	for (; *s && *s != ':' && *s != '@'; s++)
		if (*s >= 'A' && *s <= 'Z')
			return true;
	return false;
}

void docker_reference_fail(struct http_request *req, const char *name) {
	const char *slash = strrchr(name, '/');
	docker_fail(req, 400, has_upper(slash ? slash : name) ? "invalid reference format: repository name must be lowercase"
							      : "invalid reference format");
}

void docker_image_fail(struct http_request *req, const char *name, const struct error *err) {
	struct image_ref ref;
	if (err->kind != ERROR_NOT_FOUND && err->kind != ERROR_INVALID)
		return fail(req, err);
	if (is_id(name))
		return docker_fail(req, 404, "No such image: %s", name);
	if (image_ref_parse(name, &ref, NULL) < 0)
		return docker_reference_fail(req, name);
	image_ref_free(&ref);
	_cleanup_(free_ptr) char *shown = docker_familiar(name);
	docker_fail(req, 404, "No such image: %s", shown);
}

char *docker_reference(struct http_request *req, const char *repository, const char *tag) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct image_ref ref;
	const char *slash = strrchr(repository, '/');
	bool tagged = strpbrk(slash ? slash : repository, ":@");
	_cleanup_(free_ptr) char *text = !tag || !*tag	       ? str_copy(repository)
					 : strchr(tag, ':') ? str_format("%s@%s", repository, tag)
					 : tagged	       ? str_copy(repository)
							       : str_format("%s:%s", repository, tag);
	if (image_ref_parse(text, &ref, &err) < 0) {
		docker_reference_fail(req, repository);
		return NULL;
	}
	if (ref.digest)
		free(TAKE_PTR(ref.tag));
	char *full = image_ref_print(&ref);
	image_ref_free(&ref);
	return full;
}

/* ---- what an image is called ---- */

/* Docker's patterns stop at slashes, and fit the name with or without its tag. */
static bool fits(const json_t *patterns, const char *full) {
	const json_t *pattern;
	size_t i;
	_cleanup_(free_ptr) char *shown = docker_familiar(full), *name = docker_familiar_name(full);
	json_array_foreach(patterns, i, pattern)
		if (path_match(json_string_value(pattern), shown, false) == 1 || path_match(json_string_value(pattern), name, false) == 1)
			return true;
	return json_array_size(patterns) == 0;
}

static void add(json_t *list, const char *full) {
	_cleanup_(free_ptr) char *shown = docker_familiar(full);
	const json_t *item;
	size_t i;
	json_array_foreach(list, i, item)
		if (str_same(json_string_value(item), shown))
			return;
	json_array_append_new(list, json_from_str(shown));
}

json_t *docker_repo_tags(const struct image *i, const json_t *patterns) {
	json_t *list = json_array();
	for (char **n = i->names; n && *n; n++)
		if (!strchr(*n, '@') && fits(patterns, *n))
			add(list, *n);
	return list;
}

json_t *docker_repo_digests(const struct image *i, const json_t *patterns) {
	json_t *list = json_array();
	for (char **d = i->digests; d && *d; d++)
		if (fits(patterns, *d))
			add(list, *d);
	for (char **n = i->names; n && *n; n++)
		if (strchr(*n, '@') && fits(patterns, *n))
			add(list, *n);
	return list;
}

int64_t docker_image_size(const struct image *i) {
	int64_t size = 0;
	for (size_t k = 0; k < i->layers.n; k++)
		size += i->layers.items[k].unpacked_size;
	return size;
}

bool docker_image_has_children(struct image_snap *const *all, const char *id) {
	for (; *all; all++)
		if (str_same((*all)->image.parent, id))
			return true;
	return false;
}

int docker_time_parse(const char *text, int64_t *ns) {
	static const char rest[] = "0000-01-01T00:00:00Z";
	int64_t duration;
	size_t n = strlen(text);
	if (n && strchr("smh", text[n - 1]) && str_to_duration(text, &duration) == 0) {
		*ns = time_now_ns() - duration;
		return 0;
	}
	if (time_parse(text, ns) == 0)
		return 0;
	if (n != 7 && n != 10 && n != 13 && n != 16 && n != 19)
		return -EINVAL;
	_cleanup_(free_ptr) char *whole = str_format("%s%s", text, rest + n);
	return time_parse(whole, ns);
}
