/* What must exist, since callers bind it when they load the library, and these cards do not have.
 *
 * The server answers it like any other call, so that failures can be scripted. Arguments beyond the device are not
 * looked at: in the C calling conventions of Linux a function may ignore what follows. */
#include "calls.h"

#define UNSUPPORTED(symbol, function)                         \
    NVML_API nvmlReturn_t symbol(nvmlDevice_t device)         \
    {                                                         \
        return call_numbers(function, device, 0, NULL);       \
    }

UNSUPPORTED(nvmlDeviceGetAccountingStats_v2, "nvmlDeviceGetAccountingStats_v2")
UNSUPPORTED(nvmlDeviceGetApplicationsClock, "nvmlDeviceGetApplicationsClock")
UNSUPPORTED(nvmlDeviceGetClockInfo, "nvmlDeviceGetClockInfo")
UNSUPPORTED(nvmlDeviceGetNvLinkRemotePciInfo_v2, "nvmlDeviceGetNvLinkRemotePciInfo")
UNSUPPORTED(nvmlDeviceGetNvLinkState, "nvmlDeviceGetNvLinkState")
UNSUPPORTED(nvmlDeviceGetRunningProcessDetailList, "nvmlDeviceGetRunningProcessDetailList")
UNSUPPORTED(nvmlDeviceGetSupportedGraphicsClocks, "nvmlDeviceGetSupportedGraphicsClocks")
UNSUPPORTED(nvmlDeviceGetSupportedMemoryClocks, "nvmlDeviceGetSupportedMemoryClocks")
UNSUPPORTED(nvmlDeviceResetApplicationsClocks, "nvmlDeviceResetApplicationsClocks")
UNSUPPORTED(nvmlDeviceResetGpuLockedClocks, "nvmlDeviceResetGpuLockedClocks")
UNSUPPORTED(nvmlDeviceResetMemoryLockedClocks, "nvmlDeviceResetMemoryLockedClocks")
UNSUPPORTED(nvmlDeviceSetApplicationsClocks, "nvmlDeviceSetApplicationsClocks")
UNSUPPORTED(nvmlDeviceSetGpuLockedClocks, "nvmlDeviceSetGpuLockedClocks")
UNSUPPORTED(nvmlDeviceSetMemoryLockedClocks, "nvmlDeviceSetMemoryLockedClocks")
