/* Bodies of the Docker dialect's containers/create, and instructions of "changes": a line "---" parts them. */
#include "dialect/docker/changes.h"
#include "dialect/docker/containers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *object_of(const json_t *body, const char *name) {
	json_t *value = json_object_get(body, name);
	return json_is_object(value) ? value : NULL;
}

/* What was taken must be printed again without anything that a spec refuses. */
static void to_spec(struct docker_create *d) {
	struct instance_spec spec;
	fields_init(&instance_spec_table, &spec);
	d->h.resources.memory_swap = 0; /* whether swap can be limited is asked of a core */
	if (docker_spec_config(d, &spec, NULL) == 0 && docker_spec_host(d, &spec, NULL) == 0) {
		docker_keep_notes(d, &spec);
		if (fields_validate(&instance_spec_table, &spec, NULL) == 0) {
			struct instance i = {.id = (char *)"0123456789abcdef", .spec = spec};
			json_decref(docker_container_config(&i, &d->image->config, 44));
			json_decref(docker_host_config(NULL, &i, 44));
		}
	}
	fields_free(&instance_spec_table, &spec);
}

static void create(json_t *body) {
	static const struct image image;
	json_t *none = json_object();
	struct docker_create d = {.config = body, .host = object_of(body, "HostConfig"), .image = &image, .warnings = json_array()};
	docker_widen_lists(body, d.host);
	if (fields_parse(&docker_config_table, body, FIELDS_FOREIGN, &d.c, NULL) == 0) {
		if (fields_parse(&docker_host_table, d.host ? d.host : none, FIELDS_FOREIGN, &d.h, NULL) == 0 && d.c.image)
			to_spec(&d);
		fields_free(&docker_host_table, &d.h);
	}
	fields_free(&docker_config_table, &d.c);
	json_decref(d.warnings);
	json_decref(none);
}

static void change(const char *text) {
	char *lines[] = {(char *)text, NULL};
	struct image_config config;
	fields_init(&image_config_table, &config);
	docker_changes(lines, &config, NULL);
	fields_free(&image_config_table, &config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_cleanup_(free_ptr) char *text = str_copyn((const char *)data, size);
	char *mark = strstr(text, "\n---\n");
	if (mark) {
		*mark = '\0';
		change(mark + strlen("\n---\n"));
	}
	_cleanup_(json_free_ptr) json_t *body = json_parse(text, strlen(text), NULL);
	if (json_is_object(body))
		create(body);
	return 0;
}
