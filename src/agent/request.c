/* The table of requests: in which states of the instance each is permitted, and who does it. A request that
 * is not in the table, or whose body or state does not fit, gets an error and goes no further. */
#include "agent/machine-priv.h"
#include "agent/network-priv.h"
#include "agent/storage-priv.h"

#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "shim/protocol.h"

#include <ctype.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

unsigned state_bit(const char *state) {
	static const struct {
		const char *name;
		unsigned bit;
	} names[] = {
		{"created", S_CREATED}, {"running", S_RUNNING}, {"paused", S_PAUSED},
		{"restarting", S_RESTARTING}, {"exited", S_EXITED}, {"dead", S_DEAD},
		{"suspended", S_SUSPENDED},
	};
	for (size_t i = 0; state && i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i].name, state) == 0)
			return names[i].bit;
	return S_DEAD;
}

/* --- answered by the agent itself --- */

static int64_t memory_total(void) {
	return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

static bool kernel_since(const struct utsname *host, int major, int minor) {
	int have_major = 0, have_minor = 0;
	sscanf(host->release, "%d.%d", &have_major, &have_minor);
	return have_major > major || (have_major == major && have_minor >= minor);
}

static bool has_userns(void) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	return fs_read("/proc/sys/user/max_user_namespaces", 64, &text) == 0 && strtol(buf_str(&text), NULL, 10) > 0;
}

static const char *go_architecture(const char *machine) {
	static const char *const names[][2] = {
		{"x86_64", "amd64"}, {"aarch64", "arm64"}, {"i686", "386"}, {"armv7l", "arm"}, 
		{"loongarch64", "loong64"}};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i][0], machine) == 0)
			return names[i][1];
	return machine; /* ppc64le, s390x, riscv64 … are the same */
}

/* "0-3,7" of a file of sysfs; nothing where there is none. */
static void read_list(const char *path, struct buf *out) {
	if (fs_read(path, 4096, out) < 0)
		buf_truncate(out, 0);
	while (out->len && isspace((unsigned char)out->data[out->len - 1]))
		buf_truncate(out, out->len - 1);
}

static int do_hello(struct job *j, UNUSED struct error *err) {
	_cleanup_(buf_free) struct buf cpus = BUF_INIT, nodes = BUF_INIT;
	struct utsname host;
	uname(&host);
	read_list("/sys/devices/system/cpu/online", &cpus);
	read_list("/sys/devices/system/node/online", &nodes);
	struct msg_hello reply = {
		.version = (char *)WABE_VERSION,
		.cgroup_version = cgroup_version(),
		.kernel = host.release,
		.architecture = (char *)go_architecture(host.machine),
		.cpus = sysconf(_SC_NPROCESSORS_ONLN),
		.memory = memory_total(),
		.userns = has_userns(),
		.idmapped_mounts = kernel_since(&host, 5, 12),
		.overlay_idmap = kernel_since(&host, 5, 19),
		.cpu_list = (char *)buf_str(&cpus),
		.node_list = (char *)buf_str(&nodes),
		.swap_limit = can_limit_swap(),
		.directory = j->agent->dir,
		.engine = (char *)(j->agent->accel.kvm ? "kvm" : "tcg"),
		.engine_reason = (char *)j->agent->accel.why,
	};
	peer_answer(j->peer, j->handler, &reply, NULL, 0);
	return 0;
}

static int do_list(struct job *j, UNUSED struct error *err) {
	struct msg_instance_states reply = {0};
	reply.instances.items = alloc_array(map_count(j->agent->insts) + 1, sizeof *reply.instances.items);
	void *value;
	for (size_t at = 0; map_next(j->agent->insts, &at, NULL, &value);) {
		struct inst *i = value;
		if (!i->creating)
			reply.instances.items[reply.instances.n++] =
				(struct msg_instance_state){.id = i->id, .uid_base = i->uid_base, .status = i->status};
	}
	peer_answer(j->peer, j->handler, &reply, NULL, 0);
	free(reply.instances.items);
	return 0;
}

