/* A machine that moves to another daemon, on the side that has it: its disk is copied while the guest writes (each write goes to
 * both from then on), its memory is sent while the guest runs, which is halted for the last bit. Until that has been sent whole, any
 * death on either side leaves the guest where it was. Afterwards the other side decides, and only who has asked it may let the guest
 * go on here (machine-settle).
 *
 * By post-copy the other side decides earlier: once the memory has been sent once, and the guest is halted and its disk is whole there.
 * Then QEMU switches, after which it can never go on here: what is left to do is the same for who did that and for whoever comes after
 * a crash (follow). */
#include "agent/machine-priv.h"

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/lines.h"
#include "driver/qemu/qmp.h"

#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <unistd.h>

#define ANSWER_WAIT (30 * NS_PER_SEC)
#define DRAIN_WAIT (120 * NS_PER_SEC) /* for the last of the disk, the guest being halted */
#define REPORT_EVERY (250 * NS_PER_MS)
#define BANDWIDTH ((json_int_t)1 << 40)
#define FOLLOWS "its guest runs there, the rest of its memory follows"
#define AWAY "away" /* the other side's disks, and the copies to them: away0, away1 … */

struct mover {
	struct job *job;
	const struct msg_machine_migrate *wanted;
	struct memory_saver machine;
	struct lines peer;
	bool told; /* the other side may have decided by now */
	bool rest; /* of the memory comes after that: post-copy has begun */
};

static int64_t soon(void) {
	return time_mono_ns() + ANSWER_WAIT;
}

/* --- on disk --- */

static void set_moves_to(struct instance_status *st, const char *to) {
	free(st->moves_to);
	st->moves_to = to ? str_copy(to) : NULL;
}

static void forget(struct instance_status *st) {
	set_moves_to(st, NULL);
	st->moves_keep = st->moves_on = false;
}

static int note(const struct job *j, struct msg_instance_create *r, struct error *err) {
	int result = record_save(j->agent, r, err);
	if (result == 0)
		job_report(j, NULL, &r->instance.status, NULL);
	return result;
}

static int note_begin(struct mover *m, struct error *err) {
	struct instance_status *st = &m->machine.record.instance.status;
	set_moves_to(st, m->wanted->to);
	st->moves_keep = m->wanted->keep;
	return note(m->job, &m->machine.record, err);
}

/* --- undoing --- */

static bool is_under_way(const char *status) {
	static const char *const words[] = {"setup", "cancelling", "active", "pre-switchover", "device", "wait-unplug"};
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (str_same(status, words[i]))
			return true;
	return false;
}

static int ask(struct qmp *q, const char *command, json_t **reply, struct error *err) {
	return qmp_call(q, command, NULL, -1, soon(), reply, err);
}

/* Every event is a reason to look again. */
static int look_again(struct qmp *q, int64_t deadline, struct error *err) {
	int r = qmp_event(q, NULL, MIN(deadline, time_mono_ns() + REPORT_EVERY), NULL, NULL, err);
	if (r != -ERROR_TIMEOUT || time_mono_ns() >= deadline)
		return r;
	error_free(err);
	return 0;
}

static int stop_memory(struct qmp *q, struct error *err) {
	int64_t deadline = time_mono_ns() + ANSWER_WAIT;
	int r = ask(q, "migrate_cancel", NULL, err);
	while (r == 0) {
		_cleanup_(json_free_ptr) json_t *now = NULL;
		_cleanup_(error_free) struct error why = ERROR_INIT;
		r = ask(q, "query-migrate", &now, err);
		if (r < 0 || !is_under_way(json_get_str(now, "status")))
			return r;
		r = look_again(q, deadline, &why);
		if (r < 0)
			error_move(err, &why);
	}
	return r;
}

static bool is_away(const char *job) {
	return job && str_starts(job, AWAY);
}

/* What it has of copies is told to end. True: it has some. */
static bool cancel_jobs(struct qmp *q, const json_t *jobs) {
	bool any = false;
	for (size_t i = 0; i < json_array_size(jobs); i++) {
		const char *job = json_get_str(json_array_get(jobs, i), "device");
		if (is_away(job))
			qmp_call(q, "block-job-cancel", json_pack("{s:s,s:b}", "device", job, "force", 1), -1, soon(), NULL, NULL);
		any |= is_away(job);
	}
	return any;
}

