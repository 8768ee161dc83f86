/* Capabilities, seccomp filters and the default profile of a container. */
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <linux/filter.h>

/* Bit for "CAP_CHOWN", "chown" …; 0 when unknown. */
uint64_t cap_from_name(const char *name);
const char *cap_name(int cap); /* "CAP_CHOWN" */
uint64_t cap_all(void);        /* what this kernel knows */
uint64_t cap_bounding(void);   /* what this process may pass on */
uint64_t cap_default(void);    /* Docker's 14 */
/* Adds and drops by name ("ALL" too) from a start set. INVALID names the unknown one. */
int cap_compute(uint64_t start, char *const *add, char *const *drop, uint64_t *out, struct error *err);

/* Compiles an OCI linux.seccomp object to a BPF program; free prog->filter. caps: those of the process
 * (profiles in Docker's format may depend on them through includes/excludes, minKernel, arches). Unknown
 * system call names are skipped, as runc does. flags_out: SECCOMP_FILTER_FLAG_*. */
int seccomp_compile(const json_t *profile, uint64_t caps, struct sock_fprog *prog, unsigned *flags_out, struct error *err);
/* Installs it in this process. Needs no_new_privs or CAP_SYS_ADMIN in the user namespace. */
int seccomp_install(const struct sock_fprog *prog, unsigned flags, struct error *err);
/* wabe's default profile as an OCI object, equal in effect to the one Docker ships; for the capabilities
 * that the container has. */
json_t *seccomp_default_profile(uint64_t caps);
