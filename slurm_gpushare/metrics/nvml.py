"""The one door to NVML: it answers with a value or None, and never raises.

Agent and sampler read GPUs only through here. Codes and traps are NVML's own (nvml.h 13.3): what a device cannot do is
remembered, a GPU that is lost or does not answer stops no other, a driver that went away or changed is opened again
with a back-off. Standard library and pynvml (loaded when the door is first used).
"""

import _ctypes
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from slurm_gpushare.metrics.patience import Patience
from slurm_gpushare.metrics.readings import (
    GpuReading,
    ProcessReading,
    merge_processes,
    shares_by_pid,
    slurm_number,
    with_ended,
)

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
_LOST = {GPU_IS_LOST: "is lost", RESET_REQUIRED: "needs a reset"}
_REOPEN = {UNINITIALIZED, DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH}

_RETRY_FIRST = 1.0  # seconds until a missing driver or a lost GPU is tried again; doubles ...
_RETRY_MOST = 300.0  # ... up to this

# A driver's sample period is 1/6 s to 1 s (nvml.h). Asked again sooner, it has nothing newer than what it said before.
_SAMPLE_PERIOD = 1.0

PATIENCE = 1.0  # seconds: a GPU that says nothing for so long is left alone until it does
_DRIVER = "driver"  # what is asked of no GPU

_SHORTEST_GPM = 0.1  # seconds between two samples of GPM (nvml.h)
_GPM_VERSION = 1
_GPM_GRAPHICS_UTIL = 1  # share of the time with work on the part: the meaning that utilisation has everywhere else

_PROCESS_LISTS = (
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetMPSComputeRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses",
)
# Newest first: Blackwell boards answer only the first (NOT_SUPPORTED or zeros from the second).
_PROCESS_UTILISATION = ("nvmlDeviceGetProcessesUtilizationInfo", "nvmlDeviceGetProcessUtilization")


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
    accounts: bool = False  # accounting mode is on, and asked
    counted: set[int] | None = None  # processes that were running, or were counted; None: not asked yet
    read_at: float | None = None  # the last reading
    part: bool = False
    parts: list["_Gpu"] = field(default_factory=list)  # those that MIG made of it
    whole: object = None  # of a part: the handle of its GPU ...
    instance: int | None = None  # ... and its GPU instance, where GPM tells of it
    gpm: tuple | None = None  # the last sample of GPM, and when it was taken
    gpm_share: float | None = None  # what it said
    lost: bool = True
    fault: str | None = None  # as GpuReading has it
    retry: _Retry = field(default_factory=_Retry)


class _Lost(Exception):
    """A GPU cannot be read; its text says what it does not, or is."""


