/* The requests to a server. The original speaks HTTPS; the stand-in's lines over TCP are its own and are described in
 * ../control.py. */
#include "protocol.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../assumed.h"
#include "log.h"

/* A word of a request: percent-encoded, so that it holds no blank. */
static void encode(const char *text, char *out, size_t size) {
    size_t length = 0;
    for (; *text && length + 4 <= size; text++) {
        unsigned char c = (unsigned char)*text;
        if (isalnum(c) || strchr("-_.~=:/", c))
            out[length++] = (char)c;
        else
            length += (size_t)snprintf(out + length, 4, "%%%02X", c);
    }
    out[length] = 0;
}

void hang_up(struct channel *channel) {
    if (channel->fd >= 0)
        close(channel->fd);
    channel->fd = -1;
}

static void explain(char *why, size_t why_size) {
    snprintf(why, why_size, "%s",
             errno == ETIMEDOUT    ? "context deadline exceeded"
             : errno == ECONNRESET ? "EOF"
                                   : errno_text(errno));
}

/* Send a request over an open channel or a new one, and return the first line of the answer, or NULL with the reason.
 */
static const char *ask(struct channel *channel, const char *address, const struct config *config, const char *request,
                       int64_t deadline, char *why, size_t why_size) {
    char token[3 * sizeof config->token], line[7168];
    encode(config->token, token, sizeof token);
    if (channel->fd < 0) {
        *channel = (struct channel){.fd = dial(address, deadline, why, why_size)};
        if (channel->fd < 0)
            return NULL;
    }
    snprintf(line, sizeof line, "%s %s", token, request);
    const char *answer = send_line(channel, line, deadline) ? receive_line(channel, deadline) : NULL;
    if (!answer)
        explain(why, why_size);
    else if (!strcmp(answer, "unauthorized"))
        snprintf(why, why_size, "%s", ASSUMED_TEXT_UNAUTHORIZED);
    else if (!strncmp(answer, "error ", 6))
        snprintf(why, why_size, "%s", answer + 6);
    else
        return answer;
    hang_up(channel);
    return NULL;
}

static void unexpected(const char *answer, char *why, size_t why_size) {
    snprintf(why, why_size, "unexpected answer: %.200s", answer);
}

bool claim(struct server *server, const struct config *config, char *why, size_t why_size) {
    struct channel channel = {.fd = -1};
    char request[64], role[8] = "";
    if (!resolve(server->address, server->ip, &server->port, why, why_size))
        return false;
    snprintf(request, sizeof request, "claim %s", config->client_id);
    const char *answer = ask(&channel, server->address, config, request, now_ms() + config->timeout_ms, why, why_size);
    if (!answer)
        return false;
    server->usable = sscanf(answer, "ok %63s %d %d %d %7s", server->version, &server->wait_seconds,
                            &server->dispatcher_port, &server->data_port, role) == 5;
    server->leader = !strcmp(role, "leader");
    if (!server->usable)
        unexpected(answer, why, why_size);
    hang_up(&channel);
    return server->usable;
}

int list_gpus_of(const struct server *server, const struct config *config, struct gpu *gpus, size_t room, int *tasks,
                 char *why, size_t why_size) {
    struct channel channel = {.fd = -1};
    int64_t deadline = now_ms() + config->timeout_ms;
    size_t count = 0;
    const char *answer = ask(&channel, server->address, config, "gpus", deadline, why, why_size);
    while (answer && sscanf(answer, "ok %d", tasks) != 1) {
        struct gpu *gpu = &gpus[count];
        if (count == room || sscanf(answer, "gpu %d %ld %ld %d %15s %127[^\n]", &gpu->index, &gpu->free_mib,
                                    &gpu->total_mib, &gpu->utilization, gpu->capability, gpu->name) != 6) {
            unexpected(answer, why, why_size);
            hang_up(&channel);
            return -1;
        }
        count++;
        if (!(answer = receive_line(&channel, deadline)))
            explain(why, why_size);
    }
    hang_up(&channel);
    return answer ? (int)count : -1;
}

