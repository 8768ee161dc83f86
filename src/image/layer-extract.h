/* The entries of a tar become files beneath a root descriptor. Private to the image room.
 *
 * Every path is looked up with openat2 inside root and on root's mount, so nothing outside is reached even
 * where the process is not confined (tests, fuzzing); layer_unpack and tree_unpack confine it as well. */
#pragma once

#include "base/error.h"

struct archive;

struct extract {
	int root;	  /* the "/" of all look-ups */
	const char *base; /* entries are put below this directory of root; NULL: root itself */
	bool layer;	  /* .wh. names mean whiteouts and opaque directories; owners are taken as they are */
	uint32_t uid_base;
	bool keep_owner, no_overwrite_dir;
	uint64_t max_entries;	     /* 0: ten million */
	void (*progress)(void *arg); /* between entries; may be NULL */
	void *arg;
	/* results */
	uint64_t size; /* bytes of file content */
	char **opaque; /* directories to be marked opaque, as paths inside root; strv_free */
};

/* Reads a to its end. What fails with ERROR_CORRUPT may also be the fault of a's source: the caller knows. */
int extract_archive(struct extract *x, struct archive *a, struct error *err);
