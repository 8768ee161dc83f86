/* Shared by the files of the resolver: its process and configuration (resolver.c), and who has which names
 * (resolver-hosts.c). */
#pragma once

#include "base/buf.h"
#include "driver/network/resolver.h"

/* A byte of the mask of an IPv4 prefix. */
#define MASK_BYTE(prefix, i) \
	((prefix) >= 8 * ((i) + 1u) ? 255u : (prefix) <= 8u * (i) ? 0u : 255u & 255u << (8 * ((i) + 1u) - (prefix)))

char *resolver_path(const struct resolver *r, const char *name);
/* Replaces a file in its directory, readable for it. No trace of it is seen under another name in hosts/ and dhcp/. */
int resolver_write(const struct resolver *r, const char *name, const struct buf *text, struct error *err);
/* Makes it read its files again, if it runs. */
int resolver_reload(const struct resolver *r);
/* Its whole configuration. */
void resolver_config(const struct resolver *r, struct buf *out);
/* Lines of the files hosts/<instance> and dhcp/<instance>. */
void resolver_host_lines(const struct resolver *r, const char *instance, const char *name, const struct nic *nic,
			 struct buf *out);
void resolver_lease_line(const char *name, const struct nic *nic, struct buf *out);
