/* What the tables of instance.c use: checks of single values, rules over several fields, and the texts of
 * flags. Not for other rooms. */
#pragma once

#include "model/instance.h"

/* instance-check.c: of one value */
int mount_target_check(const char *path, struct error *err); /* path_check, and not "/" */
int user_check(const char *user, struct error *err); /* user[:group], names or ids */
int subpath_check(const char *path, struct error *err);
int hostname_check(const char *name, struct error *err);
int capability_check(const char *name, struct error *err);
int seccomp_check(const char *profile, struct error *err);
int device_rule_check(const char *rule, struct error *err);
int device_permissions_check(const char *permissions, struct error *err);
int sysctl_check(const char *key, struct error *err);
int ulimit_name_check(const char *name, struct error *err);
int cpuset_check(const char *list, struct error *err);
int hugepage_size_check(const char *size, struct error *err);
int pid_mode_check(const char *mode, struct error *err);     /* private | host | instance:X */
int uts_mode_check(const char *mode, struct error *err);     /* private | host */
int network_check(const char *mode, struct error *err);      /* private | none | host | instance:X */
int address_check(const char *address, struct error *err);
int extra_host_check(const char *entry, struct error *err);
int exposed_check(const char *entry, struct error *err); /* "80/tcp", "5000-5010/udp" */
int link_check(const char *entry, struct error *err);    /* "INSTANCE:ALIAS" */
int dns_search_check(const char *name, struct error *err); /* a domain, or ".": none */
int mount_option_check(const char *option, struct error *err);
int octal_mode_check(const char *mode, struct error *err);

/* instance-check.c: over several fields, for struct field_table.validate */
int restart_validate(const void *object, struct error *err);
int health_validate(const void *object, struct error *err);
int ulimit_validate(const void *object, struct error *err);
int mount_validate(const void *object, struct error *err);
int limits_validate(const void *object, struct error *err);
int log_validate(const void *object, struct error *err);
int instance_spec_validate(const void *object, struct error *err);

/* instance-flags.c: for struct field.parse. `to` is a new list item, or else the struct that holds the member */
int parse_restart(const char *text, void *to, struct error *err);
int parse_health_command(const char *text, void *to, struct error *err);
int parse_vm(const char *text, void *to, struct error *err);
int parse_no_healthcheck(const char *text, void *to, struct error *err);
int parse_security_option(const char *text, void *to, struct error *err);
int parse_device(const char *text, void *to, struct error *err);
int parse_ulimit(const char *text, void *to, struct error *err);
int parse_weight(const char *text, void *to, struct error *err);
int parse_throttle(const char *text, void *to, struct error *err);
int parse_hugepages(const char *text, void *to, struct error *err);
int parse_entrypoint(const char *text, void *to, struct error *err);
int parse_pid_mode(const char *text, void *to, struct error *err);
int parse_ipc_mode(const char *text, void *to, struct error *err);
int parse_network(const char *text, void *to, struct error *err);
int parse_port(const char *text, void *to, struct error *err);
int parse_mount(const char *text, void *to, struct error *err);
int parse_volume(const char *text, void *to, struct error *err);
int parse_tmpfs(const char *text, void *to, struct error *err);
int parse_secret(const char *text, void *to, struct error *err);
int parse_config(const char *text, void *to, struct error *err);
int parse_numa(const char *text, void *to, struct error *err);
int parse_log_driver(const char *text, void *to, struct error *err);
int parse_log_option(const char *text, void *to, struct error *err);
