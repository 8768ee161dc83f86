/* A machine whose root is a container image's: the container that would have been is described as ever, and what of it the host
 * has to do (the overlay, volumes, files below /etc) is done in QEMU's container, beneath GUEST_DIR/root; the rest is told to
 * wabe-init inside (model/guest.h). */
#include "agent/machine-priv.h"
#include "agent/network-priv.h"

#include "base/base64.h"
#include "base/fs.h"
#include "base/str.h"
#include "model/guest.h"

#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#define FILES_MAX ((size_t)16 << 20)
/* Beside what the spec says: nothing is said before the first process speaks; a panic ends the machine; ciphers are not tried out
 * at each start, which takes a translator 300 ms; the timer, which may be late on a busy host, is not tested; memory that comes later
 * is used. */
#define KERNEL_ARGS "console=ttyS0 loglevel=1 panic=-1 cryptomgr.notests no_timer_check memhp_default_state=online_movable"

bool guest_is(const struct msg_instance_create *r) {
	return instance_is_machine(&r->instance.spec) && !root_is_block(r);
}

/* --- what the host does --- */

static const struct volume_mount *block_of(const struct volume_mounts *volumes, const struct container_mount *m) {
	for (size_t i = 0; i < volumes->n; i++)
		if (volumes->items[i].block && str_same(volumes->items[i].node, m->source))
			return &volumes->items[i];
	return NULL;
}

static struct container_mount *add_mount(struct container_config *c) {
	c->mounts = alloc_resize(c->mounts, c->n_mounts + 1, sizeof *c->mounts);
	struct container_mount *m = &c->mounts[c->n_mounts++];
	*m = (struct container_mount){0};
	return m;
}

/* The image says where links lead: targets are looked up within its root, lest one lie upon QEMU's own files. */
static void take_binds(struct container_config *inner, const struct volume_mounts *volumes, struct container_config *c) {
	struct container_mount *dir = add_mount(c);
	*dir = (struct container_mount){.type = str_copy("tmpfs"), .source = str_copy("tmpfs"), .target = str_copy(GUEST_DIR),
					.flags = MS_NOSUID | MS_NODEV | MS_NOEXEC, .data = str_copy("mode=755,size=1m")};
	struct container_mount *root = add_mount(c);
	*root = (struct container_mount){.type = str_copy("overlay"), .target = str_copy(GUEST_DIR "/root"), .root = inner};
	size_t kept = 0;
	for (size_t i = 0; i < inner->n_mounts; i++) {
		struct container_mount *m = &inner->mounts[i];
		if (!(m->flags & MS_BIND) || block_of(volumes, m)) {
			inner->mounts[kept++] = *m;
			continue;
		}
		m->within = GUEST_DIR "/root";
		*add_mount(c) = *m;
	}
	inner->n_mounts = kept;
}

/* --- what the guest does --- */

/* Those that every container has the guest makes by itself. */
static bool is_usual(const struct container_mount *m) {
	return !str_same(m->type, "tmpfs") || str_same(m->target, "/dev") || str_same(m->target, "/dev/shm");
}

static void tell_mounts(const struct container_config *inner, struct guest_config *g) {
	g->mounts.items = alloc_array(inner->n_mounts + 1, sizeof *g->mounts.items);
	for (size_t i = 0; i < inner->n_mounts; i++) {
		const struct container_mount *m = &inner->mounts[i];
		if (!is_usual(m))
			g->mounts.items[g->mounts.n++] = (struct guest_mount){m->type, m->target, m->data, (int64_t)m->flags};
	}
}

static int tell_files(const struct container_config *inner, struct guest_config *g, struct error *err) {
	size_t size = 0;
	g->files.items = alloc_array(inner->n_files + 1, sizeof *g->files.items);
	for (; g->files.n < inner->n_files; g->files.n++) {
		const struct container_file *f = &inner->files[g->files.n];
		size += f->size;
		if (f->is_socket)
			return error_field(err, "spec.files", "a machine has no sockets of its host's");
		if (size > FILES_MAX / 2)
			return error_field(err, "spec.files", "a machine's secrets and configs may have %zu bytes", FILES_MAX / 2);
		g->files.items[g->files.n] = (struct guest_file){f->target, base64_encode(f->data, f->size), f->uid, f->gid, f->mode};
	}
	return 0;
}

/* Of a disk a guest knows the serial number. */
static int tell_disks(const struct volume_mounts *volumes, struct machine_start *m, struct guest_config *g, struct error *err) {
	int r = 0;
	g->disks.items = alloc_array(volumes->n + 1, sizeof *g->disks.items);
	for (size_t i = 0; r == 0 && i < volumes->n; i++) {
		const struct volume_mount *v = &volumes->items[i];
		if (!v->block)
			continue;
		const char *serial = machine_keep(m, str_format("volume%zu", i));
		r = machine_add_disk(m, machine_keep(m, machine_disk_id(v->id)), v->node, v->mount->read_only, serial, err);
		g->disks.items[g->disks.n++] = (struct guest_disk){(char *)serial, v->mount->target, v->mount->read_only};
	}
	return r;
}

