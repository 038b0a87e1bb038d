/* The library's one connection, its lock and its life from nvmlInit to nvmlShutdown. */
#include "calls.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "endpoint.h"

#define MAX_DEVICES 256
#define MAX_REQUEST 256

struct nvmlDevice_st {
    char unused;
};

/* A handle is the address of its index's element. */
static struct nvmlDevice_st devices[MAX_DEVICES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct endpoint endpoint = ENDPOINT_INITIALIZER;
static pid_t connected_by;
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

/* With the lock held. A second try with a new connection: the server may have been restarted since the last call. */
static nvmlReturn_t ask(const char *request, char **values)
{
    int code;

    /* Parent and child would mix their lines on one connection. */
    if (endpoint.fd >= 0 && connected_by != getpid())
        endpoint_close(&endpoint);
    for (int attempt = 0; attempt < 2; attempt++) {
        if (endpoint.fd < 0) {
            if (endpoint_open(&endpoint) != NULL)
                return NVML_ERROR_DRIVER_NOT_LOADED;
            connected_by = getpid();
        }
        if (endpoint_ask(&endpoint, request, &code, values))
            return (nvmlReturn_t)code;
    }
    return NVML_ERROR_DRIVER_NOT_LOADED;
}

/* Takes the lock and asks; the caller gives the lock back when it has read the values. */
static nvmlReturn_t begin(const char *request, char **values)
{
    take_lock();
    return references ? ask(request, values) : NVML_ERROR_UNINITIALIZED;
}

static nvmlReturn_t end(nvmlReturn_t result)
{
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
    nvmlReturn_t result = begin(request, &values);

    if (result == NVML_SUCCESS)
        result = read_numbers(values, wanted, numbers);
    return end(result);
}

nvmlReturn_t call_numbers(const char *function, nvmlDevice_t device, size_t wanted, unsigned long long *numbers)
{
    char request[MAX_REQUEST];

    if (!device_request(request, function, device))
        return NVML_ERROR_INVALID_ARGUMENT;
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

    nvmlReturn_t result = begin(request, &values);

    if (result == NVML_SUCCESS) {
        if (strlen(values) < length)
            strcpy(text, values);
        else
            result = NVML_ERROR_INSUFFICIENT_SIZE;
    }
    return end(result);
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

    nvmlReturn_t result = begin(request, &values);

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
    return end(result);
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
    return end(references ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED);
}

NVML_API nvmlReturn_t nvmlInit_v2(void)
{
    char *values;

    take_lock();

    nvmlReturn_t result = ask("call nvmlInit", &values);

    if (result == NVML_SUCCESS)
        references++;
    else if (!references)
        endpoint_close(&endpoint);
    return end(result);
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
    take_lock();
    if (!references)
        return end(NVML_ERROR_UNINITIALIZED);
    if (--references == 0)
        endpoint_close(&endpoint);
    return end(NVML_SUCCESS);
}
