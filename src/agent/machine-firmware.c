/* What a machine's board remembers: the variables of its UEFI and the state of its TPM. Both lie in the directory of the instance,
 * begin at its first start, and go with it. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/str.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define TPM_DIR "/tpm" /* of QEMU's container */

/* Whole or not at all. */
static int begin_as(const char *model, const char *path, struct error *err) {
	_cleanup_(free_ptr) char *temporary = str_format("%s.tmp", path);
	_cleanup_(close_fd) int from = open(model, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return error_set(err, ERROR_UNSUPPORTED, "uefi needs %s, which this host has not (package ovmf)", model);
	_cleanup_(close_fd) int to = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = to < 0 ? -errno : fs_copy(from, to, NULL);
	if (r == 0 && (fsync(to) < 0 || rename(temporary, path) < 0))
		r = -errno;
	fault_point("firmware.made");
	return r < 0 ? error_errno(err, r, "cannot make %s", path) : 0;
}

/* Those of Secure Boot, which have keys in them, are others. */
static int open_variables(const struct agent *a, const struct msg_instance_create *r, int *fd, struct error *err) {
	const struct machine_spec *s = &r->instance.spec.machine;
	const char *model = machine_firmware_vars(s);
	_cleanup_(free_ptr) char *path = instance_path(a, r->instance.id, s->secure_boot ? "uefi-secure" : "uefi");
	if (!model)
		return 0;
	int result = fs_exists(path) ? 0 : begin_as(model, path, err);
	if (result < 0)
		return result;
	*fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	return *fd < 0 ? error_errno(err, errno, "cannot open %s", path) : 0;
}

/* Of a copy the files have the owner that they had in the original. */
static int own_tpm(const char *path, uid_t owner) {
	_cleanup_(close_fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(strv_free_ptr) char **names = NULL;
	int r = dir < 0 || fchown(dir, owner, owner) < 0 ? -errno : fs_names(dir, &names);
	for (char **n = names; r == 0 && n && *n; n++)
		r = fchownat(dir, *n, owner, owner, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	return r;
}

/* It is swtpm's own, which runs as the machine's root. */
static int lend_tpm(const struct agent *a, const struct msg_instance_create *r, struct machine_start *m, struct container_config *c,
		    struct error *err) {
	_cleanup_(free_ptr) char *path = instance_path(a, r->instance.id, "tpm");
	uid_t owner = (uid_t)r->instance.uid_base;
	if (!r->instance.spec.machine.tpm)
		return 0;
	int result = mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : own_tpm(path, owner);
	if (result < 0)
		return error_errno(err, result, "cannot make %s", path);
	struct container_mount *mount = config_add_mount(c);
	mount->type = str_copy("bind");
	mount->source = str_copy(path);
	mount->target = str_copy(TPM_DIR);
	mount->flags = MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC;
	m->config.tpm_dir = TPM_DIR;
	m->config.launcher = machine_keep(m, program_beside(a, "wabe-machine"));
	return 0;
}

int machine_firmware(const struct agent *a, const struct msg_instance_create *r, struct machine_start *m, struct container_config *c,
		     struct error *err) {
	int result = open_variables(a, r, &m->config.vars_fd, err);
	return result < 0 ? result : lend_tpm(a, r, m, c, err);
}
