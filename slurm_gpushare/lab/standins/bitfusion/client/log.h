/* What the client prints: time-stamped lines on stderr, and the words of Go's run-time for errors of the system. */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stddef.h>

void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Go's text for errno (as strerror's, in lower case), in a static buffer. */
const char *errno_text(int error);

/* Local time as RFC 3339, "Z" where the offset is zero. */
void rfc3339(char *out, size_t size);

/* A random UUID (version 4). */
void new_uuid(char out[37]);

/* Random bytes from the kernel; ends the program if there are none. */
void random_bytes(void *out, size_t size);

#endif
