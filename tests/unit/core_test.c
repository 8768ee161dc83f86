/* The core without an agent: names, logs, events, images' names, what stays after a failure. */
#include "base/fs.h"
#include "base/str.h"
#include "base/time.h"
#include "core/core-priv.h"
#include "core/logs.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static struct core *open_core(void) {
	struct error err = ERROR_INIT;
	struct core *c = NULL;
	_cleanup_(free_ptr) char *socket = str_format("%s/agent.sock", dir);
	struct core_config config = {.state = dir, .agent_socket = socket};
	if (core_open(&config, &c, &err) < 0)
		fail_msg("%s", error_text(&err));
	return c;
}

static int set_up(void **state) {
	strcpy(dir, "/tmp/wabe-core-test-XXXXXX");
	*state = NULL;
	return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state UNUSED) {
	return fs_remove_tree(dir);
}

/* ---- instances ---- */

#define ID_A "aaaa0000000000000000000000000000000000000000000000000000000000aa"
#define ID_B "aaaa1111111111111111111111111111111111111111111111111111111111bb"
#define ID_C "cccc2222222222222222222222222222222222222222222222222222222222cc"
#define IMAGE "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define IMAGE2 "sha256:2222222222222222222222222222222222222222222222222222222222222222"

static void put_instance(struct store *s, const char *id, const char *name, int64_t created, const char *run_state) {
	struct instance i;
	fields_init(&instance_table, &i);
	i.id = str_copy(id);
	i.created_at = created;
	i.image_id = str_copy(IMAGE);
	i.spec.name = str_copy(name);
	i.spec.image = str_copy("debian");
	free(i.status.state);
	i.status.state = str_copy(run_state);
	pairs_set(&i.spec.labels, "tier", name);
	_cleanup_(json_free_ptr) json_t *json = fields_print(&instance_table, &i);
	_cleanup_(free_ptr) char *text = json_print(json);
	_cleanup_(free_ptr) char *key = str_format("instances/default/%s", id);
	_cleanup_(free_ptr) char *name_path = str_format("names/default/%s", name);
	assert_int_equal(store_put(s, key, text, STORE_ABSENT, NULL, NULL), 0);
	assert_int_equal(store_put(s, name_path, id, STORE_ABSENT, NULL, NULL), 0);
	fields_free(&instance_table, &i);
}

static struct core *core_with_three(void) {
	struct store *s;
	_cleanup_(free_ptr) char *db = str_format("%s/store.db", dir);
	assert_int_equal(store_open_sqlite(db, &s, NULL), 0);
	put_instance(s, ID_A, "web", 1, "running");
	put_instance(s, ID_B, "db", 2, "exited");
	put_instance(s, ID_C, "aaaa", 3, "paused"); /* a name that looks like a prefix */
	store_close(s);
	return open_core();
}

static void expect_found(struct core *c, const char *name, const char *id) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	_cleanup_(instance_snap_unref_ptr) struct instance_snap *s = NULL;
	if (instance_get(c, "default", name, &s, &err) < 0)
		fail_msg("%s: %s", name, error_text(&err));
	assert_string_equal(s->instance.id, id);
}

static void expect_missing(struct core *c, const char *project, const char *name, enum error_kind kind) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct instance_snap *s = NULL;
	assert_int_equal(instance_get(c, project, name, &s, &err), -(int)kind);
	assert_int_equal(err.kind, kind);
}

static void names_are_resolved(void **state UNUSED) {
	struct core *c = core_with_three();
	expect_found(c, "web", ID_A);
	expect_found(c, ID_B, ID_B);
	expect_found(c, "aaaa0", ID_A);
	expect_found(c, "aaaa1", ID_B);
	expect_found(c, "aaaa", ID_C); /* a name comes before a prefix */
	expect_found(c, "cccc", ID_C);
	expect_missing(c, "default", "ccc", ERROR_NOT_FOUND); /* too short */
	expect_missing(c, "default", "we", ERROR_NOT_FOUND);
	expect_missing(c, "default", "", ERROR_NOT_FOUND);
	expect_missing(c, "other", "web", ERROR_NOT_FOUND);
	core_close(c);
}

