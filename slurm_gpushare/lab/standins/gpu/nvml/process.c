/* Process lists and per-process utilisation. */
#include <stdlib.h>

#include "calls.h"

#define NOT_A_MIG_INSTANCE 0xFFFFFFFFu
/* What drivers answer to the question for the size, whatever there is. */
#define SAMPLE_CAPACITY 100

static nvmlReturn_t process_list(const char *function, nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *infos)
{
    unsigned long long *rows;
    size_t found;
    nvmlReturn_t result;

    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_rows(function, device, NULL, 2, &found, &rows);
    if (result != NVML_SUCCESS)
        return result;
    if (found > *count)
        result = NVML_ERROR_INSUFFICIENT_SIZE;
    else if (found && !infos)
        result = NVML_ERROR_INVALID_ARGUMENT;
    for (size_t i = 0; i < found && result == NVML_SUCCESS; i++) {
        infos[i] = (nvmlProcessInfo_t){
            .pid = (unsigned)rows[2 * i],
            .usedGpuMemory = rows[2 * i + 1],
            .gpuInstanceId = NOT_A_MIG_INSTANCE,
            .computeInstanceId = NOT_A_MIG_INSTANCE,
        };
    }
    if (result != NVML_ERROR_INVALID_ARGUMENT)
        *count = (unsigned)found;
    free(rows);
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                              nvmlProcessInfo_t *infos)
{
    return process_list("nvmlDeviceGetComputeRunningProcesses", device, count, infos);
}

NVML_API nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                               nvmlProcessInfo_t *infos)
{
    return process_list("nvmlDeviceGetGraphicsRunningProcesses", device, count, infos);
}

NVML_API nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                                 nvmlProcessInfo_t *infos)
{
    return process_list("nvmlDeviceGetMPSComputeRunningProcesses", device, count, infos);
}

/* Reads the samples (pid, time stamp, SM, memory) after last_seen. Without an array the answer is the size of the
 * ring, also when nothing is in it: only the second call says NOT_FOUND. */
static nvmlReturn_t samples(const char *function, nvmlDevice_t device, unsigned long long last_seen, int has_array,
                            unsigned *count, unsigned long long **rows)
{
    size_t found;
    nvmlReturn_t result = call_rows(function, device, &last_seen, 4, &found, rows);

    if (!has_array && (result == NVML_SUCCESS || result == NVML_ERROR_NOT_FOUND)) {
        found = SAMPLE_CAPACITY;
        result = NVML_ERROR_INSUFFICIENT_SIZE;
    } else if (result == NVML_SUCCESS && found > *count) {
        result = NVML_ERROR_INSUFFICIENT_SIZE;
    } else if (result != NVML_SUCCESS) {
        found = 0;
    }
    *count = (unsigned)found;
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *utilization,
                                                      unsigned *count, unsigned long long last_seen)
{
    unsigned long long *rows;
    nvmlReturn_t result;

    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = samples("nvmlDeviceGetProcessUtilization", device, last_seen, utilization != NULL, count, &rows);
    for (unsigned i = 0; i < *count && result == NVML_SUCCESS; i++) {
        utilization[i] = (nvmlProcessUtilizationSample_t){
            .pid = (unsigned)rows[4 * i],
            .timeStamp = rows[4 * i + 1],
            .smUtil = (unsigned)rows[4 * i + 2],
            .memUtil = (unsigned)rows[4 * i + 3],
        };
    }
    free(rows);
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device, nvmlProcessesUtilizationInfo_t *info)
{
    unsigned long long *rows;
    nvmlReturn_t result;

    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (info->version != NVML_STRUCT_VERSION(nvmlProcessesUtilizationInfo_t, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    result = samples("nvmlDeviceGetProcessesUtilizationInfo", device, info->lastSeenTimeStamp,
                     info->procUtilArray != NULL, &info->processSamplesCount, &rows);
    for (unsigned i = 0; i < info->processSamplesCount && result == NVML_SUCCESS; i++) {
        info->procUtilArray[i] = (nvmlProcessUtilizationInfo_v1_t){
            .timeStamp = rows[4 * i + 1],
            .pid = (unsigned)rows[4 * i],
            .smUtil = (unsigned)rows[4 * i + 2],
            .memUtil = (unsigned)rows[4 * i + 3],
        };
    }
    free(rows);
    return result;
}
