/* A bundle's config.json: read as a runtime reads it, and what comes of it checked against what may be relied upon. */
#include "oci/oci-priv.h"

#include "base/fs.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int write_config(const char *bundle, const void *data, size_t n) {
	_cleanup_(free_ptr) char *path = str_format("%s/config.json", bundle);
	_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fs_write_all(fd, data, n);
}

static void check(const struct container_config *c) {
	if (!c->rootfs || !c->process.cwd || c->process.cwd[0] != '/' || strstr(c->cgroup.path, ".."))
		abort();
	for (size_t i = 0; i < c->n_mounts; i++)
		if (!c->mounts[i].target)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
	static int null = -1;
	if (null < 0)
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct oci o = {.log_fd = null, .systemd_cgroup = n % 2, .name = "fuzz"};
	char bundle[] = "/tmp/wabe-spec-fuzz-XXXXXX";
	if (!mkdtemp(bundle))
		return 0;
	_cleanup_(container_config_free) struct container_config c;
	_cleanup_(error_free) struct error err = ERROR_INIT;
	container_config_init(&c);
	if (write_config(bundle, data, n) == 0 && spec_load(&o, bundle, "fuzz", &c, &err) == 0)
		check(&c);
	fs_remove_tree(bundle);
	return 0;
}