static void away_name(char name[32], size_t i) {
	snprintf(name, 32, AWAY "%zu", i);
}

static int stop_disks(struct qmp *q, struct error *err) {
	int64_t deadline = time_mono_ns() + ANSWER_WAIT;
	int r = 0;
	while (r == 0) {
		_cleanup_(json_free_ptr) json_t *jobs = NULL;
		_cleanup_(error_free) struct error why = ERROR_INIT;
		r = ask(q, "query-block-jobs", &jobs, err);
		if (r < 0 || !cancel_jobs(q, jobs))
			break;
		r = look_again(q, deadline, &why);
		if (r < 0)
			error_move(err, &why);
	}
	for (size_t i = 0; i <= MIGRATION_DISKS_MAX; i++) {
		char node[32];
		away_name(node, i);
		qmp_call(q, "blockdev-del", json_pack("{s:s}", "node-name", node), -1, soon(), NULL, NULL);
	}
	return r;
}

/* A guest that QEMU has halted, and no user, goes on. */
static int go_on(struct qmp *q, struct error *err) {
	_cleanup_(json_free_ptr) json_t *status = NULL;
	int r = ask(q, "query-status", &status, err);
	const char *now = json_get_str(status, "status");
	bool halted = str_same(now, "paused") || str_same(now, "postmigrate") || str_same(now, "finish-migrate");
	return r == 0 && halted ? ask(q, "cont", NULL, err) : r;
}

static int stay(const struct agent *a, struct msg_instance_create *r, const struct run_state *run, struct qmp *q, struct error *err) {
	int result = stop_memory(q, err);
	if (result == 0)
		result = stop_disks(q, err);
	if (result == 0)
		result = go_on(q, err);
	secure_end(q, r, run);
	fault_point("migrate.undone");
	if (result < 0)
		return result;
	forget(&r->instance.status);
	return record_save(a, r, err);
}

int migrate_recover(const struct agent *a, struct msg_instance_create *r, const struct run_state *run, struct qmp *q,
		    struct error *err) {
	_cleanup_(json_free_ptr) json_t *now = NULL;
	int result = ask(q, "query-migrate", &now, err);
	bool theirs = r->instance.status.moves_on || str_same(json_get_str(now, "status"), "completed");
	if (result < 0 || !theirs)
		return result < 0 ? result : stay(a, r, run, q, err);
	log_warn("machine %.12s is halted: %s is to say whether it runs there", r->instance.id, r->instance.status.moves_to);
	return 0;
}

/* --- the other side --- */

static int greet(struct mover *m, struct error *err) {
	_cleanup_(saved_free) struct saved_memory now = {0};
	int r = memory_describe(&m->machine, &now, err);
	now.run = 0;
	if (r == 0)
		r = migration_say(&m->peer, saved_print(&now), err);
	return r < 0 ? r : migration_hear(&m->peer, "ready", err);
}

/* --- its disks --- */

static int open_away(struct mover *m, size_t i, const char *disk, const char *name, struct error *err) {
	struct qmp *q = m->machine.q;
	int r = qmp_give(q, "disk", m->job->fds[2 + i], soon(), err);
	json_t *node = json_pack("{s:s,s:s,s:{s:s,s:s},s:s,s:s,s:s}", "driver", "nbd", "node-name", name, "server", "type", "fd", "str",
				 "disk", "export", disk, "tls-creds", TLS_ID, "discard", "unmap");
	return r < 0 ? json_decref(node), r : qmp_call(q, "blockdev-add", node, -1, soon(), NULL, err);
}

static void report_disk(const struct mover *m) {
	_cleanup_(json_free_ptr) json_t *jobs = NULL;
	ask(m->machine.q, "query-block-jobs", &jobs, NULL);
	int64_t done = 0, total = 0;
	for (size_t i = 0; i < json_array_size(jobs); i++) {
		const json_t *one = json_array_get(jobs, i);
		bool ours = is_away(json_get_str(one, "device"));
		done += ours ? json_get_int(one, "offset") : 0;
		total += ours ? json_get_int(one, "len") : 0;
	}
	if (total)
		job_progress(m->job, "copying the disk", done, total);
}