static int do_events(struct job *j, UNUSED struct error *err) {
	peer_subscribe(j->peer);
	return 0;
}

/* Answers with a connection to the shim in dir. */
static int hand_out_stream(struct job *j, const char *dir, struct error *err) {
	const struct msg_attach *m = j->body;
	unsigned want = (m->stdin_ ? SHIM_WANT_STDIN : 0) | (m->stdout_ ? SHIM_WANT_STDOUT : 0) |
			(m->stderr_ ? SHIM_WANT_STDERR : 0);
	_cleanup_(close_fd) int fd = shim_attach(dir, want, err);
	if (fd < 0)
		return fd;
	peer_answer(j->peer, j->handler, NULL, &fd, 1);
	return 0;
}

/* The shim's socket exists before the shim: who attaches before the start waits in its queue, and no output
 * is lost. */
static int do_attach(struct job *j, struct error *err) {
	const struct msg_attach *m = j->body;
	struct inst *i = inst_get(j->agent, j->id);
	_cleanup_(free_ptr) char *dir = run_path(j->agent, m->id, NULL);
	if (!i->shim && state_bit(i->status.state) & S_UP)
		return error_set(err, ERROR_CONFLICT, "instance %.12s has ended just now", m->id);
	if (!i->shim && i->early_fd < 0) {
		i->early_fd = shim_listen(dir, err);
		if (i->early_fd < 0)
			return error_wrap(err, "instance %.12s cannot be attached to", m->id);
	}
	int r = hand_out_stream(j, dir, err);
	i->early_clients |= r == 0 && !i->shim;
	return r;
}

static int do_exec_attach(struct job *j, struct error *err) {
	const struct msg_attach *m = j->body;
	if (!m->exec_id)
		return error_field(err, "exec_id", "is required");
	_cleanup_(free_ptr) char *dir = exec_path(j->agent, m->id, m->exec_id, NULL);
	return hand_out_stream(j, dir, err);
}

static int do_exec_start(struct job *j, struct error *err) {
	const struct msg_exec_start *m = j->body;
	snprintf(j->exec_id, sizeof j->exec_id, "%s", m->exec_id);
	return worker_start(j->agent, j, err);
}

/* An exec's state is on disk, where its shim leaves it. */
static int do_exec_state(struct job *j, struct error *err) {
	const struct msg_exec *m = j->body;
	_cleanup_(free_ptr) char *state = exec_path(j->agent, m->id, m->exec_id, "state.json");
	_cleanup_(free_ptr) char *ended = exec_path(j->agent, m->id, m->exec_id, "exit");
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	if (fs_read(state, 65536, &text) < 0)
		return error_set(err, ERROR_NOT_FOUND, "instance %.12s has no exec %s", m->id, m->exec_id);
	_cleanup_(json_free_ptr) json_t *json = json_parse(buf_str(&text), text.len, err);
	if (!json)
		return -ERROR_INVALID;
	struct msg_exec_state reply = {.pid = json_get_int(json, "pid")};
	int64_t when;
	if (!exit_file_read(ended, &reply.exit_code, &when)) {
		_cleanup_(close_fd) int shim =
			pid_open((pid_t)json_get_int(json, "shim"), (uint64_t)json_get_int(json, "shim_start"));
		reply.running = shim >= 0;
		if (!reply.running && !exit_file_read(ended, &reply.exit_code, &when))
			reply.exit_code = 137;
	}
	if (!reply.running)
		reply.pid = 0;
	peer_answer(j->peer, j->handler, &reply, NULL, 0);
	return 0;
}

static int check_networks(const struct agent *a, const struct instance *i, struct error *err) {
	if (!str_same(i->spec.network, "private") && (i->nics.n || i->ports.n))
		return error_field(err, "instance.nics", "is for an instance whose network is private");
	int r = nics_check(a, i->id, &i->nics, err);
	if (r == 0)
		r = ports_check(a, &i->nics, &i->ports, err);
	if (r < 0 && err->field)
		error_in_field(err, "instance");
	return r;
}
static struct handler create_copy = {"instance-create", .work = work_create, .id = NO_ID, .freezes = true, .cancel = true};

