/* The container as driver/container takes it. It has the machine to itself: all powers, all devices, the machine's own network;
 * what sets it apart from this program are its root, its processes and its messages. */
#include "guest/guest-priv.h"

#include "base/base64.h"

#include <sched.h>

#define CGROUP "container"

static char *copy_or_null(const char *s) {
	return s ? str_copy(s) : NULL;
}

static void describe_process(const struct guest_config *g, struct container_process *p) {
	p->args = strv_copy(g->args);
	p->env = strv_copy(g->env);
	p->cwd = str_copy(g->workdir ? g->workdir : "/");
	p->user = str_copy(g->user ? g->user : "0");
	p->groups = strv_copy(g->groups);
	p->terminal = g->tty;
	p->no_new_privileges = g->no_new_privileges;
	p->rlimits = alloc_array(g->rlimits.n + 1, sizeof *p->rlimits);
	for (; p->n_rlimits < g->rlimits.n; p->n_rlimits++) {
		const struct guest_rlimit *l = &g->rlimits.items[p->n_rlimits];
		p->rlimits[p->n_rlimits] = (struct container_rlimit){str_copy(l->type), (uint64_t)l->soft, (uint64_t)l->hard};
	}
}

/* The others are the machine's. */
bool sysctl_is_containers(const char *key) {
	static const char *const prefixes[] = {"fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm"};
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (str_starts(key, prefixes[i]))
			return true;
	return false;
}

static void describe_files(const struct guest_config *g, struct container_config *c) {
	c->files = alloc_array(g->files.n + 1, sizeof *c->files);
	for (; c->n_files < g->files.n; c->n_files++) {
		const struct guest_file *f = &g->files.items[c->n_files];
		struct buf data = BUF_INIT;
		base64_decode(f->data ? f->data : "", &data);
		size_t size = data.len;
		c->files[c->n_files] = (struct container_file){str_copy(f->target), buf_steal(&data), size, (uint32_t)f->uid,
							       (uint32_t)f->gid, (mode_t)f->mode, false, -1};
	}
}

void container_describe(const struct guest_config *g, struct container_config *c) {
	static const int flags[] = {CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP};
	container_config_init(c);
	c->id = str_copy(g->id);
	c->rootfs = str_copy(GUEST_HOST "/root");
	c->readonly_root = g->read_only;
	c->hostname = copy_or_null(g->hostname);
	c->domainname = copy_or_null(g->domainname);
	c->init = g->init;
	c->cgroup.path = str_copy(CGROUP);
	c->namespaces = alloc_array(ARRAY_SIZE(flags), sizeof *c->namespaces);
	for (; c->n_namespaces < ARRAY_SIZE(flags); c->n_namespaces++)
		c->namespaces[c->n_namespaces].flag = flags[c->n_namespaces];
	describe_process(g, &c->process);
	for (size_t i = 0; i < g->sysctls.n; i++)
		if (sysctl_is_containers(g->sysctls.items[i].key))
			pairs_set(&c->sysctls, g->sysctls.items[i].key, g->sysctls.items[i].value);
	describe_files(g, c);
	c->mounts = alloc_array(g->mounts.n + 1, sizeof *c->mounts);
	for (; c->n_mounts < g->mounts.n; c->n_mounts++) {
		const struct guest_mount *m = &g->mounts.items[c->n_mounts];
		c->mounts[c->n_mounts] = (struct container_mount){.type = str_copy(m->type), .source = str_copy(m->type),
			.target = str_copy(m->target), .data = copy_or_null(m->data), .flags = (unsigned long)m->flags};
	}
}