static void an_ambiguous_prefix_names_both(void **state UNUSED) {
	struct store *s;
	_cleanup_(free_ptr) char *db = str_format("%s/store.db", dir);
	assert_int_equal(store_open_sqlite(db, &s, NULL), 0);
	put_instance(s, ID_A, "web", 1, "running");
	put_instance(s, ID_B, "db", 2, "exited");
	store_close(s);
	struct core *c = open_core();
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct instance_snap *snap = NULL;
	assert_int_equal(instance_get(c, "default", "aaaa", &snap, &err), -ERROR_INVALID);
	assert_non_null(strstr(error_text(&err), "web"));
	assert_non_null(strstr(error_text(&err), "db"));
	core_close(c);
}

static size_t count_listed(struct core *c, struct instance_filter f) {
	struct instance_snap **snaps;
	assert_int_equal(instance_snaps(c, "default", &f, &snaps, NULL), 0);
	size_t n = 0;
	for (; snaps[n]; n++)
		instance_snap_unref(snaps[n]);
	free(snaps);
	return n;
}

static void lists_are_filtered(void **state UNUSED) {
	struct core *c = core_with_three();
	char *label[] = {(char *)"tier=web", NULL}, *key[] = {(char *)"tier", NULL}, *other[] = {(char *)"tier=x", NULL};
	assert_int_equal(count_listed(c, (struct instance_filter){0}), 2); /* running and paused */
	assert_int_equal(count_listed(c, (struct instance_filter){.all = true}), 3);
	assert_int_equal(count_listed(c, (struct instance_filter){.state = "exited"}), 1);
	assert_int_equal(count_listed(c, (struct instance_filter){.all = true, .labels = label}), 1);
	assert_int_equal(count_listed(c, (struct instance_filter){.all = true, .labels = key}), 3);
	assert_int_equal(count_listed(c, (struct instance_filter){.all = true, .labels = other}), 0);
	assert_int_equal(count_listed(c, (struct instance_filter){.all = true, .name = "a"}), 1);
	assert_int_equal(count_listed(c, (struct instance_filter){.all = true, .limit = 2}), 2);

	_cleanup_(list_text_unref_ptr) struct list_text *one = NULL, *two = NULL, *three = NULL;
	struct instance_filter all = {.all = true};
	assert_int_equal(instance_list(c, "default", &all, "all", &one, NULL), 0);
	assert_int_equal(instance_list(c, "default", &all, "all", &two, NULL), 0);
	assert_ptr_equal(one, two); /* nothing has changed: not built again */
	_cleanup_(json_free_ptr) json_t *json = json_parse(one->data, one->len, NULL);
	assert_int_equal(json_array_size(json_object_get(json, "instances")), 3);
	core_lock(c);
	event_add(c, "instance", "start", "default", ID_A, "web", NULL);
	core_unlock(c);
	assert_int_equal(instance_list(c, "default", &all, "all", &three, NULL), 0);
	assert_ptr_not_equal(one, three); /* the revision has */
	core_close(c);
}

static void old_news_of_a_run_is_dropped(void **state UNUSED) {
	struct core *c = core_with_three();
	core_lock(c);
	struct entry *e = entry_find(c, "default", "web", NULL);
	struct instance_status running = {.state = (char *)"running", .pid = 7, .started_at = 100};
	struct instance_status exited = {.state = (char *)"exited", .exit_code = 3, .started_at = 100, .finished_at = 200};
	struct instance_status again = {.state = (char *)"running", .pid = 8, .started_at = 300, .finished_at = 200};
	entry_apply(c, e, &exited, -1);
	assert_string_equal(e->snap->instance.status.state, "exited");
	assert_int_equal(e->exits, 1);
	entry_apply(c, e, &running, -1); /* the answer of the start comes after the event of the end */
	assert_string_equal(e->snap->instance.status.state, "exited");
	entry_apply(c, e, &again, -1);
	assert_int_equal(e->snap->instance.status.pid, 8);
	entry_apply(c, e, &exited, -1);
	assert_int_equal(e->snap->instance.status.pid, 8);
	assert_int_equal(e->exits, 1);
	core_unlock(c);
	core_close(c);
}

