/* Saving the memory of a machine. QEMU tells all that it has while the guest runs; what the guest changes meanwhile comes again,
 * until so little is left that it is halted for that. One that writes faster than it is told about is halted earlier. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "driver/qemu/live.h"
#include "driver/qemu/memory.h"
#include "driver/qemu/qmp.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_WAIT (30 * NS_PER_SEC)
#define SILENCE_WAIT 60 /* s without a byte of the state */
#define BANDWIDTH ((json_int_t)1 << 40) /* as fast as the disk is */
#define DOWNTIME 300 /* ms */
#define BUFFER (1 << 20)

static int64_t soon(void) {
	return time_mono_ns() + ANSWER_WAIT;
}

static int check_volumes(const struct memory_saver *s, struct error *err) {
	const struct instance_spec *spec = &s->record.instance.spec;
	for (size_t i = 0; i < spec->mounts.n; i++)
		if (str_same(spec->mounts.items[i].type, "volume") && !spec->mounts.items[i].read_only)
			return error_set(err, ERROR_UNSUPPORTED, "machine %.12s writes to the volume %s, which is no part of its disk: its "
					 "memory would not fit what is there", s->id, spec->mounts.items[i].source);
	return 0;
}

static int begin_saving(const struct agent *a, const char *id, char **dir, struct error *err) {
	*dir = instance_path(a, id, "saving");
	int r = fs_remove_tree(*dir);
	if (r == 0 && mkdir(*dir, 0700) < 0)
		r = -errno;
	return r < 0 ? error_errno(err, r, "cannot make %s", *dir) : 0;
}

int memory_open(struct memory_saver *s, bool disk, struct error *err) {
	int r = instance_lock(s->agent, s->id, LOCK_EX, LOCK_WAIT, &s->lock, err);
	if (r == 0)
		r = record_load(s->agent, s->id, &s->record, err);
	if (r < 0)
		return r;
	const struct instance *i = &s->record.instance;
	if (!instance_is_machine(&i->spec))
		return error_set(err, ERROR_CONFLICT, "instance %.12s is a container: only a machine's memory can be saved", s->id);
	if (run_load(s->agent, s->id, &s->run, NULL) < 0 || !(state_bit(i->status.state) & S_UP))
		return error_set(err, ERROR_CONFLICT, "machine %.12s does not run: it has no memory to be saved", s->id);
	if (i->status.arriving)
		return error_set(err, ERROR_CONFLICT, "machine %.12s runs here, but a part of its memory still comes from another daemon: wait for "
				 "the event \"arrived\"", s->id);
	int moves = machine_move_check(&s->run, NULL, err);
	if (moves < 0)
		return moves;
	if (machine_is_changed(s->agent, s->id))
		return error_set(err, ERROR_CONFLICT, "machine %.12s has been changed since its start: its memory can be saved after the next "
				 "one", s->id);
	if (machine_hugepage(&i->spec.machine))
		return error_set(err, ERROR_UNSUPPORTED, "machine %.12s has memory of huge pages, which can be neither saved nor moved", s->id);
	if (i->spec.machine.usb_devices || i->spec.machine.usb_redirects)
		return error_set(err, ERROR_UNSUPPORTED, "machine %.12s has USB devices of this host or of clients, whose state is not QEMU's: it can be "
				 "neither saved nor moved", s->id);
	if (i->spec.machine.pci)
		return error_set(err, ERROR_UNSUPPORTED, "machine %.12s has PCI devices of this host, whose state is not QEMU's: it can be neither saved "
				 "nor moved", s->id);
	if (i->spec.machine.vsock)
		return error_set(err, ERROR_UNSUPPORTED, "machine %.12s has a virtio socket, whose connections are this host's: it can be neither saved "
				 "nor moved", s->id);
	if (guest_is(&s->record))
		return error_set(err, ERROR_UNSUPPORTED, "machine %.12s is of a container's image: virtiofsd, which gives it its files, cannot "
				 "be saved", s->id);
	r = disk ? check_volumes(s, err) : 0;
	if (r == 0)
		r = machine_monitor(s->agent, s->id, soon(), &s->q, err);
	return r < 0 ? r : live_jobs_none(s->q, soon(), err); /* QEMU would write to disks that it has given up */
}

