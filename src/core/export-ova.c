/* Machines and disk images as OVAs. A disk becomes a streamOptimized VMDK in a file without a name first, for the descriptor and the
 * manifest, which come first, tell its size and digest. */
#include "core/images.h"
#include "core/instances.h"
#include "core/volumes-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "image/artifact.h"
#include "image/disk.h"
#include "image/ova.h"

#include <unistd.h>

#define MEMORY_USUAL (INT64_C(1) << 30)
#define NANO INT64_C(1000000000)

struct export {
	struct core *c;
	struct ovf ovf;
	char *name; /* of files */
	int files[OVF_DISKS_MAX];
};

static void export_end(struct export *x) {
	for (size_t i = 0; i < x->ovf.n; i++)
		close_fd(&x->files[i]);
	ovf_free(&x->ovf);
	free(x->name);
}

/* Of the machine's or image's name what may stand in the name of a file. */
static void export_begin(struct export *x, struct core *c, const char *name) {
	*x = (struct export){.c = c};
	x->ovf.name = str_copy(name);
	x->name = str_copy(name);
	for (char *p = x->name; *p; p++)
		if (!strchr("-_.", *p) && (*p < '0' || *p > '9') && (*p < 'A' || *p > 'Z') && (*p < 'a' || *p > 'z'))
			*p = '_';
	if (*x->name == '.')
		*x->name = '_';
}

static int spool(struct core *c, int stream, struct error *err) {
	_cleanup_(close_fd) int file = core_spool(c, err);
	int r = file < 0 ? file : fs_copy(stream, file, NULL);
	if (file >= 0 && r < 0)
		return error_errno(err, r, "cannot keep a disk meanwhile");
	if (r == 0 && lseek(file, 0, SEEK_SET) < 0)
		r = error_errno(err, errno, "cannot read a disk");
	return r < 0 ? r : TAKE_FD(file);
}

/* The disk in a file of that format becomes the next one. */
static int add_disk(struct export *x, int disk, const char *format, struct error *err) {
	struct disk_info is = {0};
	size_t i = x->ovf.n;
	if (i == OVF_DISKS_MAX)
		return error_set(err, ERROR_UNSUPPORTED, "it has more than %d disks, the most that an OVA is made of", OVF_DISKS_MAX);
	int r = disk_inspect(disk, format, &is, err);
	struct msg_disk body = {.format = (char *)format, .to = (char *)"vmdk-stream", .size = is.virtual_size};
	_cleanup_(close_fd) int stream = -1;
	if (r == 0)
		r = agent_call_fd(x->c, "disk-convert", &body, disk, NULL, &stream, err);
	if (r == 0)
		r = stream_expected(stream, err);
	if (r < 0)
		return r;
	x->files[i] = spool(x->c, stream, err);
	if (x->files[i] < 0)
		return x->files[i];
	x->ovf.disks[i].file = str_format("%s-disk%zu.vmdk", x->name, i + 1);
	x->ovf.disks[i].capacity = is.virtual_size;
	x->ovf.n++;
	return 0;
}

/* The same of one that the agent gives as a stream of qcow2. */
static int add_stream(struct export *x, int stream, struct error *err) {
	_cleanup_(close_fd) int from = stream, file = -1;
	int r = stream_expected(from, err);
	file = r < 0 ? r : spool(x->c, from, err);
	return file < 0 ? file : add_disk(x, file, "qcow2", err);
}

/* ---- images ---- */

static int add_blobs(struct export *x, const struct image *image, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < image->layers.n; i++) {
		const struct image_layer *l = &image->layers.items[i];
		_cleanup_(close_fd) int blob = content_blob(x->c->content, l->digest, NULL, err);
		r = blob < 0 ? blob : add_disk(x, blob, blob_type_find(l->media_type)->format, err);
	}
	return r;
}

/* "registry/some/name:tag" is name. */
static char *short_name(const struct image *image) {
	const char *name = strv_len(image->names) ? image->names[0] : "disk", *last = strrchr(name, '/');
	name = last ? last + 1 : name;
	return str_copyn(name, strcspn(name, ":@"));
}

int image_export_ova(struct core *c, const char *project, const char *name, int to, struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *snap = NULL;
	_cleanup_(export_end) struct export x = {0};
	int r = image_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	const struct image *image = &snap->image;
	if (!str_same(image->kind, "disk"))
		return error_set(err, ERROR_UNSUPPORTED, "image %.12s is no disk, and an OVA is of a machine and its disks", image->id + strlen("sha256:"));
	_cleanup_(free_ptr) char *called = short_name(image);
	export_begin(&x, c, called);
	fields_copy(&machine_hardware_table, &image->machine, &x.ovf.machine);
	if (!x.ovf.machine.memory)
		x.ovf.machine.memory = MEMORY_USUAL;
	if (!x.ovf.machine.networks)
		strv_add(&x.ovf.machine.networks, "default");
	r = add_blobs(&x, image, err);
	return r < 0 ? r : ova_write(&x.ovf, x.files, x.name, to, err);
}

/* ---- machines ---- */

static char *copy_if(const char *text) {
	return text ? str_copy(text) : NULL;
}

static void describe(const struct instance *i, struct machine_hardware *out) {
	const struct machine_spec *m = &i->spec.machine;
	bool topology = m->sockets || m->cores || m->threads;
	int64_t cpus = MAX(m->sockets, 1) * MAX(m->cores, 1) * MAX(m->threads, 1);
	int64_t memory = i->spec.limits.memory ? i->spec.limits.memory : machine_numa_memory(m);
	*out = (struct machine_hardware){
		.cpus = topology ? cpus : MAX((i->spec.limits.cpus + NANO - 1) / NANO, 1),
		.memory = memory ? memory : MEMORY_USUAL,
		.firmware = copy_if(m->firmware),
		.chipset = copy_if(m->chipset),
		.disk_bus = copy_if(m->disk_bus),
		.nic_model = copy_if(m->nic_model),
		.video = copy_if(m->video),
		.secure_boot = m->secure_boot,
		.tpm = m->tpm,
		.usb = m->usb,
		.audio = m->audio,
		.drives = MAX(m->drives, (int64_t)strv_len(m->cdroms)),
	};
	for (size_t k = 0; k < i->nics.n; k++)
		strv_add(&out->networks, i->nics.items[k].network);
}

/* The root, then the block volumes, as they are mounted. */
static int add_volumes(struct export *x, const struct instance *i, struct error *err) {
	struct msg_id body = {.id = i->id};
	int stream = -1, r = agent_call_fd(x->c, "machine-disk", &body, -1, NULL, &stream, err);
	if (r == 0)
		r = add_stream(x, stream, err);
	for (size_t k = 0; r == 0 && k < i->volumes.n; k++) {
		const struct volume_use *u = &i->volumes.items[k];
		if (!str_same(u->kind, "block"))
			continue;
		r = volume_export(x->c, i->project, u->volume_id, NULL, "qcow2", &stream, err);
		if (r == 0)
			r = add_stream(x, stream, err);
		if (r < 0)
			error_wrap(err, "volume %s", u->name);
	}
	return r;
}

int instance_export_ova(struct core *c, const char *project, const char *name, int to, struct error *err) {
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *snap = NULL;
	_cleanup_(export_end) struct export x = {0};
	int r = instance_get(c, project, name, &snap, err);
	if (r < 0)
		return r;
	const struct instance *i = &snap->instance;
	export_begin(&x, c, i->spec.name);
	describe(i, &x.ovf.machine);
	r = add_volumes(&x, i, err);
	return r < 0 ? r : ova_write(&x.ovf, x.files, x.name, to, err);
}
