/* How the library's functions ask the server; all give NVML's return codes, and may be called side by side. */
#ifndef GPU_STANDIN_CALLS_H
#define GPU_STANDIN_CALLS_H

#include <stddef.h>

#include "nvml.h"

/* FUNCTION is the name in ../answers.py. GPU words: a device, or none. */

/* Reads `wanted` numbers; 0: only whether the call succeeds. */
nvmlReturn_t call_numbers(const char *function, nvmlDevice_t device, size_t wanted, unsigned long long *numbers);
nvmlReturn_t call_system_numbers(const char *function, size_t wanted, unsigned long long *numbers);

/* The same with an argument after the device. */
nvmlReturn_t call_with(const char *function, nvmlDevice_t device, unsigned argument, size_t wanted,
                       unsigned long long *numbers);

/* Writes text; NVML_ERROR_INSUFFICIENT_SIZE where it and its end do not fit. device NULL: a function of the system. */
nvmlReturn_t call_text(const char *function, nvmlDevice_t device, char *text, unsigned length);

/* Reads `N` and then N rows of `columns` numbers; *rows is malloc'ed (NULL when N is 0). argument NULL: none. */
nvmlReturn_t call_rows(const char *function, nvmlDevice_t device, const unsigned long long *argument, size_t columns,
                       size_t *count, unsigned long long **rows);

/* Finds a device by index, UUID or bus id. */
nvmlReturn_t call_handle(const char *function, const char *word, nvmlDevice_t *device);

/* Asks a device, with or without (NULL) an argument, for another device. */
nvmlReturn_t call_device(const char *function, nvmlDevice_t device, const unsigned long long *argument,
                         nvmlDevice_t *other);

/* NVML_SUCCESS between nvmlInit and nvmlShutdown. */
nvmlReturn_t check_initialized(void);

#endif
