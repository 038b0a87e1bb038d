"""The one door to NVML: it answers with a value or None, and never raises.

Agent and sampler read GPUs only through here. Codes and traps are NVML's own (nvml.h 13.3): what a device cannot do is
remembered, a lost GPU does not stop the others, a driver that went away or changed is opened again with a back-off.
Standard library and pynvml (loaded when the door is first used).
"""

import _ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass, field

# nvmlReturn_t. Named here so that the door works with a binding that does not know the newer ones.
SUCCESS = 0
UNINITIALIZED = 1
NOT_SUPPORTED = 3
NOT_FOUND = 6
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16
LIB_RM_VERSION_MISMATCH = 18
ARGUMENT_VERSION_MISMATCH = 25
UNKNOWN = 999

_NEVER = {NOT_SUPPORTED, FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH}
_LOST = {GPU_IS_LOST, RESET_REQUIRED}
_REOPEN = {UNINITIALIZED, DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH}

_RETRY_FIRST = 1.0  # seconds until a missing driver or a lost GPU is tried again; doubles ...
_RETRY_MOST = 300.0  # ... up to this

# A driver's sample period is 1/6 s to 1 s (nvml.h). Asked again sooner, it has nothing newer than what it said before.
_SAMPLE_PERIOD = 1.0

_PROCESS_LISTS = (
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetMPSComputeRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses",
)
# Newest first: Blackwell boards answer only the first (NOT_SUPPORTED or zeros from the second).
_PROCESS_UTILISATION = ("nvmlDeviceGetProcessesUtilizationInfo", "nvmlDeviceGetProcessUtilization")


