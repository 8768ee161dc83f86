/* Credentials as Docker's clients send them: base64url of JSON, in a header. */
#include "dialect/docker/docker-priv.h"

#include "base/base64.h"

#define HEADER_MAX ((size_t)64 << 10)

struct auth_config {
	char *username, *password, *auth, *identity, *token, *server;
};
static const struct field auth_fields[] = {
	FIELD_AS("username", struct auth_config, username, FIELD_STRING, .max = 4096, .doc = "User"),
	FIELD_AS("password", struct auth_config, password, FIELD_STRING, .max = 65536, .flags = FIELD_SECRET, .doc = "Password"),
	FIELD_AS("auth", struct auth_config, auth, FIELD_STRING, .max = 65536, .flags = FIELD_SECRET,
		 .doc = "Both: base64 of user:password"),
	FIELD_AS("identitytoken", struct auth_config, identity, FIELD_STRING, .max = 65536, .flags = FIELD_SECRET,
		 .doc = "Instead of a password"),
	FIELD_AS("registrytoken", struct auth_config, token, FIELD_STRING, .max = 65536, .flags = FIELD_SECRET,
		 .doc = "A bearer token"),
	FIELD_AS("serveraddress", struct auth_config, server, FIELD_STRING, .max = 4096, .doc = "Registry"),
};
static const struct field_table auth_table = {"auth_config", "Credentials of a registry", sizeof(struct auth_config),
					      auth_fields, ARRAY_SIZE(auth_fields)};

static void wipe(struct buf *b) {
	if (b->data)
		explicit_bzero(b->data, b->len);
	buf_free(b);
}

static void secret_free(char **s) {
	if (*s)
		explicit_bzero(*s, strlen(*s));
	free(*s);
}

/* Either alphabet, padded or not; NULL: it is no base64, or holds a NUL. */
static char *decode(const char *text) {
	size_t n = strcspn(text, "=");
	_cleanup_(secret_free) char *plain = str_format("%.*s%.*s", (int)n, text, (int)((4 - n % 4) % 4), "===");
	_cleanup_(wipe) struct buf out = BUF_INIT;
	for (char *p = plain; *p; p++)
		*p = *p == '-' ? '+' : *p == '_' ? '/' : *p;
	if (strspn(text + n, "=") != strlen(text + n) || base64_decode(plain, &out) < 0 || memchr(buf_str(&out), '\0', out.len))
		return NULL;
	return buf_steal(&out);
}

/* "user:password" in base64. */
static void split_auth(const char *auth, struct docker_auth *out) {
	_cleanup_(secret_free) char *text = decode(auth);
	char *colon = text ? strchr(text, ':') : NULL;
	if (!colon)
		return;
	out->username = str_copyn(text, (size_t)(colon - text));
	out->password = str_copy(colon + 1);
}

static void take(struct auth_config *c, struct docker_auth *out) {
	out->server = TAKE_PTR(c->server);
	if (c->identity && *c->identity) {
		out->username = str_copy("<token>");
		out->password = TAKE_PTR(c->identity);
	} else if (c->username && *c->username) {
		out->username = TAKE_PTR(c->username);
		out->password = TAKE_PTR(c->password);
	} else if (c->auth && *c->auth) {
		split_auth(c->auth, out);
	}
}

int docker_auth_parse_json(const json_t *json, struct docker_auth *out, struct error *err) {
	struct auth_config c;
	*out = (struct docker_auth){0};
	int r = fields_parse(&auth_table, json, FIELDS_FOREIGN, &c, err);
	if (r < 0)
		return r;
	bool token = c.token && *c.token;
	if (!token)
		take(&c, out);
	fields_free(&auth_table, &c);
	return token ? error_set(err, ERROR_UNSUPPORTED, "registrytoken: log in with a user name or an identity token instead") : 0;
}

json_t *docker_header_json(const char *name, const char *header, struct error *err) {
	_cleanup_(secret_free) char *text = strlen(header) <= HEADER_MAX ? decode(header) : NULL;
	if (!text) {
		error_set(err, ERROR_INVALID, "invalid %s header: it is not base64url", name);
		return NULL;
	}
	json_t *json = json_parse(text, strlen(text), NULL);
	if (json_is_object(json))
		return json;
	json_decref(json);
	error_set(err, ERROR_INVALID, "invalid %s header: it is not JSON in base64url", name);
	return NULL;
}

int docker_auth_parse(const char *header, struct docker_auth *out, struct error *err) {
	*out = (struct docker_auth){0};
	if (!header || !*header)
		return 0;
	_cleanup_(json_free_ptr) json_t *json = docker_header_json("X-Registry-Auth", header, err);
	return json ? docker_auth_parse_json(json, out, err) : -ERROR_INVALID;
}

void docker_auth_free(struct docker_auth *a) {
	free(a->username);
	secret_free(&a->password);
	free(a->server);
	*a = (struct docker_auth){0};
}
