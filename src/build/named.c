/* Names of a Dockerfile that whoever wants the build has given another meaning: an image, or a directory of his. They go before stages
 * and images. */
#include "build/build-priv.h"

#include "base/str.h"

#include <strings.h>

/* "docker.io/library/x:latest" → "x"; other words stay as they are. */
static char *plain_name(const char *name) {
	struct image_ref ref;
	if (image_ref_parse(name, &ref, NULL) < 0)
		return str_copy(name);
	char *plain = image_ref_familiar(&ref);
	image_ref_free(&ref);
	if (str_ends(plain, ":latest"))
		plain[strlen(plain) - strlen(":latest")] = '\0';
	return plain;
}

const struct build_named *named_find(const struct builder *b, const char *name) {
	_cleanup_(free_ptr) char *wanted = b->o->n_named ? plain_name(name) : NULL;
	for (size_t i = 0; i < b->o->n_named; i++) {
		_cleanup_(free_ptr) char *one = plain_name(b->o->named[i].name);
		if (strcasecmp(one, wanted) == 0)
			return &b->o->named[i];
	}
	return NULL;
}

ssize_t named_stage(const struct builder *b, const char *name, size_t before) {
	return named_find(b, name) ? -1 : dockerfile_stage(&b->file, name, before);
}

int named_tree(struct builder *b, const struct build_named *n, struct tree **out, struct error *err) {
	const struct build_client *client = b->o->client;
	if (!client || !client->directory)
		return error_set(err, ERROR_INVALID, "there is no build context %s", n->name);
	pthread_mutex_lock(&b->asking);
	int r = client->directory(client->arg, n->name, out, err);
	pthread_mutex_unlock(&b->asking);
	return r;
}