static int do_create(struct job *j, struct error *err) {
	const struct msg_instance_create *m = j->body;
	struct agent *a = j->agent;
	const struct instance *wanted = &m->instance;
	if (instance_id_check(wanted->id, err) < 0)
		return -ERROR_INVALID;
	struct inst *i = inst_get(a, wanted->id);
	if (i && i->creating)
		return error_set(err, ERROR_BUSY, "instance %s is being created", wanted->id);
	if (i) {
		struct msg_instance_state reply = {.id = i->id, .uid_base = i->uid_base, .status = i->status};
		peer_answer(j->peer, j->handler, &reply, NULL, 0);
		return 0;
	}
	int checked = check_networks(a, &m->instance, err);
	if (checked < 0)
		return checked;
	j->uid_base = 0;
	if (!str_same(wanted->spec.userns, "host") && !wanted->spec.privileged) {
		int r = uid_base_for(a, &wanted->spec, &j->uid_base, err);
		if (r < 0)
			return r;
	}
	memcpy(j->id, wanted->id, sizeof j->id);
	if (m->root.id) { /* the copy may take long */
		create_copy.request = j->handler->request;
		j->handler = &create_copy;
	}
	i = inst_add(a, wanted->id, j->uid_base);
	i->creating = true;
	inst_set_nics(i, &wanted->nics);
	inst_set_ports(i, &wanted->ports);
	int r = worker_start(a, j, err);
	if (r < 0)
		inst_remove(i);
	return r;
}

/* Starting needs what early clients have left, and ends a wait for a restart. */
static int do_start(struct job *j, struct error *err) {
	struct inst *i = inst_get(j->agent, j->id);
	if (j->agent->stopping)
		return error_set(err, ERROR_UNAVAILABLE, "the agent is shutting down");
	j->listen_fd = i->early_fd;
	j->early_clients = i->early_clients;
	inst_cancel_restart(i);
	return worker_start(j->agent, j, err);
}

static int do_stop(struct job *j, struct error *err) {
	inst_cancel_restart(inst_get(j->agent, j->id));
	return worker_start(j->agent, j, err);
}

static int do_delete(struct job *j, struct error *err) {
	const struct msg_instance_delete *m = j->body;
	struct inst *i = inst_get(j->agent, m->id);
	if (i && i->creating)
		return error_set(err, ERROR_BUSY, "instance %s is being created", m->id);
	if (!i) {
		peer_answer(j->peer, j->handler, NULL, NULL, 0);
		return 0;
	}
	memcpy(j->id, m->id, sizeof j->id);
	return do_stop(j, err);
}

/* It changes what an instance is. */
static int do_snapshot_restore(struct job *j, struct error *err) {
	const struct msg_snapshot *m = j->body;
	if (m->instance && inst_get(j->agent, m->id))
		memcpy(j->id, m->id, sizeof j->id);
	return worker_start(j->agent, j, err);
}

static int do_shutdown(struct job *j, struct error *err) {
	struct agent *a = j->agent;
	const struct msg_shutdown *m = j->body;
	if (a->stopping)
		return error_set(err, ERROR_CONFLICT, "the agent is shutting down already");
	a->stopping = true;
	a->stopping_for = j->peer;
	void *value;
	for (size_t at = 0; map_next(a->insts, &at, NULL, &value);) {
		struct inst *i = value;
		inst_cancel_restart(i);
		health_stop(i);
		if (i->shim)
			shutdown_one(i, m->timeout);
	}
	if (a->n_stopping == 0)
		shutdown_done(a);
	return 0;
}

/* --- the table --- */

#define ID(type) offsetof(struct type, id)

