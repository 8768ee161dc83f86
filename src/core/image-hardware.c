/* What a disk image that was an appliance says of its machine, for instances that are made of it: hardware that their spec does
 * not name, networks of its cards, and its further disks, which become volumes that go with the instance. */
#include "core/volumes-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "core/networks-priv.h"
#include "image/artifact.h"
#include "image/disk.h"

#define VOLUME_MIN (INT64_C(1) << 20)

static void fill(char **to, const char *from) {
	if (!*to && from)
		*to = str_copy(from);
}

static void fill_hardware(const struct machine_hardware *h, struct instance_spec *s) {
	struct machine_spec *m = &s->machine;
	bool firmware = m->firmware, numbered = s->limits.cpus || m->sockets || m->cores || m->threads;
	if (!numbered && h->cpus)
		s->limits.cpus = h->cpus * 1000000000;
	if (!s->limits.memory && !machine_numa_memory(m))
		s->limits.memory = h->memory;
	fill(&m->firmware, h->firmware);
	fill(&m->chipset, h->chipset);
	fill(&m->disk_bus, h->disk_bus);
	fill(&m->nic_model, h->nic_model);
	fill(&m->video, h->video);
	m->secure_boot |= !firmware && h->secure_boot;
	m->tpm |= h->tpm;
	m->usb |= h->usb;
	m->audio |= h->audio;
	m->drives = MAX(m->drives, h->drives);
}

static bool is_attached(const struct instance_spec *s, const char *network) {
	for (size_t i = 0; i < s->networks.n; i++)
		if (str_same(s->networks.items[i].network, network))
			return true;
	return false;
}

static void attach(struct instance_spec *s, const char *network) {
	s->networks.items = alloc_resize(s->networks.items, s->networks.n + 1, sizeof *s->networks.items);
	struct attachment *a = &s->networks.items[s->networks.n++];
	fields_init(&attachment_table, a);
	a->network = str_copy(network);
}

/* Each card is on the network that is called as its own was; one may be on another one, which is the default. */
static int fill_networks(struct core *c, const char *project, const struct machine_hardware *h, struct instance_spec *s, struct error *err) {
	if (s->networks.n || !h->networks || (s->network && !str_same(s->network, "private")))
		return 0;
	for (char **name = h->networks; *name; name++) {
		bool there = instance_name_check(*name, NULL) == 0 && object_find(c, &c->networks, project, *name, NULL) && !is_attached(s, *name);
		if (!there && is_attached(s, DEFAULT_NETWORK)) {
			_cleanup_(free_ptr) char *all = strv_join(h->networks, "\", \"");
			return error_field(err, "networks", "the image's machine has %zu network cards (on \"%s\"), and there are not networks of those "
					   "names for all: say with --network which one each is on", strv_len(h->networks), all);
		}
		attach(s, there ? *name : DEFAULT_NETWORK);
	}
	return 0;
}

int image_hardware_fill(struct core *c, const char *project, const struct image *image, struct instance_spec *s, struct error *err) {
	const struct machine_hardware *h = &image->machine;
	fill_hardware(h, s);
	int r = fill_networks(c, project, h, s, err);
	if (r == 0)
		r = fields_validate(&instance_spec_table, s, err);
	return r < 0 ? error_wrap(err, "with what image %.12s says of its machine", image->id + strlen("sha256:")) : 0;
}

/* ---- further disks ---- */

/* By way of a qcow2 image, in which what is empty takes no room. */
static int make_volume(struct core *c, const struct instance *i, const struct image_layer *l, struct noun **out, struct error *err) {
	const struct blob_type *type = blob_type_find(l->media_type);
	struct disk_info is = {0};
	_cleanup_(close_fd) int blob = content_blob(c->content, l->digest, NULL, err), stream = -1;
	int r = blob < 0 ? blob : disk_inspect(blob, type->format, &is, err);
	if (r < 0)
		return r;
	struct msg_disk convert = {.format = (char *)type->format, .to = (char *)"qcow2", .size = is.virtual_size};
	r = agent_call_fd(c, "disk-convert", &convert, blob, NULL, &stream, err);
	if (r == 0)
		r = stream_expected(stream, err);
	if (r < 0)
		return r;
	struct volume_spec spec;
	fields_init(&volume_spec_table, &spec);
	free(spec.kind);
	spec.kind = str_copy("block");
	free(spec.pool);
	spec.pool = str_copy(i->spec.pool ? i->spec.pool : "local");
	spec.size = MAX((is.virtual_size + 511) / 512 * 512, VOLUME_MIN);
	pairs_set(&spec.labels, ANONYMOUS_VOLUME, "true");
	return volume_import_passing(c, i->project, &spec, "qcow2", stream, out, err);
}

static void add_mount(struct instance *i, const struct volume *v, size_t disk) {
	struct instance_spec *s = &i->spec;
	s->mounts.items = alloc_resize(s->mounts.items, s->mounts.n + 1, sizeof *s->mounts.items);
	struct mount *m = &s->mounts.items[s->mounts.n++];
	fields_init(&mount_table, m);
	free(m->type);
	m->type = str_copy("volume");
	m->source = str_copy(v->spec.name);
	m->target = str_format("/disk%zu", disk + 1);
	m->anonymous = true;
}

int image_disks_make(struct core *c, struct instance *i, const struct image *image, char ***made, struct error *err) {
	if (!str_same(image->kind, "disk"))
		return 0;
	for (size_t k = 1; k < image->layers.n; k++) {
		_cleanup_(noun_unref_ptr) struct noun *o = NULL;
		int r = make_volume(c, i, &image->layers.items[k], &o, err);
		if (r < 0)
			return error_wrap(err, "disk %zu of image %.12s", k + 1, image->id + strlen("sha256:"));
		const struct volume *v = o->of;
		strv_add(made, v->id);
		add_mount(i, v, k);
	}
	return 0;
}

void image_disks_keep(struct core *c, const struct instance_snap *s) {
	const struct instance *i = &s->instance;
	for (size_t k = 0; k < i->volumes.n; k++) {
		_cleanup_(held_release) struct held h = {0};
		_cleanup_(noun_unref_ptr) struct noun *o = NULL;
		_cleanup_(error_free) struct error err = ERROR_INIT;
		int r = str_same(i->volumes.items[k].kind, "block") ? volume_take_hold(c, i->project, i->volumes.items[k].volume_id, &h, &o, &err) : 0;
		if (r < 0 || !o || !((const struct volume *)o->of)->transient)
			continue;
		struct volume kept = *(const struct volume *)o->of;
		kept.transient = false;
		if (noun_save(c, c->volumes, &kept, "update", NULL, 0, NULL, &err) < 0)
			log_warn("disk %s of machine %s: %s", kept.spec.name, i->spec.name, error_text(&err));
	}
}
