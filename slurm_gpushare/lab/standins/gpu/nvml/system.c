/* nvmlSystem*, error texts, and finding devices. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"

NVML_API const char *nvmlErrorString(nvmlReturn_t result)
{
    switch (result) {
    case NVML_SUCCESS: return "The operation was successful";
    case NVML_ERROR_UNINITIALIZED: return "NVML was not first initialized with nvmlInit()";
    case NVML_ERROR_INVALID_ARGUMENT: return "A supplied argument is invalid";
    case NVML_ERROR_NOT_SUPPORTED: return "The requested operation is not available on target device";
    case NVML_ERROR_NO_PERMISSION: return "The current user does not have permission for operation";
    case NVML_ERROR_NOT_FOUND: return "A query to find an object was unsuccessful";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "An input argument is not large enough";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "NVIDIA driver is not loaded";
    case NVML_ERROR_GPU_IS_LOST: return "The GPU has fallen off the bus or has otherwise become inaccessible";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "RM detects a driver/library version mismatch";
    case NVML_ERROR_MEMORY: return "Insufficient memory";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH: return "The version of the argument is not supported";
    case NVML_ERROR_GPU_NOT_FOUND: return "No GPUs were found";
    case NVML_ERROR_UNKNOWN: break;
    }
    return "Unknown Error";
}

NVML_API nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    return call_text("nvmlSystemGetDriverVersion", NULL, version, length);
}

NVML_API nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned length)
{
    return call_text("nvmlSystemGetNVMLVersion", NULL, version, length);
}

NVML_API nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    unsigned long long number;
    nvmlReturn_t result;

    if (!version)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_system_numbers("nvmlSystemGetCudaDriverVersion", 1, &number);
    if (result == NVML_SUCCESS)
        *version = (int)number;
    return result;
}

NVML_API nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    return nvmlSystemGetCudaDriverVersion(version);
}

NVML_API nvmlReturn_t nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length)
{
    char path[32];
    nvmlReturn_t result = check_initialized();

    if (result != NVML_SUCCESS)
        return result;
    if (!name || !length)
        return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);

    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = file < 0 ? -1 : read(file, name, length - 1);

    if (file >= 0)
        close(file);
    if (got < 0)
        return NVML_ERROR_NOT_FOUND;
    name[got] = '\0';
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
    unsigned long long number;
    nvmlReturn_t result;

    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_system_numbers("nvmlDeviceGetCount", 1, &number);
    if (result == NVML_SUCCESS)
        *count = (unsigned)number;
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetCount(unsigned *count)
{
    return nvmlDeviceGetCount_v2(count);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
    char word[16];

    snprintf(word, sizeof word, "%u", index);
    return call_handle("nvmlDeviceGetHandleByIndex", word, device);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device)
{
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    return call_handle("nvmlDeviceGetHandleByUUID", uuid, device);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvmlDevice_t *device)
{
    return call_handle("nvmlDeviceGetHandleByPciBusId", bus, device);
}
