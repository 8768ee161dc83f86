/* What the controller of workloads decides. */
#include "control/plan.h"

#include "base/str.h"
#include "base/time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define NOW (1000 * NS_PER_SEC)

struct world {
	struct workload w;
	struct instance instances[64];
	const struct instance *list[64];
	size_t n;
	char ids[64][8];
	const char *busy;
	struct plan plan;
	int64_t room;
	enum plan_place place;
};

static void begin(struct world *v, const char *mode, int64_t replicas) {
	*v = (struct world){.room = -1};
	fields_init(&workload_spec_table, &v->w.spec);
	v->w.id = (char *)"w";
	v->w.generation = 1;
	free(v->w.spec.mode);
	v->w.spec.mode = str_copy(mode);
	v->w.spec.replicas = v->w.spec.completions = replicas;
}

static void end(struct world *v) {
	plan_free(&v->plan);
	fields_free(&workload_spec_table, &v->w.spec);
}

static void set(char **member, const char *value) {
	free(*member);
	*member = str_copy(value);
}

/* State: "running", "exited", "created"; times in seconds. */
static struct instance *add(struct world *v, int64_t slot, int64_t generation, const char *state, int64_t started, int64_t ended,
			    int64_t code) {
	struct instance *i = &v->instances[v->n];
	snprintf(v->ids[v->n], sizeof v->ids[0], "i%zu", v->n);
	*i = (struct instance){.id = v->ids[v->n], .created_at = started * NS_PER_SEC + (int64_t)v->n,
			       .spec.owner = {.workload = v->w.id, .slot = slot, .generation = generation},
			       .status = {.state = (char *)state, .started_at = started * NS_PER_SEC,
					  .finished_at = ended * NS_PER_SEC, .exit_code = code}};
	v->list[v->n++] = i;
	return i;
}

static bool is_busy(const char *key, const void *arg) {
	return str_same(key, ((const struct world *)arg)->busy);
}

/* "create 1, stop i2": the plan as text. */
static void assert_plan(struct world *v, const char *text) {
	static const char *const names[] = {"create", "start", "stop", "remove", "done", "pause", "undo"};
	_cleanup_(buf_free) struct buf b = BUF_INIT;
	const struct plan_input in = {&v->w, v->list, v->n, is_busy, v, NOW, v->place, v->room};
	plan_free(&v->plan);
	plan_make(&in, &v->plan);
	for (size_t i = 0; i < v->plan.n; i++) {
		const struct plan_action *a = &v->plan.actions[i];
		buf_addf(&b, "%s%s", i ? ", " : "", names[a->kind]);
		if (a->kind == PLAN_CREATE)
			buf_addf(&b, " %d", (int)a->slot);
		else if (a->id && a->kind < PLAN_DONE)
			buf_addf(&b, " %s", a->id);
	}
	assert_string_equal(buf_str(&b), text);
}

static void test_replicas(UNUSED void **state) {
	struct world v;
	begin(&v, "replicated", 3);
	assert_plan(&v, "create 1, create 2, create 3");
	v.busy = "w/2";
	assert_plan(&v, "create 1, create 3");
	v.busy = NULL;
	add(&v, 1, 1, "running", 900, 0, 0);
	add(&v, 3, 1, "created", 0, 0, 0);
	assert_plan(&v, "create 2, start i1");
	v.w.spec.replicas = 0;
	assert_plan(&v, "stop i0, remove i1");
	v.busy = "i0";
	assert_plan(&v, "remove i1");
	end(&v);
}

static void test_room_and_place(UNUSED void **state) {
	struct world v;
	begin(&v, "replicated", 3);
	add(&v, 1, 1, "running", 900, 0, 0);
	v.room = 1;
	assert_plan(&v, "create 2");
	assert_non_null(v.plan.lacks);
	v.place = PLACE_NONE;
	assert_plan(&v, "");
	assert_non_null(v.plan.lacks);
	v.place = PLACE_EVICT;
	assert_plan(&v, "stop i0");
	end(&v);
}

static void test_restart(UNUSED void **state) {
	struct world v;
	begin(&v, "replicated", 1);
	v.w.spec.restart.delay = 5 * NS_PER_SEC;
	struct instance *i = add(&v, 1, 1, "exited", 900, 998, 1);
	assert_plan(&v, "");
	assert_int_equal(v.plan.wake, 1003 * NS_PER_SEC);
	i->status.finished_at = 990 * NS_PER_SEC;
	assert_plan(&v, "create 1");
	assert_int_equal(v.plan.actions[0].attempt, 1);
	/* it doubles: 5, 10, 20 … */
	i->spec.owner.attempt = 2;
	assert_plan(&v, "");
	assert_int_equal(v.plan.wake, 1010 * NS_PER_SEC);
	/* it had run long enough */
	v.w.spec.restart.window = 50 * NS_PER_SEC;
	assert_plan(&v, "create 1");
	assert_int_equal(v.plan.actions[0].attempt, 0);
	v.w.spec.restart.window = 0;
	v.w.spec.restart.max_attempts = 2;
	assert_plan(&v, "");
	v.w.spec.restart.max_attempts = 0;
	set(&v.w.spec.restart.condition, "on-failure");
	i->spec.owner.attempt = 0;
	assert_plan(&v, "create 1");
	i->status.exit_code = 0;
	assert_plan(&v, "");
	assert_int_equal(v.plan.wake, INT64_MAX);
	i->status.stopped_by_user = true; /* somebody stopped it: it is wanted still */
	assert_plan(&v, "create 1");
	end(&v);
}

