/* Volumes that come and go while an instance runs: file systems as mounts, block volumes as device nodes that its control
 * group may use. The run's state notes a volume as `changing` before anything happens, and plainly or not at all when it
 * has: what a crash leaves changing is detached. Who has a device open when it is detached keeps it until they close it. */
#include "agent/machine-priv.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct attach {
	struct job *job;
	struct msg_instance_create record;
	struct run_state run;
	int lock;
};

static void attach_free(struct attach *x) {
	run_free(&x->run);
	record_free(&x->record);
	instance_unlock(&x->lock);
}

static int open_run(struct attach *x, struct error *err) {
	const struct agent *a = x->job->agent;
	int r = instance_lock(a, x->job->id, LOCK_EX, LOCK_WAIT, &x->lock, err);
	if (r == 0)
		r = record_load(a, x->job->id, &x->record, err);
	if (r == 0 && (run_load(a, x->job->id, &x->run, NULL) < 0 || !x->run.created ||
		       !container_state_alive(&x->run.container)))
		r = error_set(err, ERROR_CONFLICT, "instance %.12s does not run", x->job->id);
	return r;
}

static struct run_volume *volume_at(struct run_state *run, const char *target) {
	for (size_t i = 0; i < run->volumes.n; i++)
		if (str_same(run->volumes.items[i].target, target))
			return &run->volumes.items[i];
	return NULL;
}

static void forget(struct run_state *run, struct run_volume *v) {
	free(v->pool_id);
	free(v->id);
	free(v->target);
	*v = run->volumes.items[--run->volumes.n];
}

static struct run_volume *same_volume(struct run_state *run, const char *id, const struct run_volume *but) {
	for (size_t i = 0; i < run->volumes.n; i++)
		if (&run->volumes.items[i] != but && str_same(run->volumes.items[i].id, id))
			return &run->volumes.items[i];
	return NULL;
}

/* Closes a volume of this run that is noted no more, unless it is so for another target. */
static void close_if_last(const struct job *j, struct run_state *run, const struct pool_entry *e, const char *id,
			  bool block) {
	if (same_volume(run, id, NULL))
		return;
	volume_close_unused(j->agent, e, id, block, NULL, j->id);
}

/* --- detach --- */

/* The node goes last: it says which device's rule is to be taken away. */
static int take_device(const struct job *j, struct run_state *run, const struct run_volume *v, struct error *err) {
	_cleanup_(free_ptr) char *node = volume_node(j->agent, j->id, v->id);
	struct stat st;
	if (!v->block || same_volume(run, v->id, v) || stat(node, &st) < 0)
		return 0;
	struct cgroup_device_rule rule = volume_device_rule(st.st_rdev, false);
	rule.allow = false;
	int r = cgroup_set_device(&run->container.cgroup, &rule, err);
	if (r == 0)
		unlink(node);
	return r;
}

static bool of_machine(const struct job *j) {
	_cleanup_(record_free) struct msg_instance_create r = {0};
	return record_load(j->agent, j->id, &r, NULL) == 0 && instance_is_machine(&r.instance.spec);
}

/* Out of where it is used. A guest that does not let go of a disk keeps it: then nothing has changed. */
static int take_away(const struct job *j, struct run_state *run, struct run_volume *v, struct error *err) {
	struct stat source = {.st_dev = v->dev, .st_ino = v->ino};
	if (!of_machine(j))
		return v->ino ? container_mount_remove(&run->container, v->target, &source, err) : 0;
	int r = machine_disk_detach(j->agent, j->id, v->id, err);
	if (r == -ERROR_CONFLICT) {
		v->changing = false;
		run_save(j->agent, j->id, run, NULL);
	}
	return r;
}

