/* Inside of wabe-init, the first process of a machine whose root is a container image's. It runs the container that
 * model/guest.h describes by driver/container, as the agent does on a host, and is the guest's agent. */
#pragma once

#include "base/loop.h"
#include "driver/container/container.h"
#include "model/guest.h"

#define GUEST_HOST "/host" /* where the directory of model/guest.h is seen */

struct guest {
	int initramfs; /* what the kernel started with: modules */
	struct guest_config config;
	struct container_config container;
	struct container_state state;
	struct loop *loop;
	pid_t output;        /* who copies from the container to the console; 0 */
	int input;           /* the container's, until the port for it is there; -1: none */
	bool ended;          /* the container's first process, with: */
	int status;
	bool drained;        /* and all that it wrote has been copied */
	bool reboot;         /* instead of powering off */
};

/* --- boot.c: a small system around the container --- */

int boot_mounts(struct guest *g, struct error *err);
/* The module and those that it needs, of the initramfs; nothing where the kernel has it built in. */
int boot_module(const struct guest *g, const char *name, struct error *err);
int boot_share(struct error *err); /* GUEST_HOST */
int boot_sysctls(const struct guest_config *c, struct error *err);
int boot_disks(const struct guest *g, struct container_config *c, struct error *err);

/* --- network.c --- */

int network_up(const struct guest_config *c, struct error *err);

/* --- container.c: the description as the driver takes it --- */

bool sysctl_is_containers(const char *key);
void container_describe(const struct guest_config *g, struct container_config *c);

/* --- console.c --- */

/* Starts what copies from the container's streams, which are io's own from here on, to the console. */
int console_open(struct guest *g, struct container_stdio *io, struct error *err);
int console_relay(struct guest *g, struct container_stdio *io, struct error *err);
void console_drain(void);

/* --- session.c: what the host has run beside the first process, with its streams --- */

/* There may be a port for another one, or for the first process's input. */
void sessions_look(struct guest *g);

/* --- exec.c: the same by the agent's protocol --- */

struct execs;
struct execs *execs_new(struct guest *g);
/* A process has ended with this wait status, perhaps one of them. */
void execs_ended(struct execs *x, pid_t pid, int how);
/* The arguments and results of guest-exec and guest-exec-status, by docs/interop/qemu-ga-ref of QEMU. The result is the
 * caller's. */
int execs_start(struct execs *x, const json_t *arguments, json_t **out, struct error *err);
int execs_status(struct execs *x, const json_t *arguments, json_t **out, struct error *err);

/* --- agent.c: QEMU's guest agent protocol on a virtio port --- */

struct guest_agent;
struct guest_agent *guest_agent_new(struct guest *g, struct execs *x);
/* The port may be there now. */
void guest_agent_look(struct guest_agent *a);
/* Paths of the virtio ports whose names begin so; with `names` those, in the same order. strv_free them. */
char **ports_find(const char *begin, char ***names);

/* --- commands.c --- */

/* One command; NULL and no error: it has no answer. */
int command_run(struct guest *g, struct execs *x, const char *name, const json_t *arguments, json_t **out, struct error *err);

/* --- init.c --- */

/* The container's first process is told to end, by its stop signal. */
void guest_stop(struct guest *g);
/* At once, whatever runs. */
void guest_power_off(void) __attribute__((noreturn));