class _Closed(Exception):
    """The driver is to be opened again; (text, nvmlReturn_t)."""


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
    ``accounting``: tell of processes that came and went between two readings; accounting mode is switched on (root).
    """

    def __init__(
        self,
        binding: object | None = None,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda line: None,
        patience: float = PATIENCE,
        accounting: bool = False,
    ):
        self._accounting = accounting
        self._patience = Patience(patience)
        self._binding = binding
        self._clock = clock
        self._say = say
        self._gpus: list[_Gpu] = []
        self._open = False
        self._retry = _Retry()
        self._told = ""
        self._closed = ""  # why it is not open

    def read(self, only: set[int] | None = None) -> list[GpuReading]:
        """Read every GPU, or those whose slurm_number is in ``only``. No driver so far: an empty list.

        Of a GPU in MIG mode its parts are read, whatever ``only`` says, since they have no such number. What was there
        and cannot be read now has a reading that says why.
        """
        if not self._open and not self._reopen():
            return self._all_faulty(only, self._closed)
        now = self._clock()
        due = [gpu for gpu in self._gpus if (not gpu.lost or now >= gpu.retry.at) and (gpu.lost or _meant(gpu, only))]
        outcomes = self._patience.call({gpu.index: functools.partial(self._sample, gpu, only) for gpu in due})
        for outcome in outcomes.values():
            if isinstance(outcome, _Closed):
                self._shut(*outcome.args)
                return self._all_faulty(only, self._closed)
        readings: list[GpuReading] = []
        for gpu in self._gpus:
            outcome = outcomes.get(gpu.index)
            if isinstance(outcome, list):
                self._well(gpu)
                readings += outcome
                continue
            if isinstance(outcome, _Lost):
                gpu.lost = True
                gpu.retry.failed(now)
                self._faulty(gpu, str(outcome))
            elif isinstance(outcome, TimeoutError):
                self._faulty(gpu, "does not answer")
            elif isinstance(outcome, Exception):
                raise outcome
            if gpu.fault is not None and _meant(gpu, only):
                readings += self._without_values(gpu, gpu.fault)
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

            def limit(handle: object = gpu.handle) -> None:
                limits = self._binding.c_nvmlSetMemoryLimits_v1_t()
                limits.nameSpace, limits.softLimit, limits.hardLimit = cgroup.encode(), 0, size
                getattr(self._binding, name)(handle, limits)

            outcome = self._patience.call({gpu.index: limit})[gpu.index]
            if not isinstance(outcome, Exception):
                return SUCCESS
            code = error_code(outcome)
            if code in _NEVER:
                gpu.never.add(name)
            return code
        return GPU_IS_LOST

    def close(self) -> None:
        """Give the driver back."""
        if self._open:
            self._open = False
            # What hangs in the driver must find it open when it returns.
            if not self._patience.any_hangs():
                self._patience.call({_DRIVER: self._binding.nvmlShutdown})
        self._patience.close()

    # opening

    def _reopen(self) -> bool:
        if self._clock() < self._retry.at:
            return False
        count = self._patience.call({_DRIVER: self._init})[_DRIVER]
        if isinstance(count, Exception):
            if isinstance(count, TimeoutError):
                self._closed = "NVML does not answer"
            else:
                self._retry.failed(self._clock())
                self._closed = f"no GPUs here: {type(count).__name__} {count}"
            self._tell(self._closed)
            if error_code(count) == LIB_RM_VERSION_MISMATCH:
                self._unload()
            return False
        self._open = True
        self._gpus = [_Gpu(index) for index in range(count)]
        self._tell(f"NVML is open, {count} GPUs")
        return True

    def _init(self) -> int:
        if self._binding is None:
            import pynvml

            self._binding = pynvml
        self._binding.nvmlInit()
        return self._binding.nvmlDeviceGetCount()

    def _shut(self, why: str, code: int) -> None:
        self._closed = f"NVML is closed, to be opened again: {why}"
        self._tell(self._closed)
        self.close()
        self._retry.failed(self._clock())
        if code == LIB_RM_VERSION_MISMATCH:
            self._unload()

    def _unload(self) -> None:
        """Let go of a library whose driver was replaced, so that the next opening gets the new one."""
        if self._patience.any_hangs():
            return  # its code is still needed
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

    def _find(self, gpu: _Gpu) -> None:
        """Get the handle of a GPU that has none, or lost it."""
        gpu.handle, gpu.never, gpu.cursors, gpu.shares = None, set(), {}, {}
        gpu.accounts, gpu.counted, gpu.read_at = False, None, None
        gpu.handle = self._ask(gpu, "nvmlDeviceGetHandleByIndex", gpu.index)
        if gpu.handle is None:
            raise _Lost("is lost")
        gpu.minor = self._ask(gpu, "nvmlDeviceGetMinorNumber")
        self._describe(gpu)
        gpu.parts = self._parts(gpu)
        if not gpu.parts:
            gpu.accounts = self._switch_accounting(gpu)
        gpu.lost = False

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
        gpm = getattr(self._ask(gpu, "nvmlGpmQueryDeviceSupport"), "isSupportedDevice", 0)
        for number in range(self._ask(gpu, "nvmlDeviceGetMaxMigDeviceCount") or 0):
            handle = self._ask(gpu, "nvmlDeviceGetMigDeviceHandleByIndex", number)
            if handle is not None:
                part = _Gpu(gpu.index, handle, part=True, lost=False, whole=gpu.handle)
                self._describe(part)
                if gpm:
                    part.instance = self._ask(part, "nvmlDeviceGetGpuInstanceId")
                parts.append(part)
        return parts

    def _switch_accounting(self, gpu: _Gpu) -> bool:
        """Return whether processes that have ended are to be told of, and can be; switch it on where it is off."""
        if not self._accounting:
            return False
        mode = self._ask(gpu, "nvmlDeviceGetAccountingMode")
        if mode == 0:
            self._ask(gpu, "nvmlDeviceSetAccountingMode", 1)
            mode = self._ask(gpu, "nvmlDeviceGetAccountingMode")
            if mode == 1:
                self._say(f"GPU {gpu.index}: accounting mode is switched on")
        return mode == 1

    # what cannot be read

    def _faulty(self, gpu: _Gpu, what: str) -> None:
        if gpu.fault is None:
            self._say(f"GPU {gpu.index} {what}; the others go on")
        gpu.fault = f"GPU {what}"

    def _well(self, gpu: _Gpu) -> None:
        if gpu.fault is not None:
            self._say(f"GPU {gpu.index} answers again")
        gpu.fault = None
        gpu.retry, self._retry = _Retry(), _Retry()

    def _all_faulty(self, only: set[int] | None, why: str) -> list[GpuReading]:
        return [each for gpu in self._gpus if _meant(gpu, only) for each in self._without_values(gpu, why)]

    def _without_values(self, gpu: _Gpu, why: str) -> list[GpuReading]:
        """Return readings that name a GPU, or its parts, and say why nothing is known; none of what has no name yet."""
        now = self._clock()
        return [
            GpuReading(
                each.index, each.minor, each.uuid, each.name, each.memory_total, now, None, None, None, None,
                part=each.part, fault=why,
            )
            for each in gpu.parts or [gpu]
            if each.uuid is not None
        ]  # fmt: skip

    # reading

    def _sample(self, gpu: _Gpu, only: set[int] | None) -> list[GpuReading]:
        if gpu.lost:
            self._find(gpu)
        if not _meant(gpu, only):
            return []
        return [self._read(each) for each in gpu.parts or [gpu]]

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
        sm = rates.gpu / 100 if rates is not None and 0 <= rates.gpu <= 100 else None
        if gpu.instance is not None:
            sm = self._gpm_share_of(gpu, now)
        processes = merge_processes(lists, shares)
        before, gpu.read_at = gpu.read_at, now
        if gpu.accounts and processes is not None:
            listed = {int(entry.pid) for entries in lists for entry in entries or ()}
            ended = self._ended(gpu, listed, None if before is None else now - before)
            processes, sm = with_ended(processes, ended, sm)
        energy = self._ask(gpu, "nvmlDeviceGetTotalEnergyConsumption")
        power = self._ask(gpu, "nvmlDeviceGetPowerUsage")
        return GpuReading(
            index=gpu.index,
            minor=gpu.minor,
            uuid=gpu.uuid,
            name=gpu.name,
            memory_total=gpu.memory_total,
            time=now,
            sm=sm,
            power=None if power is None else power / 1000,
            energy=None if energy is None else energy / 1000,
            processes=processes,
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

    def _ended(self, gpu: _Gpu, listed: set[int], seconds: float | None) -> list[ProcessReading]:
        """Return the processes that came and went in the ``seconds`` since the last reading."""
        pids = self._ask(gpu, "nvmlDeviceGetAccountingPids", nothing=())
        if pids is None:
            return []
        there = set(pids)
        if gpu.counted is None or not seconds:
            gpu.counted = there | listed
            return []
        new = there - gpu.counted - listed
        gpu.counted &= there
        gpu.counted |= listed | new
        found = []
        for pid in new:
            stats = self._ask(gpu, "nvmlDeviceGetAccountingStats", pid)
            if stats is None:
                continue
            if stats.isRunning:
                gpu.counted.discard(pid)  # it is in no list yet
            elif 0 <= stats.gpuUtilization <= 100:
                lived, started = stats.time / 1000, stats.startTime / 1e6
                share = min(1.0, stats.gpuUtilization / 100 * min(lived, seconds) / seconds)
                found.append(ProcessReading(int(pid), share, int(stats.maxMemoryUsage), (started, started + lived)))
        return found

    def _gpm_share_of(self, gpu: _Gpu, now: float) -> float | None:
        """Share of the time since the last call with work on a part of a GPU, None where GPM does not say."""
        if gpu.gpm is not None and now - gpu.gpm[1] < _SHORTEST_GPM:
            return gpu.gpm_share
        sample = self._call(gpu, "nvmlGpmSampleAlloc")
        if sample is None:
            return None
        if self._call(gpu, "nvmlGpmMigSampleGet", gpu.whole, gpu.instance, sample) is None:
            self._call(gpu, "nvmlGpmSampleFree", sample)
            return None
        before, gpu.gpm, gpu.gpm_share = gpu.gpm, (sample, now), None
        if before is not None:
            wanted = self._binding.c_nvmlGpmMetricsGet_t()
            wanted.version, wanted.numMetrics = _GPM_VERSION, 1
            wanted.sample1, wanted.sample2 = before[0], sample
            wanted.metrics[0].metricId = _GPM_GRAPHICS_UTIL
            if self._call(gpu, "nvmlGpmMetricsGet", wanted) is not None:
                found = wanted.metrics[0]
                # The comparison refuses a value that is no number.
                gpu.gpm_share = found.value / 100 if found.nvmlReturn == SUCCESS and 0 <= found.value <= 100 else None
            self._call(gpu, "nvmlGpmSampleFree", before[0])
        return gpu.gpm_share

    def _ask(self, gpu: _Gpu, name: str, *arguments: object, nothing: object = None) -> object | None:
        """Call one function on a device. ``nothing`` is the answer for "there is none"."""
        return self._call(gpu, name, *(() if gpu.handle is None else (gpu.handle,)), *arguments, nothing=nothing)

    def _call(self, gpu: _Gpu, name: str, *arguments: object, nothing: object = None) -> object | None:
        """Call one function for a device with these arguments alone."""
        if name in gpu.never:
            return None
        try:
            return getattr(self._binding, name)(*arguments)
        except Exception as error:
            code = error_code(error)
            if code in _REOPEN:
                raise _Closed(f"{name}: {error}", code) from None
            if code in _LOST:
                raise _Lost(_LOST[code]) from None
            if code in _NEVER:
                gpu.never.add(name)
            # Success on the size query makes the binding raise an error of value 0: there is no entry.
            return nothing if code in (NOT_FOUND, SUCCESS) else None

    def _tell(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self._say(line)


def _meant(gpu: _Gpu, only: set[int] | None) -> bool:
    return only is None or bool(gpu.parts) or slurm_number(gpu) in only


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return None if value is None else str(value)
