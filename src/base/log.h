/* The log of a process: one line a message on standard error, "TIME LEVEL room: text". Library code logs
 * at debug alone; what a user must know is an error that goes up. Secrets never reach it. */
#pragma once

#include "base/util.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* name is put before each line ("control", "agent"); the environment's WABE_LOG (error, warn, info,
 * debug) overrides level. */
void log_open(const char *name, enum log_level level);
enum log_level log_level(void);
void log_at(enum log_level level, const char *fmt, ...) PRINTF(2, 3);

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                         \
	do {                                   \
		if (log_level() >= LOG_DEBUG)  \
			log_at(LOG_DEBUG, __VA_ARGS__); \
	} while (0)