enum answer request_gpus_from(const struct server *server, const struct config *config, const struct options *options,
                              const char *request_id, struct allocation *allocation, struct channel *channel, char *why,
                              size_t why_size) {
    char request[6144], amount[32], gpus[256], filter[600];
    if (options->mebibytes)
        snprintf(amount, sizeof amount, "m %ld", options->mebibytes);
    else {
        char fraction[24];
        shortest(options->fraction, fraction, sizeof fraction);
        snprintf(amount, sizeof amount, "p %s", fraction);
    }
    const char *kind = options->command == RUN ? "run" : "request_gpus";
    int length = snprintf(request, sizeof request, "request %s %s %s %d %s", config->client_id, request_id, kind,
                          options->gpus, amount);
    for (size_t i = 0; i < options->filter_count; i++) {
        encode(options->filters[i], filter, sizeof filter);
        length += snprintf(request + length, sizeof request - (size_t)length, " %s", filter);
        if ((size_t)length >= sizeof request) {
            snprintf(why, why_size, "filters too long");
            return FAILED;
        }
    }
    *channel = (struct channel){.fd = -1};
    const char *answer = ask(channel, server->address, config, request, now_ms() + config->timeout_ms, why, why_size);
    if (!answer)
        return FAILED;
    enum answer result = !strcmp(answer, "full") ? FULL : !strcmp(answer, "never") ? NEVER : DONE;
    *allocation = (struct allocation){
        .gpu_count = options->gpus, .dispatcher_port = server->dispatcher_port, .data_port = server->data_port};
    if (result == DONE && sscanf(answer, "granted %36s %64s %ld %ld %255[0-9,]", allocation->uuid, allocation->secret,
                                 &allocation->mebibytes, &allocation->total_mib, gpus) != 5) {
        unexpected(answer, why, why_size);
        result = FAILED;
    }
    if (result != DONE || options->command != RUN)
        hang_up(channel);
    if (result != DONE)
        return result;
    for (char *comma = gpus; (comma = strchr(comma, ','));)
        *comma = ' ';
    snprintf(allocation->gpus, sizeof allocation->gpus, "%s", gpus);
    snprintf(allocation->kind, sizeof allocation->kind, "%s", kind);
    snprintf(allocation->address, sizeof allocation->address, "%s", server->address);
    snprintf(allocation->ip, sizeof allocation->ip, "%s", server->ip);
    snprintf(allocation->version, sizeof allocation->version, "%s", server->version);
    shortest(options->mebibytes ? (double)allocation->mebibytes / (double)allocation->total_mib : options->fraction,
             allocation->partial, sizeof allocation->partial);
    allocation->port = server->port;
    return DONE;
}

static enum answer about(const char *verb, const struct allocation *allocation, const struct config *config,
                         struct channel *channel, char *why, size_t why_size) {
    char request[256];
    snprintf(request, sizeof request, "%s %s %s %s", verb, config->client_id, allocation->uuid, allocation->secret);
    const char *answer =
        ask(channel, allocation->address, config, request, now_ms() + config->timeout_ms, why, why_size);
    if (!answer)
        return FAILED;
    if (!strcmp(answer, "ok"))
        return DONE;
    hang_up(channel);
    if (!strcmp(answer, "gone"))
        return GONE;
    unexpected(answer, why, why_size);
    return FAILED;
}

enum answer attach(const struct allocation *allocation, const struct config *config, struct channel *channel, char *why,
                   size_t why_size) {
    *channel = (struct channel){.fd = -1};
    return about("attach", allocation, config, channel, why, why_size);
}

enum answer release(const struct allocation *allocation, const struct config *config, struct channel *channel,
                    char *why, size_t why_size) {
    enum answer answer = FAILED;
    if (channel->fd >= 0)
        answer = about("release", allocation, config, channel, why, why_size);
    /* The connection may be lost while the server is well. */
    if (answer == FAILED) {
        hang_up(channel);
        answer = about("release", allocation, config, channel, why, why_size);
    }
    hang_up(channel);
    return answer;
}
