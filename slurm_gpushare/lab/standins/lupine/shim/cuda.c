/* libcuda.so.1: devices and memory, by the names, numbers and meanings of cuda.h. Every other function is missing, so that a
 * program which needs one fails to find it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../gpu/nvml/endpoint.h"

#define CUDA_API __attribute__((visibility("default")))
#define MAX_DEVICES 64
#define MAX_BLOCKS 1024

typedef int CUresult;
enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_DEVICE_UNAVAILABLE = 46,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_CONTEXT = 201,
};
#define NVML_ERROR_MEMORY 20

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct endpoint server = ENDPOINT_INITIALIZER;
static bool ready;
static int visible[MAX_DEVICES], count; /* the server's number of each device */
static int current = -1;                /* the device of the one context */
static unsigned long long blocks[MAX_BLOCKS]; /* the server's handle of each block of memory, 0 for none */

static CUresult ask(char **values, const char *format, unsigned long long first, unsigned long long second)
{
    char request[128];
    int code;

    snprintf(request, sizeof request, format, first, second);
    if (!endpoint_ask(&server, request, &code, values))
        return CUDA_ERROR_DEVICE_UNAVAILABLE;
    if (code == NVML_ERROR_MEMORY)
        return CUDA_ERROR_OUT_OF_MEMORY;
    return code == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* The server's number of what CUDA_VISIBLE_DEVICES names: a number or (the beginning of) a UUID; -1 for none. */
static int find(const char *name, int all)
{
    char *end, *values;
    long number = strtol(name, &end, 10);

    if (end != name && !*end)
        return number >= 0 && number < all ? (int)number : -1;
    if (strncmp(name, "GPU-", 4) != 0)
        return -1;
    for (int gpu = 0; gpu < all; gpu++) {
        if (ask(&values, "call nvmlDeviceGetUUID %llu", (unsigned long long)gpu, 0) == CUDA_SUCCESS &&
            strncmp(values, name, strlen(name)) == 0)
            return gpu;
    }
    return -1;
}

/* As the driver reads it: what stands behind a name that fits nothing is not seen. */
static void see(int all)
{
    const char *chosen = getenv("CUDA_VISIBLE_DEVICES");
    char *copy, *next, *name;

    if (!chosen) {
        for (count = 0; count < all; count++)
            visible[count] = count;
        return;
    }
    next = copy = strdup(chosen);
    while (copy && (name = strsep(&next, ",")) && count < all) {
        int gpu = find(name, all);

        if (gpu < 0)
            break;
        visible[count++] = gpu;
    }
    free(copy);
}

CUDA_API CUresult cuInit(unsigned flags)
{
    CUresult result = CUDA_SUCCESS;
    char *values;
    const char *why;

    if (flags)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&lock);
    if (!ready) {
        why = endpoint_open(&server);
        if (why) {
            fprintf(stderr, "lupine stand-in: no connection: %s\n", why);
            result = CUDA_ERROR_NO_DEVICE;
        } else if ((result = ask(&values, "call nvmlDeviceGetCount", 0, 0)) == CUDA_SUCCESS) {
            int all = atoi(values);

            see(all < MAX_DEVICES ? all : MAX_DEVICES);
            ready = true;
        }
    }
    if (ready && !count)
        result = CUDA_ERROR_NO_DEVICE;
    pthread_mutex_unlock(&lock);
    return result;
}

CUDA_API CUresult cuDeviceGetCount(int *number)
{
    if (!ready)
        return CUDA_ERROR_NOT_INITIALIZED;
    *number = count;
    return CUDA_SUCCESS;
}

CUDA_API CUresult cuDeviceGet(int *device, int ordinal)
{
    if (!ready)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (ordinal < 0 || ordinal >= count)
        return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

static CUresult ask_device(int device, const char *format, char **values)
{
    if (!ready)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (device < 0 || device >= count)
        return CUDA_ERROR_INVALID_DEVICE;
    return ask(values, format, (unsigned long long)visible[device], 0);
}

CUDA_API CUresult cuDeviceGetName(char *name, int length, int device)
{
    char *values;

    pthread_mutex_lock(&lock);
    CUresult result = ask_device(device, "call nvmlDeviceGetName %llu", &values);

    if (result == CUDA_SUCCESS && length > 0)
        snprintf(name, (size_t)length, "%s", values);
    pthread_mutex_unlock(&lock);
    return result;
}

/* 16 bytes of the UUID, whose text is GPU- and 32 hexadecimal digits in groups. */
CUDA_API CUresult cuDeviceGetUuid_v2(unsigned char *uuid, int device)
{
    char *values;

    pthread_mutex_lock(&lock);
    CUresult result = ask_device(device, "call nvmlDeviceGetUUID %llu", &values);

    for (int i = 0, at = 4; result == CUDA_SUCCESS && i < 16; i++, at += 2) {
        unsigned byte;

        at += values[at] == '-';
        if (sscanf(values + at, "%2x", &byte) != 1)
            result = CUDA_ERROR_INVALID_VALUE;
        uuid[i] = (unsigned char)byte;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

CUDA_API CUresult cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    char *values;

    pthread_mutex_lock(&lock);
    CUresult result = ask_device(device, "call nvmlDeviceGetMemoryInfo %llu", &values);

    if (result == CUDA_SUCCESS)
        *bytes = strtoull(values, NULL, 10);
    pthread_mutex_unlock(&lock);
    return result;
}

CUDA_API CUresult cuCtxCreate_v2(void **context, unsigned flags, int device)
{
    if (!ready)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (flags || device < 0 || device >= count)
        return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_DEVICE;
    current = device;
    *context = &visible[device];
    return CUDA_SUCCESS;
}

/* Addresses are 1 and up, in steps that no program could take for host memory. */
CUDA_API CUresult cuMemAlloc_v2(unsigned long long *address, size_t bytes)
{
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    char *values;

    if (current < 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_BLOCKS; i++) {
        if (blocks[i])
            continue;
        result = ask(&values, "attach %llu 0 %llu", (unsigned long long)visible[current], bytes);
        if (result == CUDA_SUCCESS) {
            blocks[i] = strtoull(values, NULL, 10);
            *address = (unsigned long long)i + 1;
        }
        break;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

CUDA_API CUresult cuMemFree_v2(unsigned long long address)
{
    char *values;

    if (address < 1 || address > MAX_BLOCKS || !blocks[address - 1])
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&lock);
    CUresult result = ask(&values, "detach %llu", blocks[address - 1], 0);

    blocks[address - 1] = 0;
    pthread_mutex_unlock(&lock);
    return result;
}
