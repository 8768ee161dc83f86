/* Manifests and indexes: parsing, choosing by platform, printing. Every type is checked, every count and
 * length capped; a text that could be read as both a manifest and an index is refused. */
#include "image/manifest.h"

#include "base/str.h"
#include "image/artifact.h"

#include <stdio.h>
#include <sys/utsname.h>

#define ITEMS_MAX 1024
#define LAYERS_MAX 512
#define WORD_MAX 256

static const char *const layer_types[] = {
	TYPE_OCI_LAYER,	   TYPE_OCI_LAYER "+gzip",    TYPE_OCI_LAYER "+zstd",
	TYPE_DOCKER_LAYER, TYPE_DOCKER_LAYER ".gzip", TYPE_DOCKER_LAYER ".zstd",
};

static bool is_one_of(const char *s, const char *const *list, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (strcmp(s, list[i]) == 0)
			return true;
	return false;
}

static bool is_index_type(const char *type) {
	return strcmp(type, TYPE_OCI_INDEX) == 0 || strcmp(type, TYPE_DOCKER_LIST) == 0;
}

static bool is_manifest_type(const char *type) {
	return strcmp(type, TYPE_OCI_MANIFEST) == 0 || strcmp(type, TYPE_DOCKER_MANIFEST) == 0;
}

/* A string member that may be absent or null; printable and short, as it ends up in messages. */
static int take_word(const json_t *o, const char *key, char **out, struct error *err) {
	const json_t *v = json_object_get(o, key);
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_string(v) || json_string_length(v) > WORD_MAX)
		return error_field(err, key, "%s must be a string of at most %d bytes", key, WORD_MAX);
	const char *s = json_string_value(v);
	for (const char *p = s; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return error_field(err, key, "%s holds a control character", key);
	if (*s)
		*out = str_copy(s);
	return 0;
}

void descriptor_free(struct descriptor *d) {
	free(d->media_type);
	free(d->digest);
	free(d->os);
	free(d->architecture);
	free(d->variant);
	free(d->name);
	free(d->ref_name);
	*d = (struct descriptor){0};
}

static int parse_annotations(const json_t *a, struct descriptor *d, struct error *err) {
	if (!a || json_is_null(a))
		return 0;
	if (!json_is_object(a))
		return error_field(err, "annotations", "annotations must be an object");
	d->attestation = json_object_get(a, "vnd.docker.reference.type") != NULL;
	int r = take_word(a, "io.containerd.image.name", &d->name, err);
	return r < 0 ? r : take_word(a, "org.opencontainers.image.ref.name", &d->ref_name, err);
}

static int parse_platform(const json_t *p, struct descriptor *d, struct error *err) {
	if (!p || json_is_null(p))
		return 0;
	if (!json_is_object(p))
		return error_field(err, "platform", "platform must be an object");
	int r = take_word(p, "os", &d->os, err);
	if (r == 0)
		r = take_word(p, "architecture", &d->architecture, err);
	if (r == 0)
		r = take_word(p, "variant", &d->variant, err);
	return r;
}

static int parse_descriptor(const json_t *o, struct descriptor *d, struct error *err) {
	if (!json_is_object(o))
		return error_set(err, ERROR_INVALID, "a descriptor must be an object");
	int r = take_word(o, "mediaType", &d->media_type, err);
	if (r == 0)
		r = take_word(o, "digest", &d->digest, err);
	if (r < 0)
		return r;
	if (!d->media_type)
		return error_field(err, "mediaType", "a descriptor needs a mediaType");
	if (!d->digest)
		return error_field(err, "digest", "a descriptor needs a digest");
	if (str_starts(d->digest, "sha512:"))
		return error_set(err, ERROR_UNSUPPORTED, "digests of the kind sha512 are not supported, only sha256");
	if ((r = digest_check(d->digest, err)) < 0)
		return r;
	const json_t *size = json_object_get(o, "size");
	d->size = json_integer_value(size);
	if (!json_is_integer(size) || d->size < 0)
		return error_field(err, "size", "a descriptor needs a size that is not negative");
	r = parse_platform(json_object_get(o, "platform"), d, err);
	return r < 0 ? r : parse_annotations(json_object_get(o, "annotations"), d, err);
}

static int check_layer(const struct manifest *m, const json_t *o, const struct descriptor *d, struct error *err) {
	if (str_same(m->config.media_type, TYPE_ARTIFACT_CONFIG) && blob_type_find(d->media_type))
		return 0;
	if (is_one_of(d->media_type, layer_types, ARRAY_SIZE(layer_types)))
		return 0;
	if (strstr(d->media_type, "nondistributable") || strstr(d->media_type, "foreign") || json_object_get(o, "urls"))
		return error_set(err, ERROR_UNSUPPORTED,
				 "layer %s may not be distributed by registries (%s): such images "
				 "are not supported",
				 d->digest, d->media_type);
	return error_set(err, ERROR_UNSUPPORTED, "layer %s has the unknown type %s", d->digest, d->media_type);
}

