/* Getting GPUs: meeting the servers, and asking them again and again while they are full. */
#ifndef ACQUIRE_H
#define ACQUIRE_H

#include "protocol.h"

struct pool {
    struct server servers[MAX_SERVERS];
    size_t count;
};

/* Claim the client's id at every server, with a warning for each that does not answer. Ends the program when none does.
 */
void meet_servers(struct pool *pool, const struct config *config);

/* Get GPUs from the first server that has room, waiting for one while all are full. 0 when `allocation` is filled;
 * otherwise the exit status, after a line on stderr, or after a signal. For `run` the open `channel` holds the
 * allocation. */
int acquire(struct pool *pool, const struct config *config, const struct options *options,
            struct allocation *allocation, struct channel *channel);

#endif