bool board_is_name(const char *text) {
	size_t n = text ? strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-.") : 0;
	return n > 0 && n <= 63 && !text[n];
}

/* "pc-q35-7.2-machine"; it becomes an argument, and QEMU is a stranger. */
static int ask_board(struct qmp *q, char **board, struct error *err) {
	_cleanup_(json_free_ptr) json_t *type = NULL;
	json_t *args = json_pack("{ss,ss}", "path", "/machine", "property", "type");
	int r = qmp_call(q, "qom-get", args, -1, soon(), &type, err);
	const char *text = json_string_value(type);
	if (r < 0)
		return r;
	if (!board_is_name(text) || !str_ends(text, "-machine"))
		return error_set(err, ERROR_CORRUPT, "QEMU has no name for its board");
	*board = str_copyn(text, strlen(text) - strlen("-machine"));
	return 0;
}

int memory_describe(const struct memory_saver *s, struct saved_memory *out, struct error *err) {
	_cleanup_(free_ptr) char *dir = run_path(s->agent, s->id, NULL);
	int r = saved_load(dir, out, err);
	out->run = s->record.instance.status.started_at;
	return r < 0 ? r : ask_board(s->q, &out->board, err);
}

static int open_files(struct memory_saver *s, struct error *err) {
	_cleanup_(free_ptr) char *memory = str_format("%s/memory", s->dir), *state = str_format("%s/state", s->dir);
	s->memory = open(memory, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	s->state = open(state, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return s->memory < 0 || s->state < 0 ? error_errno(err, errno, "cannot make files in %s", s->dir) : 0;
}

static int set_up(struct qmp *q, struct error *err) {
	int r = memory_events(q, soon(), err);
	json_t *limits = json_pack("{sI,si}", "max-bandwidth", BANDWIDTH, "downtime-limit", DOWNTIME);
	return r < 0 ? json_decref(limits), r : qmp_call(q, "migrate-set-parameters", limits, -1, soon(), NULL, err);
}

/* Gives the end from which the state is read. */
static int begin_stream(struct qmp *q, struct error *err) {
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "cannot make a pair of sockets");
	_cleanup_(close_fd) int reader = pair[0], writer = pair[1];
	const struct timeval silence = {.tv_sec = SILENCE_WAIT};
	const int buffer = BUFFER;
	setsockopt(reader, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
	setsockopt(writer, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
	int r = qmp_give(q, "memory", writer, soon(), err);
	if (r == 0)
		r = qmp_call(q, "migrate", json_pack("{ss}", "uri", "fd:memory"), -1, soon(), NULL, err);
	return r < 0 ? r : TAKE_FD(reader);
}

/* It writes faster than it is read: the rest comes while it is halted. */
static void on_part(uint64_t bytes, void *arg) {
	struct memory_saver *s = arg;
	struct stat st;
	if (s->halted || fstat(s->memory, &st) < 0 || bytes <= 2 * (uint64_t)st.st_size)
		return;
	s->halted = qmp_post(s->q, "stop", soon(), NULL) == 0;
}

static int transfer(struct memory_saver *s, int64_t size, struct error *err) {
	const struct machine_config board = {.spec = &s->record.instance.spec.machine};
	const struct memory_sink sink = {machine_memory_block(&board), size, s->memory, s->state};
	bool completed = false;
	int r = set_up(s->q, err);
	_cleanup_(close_fd) int reader = r < 0 ? r : begin_stream(s->q, err);
	if (reader < 0)
		return reader;
	fault_point("memory.begun");
	r = memory_split(reader, &sink, on_part, s, err);
	close_fd(&reader); /* what is left of it fails, and the guest goes on */
	fault_point("memory.split");
	int over = memory_await(s->q, soon(), &completed, r < 0 ? NULL : err);
	if (completed)
		s->halted = true;
	if (r < 0 || over < 0)
		return r < 0 ? r : over;
	return completed ? 0 : error_set(err, ERROR_INTERNAL, "QEMU could not save the machine's memory");
}

int memory_halt(struct memory_saver *s, struct error *err) {
	const struct machine_spec *m = &s->record.instance.spec.machine;
	bool kvm = false;
	int r = accel_choose(m, &s->agent->accel, &kvm, err);
	if (r < 0 || machine_ram_is_told(m, kvm))
		return r;
	r = qmp_call(s->q, "stop", NULL, -1, soon(), NULL, err);
	s->halted = r == 0;
	return r;
}

int memory_save(const struct agent *a, const char *id, bool disk, struct memory_saver *s, struct error *err) {
	_cleanup_(saved_free) struct saved_memory saved = {0};
	*s = MEMORY_SAVER_INIT;
	s->agent = a;
	s->id = id;
	int r = memory_open(s, disk, err);
	if (r == 0 && s->record.instance.spec.machine.numa.n)
		r = error_set(err, ERROR_UNSUPPORTED, "machine %.12s has NUMA nodes: its memory can be moved, but not saved", id);
	if (r == 0)
		r = begin_saving(a, id, &s->dir, err);
	if (r == 0)
		r = memory_describe(s, &saved, err);
	if (r == 0)
		r = saved_save(s->dir, &saved, err);
	if (r == 0)
		r = open_files(s, err);
	if (r == 0)
		r = memory_halt(s, err);
	fault_point("memory.opened");
	return r < 0 ? r : transfer(s, saved.size, err);
}

int memory_cont(struct memory_saver *s, struct error *err) {
	if (!s->halted || str_same(s->record.instance.status.state, "paused"))
		return 0;
	int r = qmp_call(s->q, "cont", NULL, -1, soon(), NULL, err);
	s->halted = r < 0;
	return r;
}

int memory_keep(struct memory_saver *s, const char *to, struct error *err) {
	if (fsync(s->memory) < 0 || fsync(s->state) < 0)
		return error_errno(err, errno, "cannot write back %s", s->dir);
	fault_point("memory.written");
	int r = memory_settle(s->dir, to, err);
	fault_point("memory.kept");
	return r;
}

void memory_saver_free(struct memory_saver *s) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	if (s->q && memory_cont(s, &err) < 0)
		log_error("machine %.12s: %s", s->id, error_text(&err));
	if (s->dir)
		fs_remove_tree(s->dir);
	close_fd(&s->memory);
	close_fd(&s->state);
	qmp_free(s->q);
	record_free(&s->record);
	run_free(&s->run);
	instance_unlock(&s->lock);
	free(s->dir);
	*s = MEMORY_SAVER_INIT;
}

/* --- for another machine --- */

static int take_suspended(const struct agent *a, const char *source, const char *to, struct memory_saver *s, struct error *err) {
	_cleanup_(free_ptr) char *from = memory_path(a, source, NULL);
	s->agent = a;
	s->id = source;
	int r = instance_lock(a, source, LOCK_EX, LOCK_WAIT, &s->lock, err);
	if (r == 0)
		r = record_load(a, source, &s->record, err);
	if (r == 0 && !str_same(s->record.instance.status.state, "suspended"))
		r = error_set(err, ERROR_CONFLICT, "instance %.12s is %s: a clone with its memory is made of a machine that runs or is "
			      "suspended, or of a snapshot with memory", source, s->record.instance.status.state);
	return r < 0 ? r : memory_share(from, to, true, err);
}

static int mark_other(const char *dir, struct error *err) {
	_cleanup_(saved_free) struct saved_memory s = {0};
	int r = saved_load(dir, &s, err);
	s.run = 0;
	s.other = true;
	return r < 0 ? r : saved_save(dir, &s, err);
}

int memory_take(const struct agent *a, const struct msg_instance_create *m, const char *dir, struct memory_saver *s,
		struct error *err) {
	const char *source = m->root.id;
	const struct inst *known = inst_get(a, source);
	_cleanup_(free_ptr) char *to = str_format("%s/resume", dir);
	*s = MEMORY_SAVER_INIT;
	if (m->root.snapshot) {
		_cleanup_(free_ptr) char *from = memory_path(a, source, m->root.snapshot);
		return memory_share(from, to, true, err);
	}
	if (!known || !(state_bit(known->status.state) & S_UP))
		return take_suspended(a, source, to, s, err);
	int r = memory_save(a, source, true, s, err);
	return r < 0 ? r : mark_other(s->dir, err);
}
