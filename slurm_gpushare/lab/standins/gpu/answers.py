"""What NVML says about the state: one entry per function of nvml.h that the stand-in library serves.

Functions are named without their ``_vN``. Sources: nvml.h 13.3 and the behaviour of real drivers as seen by their
users: an idle GPU has no process samples (NOT_FOUND), and before Volta (compute capability 7.0) there is neither an
energy counter nor an MPS process list. MIG, GPM, NVLink, clocks and accounting mode do not exist on these cards:
NOT_SUPPORTED.
"""

import difflib
import re
from collections.abc import Callable, Sequence

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.gpu.engine import Gpus, NoSuchGpu

# nvmlReturn_t
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
GPU_IS_LOST = 15
LIB_RM_VERSION_MISMATCH = 18
MEMORY = 20
GPU_NOT_FOUND = 28

FAILURE_CODES = {
    "not_supported": NOT_SUPPORTED,
    "not_found": NOT_FOUND,
    "gpu_is_lost": GPU_IS_LOST,
    "no_permission": NO_PERMISSION,
    "driver_mismatch": LIB_RM_VERSION_MISMATCH,
}

# The last driver branch that knows Pascal, and what it says of itself.
DRIVER_VERSION = "580.95.05"
NVML_VERSION = "13.580.95.05"
CUDA_VERSION = 13000


