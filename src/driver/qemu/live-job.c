/* QEMU's jobs on disks of a machine that runs: what goes on, and its end. They are started with auto-dismiss off, so that who comes
 * later still finds how they ended. */
#include "driver/qemu/live.h"

#include "base/str.h"
#include "driver/qemu/lines.h"
#include "driver/qemu/machine-priv.h"

/* NULL: there is none. */
static int job_find(struct qmp *q, const char *name, int64_t deadline, json_t **job, struct error *err) {
	_cleanup_(json_free_ptr) json_t *all = NULL;
	*job = NULL;
	int r = qmp_call(q, "query-jobs", NULL, -1, deadline, &all, err);
	for (size_t i = 0; r == 0 && !*job && i < json_array_size(all); i++)
		if (str_same(json_get_str(json_array_get(all, i), "id"), name))
			*job = json_incref(json_array_get(all, i));
	return r;
}

static int job_error(const json_t *job, struct error *err) {
	const char *text = json_get_str(job, "error");
	_cleanup_(free_ptr) char *shown = text ? lines_words(text) : NULL;
	bool full = text && strstr(text, "No space left");
	return text ? error_set(err, full ? ERROR_NO_SPACE : ERROR_INTERNAL, "QEMU cannot copy the disk: %s", shown) : 0;
}

int live_jobs_none(struct qmp *q, int64_t deadline, struct error *err) {
	_cleanup_(json_free_ptr) json_t *all = NULL;
	int r = qmp_call(q, "query-jobs", NULL, -1, deadline, &all, err);
	return r == 0 && json_array_size(all) ? error_set(err, ERROR_CONFLICT, "a disk of the machine is being copied: wait for the end of that")
					      : r;
}

int live_job_look(struct qmp *q, const char *name, int64_t deadline, struct live_copy *out, struct error *err) {
	_cleanup_(json_free_ptr) json_t *job = NULL;
	int r = job_find(q, name, deadline, &job, err);
	if (r < 0 || !job)
		return r < 0 ? r : error_set(err, ERROR_CONFLICT, "the disk is not being copied any more");
	const char *status = json_get_str(job, "status");
	*out = (struct live_copy){
		.ready = str_same(status, "ready") || str_same(status, "standby"),
		.over = str_same(status, "concluded"),
		.done = json_get_int(job, "current-progress"),
		.total = json_get_int(job, "total-progress"),
	};
	return job_error(job, err);
}

int live_job_await(struct qmp *q, const char *name, int64_t deadline, struct error *err) {
	for (;;) {
		_cleanup_(json_free_ptr) json_t *job = NULL;
		int r = job_find(q, name, deadline, &job, err);
		if (r < 0 || !job)
			return r < 0 ? r : error_set(err, ERROR_CONFLICT, "the disk is not being copied any more");
		if (str_same(json_get_str(job, "status"), "concluded")) {
			int failed = job_error(job, err);
			r = qmp_call(q, "job-dismiss", json_pack("{s:s}", "id", name), -1, deadline, NULL, failed < 0 ? NULL : err);
			return failed < 0 ? failed : r;
		}
		r = qmp_event(q, "JOB_STATUS_CHANGE", deadline, NULL, NULL, err);
		if (r < 0)
			return r;
	}
}

int live_job_cancel(struct qmp *q, const char *name, bool force, int64_t deadline, struct error *err) {
	return qmp_call(q, "block-job-cancel", json_pack("{s:s,s:b}", "device", name, "force", force), -1, deadline, NULL, err);
}

/* One that has ended already refuses to be cancelled. */
int live_job_end(struct qmp *q, const char *name, int64_t deadline, struct error *err) {
	_cleanup_(json_free_ptr) json_t *job = NULL;
	int r = job_find(q, name, deadline, &job, err);
	if (r < 0 || !job)
		return r;
	live_job_cancel(q, name, true, deadline, NULL);
	struct error why = ERROR_INIT;
	r = live_job_await(q, name, deadline, &why);
	bool ended = r == -ERROR_INTERNAL || r == -ERROR_NO_SPACE || r == -ERROR_CONFLICT; /* as what, does not matter */
	if (ended)
		error_free(&why);
	return r < 0 && !ended ? error_move(err, &why) : 0;
}
