/* Steps that change the config alone, and what all steps have in common. */
#include "build/build-priv.h"

#include "base/str.h"

char *step_comment(const struct stage *s, const char *text) {
	static char *const plain[] = {(char *)"/bin/sh", (char *)"-c", NULL};
	_cleanup_(free_ptr) char *shell = strv_join(s->config.shell ? s->config.shell : plain, " ");
	return str_format("%s #(nop) %s", shell, text);
}

struct image_step step_of(const struct stage *s, const char *created_by) {
	return (struct image_step){
		.base = s->image,
		.config = &s->config,
		.created_by = created_by,
		.author = s->maintainer,
		.os = s->os,
		.architecture = s->architecture,
		.variant = s->variant,
	};
}

void step_take(struct stage *s, struct image_snap *snap) {
	free(s->image);
	s->image = str_copy(snap->image.id);
	image_snap_unref(snap);
}

bool step_cached(struct stage *s, const char *created_by) {
	char *found = s->b->o->no_cache || s->cache_off ? NULL : cache_find(s, created_by, &s->config);
	if (!found) {
		s->cache_off = true;
		return false;
	}
	output_text(&s->out, " ---> Using cache\n");
	event_cached(s);
	free(s->image);
	s->image = found;
	return true;
}

int step_config(struct stage *s, const char *text, struct error *err) {
	_cleanup_(free_ptr) char *comment = str_format(" %s", text);
	_cleanup_(free_ptr) char *created_by = step_comment(s, comment);
	struct image_snap *snap;
	if (step_cached(s, created_by))
		return 0;
	struct image_step step = step_of(s, created_by);
	int r = image_step_config(s->b->core, s->b->o->project, &step, &snap, err);
	if (r == 0)
		step_take(s, snap);
	return r;
}
