/* The allocation file: what `run` and `request_gpus` leave in TMPDIR for `client` and `release_gpus`. Its content is
 * this stand-in's own. */
#ifndef ALLOCATION_H
#define ALLOCATION_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "config.h"

struct allocation {
    char kind[16]; /* "run" or "request_gpus" */
    char address[ADDRESS_SIZE], ip[16], version[64], uuid[37], secret[65];
    char gpus[256], partial[32]; /* indices separated by spaces; the fraction as printed */
    int gpu_count, port, dispatcher_port, data_port;
    long mebibytes, total_mib; /* of each GPU: the partition and the whole */
};

/* TMPDIR or /tmp. */
const char *temporary_folder(void);

/* Write the file under a new name, bitfusion and nine digits, as Go's TempFile makes it; false with errno. `path` is
 * filled in both cases. */
bool save_allocation(const struct allocation *allocation, char path[PATH_MAX]);

/* Read a file; false where it is not one of ours. */
bool load_allocation(const char *path, struct allocation *allocation);

/* Call `use` with this user's files, newest first, until it returns true; false where it never did. */
bool newest_allocation(bool (*use)(const char *path, const struct allocation *allocation, void *context),
                       void *context);

#endif