static void a_failed_create_leaves_nothing(void **state UNUSED) {
	struct core *c = open_core();
	struct image image = {.id = (char *)IMAGE, .digest = (char *)IMAGE2};
	strv_add(&image.names, "docker.io/library/debian:latest");
	assert_int_equal(image_store(c, "default", &image, NULL, NULL), 0);
	strv_free(image.names);
	for (int i = 0; i < 2; i++) { /* the name is free again */
		_cleanup_(error_free) struct error err = ERROR_INIT;
		struct instance_spec spec = {.name = str_copy("web"), .image = str_copy("debian")};
		struct instance_snap *snap = NULL;
		assert_int_equal(instance_create(c, "default", &spec, &snap, &err), -ERROR_UNAVAILABLE);
	}
	_cleanup_(store_items_free) struct store_items left = {0}, names = {0};
	assert_int_equal(store_list(c->store, "instances/", &left, NULL), 0);
	assert_int_equal(store_list(c->store, "names/", &names, NULL), 0);
	assert_int_equal(left.n + names.n, 0);
	assert_int_equal(count_listed(c, (struct instance_filter){.all = true}), 0);
	core_close(c);
}

static void a_missing_image_is_told_by_its_field(void **state UNUSED) {
	struct core *c = open_core();
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct instance_spec spec = {.image = str_copy("nowhere")};
	struct instance_snap *snap = NULL;
	assert_int_equal(instance_create(c, "default", &spec, &snap, &err), -ERROR_NOT_FOUND);
	assert_string_equal(err.field, "image");
	core_close(c);
}

/* ---- images ---- */

static void add_image(struct core *c, const char *id, const char *name) {
	struct image image = {.id = (char *)id, .digest = (char *)id};
	if (name)
		strv_add(&image.names, name);
	assert_int_equal(image_store(c, "default", &image, NULL, NULL), 0);
	strv_free(image.names);
}

static size_t names_of(struct core *c, const char *image) {
	_cleanup_(image_snap_unref_ptr) struct image_snap *s = NULL;
	return image_get(c, "default", image, &s, NULL) == 0 ? strv_len(s->image.names) : 99;
}

static void a_name_moves_to_the_newer_image(void **state UNUSED) {
	struct core *c = open_core();
	add_image(c, IMAGE, "docker.io/library/debian:latest");
	add_image(c, IMAGE2, "docker.io/library/debian:latest");
	assert_int_equal(names_of(c, IMAGE), 0);
	assert_int_equal(names_of(c, "2222"), 1);
	_cleanup_(image_snap_unref_ptr) struct image_snap *tagged = NULL;
	assert_int_equal(image_tag(c, "default", "debian", "mine:1", &tagged, NULL), 0);
	assert_int_equal(strv_len(tagged->image.names), 2);
	core_close(c);

	c = open_core(); /* all of it lasts */
	assert_int_equal(names_of(c, "debian:latest"), 2);
	assert_int_equal(names_of(c, "mine:1"), 2);
	assert_int_equal(names_of(c, "1111"), 0);
	core_close(c);
}

static void the_last_name_takes_the_image_along(void **state UNUSED) {
	struct core *c = core_with_three(); /* which use IMAGE */
	_cleanup_(error_free) struct error err = ERROR_INIT;
	add_image(c, IMAGE, "docker.io/library/debian:latest");
	add_image(c, IMAGE2, "docker.io/library/other:latest");
	_cleanup_(strv_free_ptr) char **untagged = NULL, **deleted = NULL, **forced = NULL, **none = NULL;
	assert_int_equal(image_delete(c, "default", "other", false, &untagged, &deleted, &err), 0);
	assert_int_equal(strv_len(deleted), 1);
	assert_int_equal(names_of(c, IMAGE2), 99);
	assert_int_equal(image_delete(c, "default", "debian", false, &none, &none, &err), -ERROR_CONFLICT);
	assert_int_equal(names_of(c, "debian"), 1);
	assert_int_equal(image_delete(c, "default", "debian", true, &forced, &none, &err), 0);
	assert_null(none);
	assert_int_equal(names_of(c, IMAGE), 0); /* still there, for its instances */
	core_close(c);
}

