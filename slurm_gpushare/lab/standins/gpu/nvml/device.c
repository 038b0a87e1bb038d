/* What a device is and does: everything but its processes. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

/* Enumerations are as wide as unsigned in this interface. */
#define ONE_UNSIGNED(symbol, function)                                     \
    NVML_API nvmlReturn_t symbol(nvmlDevice_t device, unsigned *value)     \
    {                                                                      \
        return one_unsigned(function, device, value);                      \
    }

ONE_UNSIGNED(nvmlDeviceGetIndex, "nvmlDeviceGetIndex")
ONE_UNSIGNED(nvmlDeviceGetMinorNumber, "nvmlDeviceGetMinorNumber")
ONE_UNSIGNED(nvmlDeviceGetPowerUsage, "nvmlDeviceGetPowerUsage")
ONE_UNSIGNED(nvmlDeviceGetEnforcedPowerLimit, "nvmlDeviceGetEnforcedPowerLimit")
ONE_UNSIGNED(nvmlDeviceGetVirtualizationMode, "nvmlDeviceGetVirtualizationMode")
ONE_UNSIGNED(nvmlDeviceGetComputeMode, "nvmlDeviceGetComputeMode")
ONE_UNSIGNED(nvmlDeviceGetPersistenceMode, "nvmlDeviceGetPersistenceMode")
ONE_UNSIGNED(nvmlDeviceIsMigDeviceHandle, "nvmlDeviceIsMigDeviceHandle")
ONE_UNSIGNED(nvmlDeviceGetMaxMigDeviceCount, "nvmlDeviceGetMaxMigDeviceCount")

NVML_API nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length)
{
    return device ? call_text("nvmlDeviceGetUUID", device, uuid, length) : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length)
{
    return device ? call_text("nvmlDeviceGetName", device, name, length) : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *info)
{
    unsigned long long place[3];
    nvmlReturn_t result;

    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_numbers("nvmlDeviceGetPciInfo", device, 3, place);
    if (result == NVML_SUCCESS) {
        memset(info, 0, sizeof *info);
        info->domain = place[0] & 0xFFFF;
        info->bus = place[1] & 0xFF;
        info->device = place[2] & 0x1F;
        /* The vendor alone: the configuration does not say which chip it is. */
        info->pciDeviceId = 0x000010DE;
        snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "%04X:%02X:%02X.0", info->domain, info->bus, info->device);
        snprintf(info->busId, sizeof info->busId, "%08X:%02X:%02X.0", info->domain, info->bus, info->device);
    }
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    unsigned long long numbers[2];
    nvmlReturn_t result;

    if (!major || !minor)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_numbers("nvmlDeviceGetCudaComputeCapability", device, 2, numbers);
    if (result == NVML_SUCCESS) {
        *major = (int)numbers[0];
        *minor = (int)numbers[1];
    }
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    unsigned long long bytes[3];
    nvmlReturn_t result;

    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_numbers("nvmlDeviceGetMemoryInfo", device, 3, bytes);
    if (result == NVML_SUCCESS)
        *memory = (nvmlMemory_t){ .total = bytes[0], .used = bytes[1], .free = bytes[2] };
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    nvmlMemory_t plain;
    nvmlReturn_t result;

    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != NVML_STRUCT_VERSION(nvmlMemory_v2_t, 2))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    result = nvmlDeviceGetMemoryInfo(device, &plain);
    if (result == NVML_SUCCESS) {
        memory->total = plain.total;
        memory->reserved = 0;
        memory->free = plain.free;
        memory->used = plain.used;
    }
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization)
{
    unsigned long long percent[2];
    nvmlReturn_t result;

    if (!utilization)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_numbers("nvmlDeviceGetUtilizationRates", device, 2, percent);
    if (result == NVML_SUCCESS)
        *utilization = (nvmlUtilization_t){ .gpu = (unsigned)percent[0], .memory = (unsigned)percent[1] };
    return result;
}

NVML_API nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *millijoules)
{
    return millijoules ? call_numbers("nvmlDeviceGetTotalEnergyConsumption", device, 1, millijoules)
                       : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *celsius)
{
    return sensor == 0 ? one_unsigned("nvmlDeviceGetTemperature", device, celsius) : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature)
{
    unsigned celsius;
    nvmlReturn_t result;

    if (!temperature)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (temperature->version != NVML_STRUCT_VERSION(nvmlTemperature_t, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (temperature->sensorType != 0)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = one_unsigned("nvmlDeviceGetTemperatureV", device, &celsius);
    if (result == NVML_SUCCESS)
        temperature->temperature = (int)celsius;
    return result;
}

/* Every processor of this machine is as near as any other. */
NVML_API nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned size, unsigned long *set)
{
    const size_t width = 8 * sizeof *set;
    nvmlReturn_t result;

    if (!set || !size)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_numbers("nvmlDeviceGetCpuAffinity", device, 0, NULL);
    if (result != NVML_SUCCESS)
        return result;
    memset(set, 0, size * sizeof *set);
    for (size_t cpu = 0; cpu < (size_t)sysconf(_SC_NPROCESSORS_CONF) && cpu < size * width; cpu++)
        set[cpu / width] |= 1UL << (cpu % width);
    return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support)
{
    if (!support)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (support->version != 1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return one_unsigned("nvmlGpmQueryDeviceSupport", device, &support->isSupportedDevice);
}