static void tell_address(const struct network *n, const char *address, bool gateway, struct guest_nic *to) {
	struct ip ip;
	struct cidr cidr;
	const struct subnet *s = address && ip_parse(address, &ip) == 0 ? subnet_with(&n->spec.subnets, &ip, &cidr) : NULL;
	if (!s)
		return;
	strv_take(&to->addresses, str_format("%s/%u", address, cidr.prefix));
	if (gateway && s->gateway)
		strv_add(&to->gateways, s->gateway);
}

static void tell_nics(const struct agent *a, const struct msg_instance_create *r, struct guest_config *g) {
	const nics *list = &r->instance.nics;
	const struct nic *way = gateway_nic(a, list);
	g->nics.items = alloc_array(list->n + 1, sizeof *g->nics.items);
	for (size_t i = 0; str_same(r->instance.spec.network, "private") && i < list->n; i++) {
		const struct nic *n = &list->items[i];
		const struct net *net = net_get(a, n->network_id);
		struct guest_nic *to = &g->nics.items[g->nics.n++];
		*to = (struct guest_nic){.interface = n->interface, .mac = n->mac};
		if (!net || net->damaged)
			continue;
		to->mtu = net->network.spec.mtu;
		tell_address(&net->network, n->ipv4, n == way, to);
		tell_address(&net->network, n->ipv6, n == way, to);
	}
}

static void tell_process(const struct msg_instance_create *r, const struct container_config *inner, struct guest_config *g) {
	const struct container_process *p = &inner->process;
	const char *signal = r->instance.spec.stop_signal ? r->instance.spec.stop_signal : r->config.stop_signal;
	*g = (struct guest_config){.version = GUEST_VERSION, .id = r->instance.id, .args = p->args, .env = p->env, .workdir = p->cwd,
		.user = p->user, .groups = p->groups, .tty = p->terminal, .stdin_open = r->instance.spec.stdin_open, .init = inner->init,
		.no_new_privileges = p->no_new_privileges, .stop_signal = (char *)signal, .hostname = inner->hostname,
		.domainname = inner->domainname, .sysctls = inner->sysctls, .shm_size = r->instance.spec.limits.shm_size,
		.read_only = inner->readonly_root};
	g->rlimits.items = alloc_array(p->n_rlimits + 1, sizeof *g->rlimits.items);
	for (; g->rlimits.n < p->n_rlimits; g->rlimits.n++) {
		const struct container_rlimit *l = &p->rlimits[g->rlimits.n];
		g->rlimits.items[g->rlimits.n] = (struct guest_rlimit){l->type, (int64_t)l->soft, (int64_t)l->hard};
	}
}

/* The lists are its own; of what they point to, texts of files, addresses and gateways. */
static void told_free(struct guest_config *g) {
	for (size_t i = 0; i < g->files.n; i++)
		free(g->files.items[i].data);
	for (size_t i = 0; i < g->nics.n; i++) {
		strv_free(g->nics.items[i].addresses);
		strv_free(g->nics.items[i].gateways);
	}
	void *const lists[] = {g->rlimits.items, g->mounts.items, g->files.items, g->disks.items, g->nics.items};
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		free(lists[i]);
}

static int add_config(const struct guest_config *g, struct container_config *c, struct error *err) {
	_cleanup_(json_free_ptr) json_t *o = fields_print_secrets(&guest_config_table, g);
	_cleanup_(free_ptr) char *text = json_print(o);
	if (strlen(text) > GUEST_CONFIG_MAX)
		return error_set(err, ERROR_TOO_LARGE, "what the guest is to be told is too large");
	size_t size = strlen(text);
	c->files = alloc_array(1, sizeof *c->files);
	c->files[c->n_files++] = (struct container_file){str_copy(GUEST_DIR "/config"), TAKE_PTR(text), size, 0, 0, 0400, false, -1};
	return 0;
}

/* --- both --- */

static int start_kernel(const struct agent *a, const struct msg_instance_create *r, struct machine_start *m, struct error *err) {
	const char *more = r->instance.spec.machine.kernel_args;
	if (m->config.kernel_fd < 0)
		return error_field(err, "spec.machine.kernel", "a machine of a container's image needs a kernel, and there was none: "
				   "\"wabe image bootstrap --kernel\" makes one; then make the machine again");
	m->config.append = more ? machine_keep(m, str_format(KERNEL_ARGS " %s", more)) : KERNEL_ARGS;
	m->config.launcher = machine_keep(m, program_beside(a, "wabe-machine"));
	m->share = (struct machine_share){.tag = GUEST_TAG, .path = GUEST_DIR};
	m->config.shares = &m->share;
	m->config.n_shares = 1;
	m->config.status_file = GUEST_DIR "/exit";
	return 0;
}

int guest_build(const struct job *j, const struct msg_instance_create *r, const char *root, const struct volume_mounts *volumes,
		struct machine_start *m, struct container_config *c, struct error *err) {
	const struct agent *a = j->agent;
	struct guest_config g = {0};
	int result = start_kernel(a, r, m, err);
	if (result == 0)
		result = config_build(a, r, root, volumes, &m->inner, err);
	if (result < 0)
		return result;
	take_binds(&m->inner, volumes, c);
	tell_process(r, &m->inner, &g);
	tell_mounts(&m->inner, &g);
	tell_nics(a, r, &g);
	result = tell_files(&m->inner, &g, err);
	if (result == 0)
		result = tell_disks(volumes, m, &g, err);
	if (result == 0)
		result = add_config(&g, c, err);
	told_free(&g);
	return result;
}
