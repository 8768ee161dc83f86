#include "control/expand.h"

#include "base/str.h"
#include "core/workloads.h"

#include <inttypes.h>

#define RUN_LEN 25

struct words {
	const char *const *pairs; /* name, value, …, NULL */
};

static const char *value_of(const struct words *w, const char *name, size_t n) {
	for (const char *const *p = w->pairs; *p; p += 2)
		if (strlen(*p) == n && strncmp(*p, name, n) == 0)
			return p[1];
	return NULL;
}

/* What is not known stays as it is. */
static void expand(char **text, const struct words *w) {
	if (!*text || !strstr(*text, "{{"))
		return;
	struct buf out = BUF_INIT;
	for (const char *p = *text; *p;) {
		const char *end = p[0] == '{' && p[1] == '{' ? strstr(p, "}}") : NULL;
		const char *value = end ? value_of(w, p + 2, (size_t)(end - p - 2)) : NULL;
		if (value)
			buf_adds(&out, value);
		else
			buf_addc(&out, *p);
		p = value ? end + 2 : p + 1;
	}
	free(*text);
	*text = buf_steal(&out);
}

static void expand_all(struct instance_spec *s, const struct words *w) {
	expand(&s->hostname, w);
	for (char **e = s->env; e && *e; e++)
		expand(e, w);
	for (size_t i = 0; i < s->labels.n; i++)
		expand(&s->labels.items[i].value, w);
	for (size_t i = 0; i < s->mounts.n; i++)
		expand(&s->mounts.items[i].source, w);
}

void expand_template(const struct workload *w, int64_t slot, int64_t attempt, const struct expand_node *node,
		     struct instance_spec *out) {
	_cleanup_(free_ptr) char *hex = random_hex(INSTANCE_ID_LEN / 2), *run = str_copyn(hex, RUN_LEN),
				 *number = str_format("%" PRId64, slot), *short_id = str_copyn(w->id, RUN_LEN);
	fields_copy(&instance_spec_table, &w->spec.template, out);
	out->name = str_format("%s.%s.%s", w->spec.name, workload_is_global(&w->spec) ? node->id : number, run);
	const char *const pairs[] = {"workload.id",   short_id,	 "workload.name", w->spec.name, "slot",	     number,
				     "instance.id",   run,	 "instance.name", out->name,	"node.id",   node->id,
				     "node.name",     node->name, NULL};
	expand_all(out, &(struct words){pairs});
	pairs_set(&out->labels, WORKLOAD_LABEL, w->id);
	out->owner = (struct instance_owner){str_copy(w->id), TAKE_PTR(run), slot, w->generation, attempt};
}