static struct handler handlers[] = {
	{"hello", .inline_ = do_hello, .id = NO_ID},
	{"events", .inline_ = do_events, .id = NO_ID},
	{"shutdown", .inline_ = do_shutdown, .id = NO_ID},
	{"instance-list", .inline_ = do_list, .id = NO_ID},
	{"instance-create", .inline_ = do_create, .work = work_create, .id = NO_ID},
	{"instance-start", .inline_ = do_start, .work = work_start, .states = S_DOWN | S_RESTARTING, .id = ID(msg_id)},
	{"instance-stop", .inline_ = do_stop, .work = work_stop, .states = S_ANY, .id = ID(msg_instance_stop)},
	{"instance-kill", .work = work_kill, .states = S_UP, .id = ID(msg_instance_kill)},
	{"instance-pause", .work = work_pause, .states = S_RUNNING, .id = ID(msg_id)},
	{"instance-unpause", .work = work_unpause, .states = S_PAUSED, .id = ID(msg_id)},
	{"instance-delete", .inline_ = do_delete, .work = work_delete, .id = NO_ID},
	{"instance-update", .inline_ = do_update, .work = work_update, .states = S_ANY, .id = ID(msg_instance_update)},
	{"instance-media", .work = work_media, .states = S_ANY, .id = ID(msg_instance_media)},
	{"attach", .inline_ = do_attach, .states = S_ANY, .id = ID(msg_attach)},
	{"exec-attach", .inline_ = do_exec_attach, .states = S_UP, .id = ID(msg_attach)},
	{"machine-suspend", .work = work_machine_suspend, .states = S_UP, .id = ID(msg_id), .freezes = true},
	{"machine-migrate", .work = work_machine_migrate, .states = S_RUNNING, .id = ID(msg_machine_migrate), .cancel = true},
	{"machine-receive", .inline_ = do_start, .work = work_machine_receive, .states = S_CREATED, .id = ID(msg_machine_receive),
	 .cancel = true},
	{"machine-settle", .work = work_machine_settle, .states = S_ANY, .id = ID(msg_machine_settle)},
	{"machine-display", .work = work_machine_display, .states = S_UP, .id = ID(msg_id)},
	{"machine-usb", .work = work_machine_usb, .states = S_UP, .id = ID(msg_id)},
	{"machine-screen", .work = work_machine_screen, .states = S_UP, .id = ID(msg_id)},
	{"machine-input", .work = work_machine_input, .states = S_RUNNING, .id = ID(msg_machine_input)},
	{"machine-export", .work = work_machine_export, .states = S_ANY, .id = ID(msg_machine_export), .cancel = true},
	{"machine-checkpoints", .work = work_machine_checkpoints, .states = S_ANY, .id = ID(msg_machine_export)},
	{"machine-disk-move", .work = work_machine_disk_move, .states = S_ANY, .id = ID(msg_disk_move)},
	{"machine-inside", .work = work_machine_inside, .states = S_RUNNING, .id = ID(msg_id)},
	{"machine-password", .work = work_machine_password, .states = S_RUNNING, .id = ID(msg_machine_password)},
	{"exec-start", .inline_ = do_exec_start, .work = work_exec_start, .states = S_RUNNING,
	 .id = ID(msg_exec_start)},
	{"exec-state", .inline_ = do_exec_state, .states = S_ANY, .id = ID(msg_exec)},
	{"exec-delete", .work = work_exec_delete, .states = S_ANY, .id = ID(msg_exec)},
	{"instance-stats", .work = work_stats, .states = S_ANY, .id = ID(msg_id)},
	{"instance-top", .work = work_top, .states = S_UP, .id = ID(msg_id)},
	{"instance-health", .work = work_health_log, .states = S_ANY, .id = ID(msg_id)},
	{"instance-logs", .work = work_logs, .states = S_ANY, .id = ID(msg_id)},
	{"instance-diff", .work = work_diff, .states = S_ANY, .id = ID(msg_id)},
	{"instance-export", .work = work_export, .states = S_ANY, .id = ID(msg_export)},
	{"machine-disk", .work = work_machine_disk, .states = S_DOWN, .id = ID(msg_id), .cancel = true},
	{"machine-tree", .work = work_machine_tree, .states = S_DOWN, .id = ID(msg_id), .cancel = true},
	{"instance-commit", .work = work_commit, .states = S_ANY, .id = ID(msg_export)},
	{"archive-get", .work = work_archive_get, .states = S_ANY, .id = ID(msg_archive)},
	{"archive-put", .work = work_archive_put, .states = S_ANY, .id = ID(msg_archive)},
	{"archive-stat", .work = work_archive_stat, .states = S_ANY, .id = ID(msg_archive)},
	{"layer-unpack", .work = work_layer_unpack, .id = NO_ID, .cancel = true},
	{"tree-get", .work = work_tree_get, .id = NO_ID, .cancel = true},
	{"tree-stat", .work = work_tree_stat, .id = NO_ID},
	{"layer-make", .work = work_layer_make, .id = NO_ID, .cancel = true},
	{"layer-list", .work = work_layer_list, .id = NO_ID},
	{"layer-delete", .work = work_layer_delete, .id = NO_ID},
	{"bootstrap", .work = work_bootstrap, .id = NO_ID, .cancel = true},
	{"git-resolve", .work = work_git_resolve, .id = NO_ID, .cancel = true},
	{"git-fetch", .work = work_git_fetch, .id = NO_ID, .cancel = true},
	{"network-create", .inline_ = do_network_create, .work = work_network_create, .id = NO_ID},
	{"network-delete", .inline_ = do_network_delete, .work = work_network_delete, .id = NO_ID},
	{"network-list", .inline_ = do_network_list, .id = NO_ID},
	{"nic-set", .inline_ = do_nic_set, .work = work_nic_set, .states = S_ANY, .id = ID(msg_nic_set)},
	{"nic-remove", .work = work_nic_remove, .states = S_ANY, .id = ID(msg_nic_remove)},
	{"rules-set", .work = work_rules_set, .id = NO_ID},
	{"rules-delete", .inline_ = do_rules_delete, .work = work_rules_delete, .id = NO_ID},
	{"members-set", .work = work_members_set, .id = NO_ID},
	{"balancer-set", .work = work_balancer_set, .id = NO_ID},
	{"balancer-delete", .work = work_balancer_delete, .id = NO_ID},
	{"firewall-list", .work = work_firewall_list, .id = NO_ID},
	{"pool-create", .inline_ = do_pool_create, .work = work_pool_create, .id = NO_ID},
	{"pool-delete", .inline_ = do_pool_delete, .work = work_pool_delete, .id = NO_ID},
	{"pool-status", .inline_ = do_pool_status, .work = work_pool_status, .id = NO_ID},
	{"pool-list", .inline_ = do_pool_list, .id = NO_ID},
	{"volume-create", .work = work_volume_create, .id = NO_ID, .freezes = true, .cancel = true},
	{"volume-delete", .work = work_volume_delete, .id = NO_ID},
	{"volume-resize", .work = work_volume_resize, .id = NO_ID},
	{"volume-usage", .work = work_volume_usage, .id = NO_ID},
	{"volume-list", .work = work_volume_list, .id = NO_ID},
	{"volume-export", .work = work_volume_export, .id = NO_ID, .cancel = true},
	{"volume-import", .work = work_volume_import, .id = NO_ID, .cancel = true},
	{"disk-check", .work = work_disk_check, .id = NO_ID, .cancel = true},
	{"disk-convert", .work = work_disk_convert, .id = NO_ID, .cancel = true},
	{"template-make", .work = work_template_make, .id = NO_ID, .cancel = true},
	{"volume-attach", .work = work_volume_attach, .states = S_UP, .id = ID(msg_volume_attach)},
	{"volume-detach", .work = work_volume_detach, .states = S_UP, .id = ID(msg_volume_attach)},
	{"snapshot-create", .work = work_snapshot_create, .id = NO_ID, .freezes = true},
	{"snapshot-delete", .work = work_snapshot_delete, .id = NO_ID},
	{"snapshot-restore", .inline_ = do_snapshot_restore, .work = work_snapshot_restore, .id = NO_ID},
};

