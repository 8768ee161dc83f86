/* OVF descriptors, and manifests of OVAs: what is taken is within limits, and is read again as it was written. */
#include "image/ova.h"

#include "base/str.h"
#include "base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_and_read(struct ovf *o) {
	struct ovf again;
	struct error err = ERROR_INIT;
	uint64_t sizes[OVF_DISKS_MAX] = {0};
	_cleanup_(free_ptr) char *text = ovf_print(o, sizes);
	if (ovf_parse(text, strlen(text), &again, &err) < 0 || again.n != o->n)
		abort();
	ovf_free(&again);
	error_free(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct error err = ERROR_INIT;
	struct ovf o;
	_cleanup_(free_ptr) char *text = str_copyn((const char *)data, size);
	struct ova_file files[] = {{(char *)"a.ovf", {(char *)"1", (char *)"2", (char *)"3"}}, {(char *)"a.mf", {(char *)"1", (char *)"2", (char *)"3"}}};
	ova_manifest_check(text, files, ARRAY_SIZE(files), &err);
	error_free(&err);
	if (ovf_parse((const char *)data, size, &o, &err) == 0) {
		if (!o.n || o.n > OVF_DISKS_MAX || o.machine.cpus < 0 || o.machine.memory < 0)
			abort();
		write_and_read(&o);
		ovf_free(&o);
	}
	error_free(&err);
	return 0;
}
