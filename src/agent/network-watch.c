/* What the agent watches for its networks: each resolver, which is started again when it ends, and nftables, where
 * somebody may have removed our table. Never at once for ever: each try waits longer than the one before. */
#include "agent/network-priv.h"

#include "base/log.h"
#include "base/time.h"

#include <stdio.h>
#include <sys/epoll.h>

#define BACKOFF_FIRST (100 * NS_PER_MS)
#define BACKOFF_MAX (60 * NS_PER_SEC)
#define RAN_WELL (10 * NS_PER_SEC) /* after so long the back-off starts anew */

struct net_watch {
	int fd; /* of nftables' notifications */
	struct loop_source *source, *reload_timer, *repair_timer;
	int64_t reload_backoff, reloaded_at, repair_backoff;
	bool reloading;
};

static bool start_job(struct agent *a, const struct handler *h, const char *id) {
	_cleanup_(error_free) struct error err = ERROR_INIT;
	struct job j = {.agent = a, .handler = h, .sock = -1, .listen_fd = -1};
	snprintf(j.id, sizeof j.id, "%s", id);
	int r = a->stopping ? -1 : worker_start(a, &j, &err);
	if (r < 0 && !a->stopping)
		log_error("%s: %s", h->name, error_text(&err));
	return r == 0;
}

/* --- resolvers --- */

void resolver_unwatch(struct net *n) {
	loop_remove(n->on_resolver);
	loop_remove(n->timer);
	n->on_resolver = n->timer = NULL;
	close_fd(&n->resolver);
}

static void on_timer(void *arg) {
	struct net *n = arg;
	n->timer = NULL;
	if (!start_job(n->agent, &job_network, n->network.id))
		network_again(n);
}

void network_again(struct net *n) {
	if (n->agent->stopping || n->deleting || n->damaged || n->timer)
		return;
	n->timer = loop_add_timer(n->agent->loop, time_mono_ns() + n->backoff, on_timer, n);
	n->backoff = MIN(n->backoff * 2, BACKOFF_MAX);
}

static void resolver_lost(struct net *n) {
	resolver_unwatch(n);
	if (time_mono_ns() - n->resolver_since >= RAN_WELL)
		n->backoff = BACKOFF_FIRST;
	log_warn("the resolver of network %s has ended: it is started again", n->network.spec.name ? n->network.spec.name : n->network.id);
	network_again(n);
}

static void on_resolver_end(UNUSED struct loop_source *s, UNUSED uint32_t events, void *arg) {
	resolver_lost(arg);
}

void resolver_watch(struct net *n, pid_t pid, uint64_t start) {
	resolver_unwatch(n);
	n->resolver_since = time_mono_ns();
	n->resolver = pid_open(pid, start);
	if (n->resolver < 0)
		resolver_lost(n);
	else
		n->on_resolver = loop_add_fd(n->agent->loop, n->resolver, EPOLLIN, on_resolver_end, n);
}

/* --- the table --- */

static void on_reload(void *arg) {
	struct agent *a = arg;
	struct net_watch *w = a->net_watch;
	w->reload_timer = NULL;
	w->reloading = start_job(a, &job_firewall, "");
	if (!w->reloading)
		firewall_again(a);
}

void firewall_again(struct agent *a) {
	struct net_watch *w = a->net_watch;
	if (!w || w->reload_timer || a->stopping)
		return;
	w->reloading = false;
	if (time_mono_ns() - w->reloaded_at >= RAN_WELL)
		w->reload_backoff = BACKOFF_FIRST;
	w->reload_timer = loop_add_timer(a->loop, time_mono_ns() + w->reload_backoff, on_reload, a);
	w->reload_backoff = MIN(w->reload_backoff * 2, BACKOFF_MAX);
}

void firewall_settled(struct agent *a) {
	if (!a->net_watch)
		return;
	a->net_watch->reloading = false;
	a->net_watch->reloaded_at = time_mono_ns();
}

static void on_firewall(UNUSED struct loop_source *s, UNUSED uint32_t events, void *arg) {
	struct agent *a = arg;
	if (firewall_watch_read(a->net_watch->fd, a->tag) == 1 && map_count(a->nets))
		firewall_again(a);
}

int firewall_watch_begin(struct agent *a, struct error *err) {
	struct net_watch *w = NEW(struct net_watch);
	a->net_watch = w;
	w->reload_backoff = w->repair_backoff = BACKOFF_FIRST;
	w->reloaded_at = time_mono_ns();
	w->fd = firewall_watch_open(err);
	if (w->fd < 0) { /* a kernel without nftables: networks that need it fail, each with its reason */
		log_warn("nftables is not watched: %s", error_text(err));
		error_free(err);
		return 0;
	}
	w->source = loop_add_fd(a->loop, w->fd, EPOLLIN, on_firewall, a);
	return 0;
}

void firewall_watch_end(struct agent *a) {
	struct net_watch *w = a->net_watch;
	if (!w)
		return;
	loop_remove(w->source);
	loop_remove(w->reload_timer);
	loop_remove(w->repair_timer);
	close_fd(&w->fd);
	free(w);
	a->net_watch = NULL;
}

/* --- repair --- */

static void on_repair(void *arg) {
	struct agent *a = arg;
	a->net_watch->repair_timer = NULL;
	networks_repair(a);
}

void networks_repair_later(struct agent *a) {
	struct net_watch *w = a->net_watch;
	if (!w || w->repair_timer || a->stopping)
		return;
	w->repair_timer = loop_add_timer(a->loop, time_mono_ns() + w->repair_backoff, on_repair, a);
	w->repair_backoff = MIN(w->repair_backoff * 2, BACKOFF_MAX);
}

void networks_repair(struct agent *a) {
	if (!start_job(a, &job_networks, ""))
		networks_repair_later(a);
}