const struct handler job_recover = {"-recover", .work = work_recover, .id = NO_ID};
const struct handler job_start = {"-start", .work = work_start, .id = NO_ID};
const struct handler job_health = {"-health", .work = health_work, .id = NO_ID};
const struct handler job_machine_identity = {"-machine-identity", .work = work_machine_identity, .id = NO_ID};
const struct handler job_machine_end = {"-machine-end", .work = work_machine_end, .id = NO_ID};
const struct handler job_machine_arrived = {"-machine-arrived", .work = work_machine_arrived, .id = NO_ID};
const struct handler job_machine_lost = {"-machine-lost", .work = work_machine_lost, .id = NO_ID};
const struct handler job_machine_resume = {"-machine-resume", .work = work_machine_resume, .id = NO_ID};
const struct handler job_cleanup = {"-cleanup", .work = work_cleanup, .id = NO_ID};
const struct handler job_pool = {"-pool", .work = work_pool, .id = NO_ID};
const struct handler job_pools_down = {"-pools-down", .work = work_pools_down, .id = NO_ID};
const struct handler job_stop = {"-stop", .work = work_stop, .id = NO_ID};
const struct handler job_networks = {"-networks", .work = work_networks, .id = NO_ID};
const struct handler job_networks_down = {"-networks-down", .work = work_networks_down, .id = NO_ID};
const struct handler job_network = {"-network", .work = work_network, .id = NO_ID};
const struct handler job_firewall = {"-firewall", .work = work_firewall, .id = NO_ID};

