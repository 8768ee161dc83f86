/* WWW-Authenticate (RFC 9110, 11.6.1): what a registry asks for. Pure data, no I/O. */
#pragma once

#include "base/util.h"

struct challenge {
	bool bearer, basic;
	char *realm, *service, *scope; /* of the first Bearer challenge; NULL when not given */
};

/* Reads the header's value; several headers joined by commas are the same to it. What is no challenge, or
 * one of another scheme, is skipped. */
void challenge_parse(const char *header, struct challenge *out);
void challenge_free(struct challenge *c);
