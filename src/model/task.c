/* The tables of tasks and events. */
#include "model/task.h"

#include "model/instance.h"

static const struct field part_fields[] = {
	FIELD(struct task_part, id, FIELD_STRING, .flags = FIELD_REQUIRED, .check = text_check,
	      .doc = "A layer's digest, an image's name"),
	FIELD(struct task_part, message, FIELD_STRING, .doc = "What is done with it just now, or was done last"),
	FIELD(struct task_part, done, FIELD_SIZE, .doc = "Bytes done"),
	FIELD(struct task_part, total, FIELD_SIZE, .doc = "Bytes in all; 0 where that is not known"),
};
static const struct field_table part_table = {
	"task_part", "One of the things that a task works on", sizeof(struct task_part), part_fields, ARRAY_SIZE(part_fields),
};

static const struct field task_fields[] = {
	FIELD(struct task, id, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 64, .check = instance_name_check,
	      .doc = "Its id"),
	FIELD(struct task, project, FIELD_STRING, .max = 128, .check = instance_name_check, .doc = "Whose it is"),
	FIELD(struct task, kind, FIELD_STRING, .max = 64, .check = text_check, .doc = "image-pull, image-push …"),
	FIELD(struct task, target, FIELD_STRING, .check = text_check, .doc = "What it works on"),
	FIELD(struct task, state, FIELD_ENUM, .def = "running",
	      .values = (const char *const[]){"running", "done", "failed", "cancelled", NULL}, .doc = "How far it is"),
	FIELD(struct task, message, FIELD_STRING, .doc = "What it does just now"),
	FIELD(struct task, done, FIELD_SIZE, .doc = "Bytes done; 0 of 0 where it is not known"),
	FIELD(struct task, total, FIELD_SIZE, .doc = "Bytes in all"),
	FIELD(struct task, parts, FIELD_LIST, .sub = &part_table, .doc = "How far its parts are"),
	FIELD(struct task, created_at, FIELD_TIME, .doc = "When it began"),
	FIELD(struct task, finished_at, FIELD_TIME, .doc = "When it ended"),
	FIELD(struct task, error, FIELD_STRING, .max = 65536, .doc = "Why it failed"),
	FIELD(struct task, error_kind, FIELD_STRING, .max = 64, .check = text_check, .doc = "Kind of the failure"),
	FIELD(struct task, result, FIELD_STRING, .doc = "What came of it: an image's id …"),
};
const struct field_table task_table = {
	"task", "One long operation", sizeof(struct task), task_fields, ARRAY_SIZE(task_fields),
};

static const struct field event_fields[] = {
	FIELD(struct event, revision, FIELD_INT, .doc = "Its place among all changes"),
	FIELD(struct event, time, FIELD_TIME, .doc = "When it was seen"),
	FIELD(struct event, type, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 64, .check = text_check,
	      .doc = "instance, image, task, network, rules, balancer or address"),
	FIELD(struct event, action, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 128, .check = text_check,
	      .doc = "create, start, die …"),
	FIELD(struct event, project, FIELD_STRING, .max = 128, .check = instance_name_check, .doc = "Where it was"),
	FIELD(struct event, id, FIELD_STRING, .max = 512, .check = text_check, .doc = "Id of what it is about"),
	FIELD(struct event, name, FIELD_STRING, .max = 512, .check = text_check, .doc = "Name of what it is about"),
	FIELD(struct event, attributes, FIELD_PAIRS, .doc = "exit_code, image, signal …"),
	FIELD(struct event, labels, FIELD_PAIRS, .doc = "That the instance or image had then"),
};
const struct field_table event_table = {
	"event", "One change that was seen", sizeof(struct event), event_fields, ARRAY_SIZE(event_fields),
};
