"""What NVML says about the state: one entry per function of nvml.h that the stand-in library serves.

Functions are named without their ``_vN``. Sources: nvml.h 13.3 and the behaviour of real drivers as seen by their
users: an idle GPU has no process samples (NOT_FOUND), and before Volta (compute capability 7.0) there is neither an
energy counter nor an MPS process list. GPM exists from Hopper (9.0) on, with the SMs' use alone. NVLink and clocks do
not exist on these cards: NOT_SUPPORTED. Accounting mode is off at first and not for MIG; its sums of 13.3 do not exist.
MIG exists from Ampere on: in MIG mode neither the card nor a part of it has utilisation (nvml.h), and a part has no
power, energy, temperature or minor number of its own.
"""

import difflib
import re
from collections.abc import Callable, Sequence

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.gpu.accounting import BUFFER_SIZE
from slurm_gpushare.lab.standins.gpu.engine import MEMORY_PER_SM_UTILISATION, MIG_SLICES, Gpus, NoSuchGpu, NoSuchLoad
from slurm_gpushare.lab.standins.gpu.spec import COMPUTE_MODES

# nvmlReturn_t
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
GPU_IS_LOST = 15
LIB_RM_VERSION_MISMATCH = 18
IN_USE = 19
MEMORY = 20
INSUFFICIENT_RESOURCES = 23
GPU_NOT_FOUND = 28

FAILURE_CODES = {
    "not_supported": NOT_SUPPORTED,
    "not_found": NOT_FOUND,
    "gpu_is_lost": GPU_IS_LOST,
    "no_permission": NO_PERMISSION,
    "driver_mismatch": LIB_RM_VERSION_MISMATCH,
}

# The newest CUDA that a driver branch runs: CUDA's release notes.
CUDA_OF_BRANCH = {
    615: 13040,
    610: 13030,
    595: 13020,
    590: 13010,
    580: 13000,
    570: 12080,
    550: 12040,
    535: 12020,
    0: 11040,
}


