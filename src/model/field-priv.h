/* What the field-*.c files share. Not for other rooms. */
#pragma once

#include "model/field.h"

#define FIELD_STRING_MAX 4096
#define FIELD_COUNT_MAX 1024
#define FIELD_ITEM_MAX ((size_t)128 << 10) /* as the kernel's MAX_ARG_STRLEN */
#define FIELD_DURATION_MAX (INT64_C(100) * 86400 * 1000000000)

/* Any FIELD_LIST_OF. */
struct field_list {
	char *items;
	size_t n;
};

/* The member of an object as its type; f->type says which one it is. */
union member {
	void *any;
	char **string;
	bool *boolean;
	int64_t *number;
	char ***strings;
	struct pairs *pairs;
	struct field_list *list;
	json_t **json;
};

static inline union member field_member(const struct field *f, const void *object) {
	return (union member){.any = (char *)object + f->offset};
}

static inline void *list_item(const struct field *f, const struct field_list *l, size_t i) {
	return l->items + i * f->sub->size;
}

/* The rows that are members: for_each_field(f, t) { … } */
#define for_each_field(f_, t_)                                                  \
	for (const struct field *f_ = (t_)->fields; f_ < (t_)->fields + (t_)->n; f_++) \
		if (!(f_->flags & FIELD_ALIAS))

bool field_is_number(const struct field *f);
int64_t field_max(const struct field *f);

void field_init(const struct field *f, void *object);
void field_free(const struct field *f, void *object);
void field_copy(const struct field *f, const void *from, void *to);
bool field_equal(const struct field *f, const void *a, const void *b);
/* A new item at the end, with its defaults. */
void *list_add(const struct field *f, struct field_list *l);
void list_drop_last(const struct field *f, struct field_list *l);

/* Text to a number in the field's unit. */
int field_number_from_text(const struct field *f, const char *text, int64_t *out, struct error *err);
/* Puts the text into a member of a scalar type, without .parse and limits. */
int field_scalar_from_text(const struct field *f, void *object, const char *text, struct error *err);

int field_validate(const struct field *f, const void *object, struct error *err);
