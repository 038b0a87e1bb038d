/* The library's connections, its lock and its life from nvmlInit to nvmlShutdown.
 *
 * A call that waits for its answer holds up no other: each has a connection to itself while it lasts. */
#include "calls.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "endpoint.h"

#define MAX_DEVICES 256
#define MAX_REQUEST 256
#define MAX_CALLS 32 /* at a time */

struct nvmlDevice_st {
    char unused;
};

/* A handle is the address of its index's element. */
static struct nvmlDevice_st devices[MAX_DEVICES];

struct line {
    struct endpoint endpoint;
    pid_t connected_by;
    int known, busy;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct line lines[MAX_CALLS];
static unsigned references;

static void take_lock(void)
{
    pthread_mutex_lock(&lock);
}

static void give_lock(void)
{
    pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void survive_fork(void)
{
    pthread_atfork(take_lock, give_lock, give_lock);
}

/* A second try with a new connection: the server may have been restarted since the last call. */
static nvmlReturn_t ask(struct line *line, const char *request, char **values)
{
    int code;

    /* Parent and child would mix their words on one connection. */
    if (line->endpoint.fd >= 0 && line->connected_by != getpid())
        endpoint_close(&line->endpoint);
    for (int attempt = 0; attempt < 2; attempt++) {
        if (line->endpoint.fd < 0) {
            if (endpoint_open(&line->endpoint) != NULL)
                return NVML_ERROR_DRIVER_NOT_LOADED;
            line->connected_by = getpid();
        }
        if (endpoint_ask(&line->endpoint, request, &code, values))
            return (nvmlReturn_t)code;
    }
    return NVML_ERROR_DRIVER_NOT_LOADED;
}

/* The first that is free, so that a program of one thread has one connection. */
static struct line *take_line(void)
{
    struct line *line = NULL;

    take_lock();
    for (size_t i = 0; i < MAX_CALLS && !line; i++) {
        if (!lines[i].busy)
            line = &lines[i];
    }
    if (line) {
        line->busy = 1;
        if (!line->known)
            line->endpoint = (struct endpoint)ENDPOINT_INITIALIZER;
        line->known = 1;
    }
    give_lock();
    return line;
}

/* Takes a connection and asks; the caller gives the connection back when it has read the values. */
static nvmlReturn_t begin(struct line **line, const char *request, char **values)
{
    *line = NULL;
    if (check_initialized() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    *line = take_line();
    return *line ? ask(*line, request, values) : NVML_ERROR_UNKNOWN;
}

static nvmlReturn_t end(struct line *line, nvmlReturn_t result)
{
    take_lock();
    if (line)
        line->busy = 0;
    give_lock();
    return result;
}

/* Writes "call FUNCTION INDEX"; false for a handle that is none of ours. */
static int device_request(char *request, const char *function, nvmlDevice_t device)
{
    for (size_t index = 0; index < MAX_DEVICES; index++) {
        if (device == &devices[index])
            return snprintf(request, MAX_REQUEST, "call %s %zu", function, index);
    }
    return 0;
}

static nvmlReturn_t read_numbers(char *values, size_t wanted, unsigned long long *numbers)
{
    for (size_t i = 0; i < wanted; i++) {
        if (!read_number(&values, &numbers[i]))
            return NVML_ERROR_UNKNOWN;
    }
    return NVML_SUCCESS;
}

static nvmlReturn_t request_numbers(const char *request, size_t wanted, unsigned long long *numbers)
{
    char *values;
    struct line *line;
    nvmlReturn_t result = begin(&line, request, &values);

    if (result == NVML_SUCCESS)
        result = read_numbers(values, wanted, numbers);
    return end(line, result);
}

nvmlReturn_t call_numbers(const char *function, nvmlDevice_t device, size_t wanted, unsigned long long *numbers)
{
    char request[MAX_REQUEST];

    if (!device_request(request, function, device))
        return NVML_ERROR_INVALID_ARGUMENT;
    return request_numbers(request, wanted, numbers);
}

nvmlReturn_t call_with(const char *function, nvmlDevice_t device, unsigned argument, size_t wanted,
                       unsigned long long *numbers)
{
    char request[MAX_REQUEST];
    int written = device_request(request, function, device);

    if (!written)
        return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(request + written, sizeof request - (size_t)written, " %u", argument);
    return request_numbers(request, wanted, numbers);
}

nvmlReturn_t call_system_numbers(const char *function, size_t wanted, unsigned long long *numbers)
{
    char request[MAX_REQUEST];

    snprintf(request, sizeof request, "call %s", function);
    return request_numbers(request, wanted, numbers);
}

nvmlReturn_t call_text(const char *function, nvmlDevice_t device, char *text, unsigned length)
{
    char request[MAX_REQUEST], *values;

    if (!device)
        snprintf(request, sizeof request, "call %s", function);
    else if (!device_request(request, function, device))
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!text)
        return NVML_ERROR_INVALID_ARGUMENT;

    struct line *line;
    nvmlReturn_t result = begin(&line, request, &values);

    if (result == NVML_SUCCESS) {
        if (strlen(values) < length)
            strcpy(text, values);
        else
            result = NVML_ERROR_INSUFFICIENT_SIZE;
    }
    return end(line, result);
}

nvmlReturn_t call_rows(const char *function, nvmlDevice_t device, const unsigned long long *argument, size_t columns,
                       size_t *count, unsigned long long **rows)
{
    char request[MAX_REQUEST], *values;
    int written = device_request(request, function, device);
    unsigned long long number = 0;

    *count = 0;
    *rows = NULL;
    if (!written)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (argument)
        snprintf(request + written, sizeof request - (size_t)written, " %llu", *argument);

    struct line *line;
    nvmlReturn_t result = begin(&line, request, &values);

    /* A row is never shorter than two characters: a count beyond that is not to be believed. */
    if (result == NVML_SUCCESS && (!read_number(&values, &number) || number > strlen(values)))
        result = NVML_ERROR_UNKNOWN;
    if (result == NVML_SUCCESS && number > 0) {
        *rows = calloc(number * columns, sizeof **rows);
        result = *rows ? read_numbers(values, number * columns, *rows) : NVML_ERROR_MEMORY;
        *count = number;
    }
    if (result != NVML_SUCCESS) {
        free(*rows);
        *rows = NULL;
        *count = 0;
    }
    return end(line, result);
}

static nvmlReturn_t request_device(const char *request, nvmlDevice_t *device)
{
    unsigned long long index;
    nvmlReturn_t result = request_numbers(request, 1, &index);

    if (result == NVML_SUCCESS && index >= MAX_DEVICES)
        result = NVML_ERROR_UNKNOWN;
    if (result == NVML_SUCCESS)
        *device = &devices[index];
    return result;
}

nvmlReturn_t call_handle(const char *function, const char *word, nvmlDevice_t *device)
{
    char request[MAX_REQUEST];

    if (!word || !device || !*word || strpbrk(word, " \n") || strlen(word) > 128)
        return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(request, sizeof request, "call %s %s", function, word);
    return request_device(request, device);
}

nvmlReturn_t call_device(const char *function, nvmlDevice_t device, const unsigned long long *argument,
                         nvmlDevice_t *other)
{
    char request[MAX_REQUEST];
    int written = device_request(request, function, device);

    if (!written || !other)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (argument)
        snprintf(request + written, sizeof request - (size_t)written, " %llu", *argument);
    return request_device(request, other);
}

nvmlReturn_t check_initialized(void)
{
    take_lock();

    nvmlReturn_t result = references ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;

    give_lock();
    return result;
}

/* With the lock held. One that is in use closes with the next shutdown. */
static void close_free_lines(void)
{
    for (size_t i = 0; i < MAX_CALLS; i++) {
        if (lines[i].known && !lines[i].busy)
            endpoint_close(&lines[i].endpoint);
    }
}

NVML_API nvmlReturn_t nvmlInit_v2(void)
{
    char *values;
    struct line *line = take_line();

    if (!line)
        return NVML_ERROR_UNKNOWN;

    nvmlReturn_t result = end(line, ask(line, "call nvmlInit", &values));

    take_lock();
    if (result == NVML_SUCCESS)
        references++;
    else if (!references)
        close_free_lines();
    give_lock();
    return result;
}

NVML_API nvmlReturn_t nvmlInit(void)
{
    return nvmlInit_v2();
}

NVML_API nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    return nvmlInit_v2();
}

NVML_API nvmlReturn_t nvmlShutdown(void)
{
    nvmlReturn_t result = check_initialized();

    take_lock();
    if (result == NVML_SUCCESS && --references == 0)
        close_free_lines();
    give_lock();
    return result;
}