class NvmlError(LabError):
    """An answer that is an error of NVML's; ``code`` is its nvmlReturn_t."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _cuda_version(gpus: Gpus) -> int:
    branch = int(gpus.driver_version.split(".")[0])
    return next(cuda for known, cuda in CUDA_OF_BRANCH.items() if branch >= known)


def _before_volta(gpus: Gpus, gpu: int) -> bool:
    return gpus.spec(gpu).before_volta


def _pci_info(gpus: Gpus, gpu: int) -> str:
    domain, bus, device = gpus.spec(gpu).pci_bus_id.removesuffix(".0").split(":")
    return f"{int(domain, 16)} {int(bus, 16)} {int(device, 16)}"


def _memory(gpus: Gpus, gpu: int) -> str:
    return "{} {} {}".format(*gpus.memory(gpu))


def _utilisation(gpus: Gpus, gpu: int) -> str:
    _check_not_mig(gpus, gpu)
    return "{} {}".format(*gpus.utilisation(gpu))


def _processes(gpus: Gpus, gpu: int, mps_clients_only: bool = False) -> str:
    processes = gpus.processes(gpu, mps_clients_only)
    return " ".join([str(len(processes))] + [f"{pid} {memory}" for pid, memory in processes])


def _mps_processes(gpus: Gpus, gpu: int) -> str:
    if _before_volta(gpus, gpu):
        raise NvmlError(NOT_SUPPORTED, "no MPS process list before Volta")
    return _processes(gpus, gpu, mps_clients_only=True)


def _samples(gpus: Gpus, gpu: int, last_seen: str) -> str:
    if not re.fullmatch(r"[0-9]{1,20}", last_seen):
        raise NvmlError(INVALID_ARGUMENT, f"the time stamp {last_seen!r} is not a number")
    _check_not_mig(gpus, gpu)
    samples = gpus.samples(gpu, int(last_seen))
    if not samples:
        raise NvmlError(NOT_FOUND, "no process was active since then")
    return " ".join([str(len(samples))] + [f"{s.pid} {s.timestamp_us} {s.sm} {s.memory}" for s in samples])


def _energy(gpus: Gpus, gpu: int) -> str:
    if _before_volta(gpus, gpu):
        raise NvmlError(NOT_SUPPORTED, "no energy counter before Volta")
    return str(gpus.energy_mj(gpu))


def _check_not_mig(gpus: Gpus, gpu: int) -> None:
    if gpus.spec(gpu).mig:
        raise NvmlError(NOT_SUPPORTED, "not in MIG mode")


def _of_card(answer: Callable[[Gpus, int], str]) -> Callable[[Gpus, int], str]:
    def checked(gpus: Gpus, gpu: int) -> str:
        if gpus.instance(gpu):
            raise NvmlError(NOT_SUPPORTED, "not of a MIG device")
        return answer(gpus, gpu)

    return checked


def _of_part(answer: Callable[[Gpus, int], str]) -> Callable[[Gpus, int], str]:
    def checked(gpus: Gpus, gpu: int) -> str:
        if not gpus.instance(gpu):
            raise NvmlError(NOT_SUPPORTED if not gpus.spec(gpu).mig else INVALID_ARGUMENT, "only of a MIG device")
        return answer(gpus, gpu)

    return checked


def _name(gpus: Gpus, gpu: int) -> str:
    part = gpus.instance(gpu)
    return gpus.spec(gpu).name + (f" MIG {part.profile}" if part else "")


def _mig_mode(gpus: Gpus, gpu: int) -> str:
    if not gpus.spec(gpu).has_mig:
        raise NvmlError(NOT_SUPPORTED, "no MIG on these cards")
    return "1 1" if gpus.spec(gpu).mig else "0 0"


def _mig_device(gpus: Gpus, gpu: int, index: str) -> str:
    parts = gpus.parts(gpu)
    if not re.fullmatch(r"[0-9]{1,4}", index):
        raise NvmlError(INVALID_ARGUMENT, f"the index {index!r} is not a number")
    if not gpus.spec(gpu).has_mig:
        raise NvmlError(NOT_SUPPORTED, "no MIG on these cards")
    if int(index) >= len(parts):
        raise NvmlError(NOT_FOUND, f"the card has {len(parts)} MIG devices")
    return str(parts[int(index)])


def _attributes(gpus: Gpus, gpu: int) -> str:
    part = gpus.instance(gpu)
    return f"{part.slices} {part.memory_mib}"


def _gpm_sample(gpus: Gpus, gpu: int) -> str:
    if not gpus.spec(gpu).has_gpm or gpus.instance(gpu):
        raise NvmlError(NOT_SUPPORTED, "no GPM before Hopper, and none by a part's own handle")
    return "1 {} {}".format(*gpus.sm_time(gpu))


def _gpm_sample_of_part(gpus: Gpus, gpu: int, instance: str) -> str:
    if not gpus.spec(gpu).has_gpm:
        raise NvmlError(NOT_SUPPORTED, "no GPM before Hopper")
    found = [part for part in gpus.parts(gpu) if str(gpus.instance(part).gpu_instance) == instance]
    if not found:
        raise NvmlError(INVALID_ARGUMENT, f"{instance!r} is no GPU instance of the card")
    return "1 {} {}".format(*gpus.sm_time(found[0]))


def _check_accounting(gpus: Gpus, gpu: int) -> None:
    _check_not_mig(gpus, gpu)
    if not gpus.accounting(gpu):
        raise NvmlError(NOT_SUPPORTED, "accounting mode is off")


def _accounting_mode(gpus: Gpus, gpu: int) -> str:
    _check_not_mig(gpus, gpu)
    return str(int(gpus.accounting(gpu)))


def _set_accounting_mode(gpus: Gpus, gpu: int, mode: str) -> str:
    _check_not_mig(gpus, gpu)
    if mode not in ("0", "1"):
        raise NvmlError(INVALID_ARGUMENT, f"the mode {mode!r} is neither 0 nor 1")
    gpus.set_accounting(gpu, mode == "1")
    return ""


def _accounting_pids(gpus: Gpus, gpu: int) -> str:
    _check_accounting(gpus, gpu)
    pids = [account.pid for account, _ in gpus.accounts(gpu)]
    return " ".join(str(number) for number in (len(pids), *pids))


def _accounting_stats(gpus: Gpus, gpu: int, pid: str) -> str:
    _check_accounting(gpus, gpu)
    if not re.fullmatch(r"[0-9]{1,10}", pid):
        raise NvmlError(INVALID_ARGUMENT, f"the process id {pid!r} is not a number")
    try:
        account, started, sm, lived = gpus.account(gpu, int(pid))
    except NoSuchLoad as error:
        raise NvmlError(NOT_FOUND, str(error)) from None
    runs = account.end_us is None
    memory_utilisation = round(sm * MEMORY_PER_SM_UTILISATION)
    return f"{sm} {memory_utilisation} {account.memory} {0 if runs else lived // 1000} {started} {int(runs)}"


def _not_supported(gpus: Gpus, gpu: int) -> str:
    raise NvmlError(NOT_SUPPORTED, "not on these cards")


SYSTEM: dict[str, Callable[[Gpus], str]] = {
    "nvmlInit": lambda gpus: "",
    "nvmlSystemGetDriverVersion": lambda gpus: gpus.driver_version,
    "nvmlSystemGetNVMLVersion": lambda gpus: f"{_cuda_version(gpus) // 1000}.{gpus.driver_version}",
    "nvmlSystemGetCudaDriverVersion": lambda gpus: str(_cuda_version(gpus)),
    "nvmlDeviceGetCount": lambda gpus: str(len(gpus)),
}

HANDLES = ("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetHandleByPciBusId")

DEVICE: dict[str, Callable[..., str]] = {
    **dict.fromkeys(HANDLES, lambda gpus, gpu: str(gpu)),
    "nvmlDeviceGetIndex": lambda gpus, gpu: str(gpu),
    "nvmlDeviceGetMinorNumber": _of_card(lambda gpus, gpu: str(gpus.spec(gpu).minor)),
    "nvmlDeviceGetUUID": lambda gpus, gpu: gpus.unique_name(gpu),
    "nvmlDeviceGetName": _name,
    "nvmlDeviceGetPciInfo": _pci_info,
    "nvmlDeviceGetCudaComputeCapability": lambda gpus, gpu: gpus.spec(gpu).capability.replace(".", " "),
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetUtilizationRates": _utilisation,
    "nvmlDeviceGetComputeRunningProcesses": _processes,
    "nvmlDeviceGetGraphicsRunningProcesses": lambda gpus, gpu: "0",
    "nvmlDeviceGetMPSComputeRunningProcesses": _mps_processes,
    "nvmlDeviceGetProcessUtilization": _samples,
    "nvmlDeviceGetProcessesUtilizationInfo": _samples,
    "nvmlDeviceGetAccountingMode": _accounting_mode,
    "nvmlDeviceSetAccountingMode": _set_accounting_mode,
    "nvmlDeviceGetAccountingBufferSize": lambda gpus, gpu: _check_not_mig(gpus, gpu) or str(BUFFER_SIZE),
    "nvmlDeviceGetAccountingPids": _accounting_pids,
    "nvmlDeviceGetAccountingStats": _accounting_stats,
    "nvmlDeviceGetAccountingStats_v2": _not_supported,
    "nvmlDeviceGetPowerUsage": _of_card(lambda gpus, gpu: str(gpus.power_mw(gpu))),
    "nvmlDeviceGetEnforcedPowerLimit": lambda gpus, gpu: str(gpus.spec(gpu).max_watts * 1000),
    "nvmlDeviceGetTotalEnergyConsumption": _of_card(_energy),
    "nvmlDeviceGetTemperature": _of_card(lambda gpus, gpu: str(gpus.celsius(gpu))),
    "nvmlDeviceGetTemperatureV": _of_card(lambda gpus, gpu: str(gpus.celsius(gpu))),
    "nvmlDeviceGetVirtualizationMode": lambda gpus, gpu: "0",
    "nvmlDeviceGetComputeMode": lambda gpus, gpu: str(COMPUTE_MODES[gpus.spec(gpu).compute_mode]),
    "nvmlDeviceGetPersistenceMode": lambda gpus, gpu: "1",
    "nvmlDeviceGetCpuAffinity": lambda gpus, gpu: "",
    "nvmlDeviceIsMigDeviceHandle": lambda gpus, gpu: str(int(gpus.instance(gpu) is not None)),
    "nvmlDeviceGetMaxMigDeviceCount": lambda gpus, gpu: str(MIG_SLICES if gpus.spec(gpu).has_mig else 0),
    "nvmlDeviceGetMigMode": _mig_mode,
    "nvmlDeviceGetMigDeviceHandleByIndex": _mig_device,
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": _of_part(lambda gpus, gpu: str(gpus.card_of(gpu))),
    "nvmlDeviceGetGpuInstanceId": _of_part(lambda gpus, gpu: str(gpus.instance(gpu).gpu_instance)),
    "nvmlDeviceGetComputeInstanceId": _of_part(lambda gpus, gpu: "0"),
    "nvmlDeviceGetAttributes": _of_part(_attributes),
    "nvmlGpmQueryDeviceSupport": lambda gpus, gpu: str(int(gpus.spec(gpu).has_gpm)),
    "nvmlGpmSampleGet": _gpm_sample,
    "nvmlGpmMigSampleGet": _gpm_sample_of_part,
    **dict.fromkeys(
        (
            "nvmlDeviceGetApplicationsClock",
            "nvmlDeviceGetClockInfo",
            "nvmlDeviceGetNvLinkRemotePciInfo",
            "nvmlDeviceGetNvLinkState",
            "nvmlDeviceGetRunningProcessDetailList",
            "nvmlDeviceGetSupportedGraphicsClocks",
            "nvmlDeviceGetSupportedMemoryClocks",
            "nvmlDeviceResetApplicationsClocks",
            "nvmlDeviceResetGpuLockedClocks",
            "nvmlDeviceResetMemoryLockedClocks",
            "nvmlDeviceSetApplicationsClocks",
            "nvmlDeviceSetGpuLockedClocks",
            "nvmlDeviceSetMemoryLockedClocks",
        ),
        _not_supported,
    ),
}


_WITH_ARGUMENT = (_samples, _mig_device, _gpm_sample_of_part, _accounting_stats, _set_accounting_mode)
ONLY_ROOT = ("nvmlDeviceSetAccountingMode",)


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
        gpu = gpus.find(words[0])
        if function == HANDLES[0] and gpus.instance(gpu):
            raise NoSuchGpu(f"{words[0]!r} is no card")
        return gpu, words[1:]
    except NoSuchGpu as error:
        if function not in HANDLES:
            # The client's handle is older than this state: its card is not here any more.
            raise NvmlError(GPU_IS_LOST, str(error)) from None
        raise NvmlError(INVALID_ARGUMENT if function == HANDLES[0] else NOT_FOUND, str(error)) from None


def answer(gpus: Gpus, function: str, gpu: int | None, arguments: Sequence[str]) -> str:
    """Return the values of a resolved call as one line; raise NvmlError for what the function answers as an error."""
    expected = 1 if DEVICE.get(function) in _WITH_ARGUMENT else 0
    if len(arguments) != expected:
        raise NvmlError(INVALID_ARGUMENT, f"{function} takes {expected} further words, not {len(arguments)}")
    return SYSTEM[function](gpus) if gpu is None else DEVICE[function](gpus, gpu, *arguments)
