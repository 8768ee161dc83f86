/* JSON → instance spec → JSON → instance spec: what was accepted prints as what is accepted again, the same. */
#include "model/instance.h"

static void check(const json_t *json) {
	struct instance_spec a, b;
	if (fields_parse(&instance_spec_table, json, 0, &a, NULL) < 0)
		return;
	_cleanup_(json_free_ptr) json_t *printed = fields_print(&instance_spec_table, &a);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (fields_parse(&instance_spec_table, printed, 0, &b, &err) < 0 || !fields_equal(&instance_spec_table, &a, &b))
		abort();
	struct instance_spec copy;
	fields_copy(&instance_spec_table, &a, &copy);
	if (fields_patch(&instance_spec_table, printed, true, &copy, &err) < 0 ||
	    !fields_equal(&instance_spec_table, &a, &copy))
		abort();
	fields_free(&instance_spec_table, &a);
	fields_free(&instance_spec_table, &b);
	fields_free(&instance_spec_table, &copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(json_free_ptr) json_t *json = json_parse((const char *)data, size, &err);
	if (json)
		check(json);
	return 0;
}
