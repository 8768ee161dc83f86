/* Attributes of a container's log lines, which `docker logs --details` shows: its labels and variables that the log options name,
 * and its tag. They are worked out when the log is read, for nothing of them changes while a container is there. */
#include "dialect/docker/inside.h"

#include <ctype.h>

/* What a tag may have in it, and what stands for it. */
enum { TAG_ID, TAG_FULL_ID, TAG_NAME, TAG_IMAGE_ID, TAG_IMAGE_FULL_ID, TAG_IMAGE_NAME, TAG_DAEMON };
static const char *const placeholders[] = {"{{.ID}}", "{{.FullID}}", "{{.Name}}", "{{.ImageID}}", "{{.ImageFullID}}",
					   "{{.ImageName}}", "{{.DaemonName}}"};
#define SHORT_ID 12

static void add_value(struct buf *out, size_t which, const struct instance *i) {
	const char *image = i->image_id ? i->image_id : "";
	const char *digits = str_starts(image, "sha256:") ? image + strlen("sha256:") : image;
	const struct {
		const char *text;
		int len;
	} values[] = {{i->id, SHORT_ID}, {i->id, INT32_MAX}, {i->spec.name, INT32_MAX}, {digits, SHORT_ID},
		      {image, INT32_MAX}, {i->spec.image, INT32_MAX}, {"docker", INT32_MAX}};
	buf_addf(out, "%.*s", values[which].len, values[which].text ? values[which].text : "");
}

/* Adds the tag as it is for i; i NULL: only looks whether it can be had. */
static bool add_tag(struct buf *out, const char *tag, const struct instance *i) {
	while (*tag) {
		size_t n = strcspn(tag, "{"), which = 0;
		buf_add(out, tag, n);
		tag += n;
		while (*tag && which < ARRAY_SIZE(placeholders) && !str_starts(tag, placeholders[which]))
			which++;
		if (*tag && which == ARRAY_SIZE(placeholders)) {
			if (str_starts(tag, "{{"))
				return false;
			buf_addc(out, *tag++);
		} else if (*tag) {
			tag += strlen(placeholders[which]);
			if (i)
				add_value(out, which, i);
		}
	}
	return true;
}

int docker_log_tag_check(const char *tag, struct error *err) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	_cleanup_(free_ptr) char *shown = text_shown(tag);
	if (add_tag(&text, tag, NULL))
		return 0;
	return error_set(err, ERROR_INVALID, "HostConfig.LogConfig.Config: tag=%s: {{.ID}}, {{.FullID}}, {{.Name}}, {{.ImageID}}, "
			 "{{.ImageFullID}}, {{.ImageName}} and {{.DaemonName}} can be had", shown);
}

static bool is_wanted(const json_t *options, const char *list, const char *pattern, const char *key) {
	const char *keys = json_get_str(options, list), *regex = json_get_str(options, pattern);
	_cleanup_(strv_free_ptr) char **all = keys ? strv_split(keys, ',') : NULL;
	return (all && strv_has(all, key)) || (regex && *regex && docker_text_fits(regex, key));
}

static void set_wanted(json_t *attributes, const json_t *options, const json_t *config) {
	const char *key;
	json_t *value;
	size_t k;
	json_object_foreach(json_object_get(config, "Labels"), key, value)
		if (is_wanted(options, "labels", "labels-regex", key))
			json_object_set(attributes, key, value);
	json_array_foreach(json_object_get(config, "Env"), k, value) {
		const char *entry = json_string_value(value), *text = strchr(entry, '=');
		_cleanup_(free_ptr) char *name = str_copyn(entry, strcspn(entry, "="));
		if (is_wanted(options, "env", "env-regex", name))
			json_object_set_new(attributes, name, json_from_str(text ? text + 1 : ""));
	}
}

/* As in a query of a URL. */
static void add_escaped(struct buf *out, const char *text) {
	for (; *text; text++)
		if (isalnum((unsigned char)*text) || strchr("-_.~", *text))
			buf_addc(out, *text);
		else if (*text == ' ')
			buf_addc(out, '+');
		else
			buf_addf(out, "%%%02X", (unsigned char)*text);
}

char *docker_log_details(struct core *c, const struct instance *i) {
	_cleanup_(json_free_ptr) json_t *note = docker_note(i, NOTE_HOST), *attributes = json_object();
	const json_t *options = json_object_get(json_object_get(note, "LogConfig"), "Config");
	if (!json_object_size(options))
		return str_copy("");
	_cleanup_(image_snap_unref_ptr) struct image_snap *image = instance_image(c, i);
	_cleanup_(json_free_ptr) json_t *config = docker_container_config(i, image ? &image->image.config : NULL, atoi(DOCKER_API + 2));
	_cleanup_(buf_free) struct buf text = BUF_INIT, tag = BUF_INIT;
	set_wanted(attributes, options, config);
	if (json_get_str(options, "tag") && add_tag(&tag, json_get_str(options, "tag"), i))
		json_object_set_new(attributes, "tag", json_from_str(buf_str(&tag)));
	if (!json_object_size(attributes))
		return str_copy("");
	_cleanup_(strv_free_ptr) char **keys = NULL;
	const char *key;
	json_t *value;
	json_object_foreach(attributes, key, value)
		strv_add(&keys, key);
	strv_sort(keys);
	for (size_t k = 0; keys[k]; k++) {
		buf_adds(&text, k ? "," : "");
		add_escaped(&text, keys[k]);
		buf_addc(&text, '=');
		add_escaped(&text, json_get_str(attributes, keys[k]));
	}
	return str_copy(buf_str(&text));
}