class NvmlError(LabError):
    """An answer that is an error of NVML's; ``code`` is its nvmlReturn_t."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _before_volta(gpus: Gpus, gpu: int) -> bool:
    return float(gpus.spec(gpu).capability) < 7.0


def _pci_info(gpus: Gpus, gpu: int) -> str:
    domain, bus, device = gpus.spec(gpu).pci_bus_id.removesuffix(".0").split(":")
    return f"{int(domain, 16)} {int(bus, 16)} {int(device, 16)}"


def _memory(gpus: Gpus, gpu: int) -> str:
    return "{} {} {}".format(*gpus.memory(gpu))


def _utilisation(gpus: Gpus, gpu: int) -> str:
    return "{} {}".format(*gpus.utilisation(gpu))


def _processes(gpus: Gpus, gpu: int) -> str:
    processes = gpus.processes(gpu)
    return " ".join([str(len(processes))] + [f"{pid} {memory}" for pid, memory in processes])


def _mps_processes(gpus: Gpus, gpu: int) -> str:
    if _before_volta(gpus, gpu):
        raise NvmlError(NOT_SUPPORTED, "no MPS process list before Volta")
    return "0"


def _samples(gpus: Gpus, gpu: int, last_seen: str) -> str:
    if not re.fullmatch(r"[0-9]{1,20}", last_seen):
        raise NvmlError(INVALID_ARGUMENT, f"the time stamp {last_seen!r} is not a number")
    samples = gpus.samples(gpu, int(last_seen))
    if not samples:
        raise NvmlError(NOT_FOUND, "no process was active since then")
    return " ".join([str(len(samples))] + [f"{s.pid} {s.timestamp_us} {s.sm} {s.memory}" for s in samples])


def _energy(gpus: Gpus, gpu: int) -> str:
    if _before_volta(gpus, gpu):
        raise NvmlError(NOT_SUPPORTED, "no energy counter before Volta")
    return str(gpus.energy_mj(gpu))


def _not_supported(gpus: Gpus, gpu: int) -> str:
    raise NvmlError(NOT_SUPPORTED, "not on these cards")


SYSTEM: dict[str, Callable[[Gpus], str]] = {
    "nvmlInit": lambda gpus: "",
    "nvmlSystemGetDriverVersion": lambda gpus: DRIVER_VERSION,
    "nvmlSystemGetNVMLVersion": lambda gpus: NVML_VERSION,
    "nvmlSystemGetCudaDriverVersion": lambda gpus: str(CUDA_VERSION),
    "nvmlDeviceGetCount": lambda gpus: str(len(gpus)),
}

HANDLES = ("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetHandleByPciBusId")

DEVICE: dict[str, Callable[..., str]] = {
    **dict.fromkeys(HANDLES, lambda gpus, gpu: str(gpu)),
    "nvmlDeviceGetIndex": lambda gpus, gpu: str(gpu),
    "nvmlDeviceGetMinorNumber": lambda gpus, gpu: str(gpus.spec(gpu).minor),
    "nvmlDeviceGetUUID": lambda gpus, gpu: gpus.spec(gpu).uuid,
    "nvmlDeviceGetName": lambda gpus, gpu: gpus.spec(gpu).name,
    "nvmlDeviceGetPciInfo": _pci_info,
    "nvmlDeviceGetCudaComputeCapability": lambda gpus, gpu: gpus.spec(gpu).capability.replace(".", " "),
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetUtilizationRates": _utilisation,
    "nvmlDeviceGetComputeRunningProcesses": _processes,
    "nvmlDeviceGetGraphicsRunningProcesses": lambda gpus, gpu: "0",
    "nvmlDeviceGetMPSComputeRunningProcesses": _mps_processes,
    "nvmlDeviceGetProcessUtilization": _samples,
    "nvmlDeviceGetProcessesUtilizationInfo": _samples,
    "nvmlDeviceGetPowerUsage": lambda gpus, gpu: str(gpus.power_mw(gpu)),
    "nvmlDeviceGetEnforcedPowerLimit": lambda gpus, gpu: str(gpus.spec(gpu).max_watts * 1000),
    "nvmlDeviceGetTotalEnergyConsumption": _energy,
    "nvmlDeviceGetTemperature": lambda gpus, gpu: str(gpus.celsius(gpu)),
    "nvmlDeviceGetTemperatureV": lambda gpus, gpu: str(gpus.celsius(gpu)),
    "nvmlDeviceGetVirtualizationMode": lambda gpus, gpu: "0",
    "nvmlDeviceGetComputeMode": lambda gpus, gpu: "0",
    "nvmlDeviceGetPersistenceMode": lambda gpus, gpu: "1",
    "nvmlDeviceGetCpuAffinity": lambda gpus, gpu: "",
    "nvmlDeviceIsMigDeviceHandle": lambda gpus, gpu: "0",
    "nvmlDeviceGetMaxMigDeviceCount": lambda gpus, gpu: "0",
    "nvmlGpmQueryDeviceSupport": lambda gpus, gpu: "0",
    **dict.fromkeys(
        (
            "nvmlDeviceGetAccountingBufferSize",
            "nvmlDeviceGetAccountingMode",
            "nvmlDeviceGetAccountingPids",
            "nvmlDeviceGetAccountingStats",
            "nvmlDeviceGetApplicationsClock",
            "nvmlDeviceGetAttributes",
            "nvmlDeviceGetClockInfo",
            "nvmlDeviceGetComputeInstanceId",
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle",
            "nvmlDeviceGetGpuInstanceId",
            "nvmlDeviceGetMigDeviceHandleByIndex",
            "nvmlDeviceGetMigMode",
            "nvmlDeviceGetNvLinkRemotePciInfo",
            "nvmlDeviceGetNvLinkState",
            "nvmlDeviceGetRunningProcessDetailList",
            "nvmlDeviceGetSupportedGraphicsClocks",
            "nvmlDeviceGetSupportedMemoryClocks",
            "nvmlDeviceResetApplicationsClocks",
            "nvmlDeviceResetGpuLockedClocks",
            "nvmlDeviceResetMemoryLockedClocks",
            "nvmlDeviceSetAccountingMode",
            "nvmlDeviceSetApplicationsClocks",
            "nvmlDeviceSetGpuLockedClocks",
            "nvmlDeviceSetMemoryLockedClocks",
            "nvmlGpmMigSampleGet",
            "nvmlGpmSampleGet",
        ),
        _not_supported,
    ),
}


def check_function(function: str) -> None:
    """Raise NvmlError for a function that is not served, with the nearest that is."""
    if function not in SYSTEM and function not in DEVICE:
        near = difflib.get_close_matches(function, [*SYSTEM, *DEVICE], 1, 0)[0]
        raise NvmlError(INVALID_ARGUMENT, f"{function!r} is no function that is served: the nearest is {near}")


def resolve(gpus: Gpus, function: str, words: Sequence[str]) -> tuple[int | None, Sequence[str]]:
    """Return (GPU or None, further arguments) of a call; raise NvmlError where function or GPU is not known."""
    check_function(function)
    if function in SYSTEM:
        return None, words
    if not words:
        raise NvmlError(INVALID_ARGUMENT, f"{function} needs a GPU")
    try:
        return gpus.find(words[0]), words[1:]
    except NoSuchGpu as error:
        if function not in HANDLES:
            # The client's handle is older than this state: its card is not here any more.
            raise NvmlError(GPU_IS_LOST, str(error)) from None
        raise NvmlError(INVALID_ARGUMENT if function == HANDLES[0] else NOT_FOUND, str(error)) from None


def answer(gpus: Gpus, function: str, gpu: int | None, arguments: Sequence[str]) -> str:
    """Return the values of a resolved call as one line; raise NvmlError for what the function answers as an error."""
    expected = 1 if DEVICE.get(function) is _samples else 0
    if len(arguments) != expected:
        raise NvmlError(INVALID_ARGUMENT, f"{function} takes {expected} further words, not {len(arguments)}")
    return SYSTEM[function](gpus) if gpu is None else DEVICE[function](gpus, gpu, *arguments)
