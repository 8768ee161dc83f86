#include "model/inside.h"

#define ADDRESSES_MAX 1024

static const struct field interface_fields[] = {
	FIELD(struct inside_interface, name, FIELD_STRING, .max = 512, .doc = "As the guest calls it"),
	FIELD(struct inside_interface, mac, FIELD_STRING, .max = 17, .doc = "Its hardware address, where it has one"),
	FIELD(struct inside_interface, addresses, FIELD_STRINGS, .max = ADDRESSES_MAX, .doc = "With their prefixes"),
};
static const struct field_table interface_table = {
	"inside_interface", "An interface of a guest, as it tells", sizeof(struct inside_interface), interface_fields,
	ARRAY_SIZE(interface_fields), NULL,
};

static const struct field inside_fields[] = {
	FIELD(struct inside, hostname, FIELD_STRING, .max = 512, .doc = "As the guest calls itself"),
	FIELD(struct inside, os, FIELD_STRING, .max = 512, .doc = "Its system, for people"),
	FIELD(struct inside, kernel, FIELD_STRING, .max = 512, .doc = "Its kernel's version"),
	FIELD(struct inside, interfaces, FIELD_LIST, .max = ADDRESSES_MAX, .sub = &interface_table, .doc = "Its network"),
};
const struct field_table inside_table = {
	"inside", "What a machine's guest tells of itself", sizeof(struct inside), inside_fields, ARRAY_SIZE(inside_fields), NULL,
};

static const struct field password_fields[] = {
	FIELD(struct inside_password, user, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 256, .doc = "Whose, a user of the guest's"),
	FIELD(struct inside_password, password, FIELD_STRING, .flags = FIELD_REQUIRED | FIELD_SECRET, .max = 4096, .doc = "The new one"),
	FIELD(struct inside_password, hashed, FIELD_BOOL, .doc = "It is as crypt(3) gives it"),
};
const struct field_table inside_password_table = {
	"inside_password", "A password inside a machine", sizeof(struct inside_password), password_fields, ARRAY_SIZE(password_fields),
	NULL,
};
