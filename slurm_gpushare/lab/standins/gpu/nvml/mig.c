/* The parts that MIG made of a card: devices of their own. */
#include <string.h>

#include "calls.h"

NVML_API nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    unsigned long long modes[2];
    nvmlReturn_t result;

    if (!current || !pending)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_numbers("nvmlDeviceGetMigMode", device, 2, modes);
    if (result == NVML_SUCCESS) {
        *current = (unsigned)modes[0];
        *pending = (unsigned)modes[1];
    }
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *part)
{
    const unsigned long long argument = index;

    return call_device("nvmlDeviceGetMigDeviceHandleByIndex", device, &argument, part);
}

NVML_API nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t part, nvmlDevice_t *device)
{
    return call_device("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", part, NULL, device);
}

static nvmlReturn_t instance_id(const char *function, nvmlDevice_t part, unsigned *id)
{
    unsigned long long number;
    nvmlReturn_t result;

    if (!id)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_numbers(function, part, 1, &number);
    if (result == NVML_SUCCESS)
        *id = (unsigned)number;
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t part, unsigned *id)
{
    return instance_id("nvmlDeviceGetGpuInstanceId", part, id);
}

NVML_API nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t part, unsigned *id)
{
    return instance_id("nvmlDeviceGetComputeInstanceId", part, id);
}

/* Engines and the number of SMs are not known: 0, as of a part that has none. */
NVML_API nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t part, nvmlDeviceAttributes_t *attributes)
{
    unsigned long long numbers[2];
    nvmlReturn_t result;

    if (!attributes)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_numbers("nvmlDeviceGetAttributes", part, 2, numbers);
    if (result == NVML_SUCCESS) {
        memset(attributes, 0, sizeof *attributes);
        attributes->gpuInstanceSliceCount = attributes->computeInstanceSliceCount = (unsigned)numbers[0];
        attributes->memorySizeMB = numbers[1];
    }
    return result;
}