/* ---- logs ---- */

static void log_lines_are_parsed(void **state UNUSED) {
	static const struct {
		const char *line;
		bool good, partial;
		int stream;
		const char *text;
	} cases[] = {
		{"2026-11-22T23:09:46.123456789Z stdout F hello", true, false, 1, "hello"},
		{"2026-11-22T23:09:46.123456789Z stderr P two words", true, true, 2, "two words"},
		{"2026-11-22T23:09:46.123456789Z stdout F ", true, false, 1, ""},
		{"2026-11-22T23:09:46.123456789Z stdout F", true, false, 1, ""},
		{"2026-11-22T23:09:46.123456789Z stdnix F x", false},
		{"2026-11-22T23:09:46.123456789Z stdout X x", false},
		{"", false},
		{"   ", false},
		{"nonsense", false},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct log_entry e;
		assert_int_equal(log_entry_parse(cases[i].line, strlen(cases[i].line), &e), cases[i].good);
		if (!cases[i].good)
			continue;
		assert_int_equal(e.partial, cases[i].partial);
		assert_int_equal(e.stream, cases[i].stream);
		assert_int_equal(e.len, strlen(cases[i].text));
		assert_memory_equal(e.text, cases[i].text, e.len);
	}
}

static int file_of(const struct buf *text) {
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, buf_str(text), text->len), 0);
	return fd;
}

#define STAMP "2026-11-22T23:09:46.123456789Z stdout "

static void the_tail_is_found_from_the_end(void **state UNUSED) {
	_cleanup_(buf_free) struct buf text = BUF_INIT;
	int64_t starts[3001];
	for (int i = 0; i < 3000; i++) { /* over several blocks; every tenth line is of two parts */
		starts[i] = (int64_t)text.len;
		if (i % 10 == 0)
			buf_addf(&text, STAMP "P part of %d\n", i);
		buf_addf(&text, STAMP "F line %d %.*s\n", i, i % 90, "..............................................................................................");
	}
	starts[3000] = (int64_t)text.len;
	_cleanup_(close_fd) int fd = file_of(&text);
	static const int wanted[] = {0, 1, 2, 9, 10, 11, 100, 2999, 3000};
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		int64_t found;
		assert_int_equal(log_tail_offset(fd, wanted[i], &found), starts[3000 - wanted[i]]);
		assert_int_equal(found, wanted[i]);
	}
	int64_t found;
	assert_int_equal(log_tail_offset(fd, 5000, &found), 0);
	assert_int_equal(found, 3000);
}

static void the_tail_of_odd_files(void **state UNUSED) {
	_cleanup_(buf_free) struct buf empty = BUF_INIT, unfinished = BUF_INIT;
	_cleanup_(close_fd) int none = file_of(&empty);
	int64_t found;
	assert_int_equal(log_tail_offset(none, 10, &found), 0);
	assert_int_equal(found, 0);
	buf_adds(&unfinished, STAMP "F one\n" STAMP "P two");
	_cleanup_(close_fd) int fd = file_of(&unfinished);
	assert_int_equal(log_tail_offset(fd, 1, &found), (int64_t)strlen(STAMP "F one\n"));
	assert_int_equal(found, 1);
	assert_int_equal(log_tail_offset(fd, 2, &found), 0);
}

/* ---- events ---- */

struct seen {
	int64_t first, last;
	size_t n, refuse; /* how often to say: not now */
	bool complete;
	int done; /* eventfd */
};

static void seen_begin(void *arg UNUSED) {
}