/* Ends in the state that nothing of it is there, from whatever was. */
static int detach(const struct job *j, struct run_state *run, struct run_volume *v, struct error *err) {
	const struct pool_entry *e = pool_get(j->agent, v->pool_id);
	v->changing = true;
	int r = run_save(j->agent, j->id, run, err);
	fault_point("detach.noted");
	if (r == 0)
		r = take_away(j, run, v, err);
	fault_point("detach.unmounted");
	if (r == 0)
		r = take_device(j, run, v, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *id = str_copy(v->id);
	bool block = v->block;
	forget(run, v);
	r = run_save(j->agent, j->id, run, err);
	fault_point("detach.forgotten");
	if (r == 0 && e)
		close_if_last(j, run, e, id, block);
	return r;
}

int work_volume_detach(struct job *j, struct error *err) {
	const struct msg_volume_attach *m = j->body;
	_cleanup_(attach_free) struct attach x = {.job = j, .lock = -1};
	int r = open_run(&x, err);
	struct run_volume *v = r == 0 ? volume_at(&x.run, m->target) : NULL;
	if (v)
		r = machine_move_check(&x.run, v->id, err);
	if (v && r == 0)
		r = detach(j, &x.run, v, err);
	return r < 0 ? r : job_answer(j, NULL, NULL, 0, err);
}

void volumes_recover(const struct job *j, struct run_state *run) {
	for (size_t i = 0; i < run->volumes.n;) {
		_cleanup_(error_free) struct error err = ERROR_INIT;
		if (!run->volumes.items[i].changing) {
			i++;
		} else if (detach(j, run, &run->volumes.items[i], &err) < 0) {
			log_warn("instance %.12s: %s", j->id, error_text(&err));
			i++;
		}
	}
}

/* --- attach --- */

static int check_target(const struct msg_instance_create *r, struct run_state *run, const char *target,
			struct error *err) {
	if (volume_at(run, target))
		return error_set(err, ERROR_CONFLICT, "instance %.12s has a volume on %s already", r->instance.id, target);
	if (target[0] != '/' || str_same(target, "/"))
		return error_field(err, "target", "must be an absolute path below /");
	return 0;
}

static int allow_device(struct attach *x, const struct volume_mount *v, struct error *err) {
	const struct msg_volume_attach *m = x->job->body;
	struct cgroup_device_rule rule = volume_device_rule(v->dev, m->read_only);
	if (m->subpath && *m->subpath)
		return error_field(err, "subpath", "must be empty: a block volume has no directories");
	return cgroup_set_device(&x->run.container.cgroup, &rule, err);
}

/* What it is goes on record before it is there. */
static int mount_it(struct attach *x, struct volume_mount *v, struct error *err) {
	const struct msg_volume_attach *m = x->job->body;
	struct run_volume *noted = &x->run.volumes.items[x->run.volumes.n - 1];
	struct stat st;
	int r = v->block ? stat(v->node, &st) : volume_mount_stat(v, m->subpath, &st);
	if (r < 0) {
		r = error_errno(err, r, "cannot open %s in the volume", m->subpath ? m->subpath : "/");
		error_in_field(err, "subpath");
		return r;
	}
	noted->dev = st.st_dev;
	noted->ino = st.st_ino;
	r = run_save(x->job->agent, x->job->id, &x->run, err);
	if (r == 0 && instance_is_machine(&x->record.instance.spec))
		return machine_disk_attach(x->job->agent, &x->record, v, m->read_only, err);
	if (r == 0 && v->block)
		r = allow_device(x, v, err);
	if (r < 0)
		return r;
	struct container_mount bind = {
		.source = v->block ? v->node : v->handle.path,
		.target = m->target,
		.type = (char *)"bind",
		.subpath = m->subpath && *m->subpath ? m->subpath : NULL,
		.flags = v->block ? volume_node_flags(m->read_only) : volume_mount_flags(&x->record.instance, m->read_only),
		.idmap = !v->block && x->record.instance.uid_base != 0,
	};
	return container_mount_add(&x->run.container, &bind, err);
}

static int attach(struct attach *x, struct error *err) {
	struct job *j = x->job;
	const struct msg_volume_attach *m = j->body;
	const struct pool_entry *e = pool_get(j->agent, m->pool_id);
	bool block = e && volume_recorded_block(e, m->volume_id);
	struct run_volume noted = {.pool_id = m->pool_id, .id = m->volume_id, .target = m->target, .block = block, .changing = true};
	struct volume_mount v = {.pool_id = m->pool_id, .id = m->volume_id, .block = block, .fill_lock = -1};
	if (block && same_volume(&x->run, m->volume_id, NULL))
		return error_set(err, ERROR_CONFLICT, "instance %.12s has this block volume on %s already", j->id,
				 same_volume(&x->run, m->volume_id, NULL)->target);
	run_add_volume(&x->run, &noted);
	int r = run_save(j->agent, j->id, &x->run, err);
	fault_point("attach.noted");
	if (r == 0)
		r = volume_mount_open(j, &x->record.instance, &v, err);
	if (r == 0 && block)
		r = checkpoints_written(j->agent, m->volume_id, j->id, false, err);
	fault_point("attach.opened");
	if (r == 0)
		r = mount_it(x, &v, err);
	fault_point("attach.mounted");
	if (r == 0) {
		x->run.volumes.items[x->run.volumes.n - 1].changing = false;
		r = run_save(j->agent, j->id, &x->run, err);
	}
	volume_mount_free(&v);
	if (r < 0)
		detach(j, &x->run, volume_at(&x->run, m->target), NULL);
	return r;
}

int work_volume_attach(struct job *j, struct error *err) {
	const struct msg_volume_attach *m = j->body;
	_cleanup_(attach_free) struct attach x = {.job = j, .lock = -1};
	if (!m->pool_id || !m->volume_id)
		return error_field(err, m->pool_id ? "volume_id" : "pool_id", "is required");
	int r = open_run(&x, err);
	struct run_volume *there = r == 0 ? volume_at(&x.run, m->target) : NULL;
	if (there && str_same(there->id, m->volume_id) && !there->changing)
		return job_answer(j, NULL, NULL, 0, err); /* the same again */
	if (there && there->changing) /* half of it */
		r = detach(j, &x.run, there, err);
	if (r == 0)
		r = check_target(&x.record, &x.run, m->target, err);
	if (r == 0)
		r = attach(&x, err);
	fault_point("attach.done");
	return r < 0 ? r : job_answer(j, NULL, NULL, 0, err);
}