static int disk_failed(const json_t *data, struct error *err) {
	_cleanup_(free_ptr) char *words = lines_words(json_get_str(data, "error"));
	return error_set(err, ERROR_UNAVAILABLE, "the copy of the disk was cut off: %s", words);
}

/* Of the copies: 1 for what is awaited of this one, 0 for something else. The end of any is a failure unless that is it. */
static int judge_event(const char *event, const json_t *data, const char *job, const char *wanted, struct error *err) {
	const char *of = json_get_str(data, "device");
	if (!str_starts(event, "BLOCK_JOB_") || !is_away(of))
		return 0;
	bool ended = str_same(event, "BLOCK_JOB_COMPLETED") || str_same(event, "BLOCK_JOB_CANCELLED");
	bool is = str_same(of, job) && str_same(event, wanted);
	return ended && (json_get_str(data, "error") || !is) ? disk_failed(data, err) : is;
}

static int await_disk(struct mover *m, const char *job, const char *wanted, int64_t deadline, struct error *err) {
	int r = 0;
	while (r == 0) {
		_cleanup_(free_ptr) char *event = NULL;
		_cleanup_(json_free_ptr) json_t *data = NULL;
		_cleanup_(error_free) struct error why = ERROR_INIT;
		r = qmp_event(m->machine.q, NULL, time_mono_ns() + REPORT_EVERY, &event, &data, &why);
		if (r == 0)
			r = judge_event(event, data, job, wanted, err);
		else if (r != -ERROR_TIMEOUT || (deadline && time_mono_ns() > deadline))
			error_move(err, &why);
		else
			r = 0;
		if (r == 0)
			report_disk(m);
	}
	return MIN(r, 0);
}

/* Writes of the guest go to both sides from its beginning on, so that it comes to an end. */
static int copy_disk(struct mover *m, size_t i, const char *disk, struct error *err) {
	_cleanup_(free_ptr) char *node = str_format("%s-data", disk);
	char name[32];
	away_name(name, i);
	int r = open_away(m, i, disk, name, err);
	fault_point("migrate.disk");
	json_t *args = json_pack("{s:s,s:s,s:s,s:s,s:s}", "job-id", name, "device", node, "target", name, "sync", "full", "copy-mode",
				 "write-blocking");
	r = r < 0 ? json_decref(args), r : qmp_call(m->machine.q, "blockdev-mirror", args, -1, soon(), NULL, err);
	return r < 0 ? r : await_disk(m, name, "BLOCK_JOB_READY", 0, err);
}

static int finish_disk(struct mover *m, size_t i, struct error *err) {
	char name[32];
	away_name(name, i);
	int r = qmp_call(m->machine.q, "block-job-cancel", json_pack("{s:s}", "device", name), -1, soon(), NULL, err);
	return r < 0 ? r : await_disk(m, name, "BLOCK_JOB_COMPLETED", time_mono_ns() + DRAIN_WAIT, err);
}

/* One after the other; those that are there already stay the same meanwhile. */
static int copy_disks(struct mover *m, struct error *err) {
	_cleanup_(run_disks_free_ptr) struct run_disk *disks = run_disks(&m->machine.record, &m->machine.run);
	size_t n = 0;
	while (disks[n].id)
		n++;
	if (n + 2 != m->job->nfds)
		return error_set(err, ERROR_CONFLICT, "machine %.12s has %zu disks, and connections have come for %zu", m->machine.id, n,
				 m->job->nfds - 2);
	int r = 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = copy_disk(m, i, disks[i].id, err);
	return r;
}

static int finish_disks(struct mover *m, struct error *err) {
	int r = 0;
	for (size_t i = 0; r == 0 && i + 2 < m->job->nfds; i++)
		r = finish_disk(m, i, err);
	return r;
}

/* --- its memory --- */

