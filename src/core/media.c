/* What a machine gets besides its disk, as files for the agent: kernel and initramfs, CDs, a floppy, and the medium that tells cloud-init
 * about it. */
#include "core/core-priv.h"
#include "core/networks-priv.h"

#include "base/str.h"
#include "image/artifact.h"
#include "seed/seed.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define CDROMS_MAX 4

static int failed(struct error *err) {
	return err && err->kind ? -(int)err->kind : -ERROR_NOT_FOUND;
}

void media_close(struct media_files *m) {
	for (size_t i = 0; i < m->nfds; i++)
		close(m->fds[i]);
	if (!m->nfds)
		close_fd(&m->files);
}

static void add(struct media_files *m, const char *name, int fd) {
	m->items[m->n++].name = (char *)name;
	m->fds[m->nfds++] = fd;
}

/* --- images --- */

static struct image_snap *find_named(struct core *c, const char *name, struct error *err) {
	WITH_LOCK(c);
	struct image_entry *e = image_find(c, name, err);
	return e ? image_snap_ref(e->snap) : NULL;
}

static struct image_snap *find_newest(struct core *c, const char *kind) {
	WITH_LOCK(c);
	struct image_snap *best = NULL;
	void *value;
	for (size_t at = 0; map_next(c->images, &at, NULL, &value);) {
		struct image_snap *s = ((struct image_entry *)value)->snap;
		if (str_same(s->image.kind, kind) && (!best || s->image.created_at > best->image.created_at))
			best = s;
	}
	return best ? image_snap_ref(best) : NULL;
}

/* The blob of this format; none is no error. */
static int add_blob(struct core *c, const struct image *image, const char *format, const char *name, struct media_files *m,
		    struct error *err) {
	for (size_t i = 0; i < image->layers.n; i++) {
		const struct blob_type *type = blob_type_find(image->layers.items[i].media_type);
		if (!type || !str_same(type->format, format))
			continue;
		int fd = content_blob(c->content, image->layers.items[i].digest, NULL, err);
		if (fd < 0)
			return fd;
		add(m, name, fd);
		return 0;
	}
	return 0;
}

static int check_kind(const struct image_snap *s, const char *kind, const char *field, const char *name, struct error *err) {
	if (str_same(s->image.kind, kind))
		return 0;
	return error_field(err, field, "image %s is of kind %s, not %s", name, s->image.kind ? s->image.kind : "oci", kind);
}

/* A container's image brings none of its own. */
static int add_kernel(struct core *c, const struct instance *i, const struct image *image, struct media_files *m, struct error *err) {
	const char *name = i->spec.machine.kernel;
	bool needed = image && image_is_oci(image);
	if (!name && !needed)
		return 0;
	_cleanup_(image_snap_unref_ptr) struct image_snap *s = name ? find_named(c, name, err) : find_newest(c, "kernel");
	if (!s && name) {
		error_in_field(err, "machine.kernel");
		return failed(err);
	}
	if (!s) {
		error_set(err, ERROR_NOT_FOUND, "a machine of a container's image needs a kernel, and there is no image of kind kernel: "
						"\"wabe image bootstrap --kernel\" makes one");
		error_in_field(err, "machine.kernel");
		return -ERROR_NOT_FOUND;
	}
	int r = check_kind(s, "kernel", "machine.kernel", name, err);
	if (r == 0)
		r = add_blob(c, &s->image, "kernel", "kernel", m, err);
	return r < 0 ? r : add_blob(c, &s->image, "initrd", "initrd", m, err);
}

/* For a drive: the image of that name. */
static int add_medium(struct core *c, const char *name, const char *kind, const char *field, const char *drive, struct media_files *m,
		      struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *s = find_named(c, name, err);
	if (!s) {
		error_in_field(err, field);
		return failed(err);
	}
	int r = check_kind(s, kind, field, name, err);
	return r < 0 ? r : add_blob(c, &s->image, kind, drive, m, err);
}

static int add_media(struct core *c, const struct instance *i, struct media_files *m, struct error *err) {
	static const char *const drives[CDROMS_MAX] = {"cdrom0", "cdrom1", "cdrom2", "cdrom3"};
	const struct machine_spec *s = &i->spec.machine;
	int r = 0;
	for (size_t n = 0; r == 0 && s->cdroms && s->cdroms[n] && n < CDROMS_MAX; n++)
		r = add_medium(c, s->cdroms[n], "iso", "machine.cdroms", drives[n], m, err);
	return r == 0 && s->floppy ? add_medium(c, s->floppy, "floppy", "machine.floppy", "floppy0", m, err) : r;
}

/* --- the medium for cloud-init --- */

struct told {
	struct seed_nic *nics;
	size_t n;
	char **texts; /* that those point to */
};

