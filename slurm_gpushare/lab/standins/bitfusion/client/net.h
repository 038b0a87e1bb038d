/* TCP to a server: addresses without the resolver of libc, and one deadline for all of an exchange. */
#ifndef NET_H
#define NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Milliseconds of the monotonic clock. */
int64_t now_ms(void);

/* HOST:PORT to an IPv4 address in text and a port. HOST is an IPv4 literal or a name in /etc/hosts. */
bool resolve(const char *address, char ip[16], int *port, char *why, size_t why_size);

/* A connected socket (close-on-exec), or -1 with the reason in Go's words. */
int dial(const char *address, int64_t deadline, char *why, size_t why_size);

/* A socket with the bytes that have been read from it and not yet used. */
struct channel {
    int fd;
    size_t length;
    char buffer[8192];
};

/* False with errno, as receive_line. */
bool send_line(struct channel *channel, const char *line, int64_t deadline);

/* The next line without its newline, in a buffer that the next call overwrites; NULL with errno: ETIMEDOUT at the
 * deadline, another when the server has gone. */
const char *receive_line(struct channel *channel, int64_t deadline);

#endif
