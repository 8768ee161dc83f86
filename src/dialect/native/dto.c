/* The bodies of requests that are no nouns. */
#include "dialect/native/native-priv.h"

#define TABLE(var_, fields_, doc_) \
	const struct field_table var_##_table = {#var_, doc_, sizeof(struct var_), fields_, ARRAY_SIZE(fields_)}

static const struct field stop_fields[] = {
	FIELD(struct stop_request, timeout, FIELD_DURATION, .doc = "Until SIGKILL; not given: the instance's own"),
	FIELD(struct stop_request, signal, FIELD_STRING, .max = 32, .doc = "Not given: the instance's own"),
};
TABLE(stop_request, stop_fields, "How to stop an instance");

static const struct field kill_fields[] = {
	FIELD(struct kill_request, signal, FIELD_STRING, .max = 32, .doc = "Name or number; not given: KILL"),
};
TABLE(kill_request, kill_fields, "A signal");

static const struct field exec_fields[] = {
	FIELD(struct exec_request, command, FIELD_STRINGS, .flags = FIELD_REQUIRED, .max = 65536, .doc = "Program and arguments"),
	FIELD(struct exec_request, env, FIELD_STRINGS, .max = 65536, .doc = "Further KEY=VALUE"),
	FIELD(struct exec_request, user, FIELD_STRING, .doc = "user[:group]; not given: the instance's"),
	FIELD(struct exec_request, workdir, FIELD_STRING, .doc = "Not given: the instance's"),
	FIELD(struct exec_request, tty, FIELD_BOOL, .doc = "With a terminal of its own"),
	FIELD(struct exec_request, stdin_open, FIELD_BOOL, .doc = "With standard input"),
	FIELD(struct exec_request, privileged, FIELD_BOOL, .doc = "With all capabilities that the host allows"),
	FIELD(struct exec_request, detach, FIELD_BOOL, .doc = "Answers with the id instead of a stream"),
	FIELD(struct exec_request, rows, FIELD_INT, .max = 65535, .doc = "Of the terminal; 0: not set"),
	FIELD(struct exec_request, columns, FIELD_INT, .max = 65535, .doc = "Of the terminal; 0: not set"),
};
TABLE(exec_request, exec_fields, "A further process");

static const struct field pull_fields[] = {
	FIELD(struct pull_request, name, FIELD_STRING, .max = 512, .doc = "Reference of the image in its registry"),
	FIELD(struct pull_request, platform, FIELD_STRING, .max = 128, .doc = "OS/ARCHITECTURE[/VARIANT]; not given: the host's"),
	FIELD(struct pull_request, username, FIELD_STRING, .max = 1024, .doc = "Of the registry"),
	FIELD(struct pull_request, password, FIELD_STRING, .flags = FIELD_SECRET, .max = 16384, .doc = "Of the registry"),
	FIELD(struct pull_request, plain_http, FIELD_BOOL, .doc = "HTTP also to other hosts than this one"),
	FIELD(struct pull_request, insecure_tls, FIELD_BOOL, .doc = "Does not check the registry's certificate"),
};
TABLE(pull_request, pull_fields, "An image in a registry");

static const struct field bootstrap_fields[] = {
	FIELD(struct bootstrap_request, name, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 512, .doc = "debian:bookworm: the tag is the suite"),
	FIELD(struct bootstrap_request, variant, FIELD_ENUM, .def = "minbase",
	      .values = (const char *const[]){"minbase", "system", "kernel", NULL},
	      .doc = "How much; system boots, kernel is what boots container images as machines"),
	FIELD(struct bootstrap_request, include, FIELD_STRINGS, .max = 256, .doc = "Further packages"),
};
TABLE(bootstrap_request, bootstrap_fields, "A root file system to build from the host's package sources");