static int seen_event(void *arg, const struct event *e, const char *json UNUSED, size_t len UNUSED) {
	struct seen *s = arg;
	if (s->refuse && s->refuse--)
		return -EAGAIN;
	s->first = s->n ? s->first : e->revision;
	assert_true(e->revision > s->last);
	s->last = e->revision;
	s->n++;
	return 0;
}

static bool seen_gone(void *arg UNUSED) {
	return false;
}

static void seen_end(void *arg, bool complete) {
	struct seen *s = arg;
	s->complete = complete;
	uint64_t one = 1;
	assert_int_equal(write(s->done, &one, sizeof one), sizeof one);
}

static void follow_past(struct core *c, struct seen *s, struct event_filter f) {
	s->done = eventfd(0, EFD_CLOEXEC);
	struct event_sink sink = {seen_begin, seen_event, seen_gone, seen_end, s};
	assert_int_equal(events_follow(c, &f, false, &sink, NULL), 0);
	struct pollfd p = {s->done, POLLIN, 0};
	assert_int_equal(poll(&p, 1, 60000), 1);
	close_fd(&s->done);
}

static void add_events(struct core *c, int n) {
	for (int i = 0; i < n; i++) {
		core_lock(c);
		event_add(c, i % 2 ? "image" : "instance", "test", "default", "id", "name", "number", "1", NULL);
		core_unlock(c);
		if (i % 500 == 499)
			assert_int_equal(events_flush(c, NULL), 0);
	}
	assert_int_equal(events_flush(c, NULL), 0);
}

static void events_go_on_from_a_revision(void **state UNUSED) {
	struct core *c = open_core();
	add_events(c, 3000);
	struct seen all = {0}, some = {.refuse = 3}, images = {0}, late = {0};
	follow_past(c, &all, (struct event_filter){.from = 1});
	assert_int_equal(all.n, 3000);
	assert_int_equal(all.last, 3000);
	assert_true(all.complete);
	follow_past(c, &some, (struct event_filter){.from = 1500});
	assert_int_equal(some.first, 1500);
	assert_int_equal(some.n, 1501);
	follow_past(c, &images, (struct event_filter){.from = 1, .type = "image"});
	assert_int_equal(images.n, 1500);
	follow_past(c, &late, (struct event_filter){.from = 2999});
	assert_int_equal(late.n, 2);
	core_close(c);

	c = open_core(); /* revisions are never given twice */
	assert_true(events_revision(c) > 3000);
	struct seen again = {0};
	follow_past(c, &again, (struct event_filter){.from = 2990});
	assert_int_equal(again.n, 11);
	core_close(c);
}

static void old_events_go(void **state UNUSED) {
	struct core *c = open_core();
	add_events(c, EVENTS_KEPT + 4000);
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct seen s = {0};
	struct event_sink sink = {seen_begin, seen_event, seen_gone, seen_end, &s};
	struct event_filter f = {.from = 1};
	assert_int_equal(events_follow(c, &f, false, &sink, &err), -ERROR_CONFLICT);
	follow_past(c, &s, (struct event_filter){.since = 1});
	assert_in_range(s.n, EVENTS_KEPT, EVENTS_KEPT + 1100);
	_cleanup_(store_items_free) struct store_items left = {0};
	assert_int_equal(store_list(c->store, "events/", &left, NULL), 0);
	assert_true(left.n < 100);
	core_close(c);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_are_resolved, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_ambiguous_prefix_names_both, set_up, tear_down),
		cmocka_unit_test_setup_teardown(lists_are_filtered, set_up, tear_down),
		cmocka_unit_test_setup_teardown(old_news_of_a_run_is_dropped, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_failed_create_leaves_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_missing_image_is_told_by_its_field, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_name_moves_to_the_newer_image, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_last_name_takes_the_image_along, set_up, tear_down),
		cmocka_unit_test(log_lines_are_parsed),
		cmocka_unit_test(the_tail_is_found_from_the_end),
		cmocka_unit_test(the_tail_of_odd_files),
		cmocka_unit_test_setup_teardown(events_go_on_from_a_revision, set_up, tear_down),
		cmocka_unit_test_setup_teardown(old_events_go, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