static void test_history(UNUSED void **state) {
	struct world v;
	begin(&v, "replicated", 1);
	v.w.spec.history = 2;
	for (int64_t i = 0; i < 4; i++)
		add(&v, 1, 1, "exited", 800 + i, 801 + i, 1);
	add(&v, 1, 1, "running", 900, 0, 0);
	assert_plan(&v, "remove i0, remove i1");
	end(&v);
}

static void begin_update(struct world *v) {
	v->w.generation = 2;
	v->w.update.state = (char *)"updating";
	v->w.update.started_at = 950 * NS_PER_SEC;
}

static void test_update_stop_first(UNUSED void **state) {
	struct world v;
	begin(&v, "replicated", 3);
	for (int64_t i = 1; i <= 3; i++)
		add(&v, i, 1, "running", 900, 0, 0);
	begin_update(&v);
	assert_plan(&v, "stop i0");
	v.busy = "i0";
	assert_plan(&v, "");
	v.busy = NULL;
	v.instances[0].status = (struct instance_status){.state = (char *)"exited", .started_at = 900 * NS_PER_SEC, .finished_at = 960 * NS_PER_SEC,
							 .stopped_by_user = true};
	assert_plan(&v, "create 1");
	struct instance *new = add(&v, 1, 2, "running", 970, 0, 0);
	assert_plan(&v, "stop i1");
	v.w.spec.update.delay = 60 * NS_PER_SEC;
	assert_plan(&v, "");
	assert_int_equal(v.plan.wake, 1030 * NS_PER_SEC);
	v.w.spec.update.delay = 0;
	new->status.health = (char *)"starting";
	assert_plan(&v, "");
	new->status.health = (char *)"healthy";
	v.w.spec.update.parallelism = 0;
	assert_plan(&v, "stop i1, stop i2");
	end(&v);
}

static void test_update_start_first(UNUSED void **state) {
	struct world v;
	begin(&v, "replicated", 1);
	set(&v.w.spec.update.order, "start-first");
	add(&v, 1, 1, "running", 900, 0, 0);
	begin_update(&v);
	assert_plan(&v, "create 1");
	struct instance *new = add(&v, 1, 2, "running", 999, 0, 0);
	new->status.health = (char *)"starting";
	assert_plan(&v, "");
	new->status.health = NULL;
	assert_plan(&v, "stop i0");
	v.instances[0].status.state = (char *)"exited";
	assert_plan(&v, ""); /* watched for a while */
	assert_int_equal(v.plan.wake, 1004 * NS_PER_SEC);
	new->status.started_at = 990 * NS_PER_SEC;
	assert_plan(&v, "done");
	end(&v);
}

static void test_update_fails(UNUSED void **state) {
	struct world v;
	begin(&v, "replicated", 2);
	add(&v, 1, 2, "exited", 960, 961, 1);
	add(&v, 2, 1, "running", 900, 0, 0);
	begin_update(&v);
	v.w.spec.restart.delay = 100 * NS_PER_SEC;
	assert_plan(&v, "pause");
	set(&v.w.spec.update.on_failure, "rollback");
	assert_plan(&v, "undo");
	v.w.spec.update.max_failure_ratio = 500000000;
	assert_plan(&v, "stop i1");
	v.w.spec.update.max_failure_ratio = 0;
	set(&v.w.spec.update.on_failure, "continue");
	assert_plan(&v, "stop i1");
	v.w.update.state = (char *)"paused";
	assert_plan(&v, "");
	v.instances[0].status.finished_at = 980 * NS_PER_SEC; /* later than it is watched: no failure of the update */
	v.w.update.state = (char *)"updating";
	set(&v.w.spec.update.on_failure, "pause");
	assert_plan(&v, "stop i1");
	end(&v);
}

static void test_records_count(UNUSED void **state) {
	struct world v;
	begin(&v, "replicated", 1);
	struct workload_failure f = {(char *)"r", 1, 1, 0, (char *)"no image", NOW};
	v.w.failures.items = &f;
	v.w.failures.n = 1;
	assert_plan(&v, "");
	assert_int_equal(v.plan.wake, NOW + v.w.spec.restart.delay);
	f.at = 0;
	assert_plan(&v, "create 1");
	assert_int_equal(v.plan.actions[0].attempt, 1);
	end(&v);
}

static void test_jobs(UNUSED void **state) {
	struct world v;
	begin(&v, "job", 4);
	set(&v.w.spec.restart.condition, "on-failure");
	v.w.spec.parallelism = 2;
	assert_plan(&v, "create 1, create 2");
	add(&v, 1, 1, "exited", 900, 901, 0);
	add(&v, 2, 1, "exited", 900, 901, 1);
	add(&v, 4, 1, "running", 900, 0, 0);
	assert_plan(&v, "create 2");
	v.w.generation = 2; /* all of it once more */
	assert_plan(&v, "create 1, stop i2");
	end(&v);
}

static void test_a_rollback_takes_what_is_there(UNUSED void **state) {
	struct world v;
	begin(&v, "replicated", 2);
	add(&v, 1, 2, "running", 960, 0, 0);
	add(&v, 2, 1, "running", 900, 0, 0);
	v.w.update.state = (char *)"rollback_started";
	v.w.update.started_at = 970 * NS_PER_SEC;
	assert_plan(&v, "stop i0");
	end(&v);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replicas),
		cmocka_unit_test(test_room_and_place),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_history),
		cmocka_unit_test(test_update_stop_first),
		cmocka_unit_test(test_update_start_first),
		cmocka_unit_test(test_update_fails),
		cmocka_unit_test(test_records_count),
		cmocka_unit_test(test_jobs),
		cmocka_unit_test(test_a_rollback_takes_what_is_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