static int begin_memory(struct mover *m, struct error *err) {
	struct qmp *q = m->machine.q;
	int64_t bandwidth = m->wanted->bandwidth;
	int r = memory_halt(&m->machine, err);
	m->machine.halted = false; /* whether it goes on is decided by stay() alone */
	if (r == 0)
		r = migration_capabilities(q, true, m->wanted->post_copy, err);
	if (r == 0)
		r = migration_set(q, json_pack("{s:I,s:I,s:I,s:s}", "max-bandwidth", bandwidth ? (json_int_t)bandwidth : BANDWIDTH,
					       "max-postcopy-bandwidth", (json_int_t)bandwidth, "downtime-limit",
					       (json_int_t)(m->wanted->downtime / NS_PER_MS), "tls-creds", TLS_ID), err);
	if (r == 0)
		r = qmp_give(q, "memory", m->job->fds[1], soon(), err);
	return r < 0 ? r : qmp_call(q, "migrate", json_pack("{s:s}", "uri", "fd:memory"), -1, soon(), NULL, err);
}

static int memory_failed(struct qmp *q, struct error *err) {
	_cleanup_(json_free_ptr) json_t *now = NULL;
	ask(q, "query-migrate", &now, NULL);
	_cleanup_(free_ptr) char *words = lines_words(json_get_str(now, "error-desc"));
	return error_set(err, ERROR_UNAVAILABLE, "the memory could not be sent: %s", words);
}

static void report_memory(const struct job *j, struct qmp *q, const char *message) {
	_cleanup_(json_free_ptr) json_t *now = NULL;
	ask(q, "query-migrate", &now, NULL);
	const json_t *ram = json_object_get(now, "ram");
	int64_t total = json_get_int(ram, "total");
	if (ram)
		job_progress(j, message, total - json_get_int(ram, "remaining"), total);
}

/* All of the memory has been sent once: what the guest has changed meanwhile need not have been. */
static int switch_over(struct mover *m, struct error *err) {
	_cleanup_(json_free_ptr) json_t *now = NULL;
	int r = ask(m->machine.q, "query-migrate", &now, err);
	if (r < 0 || m->rest || !m->wanted->post_copy || json_get_int(json_object_get(now, "ram"), "dirty-sync-count") < 2 ||
	    !str_same(json_get_str(now, "status"), "active"))
		return r;
	m->rest = qmp_call(m->machine.q, "migrate-start-postcopy", NULL, -1, soon(), NULL, err) == 0;
	return m->rest ? 0 : -(int)err->kind;
}

static int await_memory(struct mover *m, const char *wanted, struct error *err) {
	for (;;) {
		_cleanup_(free_ptr) char *event = NULL;
		_cleanup_(json_free_ptr) json_t *data = NULL;
		_cleanup_(error_free) struct error why = ERROR_INIT;
		int r = qmp_event(m->machine.q, NULL, time_mono_ns() + REPORT_EVERY, &event, &data, &why);
		if (r == 0 && judge_event(event, data, NULL, NULL, err) < 0)
			return -(int)err->kind;
		const char *status = r == 0 && str_same(event, "MIGRATION") ? json_get_str(data, "status") : NULL;
		if (str_same(status, wanted))
			return 0;
		if (str_same(status, "failed") || str_same(status, "cancelled"))
			return memory_failed(m->machine.q, err);
		if (r == -ERROR_TIMEOUT)
			report_memory(m->job, m->machine.q, "sending the memory");
		else if (r < 0)
			return error_move(err, &why);
		if (switch_over(m, err) < 0)
			return -(int)err->kind;
	}
}

static int send_last(struct mover *m, struct error *err) {
	json_t *from = json_pack("{s:s}", "state", "pre-switchover");
	int r = qmp_call(m->machine.q, "migrate-continue", from, -1, soon(), NULL, err);
	return r < 0 ? r : await_memory(m, "completed", err);
}

/* --- the whole --- */

static int hand_over(struct mover *m, struct error *err) {
	_cleanup_(error_free) struct error why = ERROR_INIT;
	m->told = true;
	int r = migration_say(&m->peer, json_pack("{s:b,s:b}", "go", 1, "rest", m->rest), &why);
	fault_point("migrate.told");
	if (r == 0)
		r = migration_hear(&m->peer, "runs", &why);
	if (r == 0)
		return 0;
	m->told = why.kind != ERROR_CONFLICT; /* else it has said that it gives up */
	return error_move(err, &why);
}

/* --- post-copy --- */

