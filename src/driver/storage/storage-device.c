/* Finding out about devices, modules and programs. */
#include "base/proc.h"
#include "base/time.h"
#include "driver/storage/storage-priv.h"

#include <unistd.h>

int storage_load_module(const char *module, const char *what, struct error *err) {
	char *argv[] = {"modprobe", "-q", (char *)module, NULL};
	_cleanup_(buf_free) struct buf said = BUF_INIT_MAX(4096);
	struct proc load = {.argv = argv, .errors = &said, .deadline_ns = 10 * NS_PER_SEC};
	if (proc_run(&load, NULL) == 0 && load.status == 0)
		return 0;
	return error_set(err, ERROR_UNSUPPORTED, "this kernel has no %s (module %s)", what, module);
}

int storage_need_fs(const char *type, const char *module, struct error *err) {
	_cleanup_(buf_free) struct buf known = BUF_INIT;
	_cleanup_(free_ptr) char *line = str_format("\t%s\n", type);
	if (fs_read("/proc/filesystems", 65536, &known) == 0 && strstr(buf_str(&known), line))
		return 0;
	return storage_load_module(module, type, err);
}

int storage_need_program(const char *program, const char *package, struct error *err) {
	static const char *const dirs[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		_cleanup_(free_ptr) char *path = str_format("%s/%s", dirs[i], program);
		if (access(path, X_OK) == 0)
			return 0;
	}
	return error_set(err, ERROR_UNSUPPORTED, "the program %s is missing; install %s", program, package);
}

/* One value that blkid finds on the device; NULL: none. */
static int probe_value(const char *device, const char *tag, char **value, struct error *err) {
	char *argv[] = {"blkid", "-p", "-o", "value", "-s", (char *)tag, (char *)device, NULL};
	_cleanup_(buf_free) struct buf said = BUF_INIT_MAX(4096), errors = BUF_INIT_MAX(4096);
	struct proc x = {.argv = argv, .output = &said, .errors = &errors, .deadline_ns = 60 * NS_PER_SEC};
	int r = proc_run(&x, err);
	if (r < 0)
		return r;
	if (x.status == 8) { /* several at once: it holds something, of which nobody knows what */
		*value = str_copy("several signatures");
		return 0;
	}
	if (x.status != 0 && x.status != 2)
		return error_set(err, ERROR_INTERNAL, "cannot look at %s: %s", device, buf_str(&errors));
	char *text = buf_steal(&said);
	if (text)
		text[strcspn(text, "\n")] = '\0';
	*value = text && *text ? text : NULL;
	if (!*value)
		free(text);
	return 0;
}

int storage_signature(const char *device, char **type, char **label, struct error *err) {
	int r = probe_value(device, "TYPE", type, err);
	if (r == 0 && !*type)
		r = probe_value(device, "PTTYPE", type, err);
	if (r == 0 && label)
		r = probe_value(device, "LABEL", label, err);
	return r;
}