static const struct field commit_fields[] = {
	FIELD(struct commit_request, name, FIELD_STRING, .max = 512, .doc = "Of the new image; not given: it has none"),
	FIELD(struct commit_request, comment, FIELD_STRING, .doc = "For the image's history"),
	FIELD(struct commit_request, author, FIELD_STRING, .doc = "For the image's history"),
	FIELD(struct commit_request, pause, FIELD_BOOL, .def = "true", .doc = "Freezes the instance meanwhile"),
	FIELD(struct commit_request, config, FIELD_JSON, .doc = "Merge patch of the image's config"),
};
TABLE(commit_request, commit_fields, "A new image from an instance");

static const struct field convert_fields[] = {
	FIELD(struct convert_request, name, FIELD_STRING, .max = 512, .doc = "Of the new image; not given: it has none"),
	FIELD(struct convert_request, comment, FIELD_STRING, .doc = "For the image's history"),
};
TABLE(convert_request, convert_fields, "A container's image from a machine's disk");

static const struct field tag_fields[] = {
	FIELD(struct tag_request, name, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 512, .doc = "A further reference"),
};
TABLE(tag_request, tag_fields, "A further name");

static const struct field prune_fields[] = {
	FIELD(struct prune_request, all, FIELD_BOOL, .doc = "Also images with a name that no instance uses"),
};
TABLE(prune_request, prune_fields, "What to remove");

static const struct field copy_fields[] = {
	FIELD(struct copy_request, name, FIELD_STRING, .min = 1, .max = 128, .check = instance_name_check, .doc = "Of the new one"),
	FIELD(struct copy_request, pool, FIELD_STRING, .min = 1, .max = 128, .check = instance_name_check,
	      .doc = "Where it lives; not given: the same"),
	FIELD(struct copy_request, snapshot, FIELD_STRING, .min = 1, .max = 128, .check = instance_name_check,
	      .doc = "The snapshot that is copied; not given: what is there now"),
	FIELD(struct copy_request, linked, FIELD_BOOL, .doc = "Shares with its original what they have in common"),
	FIELD(struct copy_request, memory, FIELD_BOOL, .doc = "Of a machine: the clone goes on with its memory, and runs"),
};
TABLE(copy_request, copy_fields, "A copy");

static const struct field snapshot_fields[] = {
	FIELD(struct snapshot_request, name, FIELD_STRING, .min = 1, .max = 128, .check = instance_name_check,
	      .doc = "Not given: made of the time"),
	FIELD(struct snapshot_request, description, FIELD_STRING, .check = text_check, .doc = "What it is for"),
	FIELD(struct snapshot_request, memory, FIELD_BOOL, .doc = "Of a machine that runs: with its memory"),
};
TABLE(snapshot_request, snapshot_fields, "A snapshot");

static const struct field volume_attach_fields[] = {
	FIELD(struct volume_attach_request, volume, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 128,
	      .check = instance_name_check, .doc = "Its name"),
	FIELD(struct volume_attach_request, target, FIELD_STRING, .flags = FIELD_REQUIRED, .check = path_check, .doc = "Where, inside"),
	FIELD(struct volume_attach_request, subpath, FIELD_STRING, .max = 4096, .doc = "Only this path of the volume"),
	FIELD(struct volume_attach_request, read_only, FIELD_BOOL, .doc = "It cannot be written there"),
};
TABLE(volume_attach_request, volume_attach_fields, "A volume for an instance");

static const struct field shutdown_fields[] = {
	FIELD(struct shutdown_request, timeout, FIELD_DURATION, .def = "10s", .doc = "For each instance, until SIGKILL"),
};
TABLE(shutdown_request, shutdown_fields, "How to shut down");

bool dto_parse(struct http_request *req, const struct field_table *t, void *dto, json_t **body) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *json = http_body_json(req, &err);
	if (!json || fields_parse(t, json, 0, dto, &err) < 0) {
		fail(req, &err);
		return false;
	}
	if (body)
		*body = TAKE_PTR(json);
	return true;
}