static const struct handler *handler_find(const struct wire_request *request) {
	for (size_t i = 0; i < ARRAY_SIZE(handlers); i++)
		if (strcmp(handlers[i].name, request->name) == 0) {
			handlers[i].request = request;
			return &handlers[i];
		}
	return NULL;
}

bool requests_complete(struct error *err) {
	for (const struct wire_request *r = wire_requests; r->name; r++)
		if (!handler_find(r)) {
			error_set(err, ERROR_INTERNAL, "request %s has no handler", r->name);
			return false;
		}
	return true;
}

/* Is there such an instance, in a state in which this may be done? */
static int check_state(struct agent *a, const struct handler *h, const void *body, struct job *j, struct error *err) {
	const char *id = *(char *const *)((const char *)body + h->id);
	if (instance_id_check(id, err) < 0)
		return -ERROR_INVALID;
	struct inst *i = inst_get(a, id);
	if (!i || i->creating)
		return error_set(err, ERROR_NOT_FOUND, "the agent has no instance %s", id);
	if (!(h->states & state_bit(i->status.state)))
		return error_set(err, ERROR_CONFLICT, "%s is not possible: instance %.12s is %s", h->name, id,
				 i->status.state);
	memcpy(j->id, id, sizeof j->id);
	return 0;
}

static int run(struct agent *a, struct peer *p, const struct handler *h, void *body, struct wire_frame *f,
	       struct error *err) {
	struct job j = {.agent = a, .handler = h, .body = body, .nfds = f->nfds, .peer = p, .sock = peer_fd(p),
			.listen_fd = -1};
	memcpy(j.fds, f->fds, sizeof j.fds);
	if (h->id != NO_ID) {
		int r = check_state(a, h, body, &j, err);
		if (r < 0)
			return r;
	}
	return h->inline_ ? h->inline_(&j, err) : worker_start(a, &j, err);
}

int request_dispatch(struct agent *a, struct peer *p, struct wire_frame *f, struct error *err) {
	const struct wire_request *request = wire_request_find(f->type);
	const struct handler *h = request ? handler_find(request) : NULL;
	if (!h)
		return error_set(err, ERROR_UNSUPPORTED, "the agent knows no request \"%.64s\"", f->type);
	if (f->nfds < request->min_fds || f->nfds > request->max_fds)
		return error_set(err, ERROR_INVALID, "%s takes %zu to %zu descriptors, %zu came", h->name,
				 request->min_fds, request->max_fds, f->nfds);
	void *body = alloc_zero(MAX(request->request->size, sizeof(void *)));
	int r = fields_parse(request->request, f->body, FIELDS_INTERNAL, body, err);
	if (r == 0) {
		r = run(a, p, h, body, f, err);
		fields_free(request->request, body);
	} else {
		error_wrap(err, "%s", h->name);
	}
	free(body);
	return r;
}
