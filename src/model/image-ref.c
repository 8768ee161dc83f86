/* References to images, as github.com/distribution/reference defines and normalises them:
 *
 *   reference  = name [":" tag] ["@" digest]
 *   name       = [domain "/"] component *("/" component)
 *   domain     = host [":" port]; host: labels of letters, digits and "-", or an IPv6 address in brackets
 *   component  = [a-z0-9]+ joined by one of ".", one or two "_", or any number of "-"
 *   tag        = [A-Za-z0-9_][A-Za-z0-9_.-]{0,127} */
#include "model/image.h"

#include "base/str.h"

#include <ctype.h>

#define NAME_MAX_LEN 255
#define TAG_MAX_LEN 128
#define DIGEST_HEX 64
#define DEFAULT_REGISTRY "docker.io"

static bool is_lower_alnum(char c) {
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

int digest_check(const char *digest, struct error *err) {
	static const char prefix[] = "sha256:";
	size_t n = sizeof prefix - 1;
	if (strncmp(digest, prefix, n) == 0 && strspn(digest + n, "0123456789abcdef") == DIGEST_HEX &&
	    !digest[n + DIGEST_HEX])
		return 0;
	_cleanup_(free_ptr) char *shown = text_shown(digest);
	return error_set(err, ERROR_INVALID, "\"%s\" is not a digest (sha256: and 64 hexadecimal digits)", shown);
}

/* The length of a separator between alphanumerics: ".", "_", "__" or any run of "-"; 0: none. */
static size_t separator(const char *s) {
	if (*s == '.')
		return 1;
	if (*s == '_')
		return s[1] == '_' ? 2 : 1;
	return strspn(s, "-");
}

static bool component_ok(const char *s) {
	for (;;) {
		if (!is_lower_alnum(*s))
			return false;
		while (is_lower_alnum(*s))
			s++;
		if (!*s)
			return true;
		size_t n = separator(s);
		if (!n)
			return false;
		s += n;
	}
}

static bool repository_ok(const char *repository) {
	struct str rest = str_view(repository);
	if (!rest.len || str_ends(repository, "/"))
		return false;
	while (rest.len) {
		struct str part = str_cut(&rest, '/');
		_cleanup_(free_ptr) char *text = str_copyn(part.p, part.len);
		if (!component_ok(text))
			return false;
	}
	return true;
}

static bool host_label_ok(struct str label) {
	if (!label.len || label.p[0] == '-' || label.p[label.len - 1] == '-')
		return false;
	for (size_t i = 0; i < label.len; i++)
		if (!isalnum((unsigned char)label.p[i]) && label.p[i] != '-')
			return false;
	return true;
}

/* Gives what stands behind the host, or NULL. */
static const char *skip_host(const char *registry) {
	if (registry[0] == '[') {
		size_t n = strspn(registry + 1, "0123456789abcdefABCDEF:");
		return n && registry[1 + n] == ']' ? registry + n + 2 : NULL;
	}
	size_t n = strcspn(registry, ":");
	struct str rest = {registry, n};
	if (!n || registry[n - 1] == '.')
		return NULL;
	while (rest.len)
		if (!host_label_ok(str_cut(&rest, '.')))
			return NULL;
	return registry + n;
}

static bool registry_ok(const char *registry) {
	const char *port = strlen(registry) <= NAME_MAX_LEN ? skip_host(registry) : NULL;
	if (!port)
		return false;
	return !*port || (*port == ':' && port[1] && strspn(port + 1, "0123456789") == strlen(port + 1));
}

static bool tag_ok(const char *tag) {
	size_t n = strlen(tag);
	if (!n || n > TAG_MAX_LEN || tag[0] == '.' || tag[0] == '-')
		return false;
	for (; *tag; tag++)
		if (!isalnum((unsigned char)*tag) && !strchr("_.-", *tag))
			return false;
	return true;
}

static bool has_upper(const char *s, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (isupper((unsigned char)s[i]))
			return true;
	return false;
}

/* Whether the n bytes before the first slash are a registry: they look like a host's name and port, not like
 * the first part of a repository. */
static bool is_registry(const char *s, size_t n) {
	return memchr(s, '.', n) || memchr(s, ':', n) || (n == 9 && memcmp(s, "localhost", 9) == 0) || has_upper(s, n);
}

/* name without tag and digest */
static void split_name(const char *name, struct image_ref *ref) {
	const char *slash = strchr(name, '/');
	size_t n = slash ? (size_t)(slash - name) : 0;
	bool given = slash && is_registry(name, n);
	ref->registry = given ? str_copyn(name, n) : str_copy(DEFAULT_REGISTRY);
	const char *path = given ? slash + 1 : name;
	if (strcmp(ref->registry, "index.docker.io") == 0) {
		free(ref->registry);
		ref->registry = str_copy(DEFAULT_REGISTRY);
	}
	bool official = strcmp(ref->registry, DEFAULT_REGISTRY) == 0 && *path && !strchr(path, '/');
	ref->repository = str_format("%s%s", official ? "library/" : "", path);
}

/* Cuts tag and digest off. */
static char *split_suffixes(const char *text, struct image_ref *ref) {
	const char *at = strchr(text, '@');
	if (at)
		ref->digest = str_copy(at + 1);
	char *name = str_copyn(text, at ? (size_t)(at - text) : strlen(text));
	char *slash = strrchr(name, '/'), *colon = strrchr(slash ? slash : name, ':');
	if (colon) {
		ref->tag = str_copy(colon + 1);
		*colon = '\0';
	} else if (!at) {
		ref->tag = str_copy("latest");
	}
	return name;
}

static int check_ref(const struct image_ref *ref, const char *name, const char *shown, struct error *err) {
	if (strlen(name) == DIGEST_HEX && strspn(name, "0123456789abcdef") == DIGEST_HEX)
		return error_set(err, ERROR_INVALID, "\"%s\" is not an image's name: 64 hexadecimal digits are an id",
				 shown);
	if (!registry_ok(ref->registry))
		return error_set(err, ERROR_INVALID, "\"%s\" is not an image's name: its registry is not a host name",
				 shown);
	if (has_upper(ref->repository, strlen(ref->repository)))
		return error_set(err, ERROR_INVALID, "\"%s\" is not an image's name: it must be in lower case", shown);
	if (!repository_ok(ref->repository))
		return error_set(err, ERROR_INVALID, "\"%s\" is not an image's name", shown);
	if (strlen(ref->repository) > NAME_MAX_LEN)
		return error_set(err, ERROR_INVALID, "\"%s\" is not an image's name: it is longer than 255", shown);
	if (ref->tag && !tag_ok(ref->tag))
		return error_set(err, ERROR_INVALID, "\"%s\" has no valid tag: letters, digits, \"_\", \".\", \"-\", "
				 "at most 128", shown);
	return ref->digest ? digest_check(ref->digest, err) : 0;
}

int image_ref_parse(const char *text, struct image_ref *ref, struct error *err) {
	*ref = (struct image_ref){0};
	_cleanup_(free_ptr) char *shown = text_shown(text);
	_cleanup_(free_ptr) char *name = split_suffixes(text, ref);
	split_name(name, ref);
	int r = check_ref(ref, name, shown, err);
	if (r < 0)
		image_ref_free(ref);
	return r;
}

static char *print_ref(const struct image_ref *ref, const char *registry, const char *repository) {
	return str_format("%s%s%s%s%s%s%s", registry, *registry ? "/" : "", repository, ref->tag ? ":" : "",
			  ref->tag ? ref->tag : "", ref->digest ? "@" : "", ref->digest ? ref->digest : "");
}

char *image_ref_print(const struct image_ref *ref) {
	return print_ref(ref, ref->registry, ref->repository);
}

char *image_ref_familiar(const struct image_ref *ref) {
	if (strcmp(ref->registry, DEFAULT_REGISTRY) != 0)
		return image_ref_print(ref);
	const char *path = ref->repository, *slash = strchr(path, '/');
	if (str_starts(path, "library/") && !strchr(slash + 1, '/'))
		return print_ref(ref, "", slash + 1);
	if (!slash || is_registry(path, (size_t)(slash - path))) /* would be read as another */
		return image_ref_print(ref);
	return print_ref(ref, "", path);
}

char *image_ref_digest(const struct image_ref *ref, const char *digest) {
	return str_format("%s/%s@%s", ref->registry, ref->repository, digest);
}

/* Where the repository ends: at the digest, or at a colon behind the last slash. */
static size_t repository_len(const char *full) {
	size_t n = strcspn(full, "@");
	for (size_t i = n; i > 0 && full[i - 1] != '/'; i--)
		if (full[i - 1] == ':')
			n = i - 1;
	return n;
}

bool image_ref_same_repository(const char *a, const char *b) {
	size_t n = repository_len(a);
	return n == repository_len(b) && strncmp(a, b, n) == 0;
}

void image_ref_free(struct image_ref *ref) {
	free(ref->registry);
	free(ref->repository);
	free(ref->tag);
	free(ref->digest);
	*ref = (struct image_ref){0};
}
