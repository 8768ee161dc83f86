/* The tables of the image. */
#include "model/image.h"

#include "base/str.h"
#include "model/instance-priv.h"

static const struct field layer_fields[] = {
	FIELD(struct image_layer, digest, FIELD_STRING, .flags = FIELD_REQUIRED, .check = digest_check,
	      .doc = "Of the blob as stored"),
	FIELD(struct image_layer, diff_id, FIELD_STRING, .flags = FIELD_REQUIRED, .check = digest_check,
	      .doc = "Of the uncompressed archive"),
	FIELD(struct image_layer, media_type, FIELD_STRING, .max = 256, .check = text_check, .doc = "Kind of archive"),
	FIELD(struct image_layer, size, FIELD_SIZE, .doc = "Bytes of the blob"),
	FIELD(struct image_layer, unpacked_size, FIELD_SIZE, .doc = "Bytes of the files in it"),
};
static const struct field_table layer_table = {
	"image_layer", "One layer of an image", sizeof(struct image_layer), layer_fields, ARRAY_SIZE(layer_fields),
};

static const struct field config_fields[] = {
	FIELD(struct image_config, entrypoint, FIELD_STRINGS, .max = 8192,
	      .doc = "Program that gets the command as arguments"),
	FIELD(struct image_config, command, FIELD_STRINGS, .max = 8192,
	      .doc = "Command, or the entrypoint's arguments"),
	FIELD(struct image_config, env, FIELD_STRINGS, .max = 4096, .check = env_check, .doc = "Environment, KEY=VALUE"),
	FIELD(struct image_config, workdir, FIELD_STRING, .check = path_check, .doc = "Working directory"),
	FIELD(struct image_config, user, FIELD_STRING, .max = 256, .check = user_check, .doc = "user[:group]"),
	FIELD(struct image_config, stop_signal, FIELD_STRING, .max = 32, .check = signal_check, .doc = "Asks it to end"),
	FIELD(struct image_config, labels, FIELD_PAIRS, .doc = "Labels"),
	FIELD(struct image_config, volumes, FIELD_STRINGS, .check = mount_target_check, .doc = "Paths that want a volume"),
	FIELD(struct image_config, exposed_ports, FIELD_STRINGS, .doc = "Ports it listens on: 80/tcp"),
	FIELD(struct image_config, health, FIELD_OBJECT, .sub = &health_check_table, .doc = "Health check"),
	FIELD(struct image_config, shell, FIELD_STRINGS, .doc = "Runs command lines while images are built on this one"),
	FIELD(struct image_config, on_build, FIELD_STRINGS, .doc = "Instructions that a build upon this image begins with"),
};
const struct field_table image_config_table = {
	"image_config", "What an image says about running it", sizeof(struct image_config), config_fields,
	ARRAY_SIZE(config_fields),
};

static int name_check(const char *name, struct error *err) {
	struct image_ref ref;
	int r = image_ref_parse(name, &ref, err);
	if (r == 0)
		image_ref_free(&ref);
	return r;
}

static const struct field image_fields[] = {
	FIELD(struct image, id, FIELD_STRING, .flags = FIELD_REQUIRED, .check = digest_check,
	      .doc = "Digest of its configuration"),
	FIELD(struct image, digest, FIELD_STRING, .check = digest_check, .doc = "Digest of its manifest"),
	FIELD(struct image, media_type, FIELD_STRING, .max = 256, .check = text_check, .doc = "Kind of manifest"),
	FIELD(struct image, kind, FIELD_ENUM, .values = (const char *const[]){"oci", "disk", "iso", "floppy", "kernel", NULL},
	      .doc = "What it holds: file systems (oci, if not given), or a machine's disk, CD, floppy or kernel"),
	FIELD(struct image, index, FIELD_STRING, .check = digest_check,
	      .doc = "Digest of the index that it is one of, where all of that is here"),
	FIELD(struct image, index_blobs, FIELD_STRINGS, .max = 16385, .check = digest_check, .doc = "What the index consists of"),
	FIELD(struct image, names, FIELD_STRINGS, .check = name_check, .doc = "Its names in full; may be none"),
	FIELD(struct image, digests, FIELD_STRINGS, .check = name_check,
	      .doc = "What repositories that it came from or went to call it: name@digest"),
	FIELD(struct image, parent, FIELD_STRING, .check = digest_check,
	      .doc = "Id of the image that it was built upon here"),
	FIELD(struct image, os, FIELD_STRING, .max = 64, .check = text_check, .doc = "linux"),
	FIELD(struct image, architecture, FIELD_STRING, .max = 64, .check = text_check, .doc = "amd64, arm64 …"),
	FIELD(struct image, variant, FIELD_STRING, .max = 64, .check = text_check, .doc = "v8 …"),
	FIELD(struct image, created_at, FIELD_TIME, .doc = "When it was built"),
	FIELD(struct image, tagged_at, FIELD_TIME, .doc = "When it got its newest name"),
	FIELD(struct image, size, FIELD_SIZE, .doc = "Bytes of its layers' blobs"),
	FIELD(struct image, virtual_size, FIELD_SIZE, .doc = "Bytes of a disk, as a machine sees it"),
	FIELD(struct image, config, FIELD_OBJECT, .sub = &image_config_table, .doc = "How it is run"),
	FIELD(struct image, machine, FIELD_OBJECT, .sub = &machine_hardware_table, .doc = "Of a disk: the machine that it is of, where that is told"),
	FIELD(struct image, layers, FIELD_LIST, .sub = &layer_table, .doc = "Lowest first"),
};
const struct field_table image_table = {
	"image", "What an instance starts from", sizeof(struct image), image_fields, ARRAY_SIZE(image_fields),
};

bool image_is_oci(const struct image *image) {
	return !image->kind || str_same(image->kind, "oci");
}
