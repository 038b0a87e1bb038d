/* What the driver remembers of processes, also of those that have ended. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

static nvmlReturn_t one_unsigned(const char *function, nvmlDevice_t device, unsigned *value)
{
    unsigned long long number;
    nvmlReturn_t result;

    if (!value)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_numbers(function, device, 1, &number);
    if (result == NVML_SUCCESS)
        *value = (unsigned)number;
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetAccountingMode(nvmlDevice_t device, unsigned *mode)
{
    return one_unsigned("nvmlDeviceGetAccountingMode", device, mode);
}

NVML_API nvmlReturn_t nvmlDeviceGetAccountingBufferSize(nvmlDevice_t device, unsigned *size)
{
    return one_unsigned("nvmlDeviceGetAccountingBufferSize", device, size);
}

NVML_API nvmlReturn_t nvmlDeviceSetAccountingMode(nvmlDevice_t device, unsigned mode)
{
    return call_with("nvmlDeviceSetAccountingMode", device, mode, 0, NULL);
}

NVML_API nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned *count, unsigned *pids)
{
    unsigned long long *rows;
    size_t found;
    nvmlReturn_t result;

    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_rows("nvmlDeviceGetAccountingPids", device, NULL, 1, &found, &rows);
    if (result != NVML_SUCCESS)
        return result;
    if (found > *count)
        result = NVML_ERROR_INSUFFICIENT_SIZE;
    else if (found && !pids)
        result = NVML_ERROR_INVALID_ARGUMENT;
    for (size_t i = 0; i < found && result == NVML_SUCCESS; i++)
        pids[i] = (unsigned)rows[i];
    if (result != NVML_ERROR_INVALID_ARGUMENT)
        *count = (unsigned)found;
    free(rows);
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned pid, nvmlAccountingStats_t *stats)
{
    unsigned long long numbers[6];
    nvmlReturn_t result;

    if (!stats)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_with("nvmlDeviceGetAccountingStats", device, pid, 6, numbers);
    if (result == NVML_SUCCESS) {
        memset(stats, 0, sizeof *stats);
        stats->gpuUtilization = (unsigned)numbers[0];
        stats->memoryUtilization = (unsigned)numbers[1];
        stats->maxMemoryUsage = numbers[2];
        stats->time = numbers[3];
        stats->startTime = numbers[4];
        stats->isRunning = (unsigned)numbers[5];
    }
    return result;
}
