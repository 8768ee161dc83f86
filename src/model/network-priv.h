/* What the tables of network.c use. Not for other rooms. */
#pragma once

#include "model/network.h"

/* network-check.c: of one value */
int cidr_check(const char *text, struct error *err);
int interface_check(const char *name, struct error *err); /* as the kernel's dev_valid_name, and ASCII */
int domain_check(const char *name, struct error *err);    /* DNS labels with dots between */
int protocol_check(const char *name, struct error *err);
int port_list_check(const char *list, struct error *err); /* "80,8000-8010" */
int target_check(const char *target, struct error *err);
int boot_file_check(const char *name, struct error *err); /* a path without "..", or a URL */
int boot_dir_check(const char *path, struct error *err);

/* over several fields, for struct field_table.validate */
int subnet_validate(const void *object, struct error *err);
int network_spec_validate(const void *object, struct error *err);
int attachment_validate(const void *object, struct error *err);
int network_name_check(const char *name, struct error *err); /* as an instance's, but for "/" within */
int balancer_spec_validate(const void *object, struct error *err);
int port_validate(const void *object, struct error *err);
int rule_validate(const void *object, struct error *err);

/* for struct field.parse */
int parse_subnet(const char *text, void *to, struct error *err);
int parse_target(const char *text, void *to, struct error *err);