static void told_free(struct told *t) {
	for (size_t i = 0; i < t->n; i++) {
		strv_free(t->nics[i].addresses);
		strv_free(t->nics[i].gateways);
		strv_free(t->nics[i].dns);
		strv_free(t->nics[i].search);
	}
	free(t->nics);
	strv_free(t->texts);
}

static const char *keep(struct told *t, const char *text) {
	if (!text)
		return NULL;
	strv_add(&t->texts, text);
	return t->texts[strv_len(t->texts) - 1];
}

static void tell_address(const struct network_spec *n, const char *address, bool gateway, struct seed_nic *to) {
	struct ip ip;
	struct cidr cidr;
	const struct subnet *s = address && ip_parse(address, &ip) == 0 ? subnet_with(&n->subnets, &ip, &cidr) : NULL;
	if (!s)
		return;
	strv_take(&to->addresses, str_format("%s/%u", address, cidr.prefix));
	if (gateway && s->gateway)
		strv_add(&to->gateways, s->gateway);
	if (n->dns && s->gateway)
		strv_add(&to->dns, s->gateway);
}

/* As a container on these networks is configured. */
static void tell_nics(struct core *c, const struct instance *i, struct told *t) {
	WITH_LOCK(c);
	bool led = false;
	t->nics = alloc_array(i->nics.n + 1, sizeof *t->nics);
	for (size_t k = 0; str_same(i->spec.network, "private") && k < i->nics.n; k++) {
		const struct nic *n = &i->nics.items[k];
		const struct object *o = object_find(c, &c->networks, i->project, n->network_id, NULL);
		struct seed_nic *to = &t->nics[t->n++];
		*to = (struct seed_nic){.interface = keep(t, n->interface), .mac = keep(t, n->mac)};
		if (!o)
			continue;
		const struct network_spec *spec = &network_of(o)->spec;
		bool leads = !led && !spec->internal && spec->subnets.n;
		led |= leads;
		to->mtu = spec->mtu;
		tell_address(spec, n->ipv4, leads, to);
		tell_address(spec, n->ipv6, leads, to);
		if (spec->dns && spec->domain)
			strv_add(&to->search, spec->domain);
	}
}

static int add_seed(struct core *c, const struct instance *i, struct media_files *m, struct error *err) {
	const struct instance_spec *s = &i->spec;
	if (!seed_wanted(&s->machine.cloud_init))
		return 0;
	_cleanup_(told_free) struct told told = {0};
	const char *host = s->hostname ? s->hostname : s->name;
	_cleanup_(free_ptr) char *name = s->domainname ? str_format("%s.%s", host, s->domainname) : str_copy(host);
	int fd = memfd_create("seed", MFD_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "cannot make a medium for cloud-init");
	add(m, "seed", fd);
	tell_nics(c, i, &told);
	const struct seed seed = {.config = &s->machine.cloud_init, .id = i->id, .hostname = name, .nics = told.nics, .n_nics = told.n};
	int r = seed_write(&seed, fd, err);
	if (r < 0)
		error_in_field(err, "machine.cloud_init");
	return r;
}

/* --- all --- */

int media_collect(struct core *c, const struct instance *i, const struct image *image, struct media_files *m, struct error *err) {
	if (m->files >= 0)
		m->fds[m->nfds++] = m->files;
	if (!instance_is_machine(&i->spec))
		return 0;
	const struct machine_spec *s = &i->spec.machine;
	if (image && image_is_oci(image) && (seed_wanted(&s->cloud_init) || strv_len(s->cdroms) || s->floppy))
		return error_field(err, "machine", "a machine of a container's image starts its command alone: it has neither cloud-init, CDs nor "
				   "floppies");
	int r = add_kernel(c, i, image, m, err);
	if (r == 0)
		r = add_media(c, i, m, err);
	return r < 0 ? r : add_seed(c, i, m, err);
}

bool media_differ(const struct instance *old, const struct instance *new) {
	const struct instance_spec *a = &old->spec, *b = &new->spec;
	if (!instance_is_machine(b))
		return false;
	if (!fields_equal(&machine_spec_table, &a->machine, &b->machine))
		return true;
	if (!seed_wanted(&b->machine.cloud_init))
		return false;
	bool same = str_same(a->name, b->name) && str_same(a->hostname, b->hostname) && str_same(a->domainname, b->domainname) &&
		    old->nics.n == new->nics.n;
	for (size_t i = 0; same && i < new->nics.n; i++)
		same = fields_equal(&nic_table, &old->nics.items[i], &new->nics.items[i]);
	return !same;
}

int media_send(struct core *c, const struct instance *i, struct error *err) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *image = instance_image(c, i);
	_cleanup_(media_close) struct media_files m = {.files = -1};
	struct msg_instance_media body = {.id = i->id};
	int r = media_collect(c, i, image ? &image->image : NULL, &m, err);
	body.media.items = m.items;
	body.media.n = m.n;
	return r < 0 ? r : agent_call_fds(c, "instance-media", &body, m.fds, m.nfds, NULL, err);
}
