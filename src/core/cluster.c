/* The cluster in the store. */
#include "core/core-priv.h"

#include "base/str.h"
#include "base/time.h"
#include "core/cluster.h"
#include "core/workloads.h"

#include <sys/random.h>

const struct noun_kind cluster_kind = {
	.prefix = "clusters",
	.noun = "cluster",
	.table = &cluster_table,
	.id = offsetof(struct cluster, id),
	.name = offsetof(struct cluster, spec.name),
	.labels = offsetof(struct cluster, spec.labels),
	.project = NO_PROJECT,
};

/* n characters of [0-9a-z], random. */
static char *random_text(size_t n) {
	static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	char *text = alloc_zero(n + 1);
	for (size_t i = 0; i < n;) {
		uint8_t byte;
		if (getrandom(&byte, 1, 0) == 1 && byte < 252) /* a multiple of 36 */
			text[i++] = digits[byte % 36];
	}
	return text;
}

/* The first part is the cluster's: the same in all of its tokens. */
static char *token(const char *cluster_part) {
	_cleanup_(free_ptr) char *secret = random_text(25);
	return str_format("SWMTKN-1-%s-%s", cluster_part, secret);
}

static char *cluster_part(const char *old) {
	return old ? str_copyn(old + strlen("SWMTKN-1-"), 50) : random_text(50);
}

static struct noun *the_cluster(struct core *c) {
	WITH_LOCK(c);
	size_t i = 0;
	struct noun *n = nouns_next(c->clusters, &i);
	return n ? noun_ref(n) : NULL;
}

int cluster_get(struct core *c, struct noun **out, struct error *err) {
	*out = the_cluster(c);
	return *out ? 0 : error_set(err, ERROR_NOT_FOUND, "this host is in no cluster");
}

static int found(struct core *c, const struct cluster_spec *spec, const struct node_spec *node, struct noun **out,
		 struct error *err) {
	_cleanup_(noun_unref_ptr) struct noun *old = the_cluster(c);
	if (old)
		return error_set(err, ERROR_CONFLICT, "this host is in a cluster already");
	int r = fields_validate(&cluster_spec_table, spec, err);
	if (r == 0)
		r = fields_validate(&node_spec_table, node, err);
	if (r < 0)
		return r;
	_cleanup_(free_ptr) char *id = random_hex(INSTANCE_ID_LEN / 2), *node_id = random_hex(INSTANCE_ID_LEN / 2),
				 *part = cluster_part(NULL), *worker = token(part), *manager = token(part);
	int64_t now = time_now_ns();
	struct cluster k = {.id = id, .created_at = now, .updated_at = now, .version = 1, .spec = *spec, .worker_token = worker,
			    .manager_token = manager,
			    .node = {.id = node_id, .created_at = now, .updated_at = now, .version = 1, .spec = *node}};
	return noun_save(c, c->clusters, &k, "create", NULL, 0, out, err);
}

int cluster_init(struct core *c, struct cluster_spec *spec, struct node_spec *node, struct noun **out, struct error *err) {
	_cleanup_(held_release) struct held h = hold(c, "cluster", "");
	int r = found(c, spec, node, out, err);
	fields_free(&cluster_spec_table, spec);
	fields_free(&node_spec_table, node);
	workloads_poke(c);
	return r;
}

static void new_token(char **to) {
	_cleanup_(free_ptr) char *part = cluster_part(*to);
	free(*to);
	*to = token(part);
}

static int apply(const struct cluster_change *change, struct cluster *k, struct error *err) {
	if ((change->version >= 0 && change->version != k->version) ||
	    (change->node_version >= 0 && change->node_version != k->node.version))
		return error_set(err, ERROR_CONFLICT, "update out of sequence");
	int r = change->spec ? fields_patch(&cluster_spec_table, change->spec, false, &k->spec, err) : 0;
	if (r == 0 && change->node)
		r = fields_patch(&node_spec_table, change->node, false, &k->node.spec, err);
	if (r < 0)
		return r;
	if (change->new_worker_token)
		new_token(&k->worker_token);
	if (change->new_manager_token)
		new_token(&k->manager_token);
	if (change->node) {
		k->node.version++;
		k->node.updated_at = time_now_ns();
	}
	if (change->spec || change->new_worker_token || change->new_manager_token) {
		k->version++;
		k->updated_at = time_now_ns();
	}
	return 0;
}

int cluster_update(struct core *c, const struct cluster_change *change, struct noun **out, struct error *err) {
	_cleanup_(held_release) struct held h = hold(c, "cluster", "");
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = cluster_get(c, &o, err);
	if (r < 0)
		return r;
	struct cluster new;
	fields_copy(&cluster_table, o->of, &new);
	r = apply(change, &new, err);
	if (r == 0)
		r = noun_save(c, c->clusters, &new, "update", NULL, 0, out, err);
	fields_free(&cluster_table, &new);
	workloads_poke(c);
	return r;
}

/* Of those that a dialect has made. */
static int delete_workloads(struct core *c, struct error *err) {
	_cleanup_(nouns_unref_ptr) struct noun **all = NULL;
	int r = workload_all(c, "default", &all, err);
	for (struct noun **n = all; r == 0 && *n; n++) {
		const struct workload *w = (*n)->of;
		if (w->spec.origin)
			r = workload_delete(c, w->project, w->id, err);
	}
	return r;
}

static int delete_kept(struct core *c, enum kept_kind kind, struct error *err) {
	_cleanup_(nouns_unref_ptr) struct noun **all = NULL;
	int r = kept_all(c, kind, "default", &all, err);
	for (struct noun **n = all; r == 0 && *n; n++) {
		const struct kept *k = (*n)->of;
		if (k->spec.origin)
			r = kept_delete(c, kind, k->project, k->id, err);
	}
	return r;
}

/* The cluster last: who is cut off in between finds it there, and leaves again. */
int cluster_leave(struct core *c, struct error *err) {
	_cleanup_(held_release) struct held h = hold(c, "cluster", "");
	_cleanup_(noun_unref_ptr) struct noun *o = NULL;
	int r = cluster_get(c, &o, err);
	if (r == 0)
		r = delete_workloads(c, err);
	if (r == 0)
		r = delete_kept(c, KEPT_SECRET, err);
	if (r == 0)
		r = delete_kept(c, KEPT_CONFIG, err);
	if (r == 0)
		r = noun_delete(c, c->clusters, o->of, NULL, 0, err);
	workloads_poke(c);
	return r;
}
