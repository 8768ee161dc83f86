/* Putting an instance on a network and taking it off, also while it runs. The record changes first, under the
 * instance's lock; then the host is brought in line with it, which recovery would do as well. */
#include "agent/machine-priv.h"
#include "agent/network-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <sys/file.h>
#include <unistd.h>

struct nic_change {
	struct job *job;
	int lock;
	struct msg_instance_create record;
	struct run_state run;
	bool runs;
};

static void change_free(struct nic_change *c) {
	instance_unlock(&c->lock);
	record_free(&c->record);
	run_free(&c->run);
}

static int change_begin(struct nic_change *c, struct error *err) {
	const struct agent *a = c->job->agent;
	int r = instance_lock(a, c->job->id, LOCK_EX, LOCK_WAIT, &c->lock, err);
	if (r == 0)
		r = record_load(a, c->job->id, &c->record, err);
	if (r == 0)
		r = instance_reap(c->job, &c->record, false, err);
	if (r < 0)
		return r;
	_cleanup_(close_fd) int shim = run_load(a, c->job->id, &c->run, NULL) == 0 ? run_pidfd(&c->run) : -1;
	c->runs = shim >= 0;
	if (!str_same(c->record.instance.spec.network, "private"))
		return error_set(err, ERROR_CONFLICT, "instance %.12s has no networks of its own: its network is %s", c->job->id,
				 c->record.instance.spec.network);
	return 0;
}

static bool is_machine(const struct nic_change *c) {
	return c->runs && instance_is_machine(&c->record.instance.spec);
}

/* What runs, in line with the record. A machine's cards come after their interfaces. */
static int follow(struct nic_change *c, struct error *err) {
	int r = c->runs ? network_sync(c->job, &c->record, &c->run, err) : 0;
	return r == 0 && is_machine(c) ? machine_nics_add(c->job->agent, &c->record, &c->run.container, err) : r;
}

/* Writes the record and follows it on the host; what the host refuses is taken back. A guest must let go of a card before. */
static int change_commit(struct nic_change *c, const nics *before, struct error *err) {
	const struct agent *a = c->job->agent;
	nics *list = &c->record.instance.nics;
	int r = ports_check(a, list, &c->record.instance.ports, err);
	if (r == 0 && c->runs && !list->n && c->record.instance.ports.n)
		r = error_field(err, "ports", "are published over this network, the only one of an instance that runs");
	if (r == 0 && is_machine(c))
		r = machine_nics_remove(a, &c->record, err);
	fault_point("net.nic.unplugged");
	if (r == 0)
		r = record_save(a, &c->record, err);
	if (r < 0)
		return r;
	fault_point("net.nic.saved");
	r = follow(c, err);
	if (r < 0) {
		_cleanup_(error_free) struct error again = ERROR_INIT;
		nics refused = *list;
		*list = *before;
		if (is_machine(c))
			machine_nics_remove(a, &c->record, NULL);
		if (record_save(a, &c->record, &again) == 0)
			follow(c, &again);
		if (again.kind)
			log_error("instance %.12s: %s", c->job->id, error_text(&again));
		*list = refused;
		return r;
	}
	if (c->runs)
		etc_refresh(a, &c->record, before);
	return 0;
}

/* What the record says is what the agent has to know, however this ends. */
static int change_end(struct nic_change *c, int r, struct error *err) {
	job_report(c->job, r == 0 ? "update" : NULL, r == 0 ? &c->record.instance.status : NULL, json_pack("{sb}", "nics", 1));
	fault_point("net.nic.reported");
	return r < 0 ? r : job_answer(c->job, NULL, NULL, 0, err);
}

/* On a network that it is on already, an instance keeps address, MAC and interface. */
static int check_same(const struct nic *had, const struct nic *nic, struct error *err) {
	const struct {
		const char *field, *had, *wanted;
	} kept[] = {{"nic.ipv4", had->ipv4, nic->ipv4}, {"nic.ipv6", had->ipv6, nic->ipv6}, {"nic.mac", had->mac, nic->mac},
		    {"nic.interface", had->interface, nic->interface}};
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		if (!str_same(kept[i].had, kept[i].wanted)) {
			error_set(err, ERROR_CONFLICT, "it is on network %s already, as %s: take it off first", nic->network,
				  kept[i].had ? kept[i].had : "none");
			error_in_field(err, kept[i].field);
			return -ERROR_CONFLICT;
		}
	return 0;
}

static int set_nic(struct nic_change *c, struct error *err) {
	const struct msg_nic_set *m = c->job->body;
	nics *list = &c->record.instance.nics, before = *list;
	nics after = {.items = alloc_array(before.n + 1, sizeof *after.items)};
	bool there = false;
	int r = 0;
	for (size_t i = 0; r == 0 && i < before.n; i++) {
		bool same = str_same(before.items[i].network_id, m->nic.network_id);
		if (same)
			r = check_same(&before.items[i], &m->nic, err);
		after.items[after.n++] = same ? m->nic : before.items[i];
		there |= same;
	}
	if (!there)
		after.items[after.n++] = m->nic;
	*list = after;
	if (r == 0)
		r = change_commit(c, &before, err);
	*list = before; /* which owns its strings */
	free(after.items);
	return r;
}

int work_nic_set(struct job *j, struct error *err) {
	_cleanup_(change_free) struct nic_change c = {.job = j, .lock = -1};
	int r = change_begin(&c, err);
	if (r == 0)
		r = set_nic(&c, err);
	return change_end(&c, r, err);
}

static int remove_nic(struct nic_change *c, struct error *err) {
	const struct msg_nic_remove *m = c->job->body;
	nics *list = &c->record.instance.nics, before = *list;
	nics after = {.items = alloc_array(before.n + 1, sizeof *after.items)};
	for (size_t i = 0; i < before.n; i++)
		if (!str_same(before.items[i].network_id, m->network_id))
			after.items[after.n++] = before.items[i];
	*list = after;
	int r = after.n < before.n ? change_commit(c, &before, err) : 0;
	*list = before;
	free(after.items);
	return r;
}

int work_nic_remove(struct job *j, struct error *err) {
	_cleanup_(change_free) struct nic_change c = {.job = j, .lock = -1};
	int r = change_begin(&c, err);
	if (r == 0)
		r = remove_nic(&c, err);
	return change_end(&c, r, err);
}
