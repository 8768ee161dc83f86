/* What the agent in a machine's guest tells of it, and what it is asked to change. */
#pragma once

#include "model/field.h"

struct inside_interface {
	char *name, *mac;
	char **addresses; /* with their prefixes */
};
struct inside {
	char *hostname;
	char *os, *kernel; /* "Debian GNU/Linux 12 (bookworm)", "6.1.0-…"; NULL: not told */
	FIELD_LIST_OF(struct inside_interface) interfaces;
};
struct inside_password {
	char *user, *password;
	bool hashed; /* as crypt(3) gives it */
};
extern const struct field_table inside_table, inside_password_table;
