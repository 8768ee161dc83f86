/* What the shim speaks on its socket, and on the stream that an attach or exec hands to control, which
 * relays it unread: the native API's attach stream is this very protocol.
 *
 * A frame is one byte of type, three zero bytes, a 32-bit big-endian length (at most SHIM_FRAME_MAX) and
 * the payload. (stdout and stderr frames look like those of Docker's attach stream.) A client that sends
 * anything else is dropped. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SHIM_FRAME_MAX 65536
#define SHIM_HEADER 8

enum shim_frame {
	/* to the shim */
	SHIM_STDIN = 0,     /* bytes for the process; empty: end of input */
	SHIM_RESIZE = 16,   /* 2 + 2 bytes big-endian: rows, columns */
	SHIM_ATTACH = 17,   /* first frame of an attaching client: 1 byte of enum shim_attach bits */
	SHIM_STATUS = 18,   /* asks for one SHIM_STATUS answer */
	SHIM_ROTATE = 19,   /* closes and reopens the log */
	/* from the shim */
	SHIM_STDOUT = 1,    /* also all output of a terminal */
	SHIM_STDERR = 2,
	SHIM_EXIT = 3,      /* 4 bytes big-endian: the exit status (128 + signal); the last frame */
	SHIM_READY = 4,     /* the attach is in effect: output from here on comes */
	SHIM_STATE = 18,    /* text: "running PID" or "exited STATUS" */
};

enum shim_attach { SHIM_WANT_STDIN = 1, SHIM_WANT_STDOUT = 2, SHIM_WANT_STDERR = 4 };

static inline void shim_header(void *out, int type, size_t n) {
	const uint8_t header[SHIM_HEADER] = {(uint8_t)type, 0, 0, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
	memcpy(out, header, sizeof header);
}

/* Of the payload, as its header says: it may be more than can be. */
static inline size_t shim_length(const uint8_t header[SHIM_HEADER]) {
	return (size_t)header[4] << 24 | (size_t)header[5] << 16 | (size_t)header[6] << 8 | header[7];
}
