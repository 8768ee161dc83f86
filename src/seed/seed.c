/* The files of both kinds of media. */
#include "seed/seed-priv.h"

#include "base/str.h"

#include <openssl/sha.h>

#define INSTANCE_ID_MAX 64

bool seed_wanted(const struct cloud_init *c) {
	return c->datasource ? !str_same(c->datasource, "none")
			     : c->user_data || c->vendor_data || c->network_config || c->user || c->password || strv_len(c->ssh_keys) ||
				       strv_len(c->packages) || c->upgrade;
}

static void add(struct seed_file *files, const char *path, char *data) {
	while (files->path)
		files++;
	*files = (struct seed_file){str_copy(path), data};
}

/* Of what the guest is told; lengths too, so that nothing can move from one to the next unseen. */
static void instance_id(const struct seed *s, const struct seed_file *files, char out[INSTANCE_ID_MAX]) {
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char hex[2 * SHA256_DIGEST_LENGTH + 1];
	_cleanup_(buf_free) struct buf all = BUF_INIT;
	for (; files->path; files++)
		buf_addf(&all, "%s %zu\n%s", files->path, strlen(files->data), files->data);
	buf_addf(&all, "hostname %s", s->hostname);
	SHA256((const unsigned char *)buf_str(&all), all.len, digest);
	hex_encode(digest, sizeof digest, hex);
	snprintf(out, INSTANCE_ID_MAX, "wabe-%.12s-%.16s", s->id, hex);
}

static char *print(json_t *value) {
	char *text = yaml_print(value);
	json_decref(value);
	return text;
}

/* --- NoCloud --- */

static void nocloud(const struct seed *s, char *user_data, struct seed_file *files) {
	const struct cloud_init *c = s->config;
	char id[INSTANCE_ID_MAX];
	add(files, "user-data", user_data ? user_data : str_copy("#cloud-config\n{}\n"));
	if (c->vendor_data)
		add(files, "vendor-data", str_copy(c->vendor_data));
	if (c->network_config || s->n_nics)
		add(files, "network-config", c->network_config ? str_copy(c->network_config) : print(network_v2(s)));
	instance_id(s, files, id);
	add(files, "meta-data", print(json_pack("{s:s,s:s}", "instance-id", id, "local-hostname", s->hostname)));
}

/* --- config drive --- */

static json_t *keys(char *const *ssh_keys) {
	json_t *o = json_object();
	for (size_t i = 0; ssh_keys && ssh_keys[i]; i++) {
		_cleanup_(free_ptr) char *name = str_format("key%zu", i);
		json_set_str(o, name, ssh_keys[i]);
	}
	return o;
}

/* There is one format for networks on such a medium. */
static int network_check(const struct seed *s, struct error *err) {
	const char *text = s->config->network_config;
	if (!text)
		return 0;
	_cleanup_(json_free_ptr) json_t *o = json_parse(text, strlen(text), NULL);
	if (json_is_array(json_object_get(o, "links")))
		return 0;
	return error_field(err, "network_config", "a config drive has OpenStack's network_data.json only; for version 1 or 2 take "
						  "datasource nocloud");
}

static int config_drive(const struct seed *s, char *user_data, struct seed_file *files, struct error *err) {
	const struct cloud_init *c = s->config;
	char id[INSTANCE_ID_MAX];
	int r = network_check(s, err);
	if (r < 0) {
		free(user_data);
		return r;
	}
	if (user_data)
		add(files, "openstack/latest/user_data", user_data);
	if (c->vendor_data)
		add(files, "openstack/latest/vendor_data.json", print(json_pack("{s:s}", "cloud-init", c->vendor_data)));
	if (c->network_config || s->n_nics)
		add(files, "openstack/latest/network_data.json",
		    c->network_config ? str_copy(c->network_config) : print(network_openstack(s)));
	instance_id(s, files, id);
	add(files, "openstack/latest/meta_data.json",
	    print(json_pack("{s:s,s:s,s:s,s:o}", "uuid", id, "hostname", s->hostname, "name", s->hostname, "public_keys",
			    keys(c->ssh_keys))));
	return 0;
}

/* --- both --- */

static bool is_drive(const struct seed *s) {
	return str_same(s->config->datasource, "config-drive");
}

int seed_files(const struct seed *s, struct seed_file out[SEED_FILES_MAX], struct error *err) {
	char *user_data = NULL;
	memset(out, 0, SEED_FILES_MAX * sizeof *out);
	int r = user_data_make(s, &user_data, err);
	if (r == 0 && is_drive(s))
		r = config_drive(s, user_data, out, err);
	else if (r == 0)
		nocloud(s, user_data, out);
	return r;
}

void seed_files_free(struct seed_file files[SEED_FILES_MAX]) {
	for (size_t i = 0; i < SEED_FILES_MAX; i++) {
		free(files[i].path);
		free(files[i].data);
	}
	memset(files, 0, SEED_FILES_MAX * sizeof *files);
}

int seed_write(const struct seed *s, int fd, struct error *err) {
	struct seed_file files[SEED_FILES_MAX];
	int r = seed_files(s, files, err);
	if (r == 0)
		r = iso_write(is_drive(s) ? "config-2" : "cidata", files, fd, err);
	seed_files_free(files);
	return r;
}
