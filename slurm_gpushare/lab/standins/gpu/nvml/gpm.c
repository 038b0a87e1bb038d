/* GPM: what the SMs did between two samples, of a card or of a part that MIG made. */
#include <stdlib.h>

#include "calls.h"

enum { VERSION = 1, GRAPHICS_UTIL = 1, SM_UTIL = 2 };

struct nvmlGpmSample_st {
    unsigned long long time_us, sm_us;
};

NVML_API nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample)
{
    nvmlReturn_t result = check_initialized();

    if (result != NVML_SUCCESS)
        return result;
    if (!sample)
        return NVML_ERROR_INVALID_ARGUMENT;
    *sample = calloc(1, sizeof **sample);
    return *sample ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

NVML_API nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample)
{
    free(sample);
    return sample ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

static nvmlReturn_t take(const char *function, nvmlDevice_t device, const unsigned long long *argument,
                         nvmlGpmSample_t sample)
{
    unsigned long long *row;
    size_t count;
    nvmlReturn_t result;

    if (!sample)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = call_rows(function, device, argument, 2, &count, &row);
    if (result != NVML_SUCCESS)
        return result;
    if (count == 1)
        *sample = (struct nvmlGpmSample_st){ .time_us = row[0], .sm_us = row[1] };
    free(row);
    return count == 1 ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

NVML_API nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample)
{
    return take("nvmlGpmSampleGet", device, NULL, sample);
}

NVML_API nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned instance, nvmlGpmSample_t sample)
{
    const unsigned long long argument = instance;

    return take("nvmlGpmMigSampleGet", device, &argument, sample);
}

NVML_API nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *asked)
{
    nvmlReturn_t result = check_initialized();

    if (result != NVML_SUCCESS)
        return result;
    if (!asked || !asked->sample1 || !asked->sample2 || asked->sample2->time_us <= asked->sample1->time_us)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (asked->version != VERSION)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    for (unsigned i = 0; i < asked->numMetrics; i++) {
        nvmlGpmMetric_t *metric = &asked->metrics[i];

        if (metric->metricId != GRAPHICS_UTIL && metric->metricId != SM_UTIL) {
            metric->nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
            continue;
        }
        metric->value = 100.0 * (double)(asked->sample2->sm_us - asked->sample1->sm_us)
                        / (double)(asked->sample2->time_us - asked->sample1->time_us);
        metric->nvmlReturn = NVML_SUCCESS;
    }
    return NVML_SUCCESS;
}
