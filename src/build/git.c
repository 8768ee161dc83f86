/* Files of git repositories, which are contexts or what ADD names. A server that does not answer keeps no build: whoever waits
 * gives up when nobody wants it any more. */
#include "build/build-priv.h"

#include "base/base64.h"
#include "base/str.h"
#include "core/git.h"

#include <poll.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- giving up ---- */

struct watch {
	const struct fetching *fetching;
	int cancel, end; /* cancel: readable when nobody wants it any more */
	pthread_t thread;
};

struct fetching fetching_for(const struct stage *s) {
	return (struct fetching){s->b->core, s->b, s->b->o, s->b->sink};
}

bool fetching_gone(const struct fetching *f) {
	return f->b ? build_gone(f->b) : f->sink->gone(f->sink->arg);
}

static void *watch_it(void *arg) {
	struct watch *w = arg;
	const struct build_sink *sink = w->fetching->sink;
	for (;;) {
		struct pollfd p[] = {{w->end, POLLIN, 0}, {sink->gone_fd(sink->arg), POLLIN, 0}};
		/* another stage's failure has no descriptor: looked at now and then */
		if (RETRY_EINTR(poll(p, 2, 500)) < 0 || p[0].revents)
			return NULL;
		if (fetching_gone(w->fetching)) {
			eventfd_write(w->cancel, 1);
			return NULL;
		}
	}
}

static int watch_begin(struct watch *w, struct error *err) {
	w->cancel = eventfd(0, EFD_CLOEXEC);
	w->end = eventfd(0, EFD_CLOEXEC);
	int failed = w->cancel < 0 || w->end < 0 ? errno : pthread_create(&w->thread, NULL, watch_it, w);
	if (!failed)
		return 0;
	close_fd(&w->cancel);
	close_fd(&w->end);
	return error_errno(err, failed, "watching over a fetch");
}

static void watch_end(struct watch *w) {
	eventfd_write(w->end, 1);
	pthread_join(w->thread, NULL);
	close_fd(&w->cancel);
	close_fd(&w->end);
}

/* ---- who asks ---- */

/* A build's secret, as BuildKit takes it: that of the host, or for any. Never over a connection that others can read. */
static void take_token(const struct fetching *f, struct git_source *s) {
	const struct build_client *client = f->o->client;
	if (s->authorization || !str_starts(s->url, "https://") || !client || !client->secret)
		return;
	const char *host = s->url + strlen("https://");
	_cleanup_(free_ptr) char *own = str_format("GIT_AUTH_TOKEN.%.*s", (int)strcspn(host, ":/"), host);
	const char *const names[] = {own, "GIT_AUTH_TOKEN"};
	for (size_t i = 0; i < ARRAY_SIZE(names) && !s->authorization; i++) {
		_cleanup_(buf_free) struct buf token = BUF_INIT;
		if (f->b)
			pthread_mutex_lock(&f->b->asking);
		int r = client->secret(client->arg, names[i], &token, NULL);
		if (f->b)
			pthread_mutex_unlock(&f->b->asking);
		if (r < 0)
			continue;
		_cleanup_(free_ptr) char *login = str_format("x-access-token:%.*s", (int)strcspn(buf_str(&token), "\r\n"), buf_str(&token));
		_cleanup_(free_ptr) char *text = base64_encode(login, strlen(login));
		s->authorization = str_format("Basic %s", text);
		explicit_bzero(login, strlen(login));
		explicit_bzero(text, strlen(text));
		explicit_bzero(token.data, token.len);
	}
}

/* ---- asking ---- */

struct call {
	struct watch watch;
	struct ssh_agent *agent; /* the client's default one, as with BuildKit; NULL: there is none, or it is not needed */
	struct git_caller caller;
};

/* Says which repository; a build that was given up is no failure of its. */
static int failed(const struct fetching *f, const struct git_source *s, struct error *err) {
	if (fetching_gone(f))
		return build_cancelled(err);
	_cleanup_(free_ptr) char *text = git_source_print(s);
	return error_wrap(err, "failed to fetch remote %s", text);
}

/* From here on the agent of ssh is asked; one that cannot be served is as one without a key. */
static void on_listens(void *arg) {
	ssh_agent_serve(((struct call *)arg)->agent, NULL);
}

static int call_begin(struct call *c, const struct fetching *f, struct git_source *s, struct error *err) {
	*c = (struct call){.watch.fetching = f};
	int r = watch_begin(&c->watch, err);
	if (r < 0)
		return r;
	take_token(f, s);
	if (git_source_is_ssh(s))
		ssh_agent_new(f->o->client, f->b ? &f->b->asking : NULL, "default", &c->agent, NULL);
	c->caller = (struct git_caller){c->watch.cancel, c->agent ? ssh_agent_socket(c->agent) : -1, c->agent ? on_listens : NULL, c};
	return 0;
}

static void call_end(struct call *c) {
	ssh_agent_free(c->agent);
	watch_end(&c->watch);
}

int repository_commit(const struct fetching *f, struct git_source *s, char **commit, struct error *err) {
	struct call c;
	int r = call_begin(&c, f, s, err);
	if (r < 0)
		return r;
	r = git_resolve(f->core, s, &c.caller, commit, err);
	call_end(&c);
	return r < 0 ? failed(f, s, err) : 0;
}

/* Those of submodules; git lets no other file have that name. */
static void drop_git_files(struct tree *t, struct tree_node *dir) {
	_cleanup_(free_ptr) struct tree_node **list = tree_list(dir);
	for (size_t i = 0; list[i]; i++)
		if (str_same(list[i]->name, ".git"))
			tree_remove(t, list[i]);
		else if (S_ISDIR(list[i]->mode))
			drop_git_files(t, list[i]);
}

int repository_tree(const struct fetching *f, struct git_source *s, bool keep, struct tree *to, struct error *err) {
	_cleanup_(free_ptr) char *commit = NULL;
	_cleanup_(close_fd) int fd = -1;
	struct call c;
	int r = call_begin(&c, f, s, err);
	if (r < 0)
		return r;
	r = git_fetch(f->core, s, keep, &c.caller, &commit, &fd, err);
	call_end(&c);
	if (r == 0)
		r = tree_read(to, fd, "", false, err);
	if (r < 0)
		return failed(f, s, err);
	if (!keep)
		drop_git_files(to, tree_root(to));
	return 0;
}

/* ---- contexts ---- */

bool build_is_repository(const char *url) {
	return git_source_is(url) || str_starts(url, "github.com/");
}

int repository_context(const struct fetching *f, const char *url, bool keep, struct tree *context, struct error *err) {
	_cleanup_(git_source_free) struct git_source s;
	int r = git_source_parse(url, &s, err);
	return r < 0 ? r : repository_tree(f, &s, keep, context, err);
}
