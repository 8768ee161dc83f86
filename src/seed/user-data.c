/* User data: what the fields of struct cloud_init say becomes a #cloud-config of its own, joined with the user's by MIME. In
 * what both say the user's counts; lists of both are joined. */
#include "seed/seed-priv.h"

#include "base/base64.h"
#include "base/str.h"

#include <crypt.h>
#include <openssl/sha.h>
#include <strings.h>

/* The salt is the instance's: made of the password it would tell about it, made anew each time it would change the medium. */
static int password_hash(const char *id, const char *password, char **out, struct error *err) {
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char salt[CRYPT_GENSALT_OUTPUT_SIZE];
	_cleanup_(free_ptr) char *seed = str_format("password of %s", id);
	SHA256((const unsigned char *)seed, strlen(seed), digest);
	if (!crypt_gensalt_rn("$y$", 0, (const char *)digest, 16, salt, sizeof salt))
		return error_set(err, ERROR_UNSUPPORTED, "this host's libcrypt has no yescrypt");
	_cleanup_(free_ptr) struct crypt_data *work = alloc_zero(sizeof *work);
	char *hash = crypt_rn(password, salt, work, (int)sizeof *work);
	if (!hash)
		return error_field(err, "password", "cannot be hashed");
	*out = str_copy(hash);
	explicit_bzero(work, sizeof *work);
	return 0;
}

static int user_make(const struct seed *s, json_t *config, struct error *err) {
	const struct cloud_init *c = s->config;
	_cleanup_(free_ptr) char *hash = NULL;
	if (!c->user && !c->password)
		return 0;
	int r = c->password ? password_hash(s->id, c->password, &hash, err) : 0;
	if (r < 0)
		return r;
	json_t *user = json_object();
	json_set_str(user, "name", c->user);
	if (hash) {
		json_set_str(user, "hashed_passwd", hash); /* also of one that is in the image */
		json_set_bool(user, "lock_passwd", false);
	}
	json_object_set_new(config, "user", user);
	return 0;
}

/* Lists are appended to those that are there, of the rest what is there stays. */
static json_t *joining(void) {
	return json_pack("[{s:s,s:[s]},{s:s,s:[s,s,s]}]", "name", "list", "settings", "append", "name", "dict", "settings",
			 "no_replace", "recurse_list", "recurse_dict");
}

static int config_make(const struct seed *s, char **out, struct error *err) {
	const struct cloud_init *c = s->config;
	_cleanup_(json_free_ptr) json_t *config = json_object();
	int r = user_make(s, config, err);
	if (r < 0)
		return r;
	if (strv_len(c->ssh_keys))
		json_object_set_new(config, "ssh_authorized_keys", json_from_strv(c->ssh_keys));
	if (strv_len(c->packages))
		json_object_set_new(config, "packages", json_from_strv(c->packages));
	if (strv_len(c->packages) || c->upgrade)
		json_set_bool(config, "package_update", true);
	if (c->upgrade)
		json_set_bool(config, "package_upgrade", true);
	if (!json_object_size(config))
		return 0;
	if (c->user_data)
		json_object_set_new(config, "merge_how", joining());
	_cleanup_(free_ptr) char *text = yaml_print(config);
	*out = str_format("#cloud-config\n%s", text);
	return 0;
}

static void part_add(struct buf *b, const char *boundary, const char *type, const char *text) {
	_cleanup_(free_ptr) char *data = base64_encode(text, strlen(text));
	buf_addf(b, "--%s\nContent-Type: %s; charset=\"utf-8\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n", boundary,
		 type);
	for (size_t at = 0, n = strlen(data); at < n; at += 76)
		buf_addf(b, "%.76s\n", data + at);
}

/* Whether it is a MIME message, which then is a part as it stands. */
static bool is_mime(const char *text) {
	return strncasecmp(text, "content-type:", 13) == 0 || strncasecmp(text, "mime-version:", 13) == 0;
}

/* The user's comes first, so that it is kept where the two differ. Of its part cloud-init finds out itself what it is. */
static char *join(const char *ours, const char *theirs) {
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char boundary[2 * SHA256_DIGEST_LENGTH + 1];
	struct buf b = BUF_INIT;
	SHA256((const unsigned char *)theirs, strlen(theirs), digest);
	hex_encode(digest, sizeof digest, boundary);
	buf_addf(&b, "Content-Type: multipart/mixed; boundary=\"%s\"\nMIME-Version: 1.0\n\n", boundary);
	if (is_mime(theirs))
		buf_addf(&b, "--%s\n%s\n", boundary, theirs);
	else
		part_add(&b, boundary, "text/plain", theirs);
	part_add(&b, boundary, "text/cloud-config", ours);
	buf_addf(&b, "--%s--\n", boundary);
	return buf_steal(&b);
}

int user_data_make(const struct seed *s, char **out, struct error *err) {
	const char *theirs = s->config->user_data;
	_cleanup_(free_ptr) char *ours = NULL;
	int r = config_make(s, &ours, err);
	if (r < 0)
		return r;
	*out = ours && theirs ? join(ours, theirs) : ours ? TAKE_PTR(ours) : theirs ? str_copy(theirs) : NULL;
	return 0;
}
