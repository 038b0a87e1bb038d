/* One connection to whatever serves the stand-in GPUs (../protocol.py), and requests over it. */
#ifndef GPU_STANDIN_ENDPOINT_H
#define GPU_STANDIN_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>

#define ENDPOINT_VARIABLE "NVML_STANDIN_ENDPOINT"
#define ENDPOINT_DEFAULT "unix:/dev/nvidia-standin/socket"

struct endpoint {
    int fd;        /* -1: not connected */
    bool sees_pid; /* the server knows this process by itself */
    char *line;    /* the last answer, without its newline */
    size_t size;
};

#define ENDPOINT_INITIALIZER { .fd = -1 }

/* Returns what ENDPOINT_VARIABLE says, or the default. */
const char *endpoint_name(void);

/* Connects; the descriptor is close-on-exec. Returns NULL, or why not (static text, or the server's own line). */
const char *endpoint_open(struct endpoint *endpoint);

/* Connects to a Unix socket that speaks in the same lines. Returns whether it could. */
bool endpoint_open_unix(struct endpoint *endpoint, const char *path);

void endpoint_close(struct endpoint *endpoint);

/* Sends one request (without newline). Returns false, and closes, when the connection is lost.
 * Otherwise *code is 0 (ok) or an nvmlReturn_t, and *values points to the values or the reason, until the next request. */
bool endpoint_ask(struct endpoint *endpoint, const char *request, int *code, char **values);

/* Reads decimal digits at *text and moves past them and the blanks after them. Returns false where there are none, or too many. */
bool read_number(char **text, unsigned long long *number);

#endif
