/* Image references: what was accepted prints as what is accepted again, the same. Flags: any text is taken or
 * refused. */
#include "base/str.h"
#include "model/image.h"

static void same(const struct image_ref *a, char *text) {
	struct image_ref b;
	if (image_ref_parse(text, &b, NULL) < 0 || !str_same(a->registry, b.registry) ||
	    !str_same(a->repository, b.repository) || !str_same(a->tag, b.tag) || !str_same(a->digest, b.digest))
		abort();
	image_ref_free(&b);
	free(text);
}

static void check_flags(const char *text) {
	static const char *const flags[] = {"mount", "v", "tmpfs", "device", "ulimit", "restart", "security-opt",
					    "hugepages", "device-read-bps", "log-opt", "add-host", "sysctl", "cpus"};
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		struct instance_spec spec;
		fields_init(&instance_spec_table, &spec);
		void *object = &spec;
		const struct field *f = fields_find_flag(&instance_spec_table, flags[i], &object);
		field_set_text(f, object, text, NULL);
		fields_validate(&instance_spec_table, &spec, NULL);
		fields_free(&instance_spec_table, &spec);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_cleanup_(free_ptr) char *text = str_copyn((const char *)data, size);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct image_ref ref;
	if (image_ref_parse(text, &ref, &err) == 0) {
		same(&ref, image_ref_print(&ref));
		same(&ref, image_ref_familiar(&ref));
		image_ref_free(&ref);
	}
	check_flags(text);
	return 0;
}
