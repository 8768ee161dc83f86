/* An agent of ssh for a command: a socket in its instance, each of whose connections is handed to the client, who knows the keys. */
#include "build/build-priv.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16 /* at a time; more of them wait */

struct connection {
	struct ssh_agent *agent;
	pthread_t thread;
	int fd;
	bool used, over;
};
struct ssh_agent {
	const struct build_client *client;
	char *id;
	int socket, end; /* end: readable when it is not wanted any more, or a connection is over */
	pthread_mutex_t lock; /* over what is below */
	struct connection connections[CONNECTIONS_MAX];
	bool serves, ends;
	pthread_t thread;
};

int ssh_agent_new(const struct build_client *client, pthread_mutex_t *asking, const char *id, struct ssh_agent **out, struct error *err) {
	*out = NULL;
	if (!client || !client->agent_check)
		return error_set(err, ERROR_NOT_FOUND, "no SSH key \"%s\" forwarded from the client", id);
	if (asking)
		pthread_mutex_lock(asking);
	int r = client->agent_check(client->arg, id, err);
	if (asking)
		pthread_mutex_unlock(asking);
	if (r < 0)
		return r;
	struct ssh_agent *a = NEW(struct ssh_agent);
	*a = (struct ssh_agent){.client = client, .id = str_copy(id)};
	pthread_mutex_init(&a->lock, NULL);
	a->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	a->end = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->socket < 0 || a->end < 0) {
		r = error_errno(err, errno, "making a socket");
		ssh_agent_free(a);
		return r;
	}
	*out = a;
	return 0;
}

int ssh_agent_socket(const struct ssh_agent *a) {
	return a->socket;
}

static void tell(struct ssh_agent *a) {
	eventfd_write(a->end, 1);
}

static void *serve_connection(void *arg) {
	struct connection *c = arg;
	struct ssh_agent *a = c->agent;
	a->client->agent_serve(a->client->arg, a->id, c->fd);
	pthread_mutex_lock(&a->lock);
	c->over = true;
	pthread_mutex_unlock(&a->lock);
	tell(a);
	return NULL;
}

/* Needs no lock: this thread alone begins and ends them. */
static void put_away(struct connection *c) {
	pthread_join(c->thread, NULL);
	close_fd(&c->fd);
	c->used = c->over = false;
}

/* NULL: there is no room. */
static struct connection *free_place(struct ssh_agent *a) {
	struct connection *place = NULL;
	pthread_mutex_lock(&a->lock);
	for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
		struct connection *c = &a->connections[i];
		if (c->used && c->over)
			put_away(c);
		place = c->used ? place : c;
	}
	pthread_mutex_unlock(&a->lock);
	return place;
}

static void take_connection(struct ssh_agent *a, struct connection *place) {
	_cleanup_(close_fd) int fd = accept4(a->socket, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	*place = (struct connection){.agent = a, .fd = fd};
	place->used = pthread_create(&place->thread, NULL, serve_connection, place) == 0;
	if (place->used)
		TAKE_FD(fd);
}

static bool ends(struct ssh_agent *a) {
	pthread_mutex_lock(&a->lock);
	bool yes = a->ends;
	pthread_mutex_unlock(&a->lock);
	return yes;
}

static void *serve(void *arg) {
	struct ssh_agent *a = arg;
	while (!ends(a)) {
		struct connection *place = free_place(a);
		struct pollfd p[] = {{a->end, POLLIN, 0}, {place ? a->socket : -1, POLLIN, 0}};
		eventfd_t count;
		if (RETRY_EINTR(poll(p, ARRAY_SIZE(p), -1)) < 0)
			break;
		if (p[0].revents)
			eventfd_read(a->end, &count);
		if (p[1].revents && place)
			take_connection(a, place);
	}
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		if (a->connections[i].used) {
			shutdown(a->connections[i].fd, SHUT_RDWR);
			put_away(&a->connections[i]);
		}
	return NULL;
}

int ssh_agent_serve(struct ssh_agent *a, struct error *err) {
	int failed = pthread_create(&a->thread, NULL, serve, a);
	a->serves = !failed;
	return failed ? error_errno(err, failed, "starting a thread") : 0;
}

void ssh_agent_free(struct ssh_agent *a) {
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->ends = true;
	pthread_mutex_unlock(&a->lock);
	if (a->serves) {
		tell(a);
		pthread_join(a->thread, NULL);
	}
	close_fd(&a->socket);
	close_fd(&a->end);
	pthread_mutex_destroy(&a->lock);
	free(a->id);
	free(a);
}