static int parse_items(const json_t *list, const char *key, size_t max, struct manifest *m, struct error *err) {
	if (!json_is_array(list))
		return error_field(err, key, "%s must be a list", key);
	size_t n = json_array_size(list);
	if (n > max)
		return error_set(err, ERROR_TOO_LARGE, "%zu %s are over the limit of %zu", n, key, max);
	m->items.items = alloc_array(n, sizeof *m->items.items);
	for (size_t i = 0; i < n; i++) {
		const json_t *o = json_array_get(list, i);
		struct descriptor *d = &m->items.items[i];
		m->items.n = i + 1;
		int r = parse_descriptor(o, d, err);
		if (r == 0 && !m->index)
			r = check_layer(m, o, d, err);
		if (r < 0) {
			char at[32];
			snprintf(at, sizeof at, "%s[%zu]", key, i);
			error_in_field(err, at);
			return r;
		}
	}
	return 0;
}

static int parse_config_descriptor(const json_t *o, struct manifest *m, struct error *err) {
	int r = parse_descriptor(o, &m->config, err);
	if (r < 0) {
		error_in_field(err, "config");
		return r;
	}
	static const char *const known[] = {TYPE_OCI_CONFIG, TYPE_DOCKER_CONFIG, TYPE_ARTIFACT_CONFIG};
	if (!is_one_of(m->config.media_type, known, ARRAY_SIZE(known)))
		return error_set(err, ERROR_UNSUPPORTED, "it is neither a container image nor one of a machine: its config has the type %s",
				 m->config.media_type);
	if (m->config.size > (int64_t)CONFIG_MAX)
		return error_set(err, ERROR_TOO_LARGE, "the image's config of %lld bytes is over the limit of %zu",
				 (long long)m->config.size, CONFIG_MAX);
	return 0;
}

/* What the document is: by its own mediaType, else by what came along, else by its shape. */
static int find_type(const json_t *o, const char *given, struct manifest *m, struct error *err) {
	int r = take_word(o, "mediaType", &m->media_type, err);
	if (r < 0)
		return r;
	bool manifests = json_object_get(o, "manifests"),
	     layers = json_object_get(o, "layers") || json_object_get(o, "config");
	if (given && !is_index_type(given) && !is_manifest_type(given))
		given = NULL; /* "application/json", "text/plain" of simple servers */
	if (m->media_type && given && is_index_type(m->media_type) != is_index_type(given))
		return error_set(err, ERROR_INVALID, "the manifest says it is %s but came as %s", m->media_type, given);
	if (!m->media_type)
		m->media_type = str_copy(given ? given : manifests ? TYPE_OCI_INDEX : TYPE_OCI_MANIFEST);
	if (!is_index_type(m->media_type) && !is_manifest_type(m->media_type))
		return error_set(err, ERROR_UNSUPPORTED, "manifests of the type %s are not supported", m->media_type);
	m->index = is_index_type(m->media_type);
	if (m->index ? layers : manifests)
		return error_set(err, ERROR_INVALID, "the manifest is both an image and an index of images");
	return 0;
}

static int parse(const json_t *o, const char *given, struct manifest *m, struct error *err) {
	if (!json_is_object(o))
		return error_set(err, ERROR_INVALID, "a manifest must be an object");
	if (json_get_int(o, "schemaVersion") == 1)
		return error_set(err, ERROR_UNSUPPORTED,
				 "the image is stored in the obsolete manifest schema 1: push it again "
				 "with a program of today");
	if (json_get_int(o, "schemaVersion") != 2)
		return error_field(err, "schemaVersion", "schemaVersion must be 2");
	int r = find_type(o, given, m, err);
	if (r < 0)
		return r;
	if (m->index)
		return parse_items(json_object_get(o, "manifests"), "manifests", ITEMS_MAX, m, err);
	r = parse_config_descriptor(json_object_get(o, "config"), m, err);
	return r < 0 ? r : parse_items(json_object_get(o, "layers"), "layers", LAYERS_MAX, m, err);
}

int manifest_parse(const char *text, size_t n, const char *media_type, struct manifest *out, struct error *err) {
	*out = (struct manifest){0};
	if (n > MANIFEST_MAX)
		return error_set(err, ERROR_TOO_LARGE, "a manifest of %zu bytes is over the limit of %zu", n,
				 MANIFEST_MAX);
	_cleanup_(json_free_ptr) json_t *o = json_parse(text, n, err);
	int r = o ? parse(o, media_type, out, err) : -ERROR_INVALID;
	if (r < 0)
		manifest_free(out);
	return r;
}

void manifest_free(struct manifest *m) {
	for (size_t i = 0; i < m->items.n; i++)
		descriptor_free(&m->items.items[i]);
	free(m->items.items);
	descriptor_free(&m->config);
	free(m->media_type);
	*m = (struct manifest){0};
}

/* --- platforms --- */

static const struct {
	const char *machine, *architecture, *variant;
} machines[] = {
	{"x86_64", "amd64", NULL},    {"aarch64", "arm64", "v8"},	{"armv7l", "arm", "v7"},
	{"armv8l", "arm", "v7"},      {"armv6l", "arm", "v6"},		{"i686", "386", NULL},
	{"i586", "386", NULL},	      {"ppc64le", "ppc64le", NULL},	{"riscv64", "riscv64", NULL},
	{"mips64", "mips64le", NULL}, {"loongarch64", "loong64", NULL},
};