/* Its guest is the other side's. 1: its memory has all been sent; 0: not yet; UNAVAILABLE: it never will be. */
static int push(struct qmp *q, struct error *err) {
	_cleanup_(json_free_ptr) json_t *now = NULL;
	int r = ask(q, "query-migrate", &now, err);
	const char *status = json_get_str(now, "status");
	if (r == 0 && str_same(status, "pre-switchover"))
		return qmp_call(q, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"), -1, soon(), NULL, err);
	if (r < 0 || str_same(status, "completed"))
		return r < 0 ? r : 1;
	if (is_under_way(status) || str_same(status, "postcopy-active") || str_same(status, "postcopy-recover"))
		return 0;
	return error_set(err, ERROR_UNAVAILABLE, "the connection between both QEMUs is cut");
}

/* To its end, whichever: the guest has been given away. UNAVAILABLE: it was lost; another error: it is to be seen later. */
static int follow(const struct job *j, struct qmp *q, const char *id, struct error *err) {
	int r = q ? 0 : error_set(err, ERROR_UNAVAILABLE, "QEMU has ended");
	while (r == 0) {
		_cleanup_(error_free) struct error why = ERROR_INIT;
		r = push(q, err);
		if (r == 0)
			report_memory(j, q, FOLLOWS);
		fault_point("migrate.follows");
		if (r == 0 && look_again(q, time_mono_ns() + ANSWER_WAIT, &why) < 0)
			r = error_move(err, &why);
	}
	if (r != -ERROR_UNAVAILABLE)
		return MIN(r, 0);
	error_wrap(err, "the guest of machine %.12s was lost while a part of its memory was here and a part there: it has ended on the other "
		   "daemon, which has its disk", id);
	return r;
}

static int give_away(struct mover *m, struct error *err) {
	struct instance_status *st = &m->machine.record.instance.status;
	st->moves_on = true;
	int r = note(m->job, &m->machine.record, err);
	fault_point("migrate.noted-rest");
	if (r < 0)
		return r;
	job_final(m->job, FOLLOWS);
	return hand_over(m, err);
}

static int transfer(struct mover *m, struct error *err) {
	int r = greet(m, err);
	fault_point("migrate.ready");
	if (r == 0)
		r = secure_begin(m->machine.q, &m->machine.record, &m->machine.run, m->wanted->secret, false, err);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* once more: being another user for a moment has taken it away */
	fault_point("migrate.secure");
	if (r == 0)
		r = copy_disks(m, err);
	fault_point("migrate.copied");
	if (r == 0)
		r = begin_memory(m, err);
	if (r == 0)
		r = await_memory(m, "pre-switchover", err);
	fault_point("migrate.halted");
	if (r == 0)
		r = finish_disks(m, err);
	fault_point("migrate.drained");
	if (r == 0 && m->rest)
		return give_away(m, err);
	if (r == 0)
		r = send_last(m, err);
	fault_point("migrate.sent");
	return r < 0 ? r : hand_over(m, err);
}

static void tell_figures(const struct mover *m) {
	_cleanup_(json_free_ptr) json_t *now = NULL;
	ask(m->machine.q, "query-migrate", &now, NULL);
	log_info("machine %.12s runs at %s: QEMU took %lld ms for its memory, %lld ms of them to begin, and had it halted for %lld ms",
		 m->machine.id, m->wanted->to, (long long)json_get_int(now, "total-time"), (long long)json_get_int(now, "setup-time"),
		 (long long)json_get_int(now, "downtime"));
}

/* It is of another daemon's from here on. */
static int leave(const struct job *j, struct memory_saver *s, struct error *err) {
	_cleanup_(error_free) struct error lost = ERROR_INIT;
	int followed = s->record.instance.status.moves_on ? follow(j, s->q, s->id, &lost) : 0;
	if (followed < 0 && followed != -ERROR_UNAVAILABLE)
		return error_move(err, &lost);
	bool whole = followed == 0;
	struct instance_status *st = &s->record.instance.status;
	bool keep = st->moves_keep;
	forget(st);
	st->moves_keep = keep;
	st->moved = st->stopped_by_user = true;
	int r = note(j, &s->record, err);
	fault_point("migrate.noted");
	if (r == 0 && s->q && whole)
		r = machine_quit(s, err);
	fault_point("migrate.ended");
	if (r == 0)
		r = instance_reap(j, &s->record, true, err);
	return r < 0 || whole ? r : error_move(err, &lost);
}

/* Why it stays; or that nobody knows yet. */
static int fail(struct mover *m, struct error *err) {
	_cleanup_(error_free) struct error why = ERROR_INIT;
	struct memory_saver *s = &m->machine;
	struct instance_status *st = &s->record.instance.status;
	if (m->told) {
		error_wrap(err, "machine %.12s is halted until %s can say whether it runs there", s->id, st->moves_to);
		err->kind = ERROR_UNAVAILABLE;
		return -ERROR_UNAVAILABLE;
	}
	if (!s->q || !st->moves_to)
		return -(int)err->kind;
	int r = stay(s->agent, &s->record, &s->run, s->q, &why);
	if (r == -ERROR_UNAVAILABLE || r == -ERROR_NOT_FOUND) { /* QEMU has ended meanwhile, which is an end as any other */
		set_moves_to(st, NULL);
		record_save(s->agent, &s->record, NULL);
	} else if (r < 0) {
		log_error("machine %.12s: %s", s->id, error_text(&why));
	}
	job_report(m->job, NULL, st, NULL);
	return -(int)err->kind;
}

int work_machine_migrate(struct job *j, struct error *err) {
	struct mover m = {.job = j, .wanted = j->body, .machine = MEMORY_SAVER_INIT};
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* the next agent undoes it, and is not kept waiting */
	m.machine.agent = j->agent;
	m.machine.id = j->id;
	lines_init(&m.peer, j->fds[0], MIGRATION_LINE);
	int r = memory_open(&m.machine, false, err);
	if (r == 0)
		r = note_begin(&m, err);
	fault_point("migrate.noted-begin");
	if (r == 0)
		r = transfer(&m, err);
	if (r == 0 && !m.rest)
		tell_figures(&m);
	r = r < 0 ? fail(&m, err) : leave(j, &m.machine, err);
	if (r == 0)
		r = job_answer_state(j, &m.machine.record.instance, err);
	lines_free(&m.peer);
	memory_saver_free(&m.machine);
	return r;
}

/* --- afterwards --- */

/* By post-copy, from where it cannot come back. */
static bool is_given(struct qmp *q) {
	_cleanup_(json_free_ptr) json_t *now = NULL;
	const char *status = ask(q, "query-migrate", &now, NULL) == 0 ? json_get_str(now, "status") : NULL;
	return status && str_starts(status, "postcopy");
}

static int settle(const struct job *j, const struct msg_machine_settle *m, struct memory_saver *s, struct error *err) {
	struct instance_status *st = &s->record.instance.status;
	bool up = state_bit(st->state) & S_UP && run_load(j->agent, j->id, &s->run, NULL) == 0;
	if (up && machine_monitor(j->agent, j->id, soon(), &s->q, err) < 0)
		return -(int)err->kind;
	if (m->asked && m->there)
		return leave(j, s, err);
	if (up && !m->asked)
		return migrate_recover(j->agent, &s->record, &s->run, s->q, err);
	if (up && !is_given(s->q))
		return stay(j->agent, &s->record, &s->run, s->q, err);
	if (!m->asked)
		return 0;
	forget(st);
	if (up) /* it was removed there: the guest is nobody's any more */
		return instance_reap(j, &s->record, true, err);
	return record_save(j->agent, &s->record, err);
}

int work_machine_settle(struct job *j, struct error *err) {
	_cleanup_(memory_saver_free) struct memory_saver s = MEMORY_SAVER_INIT;
	s.agent = j->agent;
	s.id = j->id;
	int r = instance_lock(j->agent, j->id, LOCK_EX, LOCK_WAIT, &s.lock, err);
	if (r == 0)
		r = record_load(j->agent, j->id, &s.record, err);
	if (r == 0)
		r = instance_reap(j, &s.record, false, err);
	if (r == 0 && s.record.instance.status.moves_to)
		r = settle(j, j->body, &s, err);
	if (r < 0)
		return r;
	job_report(j, NULL, &s.record.instance.status, NULL);
	return job_answer_state(j, &s.record.instance, err);
}
