/* Getting GPUs: meeting the servers, and asking them again and again while they are full. */
#include "acquire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../assumed.h"
#include "execute.h"
#include "log.h"

void meet_servers(struct pool *pool, const struct config *config) {
    char why[512];
    bool usable = false;
    pool->count = config->address_count;
    for (size_t i = 0; i < pool->count; i++) {
        struct server *server = &pool->servers[i];
        *server = (struct server){.index = (int)i};
        memcpy(server->address, config->addresses[i], sizeof server->address);
        if (config->first_contact)
            log_info("Query server %s to claim client id: %s", server->address, config->client_id);
        if (claim(server, config, why, sizeof why))
            usable = true;
        else
            log_warn("Error contacting server %s to verify client id: Get https://%s/claim_id: %s", server->address,
                     server->address, why);
    }
    if (!usable) {
        fprintf(stderr, "Error: none of the servers responded correctly to client id claim requests.\n");
        exit(ASSUMED_EXIT_ERROR);
    }
}

static void announce(const struct pool *pool, const struct config *config) {
    char list[MAX_SERVERS * (ADDRESS_SIZE + 1)] = "";
    for (size_t i = 0; i < pool->count; i++) {
        if (!pool->servers[i].usable)
            continue;
        if (config->first_contact)
            log_info("Query server %s gpu availability", pool->servers[i].address);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", *list ? " " : "", pool->servers[i].address);
    }
    if (config->first_contact)
        log_info("Query server health status");
    log_info("Choosing GPUs from server list [%s]", list);
}

static int longest_wait(const struct pool *pool) {
    int seconds = 0;
    for (size_t i = 0; i < pool->count; i++)
        if (pool->servers[i].usable && pool->servers[i].wait_seconds > seconds)
            seconds = pool->servers[i].wait_seconds;
    return seconds;
}

/* One round over the servers. DONE, FULL where one may have room later, NEVER where none ever will, FAILED where none
 * answered. */
static enum answer try_all(const struct pool *pool, const struct config *config, const struct options *options,
                           const char *request_id, struct allocation *allocation, struct channel *channel) {
    enum answer best = FAILED;
    char why[512];
    for (size_t i = 0; i < pool->count; i++) {
        if (!pool->servers[i].usable)
            continue;
        enum answer answer =
            request_gpus_from(&pool->servers[i], config, options, request_id, allocation, channel, why, sizeof why);
        if (answer == DONE) {
            if (options->command == RUN)
                log_info("Requesting GPUs [%s] with %ld MiB of memory from server %d, with version %s...",
                         allocation->gpus, allocation->mebibytes, pool->servers[i].index, allocation->version);
            return DONE;
        }
        if (answer == FAILED)
            log_warn("Error requesting GPUs from server %s: %s", pool->servers[i].address, why);
        else if (answer == FULL || best == FAILED)
            best = answer;
    }
    return best;
}

int acquire(struct pool *pool, const struct config *config, const struct options *options,
            struct allocation *allocation, struct channel *channel) {
    const struct timespec pause = {ASSUMED_RETRY_MILLISECONDS / 1000, ASSUMED_RETRY_MILLISECONDS % 1000 * 1000000L};
    char request_id[37], memory[64];
    int wait = longest_wait(pool), failed = 0;
    bool told = false;
    int64_t deadline = now_ms() + (int64_t)wait * 1000;
    new_uuid(request_id);
    if (options->mebibytes)
        snprintf(memory, sizeof memory, "%ld MiB of memory", options->mebibytes);
    else
        snprintf(memory, sizeof memory, "%g%% of their memory", options->fraction * 100);
    if (options->command == RUN)
        announce(pool, config);
    while (!caught_signal()) {
        enum answer answer = try_all(pool, config, options, request_id, allocation, channel);
        if (answer == DONE)
            return 0;
        if (answer == NEVER) {
            fprintf(stderr, ASSUMED_TEXT_NEVER, options->gpus, memory);
            return ASSUMED_EXIT_ERROR;
        }
        failed = answer == FAILED ? failed + 1 : 0;
        if (failed == ASSUMED_FAILED_TRIES) {
            fprintf(stderr, ASSUMED_TEXT_LOST);
            return ASSUMED_EXIT_ERROR;
        }
        if (now_ms() >= deadline) {
            fprintf(stderr, ASSUMED_TEXT_FULL, options->gpus, memory, wait);
            return ASSUMED_EXIT_ERROR;
        }
        if (answer == FULL && !told)
            log_info(ASSUMED_TEXT_WAITING, wait);
        told = told || answer == FULL;
        nanosleep(&pause, NULL);
    }
    return ASSUMED_EXIT_SIGNAL_BASE + caught_signal();
}
