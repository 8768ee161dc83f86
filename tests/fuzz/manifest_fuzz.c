/* Manifests, indexes and image configurations: the same bytes as each of them. */
#include "image/manifest.h"

#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DIGEST "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static void as_manifest(const char *text, size_t n, const char *type) {
	struct manifest m;
	const struct descriptor *d;
	if (manifest_parse(text, n, type, &m, NULL) < 0)
		return;
	const struct registry_options arm = {.architecture = "arm", .variant = "v7"};
	if (m.index && manifest_select(&m, &arm, &d, NULL) == 0 && digest_check(d->digest, NULL) < 0)
		abort();
	manifest_free(&m);
}

static void as_config(const char *text, size_t n) {
	struct image image;
	char **diff_ids;
	fields_init(&image_table, &image);
	if (config_parse(text, n, &image, &diff_ids, NULL) == 0) {
		json_decref(config_print(&image.config));
		strv_free(diff_ids);
	}
	fields_free(&image_table, &image);
	struct manifest m = {.config.digest = (char *)DIGEST, .media_type = (char *)TYPE_OCI_MANIFEST};
	if (image_from_parts(&m, DIGEST, text, n, &image, NULL) == 0)
		fields_free(&image_table, &image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	as_manifest((const char *)data, size, NULL);
	as_manifest((const char *)data, size, TYPE_OCI_INDEX);
	as_config((const char *)data, size);
	return 0;
}