@dataclass(frozen=True)
class ProcessReading:
    """One process on one GPU."""

    pid: int
    sm: float | None  # share of the GPU's SM time, 0..1
    memory: int | None  # bytes


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one moment. None means that NVML did not say."""

    index: int  # NVML's
    minor: int | None  # N of /dev/nvidiaN
    uuid: str | None
    name: str | None
    memory_total: int | None  # bytes
    time: float  # the door's clock, seconds
    sm: float | None  # share of the last sample period with a kernel on the GPU, 0..1
    power: float | None  # watts
    energy: float | None  # joules since the driver was loaded
    processes: tuple[ProcessReading, ...] | None  # None: the process list is not known
    part: bool = False  # a part of a GPU that MIG made, by which its GPU is then replaced; only its UUID names it


@dataclass
class _Retry:
    at: float = 0.0
    wait: float = _RETRY_FIRST

    def failed(self, now: float) -> None:
        self.at = now + self.wait
        self.wait = min(_RETRY_MOST, self.wait * 2)


@dataclass
class _Gpu:
    index: int
    handle: object = None
    minor: int | None = None
    uuid: str | None = None
    name: str | None = None
    memory_total: int | None = None
    never: set[str] = field(default_factory=set)  # functions that this device does not have
    cursors: dict[str, int] = field(default_factory=dict)  # function -> newest time stamp seen
    shares: dict[int, float] = field(default_factory=dict)  # the newest process readings that were not empty ...
    shares_at: float = float("-inf")  # ... and when they were read
    part: bool = False
    parts: list["_Gpu"] = field(default_factory=list)  # those that MIG made of it
    lost: bool = True
    retry: _Retry = field(default_factory=_Retry)


class _Lost(Exception):
    pass


class _Closed(Exception):
    pass


def error_code(error: BaseException) -> int:
    """Return the nvmlReturn_t that an exception of the binding stands for."""
    value = getattr(error, "value", None)
    if isinstance(value, int):
        return value
    # A library without the newest variant of a function gives an exception that is no NVMLError;
    # an older binding has no such function at all.
    if isinstance(error, AttributeError) or type(error).__name__ == "NVMLLibraryMismatchError":
        return FUNCTION_NOT_FOUND
    return UNKNOWN


class Nvml:
    """All GPUs of this machine (or of the allocation this process runs in).

    ``binding`` is pynvml, loaded at first use unless given; ``say`` gets one line for each change of state.
    """

    def __init__(
        self,
        binding: object | None = None,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda line: None,
    ):
        self._binding = binding
        self._clock = clock
        self._say = say
        self._gpus: list[_Gpu] = []
        self._open = False
        self._retry = _Retry()
        self._told = ""

    def read(self, only: set[int] | None = None) -> list[GpuReading]:
        """Read every GPU that answers, or those whose slurm_number is in ``only``. No driver: an empty list.

        Of a GPU in MIG mode its parts are read, whatever ``only`` says, since they have no such number.
        """
        if not self._open and not self._reopen():
            return []
        readings = []
        for gpu in self._gpus:
            try:
                if gpu.lost and not self._find(gpu):
                    continue
                if gpu.parts:
                    readings += [self._read(part) for part in gpu.parts]
                    gpu.retry = _Retry()
                elif only is None or slurm_number(gpu) in only:
                    readings.append(self._read(gpu))
            except _Lost:
                self._lose(gpu)
            except _Closed:
                return []
        return readings

    def limit_memory(self, number: int, cgroup: str, size: int) -> int:
        """Let the processes of a cgroup (its folder) have at most ``size`` bytes of the GPU that Slurm numbers so.

        Returns an nvmlReturn_t: NOT_SUPPORTED or FUNCTION_NOT_FOUND before R615 and for GPUs in MIG mode; NOT_FOUND
        where the kernel's controller dmem is not enabled for the cgroup (nvmlDeviceSetMemoryLimits_v1).
        """
        name = "nvmlDeviceSetMemoryLimits_v1"
        for gpu in self._gpus:
            if gpu.handle is None or gpu.lost or slurm_number(gpu) != number:
                continue
            if gpu.parts or name in gpu.never:
                return NOT_SUPPORTED
            try:
                limits = self._binding.c_nvmlSetMemoryLimits_v1_t()
                limits.nameSpace, limits.softLimit, limits.hardLimit = cgroup.encode(), 0, size
                getattr(self._binding, name)(gpu.handle, limits)
            except Exception as error:
                code = error_code(error)
                if code in _NEVER:
                    gpu.never.add(name)
                return code
            return SUCCESS
        return GPU_IS_LOST

    def close(self) -> None:
        """Give the driver back."""
        if self._open:
            self._open = False
            self._gpus = []
            try:
                self._binding.nvmlShutdown()
            except Exception:  # the binding's exceptions have no common base, and there is nothing left to lose
                pass

    # opening

    def _reopen(self) -> bool:
        if self._clock() < self._retry.at:
            return False
        try:
            if self._binding is None:
                import pynvml

                self._binding = pynvml
            self._binding.nvmlInit()
            count = self._binding.nvmlDeviceGetCount()
        except Exception as error:
            self._retry.failed(self._clock())
            self._tell(f"no GPUs here: {type(error).__name__} {error}")
            if error_code(error) == LIB_RM_VERSION_MISMATCH:
                self._unload()
            return False
        self._open = True
        self._gpus = [_Gpu(index) for index in range(count)]
        self._tell(f"NVML is open, {count} GPUs")
        return True

    def _unload(self) -> None:
        """Let go of a library whose driver was replaced, so that the next opening gets the new one."""
        library = getattr(self._binding, "nvmlLib", None)
        cache = getattr(self._binding, "_nvmlGetFunctionPointer_cache", None)
        if library is not None and isinstance(cache, dict):
            # The binding keeps the library for the life of the process; after an upgrade that is the old one, which
            # refuses the new driver for ever. dlopen gives the new file only once the old one is unmapped.
            cache.clear()
            self._binding.nvmlLib = None
            try:
                _ctypes.dlclose(library._handle)
            except (OSError, AttributeError):
                pass

    def _find(self, gpu: _Gpu) -> bool:
        """Get the handle of a GPU that has none; a lost one is tried again with a back-off."""
        if self._clock() < gpu.retry.at:
            return False
        gpu.handle, gpu.never, gpu.cursors, gpu.shares = None, set(), {}, {}
        gpu.handle = self._ask(gpu, "nvmlDeviceGetHandleByIndex", gpu.index)
        if gpu.handle is None:
            raise _Lost
        gpu.minor = self._ask(gpu, "nvmlDeviceGetMinorNumber")
        self._describe(gpu)
        gpu.parts = self._parts(gpu)
        if gpu.retry.at:
            self._say(f"GPU {gpu.index} answers again")
        gpu.lost = False
        return True

    def _describe(self, gpu: _Gpu) -> None:
        gpu.uuid = _text(self._ask(gpu, "nvmlDeviceGetUUID"))
        gpu.name = _text(self._ask(gpu, "nvmlDeviceGetName"))
        memory = self._ask(gpu, "nvmlDeviceGetMemoryInfo")
        gpu.memory_total = None if memory is None else int(memory.total)

    def _parts(self, gpu: _Gpu) -> list[_Gpu]:
        """Return the MIG devices of a GPU, none where MIG is off or unknown; they are made while no job runs."""
        if (self._ask(gpu, "nvmlDeviceGetMigMode") or [0])[0] != 1:
            return []
        parts = []
        for number in range(self._ask(gpu, "nvmlDeviceGetMaxMigDeviceCount") or 0):
            handle = self._ask(gpu, "nvmlDeviceGetMigDeviceHandleByIndex", number)
            if handle is not None:
                parts.append(_Gpu(gpu.index, handle, part=True, lost=False))
                self._describe(parts[-1])
        return parts

    def _lose(self, gpu: _Gpu) -> None:
        if not gpu.retry.at:
            self._say(f"GPU {gpu.index} is lost; the others go on")
        gpu.lost = True
        gpu.retry.failed(self._clock())

    # reading

    def _read(self, gpu: _Gpu) -> GpuReading:
        lists = [self._ask(gpu, name) for name in _PROCESS_LISTS]
        # One after the other, so that both speak of the same sample period.
        shares = self._process_shares(gpu)
        rates = self._ask(gpu, "nvmlDeviceGetUtilizationRates")
        now = self._clock()
        if shares:
            gpu.shares, gpu.shares_at = shares, now
        elif shares == {} and rates is not None and rates.gpu > 0 and now - gpu.shares_at < _SAMPLE_PERIOD:
            alive = {int(entry.pid) for entries in lists for entry in entries or ()}
            shares = {pid: share for pid, share in gpu.shares.items() if pid in alive}
        energy = self._ask(gpu, "nvmlDeviceGetTotalEnergyConsumption")
        power = self._ask(gpu, "nvmlDeviceGetPowerUsage")
        gpu.retry, self._retry = _Retry(), _Retry()
        return GpuReading(
            index=gpu.index,
            minor=gpu.minor,
            uuid=gpu.uuid,
            name=gpu.name,
            memory_total=gpu.memory_total,
            time=now,
            sm=rates.gpu / 100 if rates is not None and 0 <= rates.gpu <= 100 else None,
            power=None if power is None else power / 1000,
            energy=None if energy is None else energy / 1000,
            processes=merge_processes(lists, shares),
            part=gpu.part,
        )

    def _process_shares(self, gpu: _Gpu) -> dict[int, float] | None:
        """SM share by pid since the last call, from the newest function that this device has; None when it has none."""
        for name in _PROCESS_UTILISATION:
            if name in gpu.never:
                continue
            cursor = gpu.cursors.get(name)
            entries = self._ask(gpu, name, cursor or 0, nothing=())
            if entries is None:
                if name in gpu.never:
                    continue
                return None
            gpu.cursors[name] = max([cursor or 0, *(int(entry.timeStamp) for entry in entries)])
            if cursor is None:
                # The driver's whole ring buffer: some of it is of processes that ended long ago.
                return None
            return shares_by_pid(entries, cursor)
        return None

    def _ask(self, gpu: _Gpu, name: str, *arguments: object, nothing: object = None) -> object | None:
        """Call one function on a device. ``nothing`` is the answer for "there is none"."""
        if name in gpu.never:
            return None
        try:
            function = getattr(self._binding, name)
            return function(*arguments) if gpu.handle is None else function(gpu.handle, *arguments)
        except Exception as error:
            code = error_code(error)
            if code in _REOPEN:
                self._tell(f"NVML is closed, to be opened again: {name}: {error}")
                self.close()
                self._retry.failed(self._clock())
                if code == LIB_RM_VERSION_MISMATCH:
                    self._unload()
                raise _Closed from None
            if code in _LOST:
                raise _Lost from None
            if code in _NEVER:
                gpu.never.add(name)
            # Success on the size query makes the binding raise an error of value 0: there is no entry.
            return nothing if code in (NOT_FOUND, SUCCESS) else None

    def _tell(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self._say(line)


def slurm_number(gpu: "_Gpu | GpuReading") -> int:
    """Return Slurm's number of a GPU.

    Slurm numbers a node's GPUs in the order of their device files in gres.conf, and AutoDetect sorts them by
    minor number; NVML orders by bus id. So N of /dev/nvidiaN joins the two; NVML's index only where there is no minor.
    A part that MIG made has one of its own there, which its UUID alone leads to: -1.
    """
    if gpu.part:
        return -1
    return gpu.index if gpu.minor is None else gpu.minor


def shares_by_pid(entries: list, cursor: int) -> dict[int, float]:
    """Return the SM share of each pid from utilisation entries newer than ``cursor`` (the mean of several).

    Time stamps are compared with each other alone: some drivers count from boot, others from 1970.
    """
    found: dict[int, list[int]] = {}
    for entry in entries:
        # Dead processes can show absurd values such as 4294967295.
        if int(entry.timeStamp) > cursor and 0 <= entry.smUtil <= 100:
            found.setdefault(int(entry.pid), []).append(int(entry.smUtil))
    return {pid: sum(values) / len(values) / 100 for pid, values in found.items()}


def merge_processes(lists: list, shares: dict[int, float] | None) -> tuple[ProcessReading, ...] | None:
    """Merge the compute, MPS and graphics lists and the shares by pid into one reading per process.

    A process in several lists counts once, with the largest memory seen; one that stands several times in the same
    list (instances of a partitioned GPU) with the sum. One that has a share and is in no list has ended: no memory.
    None when not even the compute list is known.
    """
    if lists[0] is None:
        return None
    memory: dict[int, int | None] = {}
    for entries in lists:
        here: dict[int, int | None] = {}
        for entry in entries or ():
            pid, used = int(entry.pid), entry.usedGpuMemory
            here[pid] = None if used is None or here.get(pid, 0) is None else here.get(pid, 0) + int(used)
        for pid, used in here.items():
            known = [value for value in (memory.get(pid), used) if value is not None]
            memory[pid] = max(known, default=None)
    if shares is None:
        return tuple(ProcessReading(pid, None, used) for pid, used in memory.items())
    return tuple(ProcessReading(pid, shares.get(pid, 0.0), memory.get(pid, 0)) for pid in {**memory, **shares})


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return None if value is None else str(value)