static size_t this_machine(void) {
	struct utsname u;
	size_t i = 0;
	if (uname(&u) == 0)
		while (i < ARRAY_SIZE(machines) && strcmp(machines[i].machine, u.machine) != 0)
			i++;
	return i;
}

const char *host_architecture(void) {
	static struct utsname u;
	size_t i = this_machine();
	if (i < ARRAY_SIZE(machines))
		return machines[i].architecture;
	return uname(&u) == 0 ? u.machine : "unknown";
}

const char *host_variant(void) {
	size_t i = this_machine();
	return i < ARRAY_SIZE(machines) ? machines[i].variant : NULL;
}

/* The number in a variant "v7". What has no variant counts as the baseline of its architecture. */
static int variant_level(const char *architecture, const char *variant) {
	if (variant && variant[0] == 'v' && variant[1] >= '1' && variant[1] <= '9' && !variant[2])
		return variant[1] - '0';
	if (variant)
		return -1;
	return strcmp(architecture, "arm") == 0 ? 7 : strcmp(architecture, "arm64") == 0 ? 8 : 1;
}

/* How well d fits: 0 not at all, 1 it does not say, more is better: an older variant runs on a newer
 * processor, and the newest of those is the best. */
static int platform_rank(const struct descriptor *d, const struct registry_options *o) {
	if (d->attestation)
		return 0;
	if (!d->architecture)
		return 1;
	const char *architecture = o && o->architecture ? o->architecture : host_architecture();
	const char *variant = o && o->architecture ? o->variant : host_variant();
	if (strcmp(d->architecture, architecture) != 0 || !d->os || strcmp(d->os, o && o->os ? o->os : "linux") != 0)
		return 0;
	if (variant && d->variant && strcmp(variant, d->variant) == 0)
		return 20;
	int want = variant_level(architecture, variant), have = variant_level(architecture, d->variant);
	return have > 0 && have <= want ? 2 + have : 0;
}

bool platform_fits(const struct descriptor *d, const struct registry_options *platform) {
	return platform_rank(d, platform) > 0;
}

static void add_platform(struct buf *b, const char *os, const char *architecture, const char *variant) {
	buf_addf(b, "%s/%s%s%s", os ? os : "linux", architecture, variant ? "/" : "", variant ? variant : "");
}

int manifest_select(const struct manifest *index, const struct registry_options *platform,
		    const struct descriptor **out, struct error *err) {
	int best = 0;
	_cleanup_(buf_free) struct buf have = BUF_INIT_MAX(2048), want = BUF_INIT;
	for (size_t i = 0; i < index->items.n; i++) {
		const struct descriptor *d = &index->items.items[i];
		int rank = platform_rank(d, platform);
		if (rank > best) {
			best = rank;
			*out = d;
		}
		if (d->attestation || !d->architecture || (d->os && strcmp(d->os, "unknown") == 0))
			continue;
		buf_adds(&have, have.len ? ", " : "");
		add_platform(&have, d->os, d->architecture, d->variant);
	}
	if (best)
		return 0;
	bool given = platform && platform->architecture;
	add_platform(&want, platform ? platform->os : NULL, given ? platform->architecture : host_architecture(),
		     given ? platform->variant : host_variant());
	return error_set(err, ERROR_NOT_FOUND, "the image has nothing for the platform %s, only for: %s",
			 buf_str(&want), have.len ? buf_str(&have) : "none");
}

/* --- printing --- */

static json_t *print_descriptor(const char *media_type, const char *digest, int64_t size) {
	json_t *o = json_object();
	json_set_str(o, "mediaType", media_type);
	json_set_str(o, "digest", digest);
	json_set_int(o, "size", size);
	return o;
}

/* A layer's type in OCI's words: a manifest does not mix the two. */
static const char *oci_layer_type(const char *type) {
	for (size_t i = 0; i < 3; i++)
		if (strcmp(type, layer_types[3 + i]) == 0)
			return layer_types[i];
	return type;
}

char *manifest_print(const struct image *image, int64_t config_size) {
	_cleanup_(json_free_ptr) json_t *o = json_object();
	json_set_int(o, "schemaVersion", 2);
	json_set_str(o, "mediaType", TYPE_OCI_MANIFEST);
	bool oci = image_is_oci(image);
	if (!oci)
		json_object_set_new(o, "artifactType", json_sprintf("application/vnd.wabe.%s.v1", image->kind));
	json_object_set_new(o, "config", print_descriptor(oci ? TYPE_OCI_CONFIG : TYPE_ARTIFACT_CONFIG, image->id, config_size));
	json_t *layers = json_array();
	for (size_t i = 0; i < image->layers.n; i++) {
		const struct image_layer *l = &image->layers.items[i];
		json_array_append_new(layers, print_descriptor(oci_layer_type(l->media_type), l->digest, l->size));
	}
	json_object_set_new(o, "layers", layers);
	return json_print(o);
}
