/* The requests to a server. The original speaks HTTPS; the stand-in's lines over TCP are its own and are described in
 * ../control.py. */
#ifndef PROTOCOL_H
#define PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>

#include "allocation.h"
#include "config.h"
#include "net.h"
#include "options.h"

struct server {
    char address[ADDRESS_SIZE]; /* as configured */
    char ip[16];
    int port, index; /* index: place in the list of servers */
    bool usable;     /* it answered the claim */
    char version[64];
    int wait_seconds, dispatcher_port, data_port;
    bool leader;
};

struct gpu {
    int index, utilization; /* utilization in percent, -1: unknown */
    long free_mib, total_mib;
    char capability[16], name[128];
};

enum answer { DONE, FULL, NEVER, GONE, FAILED };

/* Claim the client id at the server and learn about it; false with the reason. */
bool claim(struct server *server, const struct config *config, char *why, size_t why_size);

/* The server's GPUs, at most `room` of them, and how many tasks run; -1 with the reason. */
int list_gpus_of(const struct server *server, const struct config *config, struct gpu *gpus, size_t room, int *tasks,
                 char *why, size_t why_size);

/* One try to get GPUs. DONE fills `allocation`; for `run` the connection in `channel` then holds it, else fd is -1. */
enum answer request_gpus_from(const struct server *server, const struct config *config, const struct options *options,
                              const char *request_id, struct allocation *allocation, struct channel *channel, char *why,
                              size_t why_size);

/* Connect to an existing allocation: it is in use while `channel` stays open. */
enum answer attach(const struct allocation *allocation, const struct config *config, struct channel *channel, char *why,
                   size_t why_size);

/* Release the allocation, over `channel` where it is connected (fd >= 0). GONE: it was released before. */
enum answer release(const struct allocation *allocation, const struct config *config, struct channel *channel,
                    char *why, size_t why_size);

/* Close the channel if it is open. */
void hang_up(struct channel *channel);

#endif
