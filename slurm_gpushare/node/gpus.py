"""The job path's own small door to NVML: what prolog must know of the node's GPUs.

Standard library only. NVML's names and codes are those of nvml.h.
"""

import ctypes
import json
import os
import select
import signal
from collections.abc import Callable
from time import monotonic

from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.record import Record

LIBRARY = "libnvidia-ml.so.1"
UUID_SIZE, VERSION_SIZE = 96, 80  # NVML_DEVICE_UUID_V2_BUFFER_SIZE, NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
EXCLUSIVE_PROCESS = 3  # NVML_COMPUTEMODE_EXCLUSIVE_PROCESS
# Seconds. Without nvidia-persistenced a driver takes some to initialise its GPUs; Slurm's PrologEpilogTimeout is more.
PATIENCE = 30.0


class Gpu(Record):
    """One GPU of the node."""

    uuid: str
    compute_mode: int  # nvmlComputeMode_t
    capability: int = 0  # the first number of CUDA's compute capability


class Gpus(Record):
    """The node's GPUs and what its driver can do."""

    driver: int  # the branch, such as 615
    by_number: dict[int, Gpu]  # by minor number, which is Slurm's number of /dev/nvidiaN


def read_gpus(library: str = LIBRARY, patience: float = PATIENCE) -> Gpus:
    """Ask NVML for the node's GPUs; raises BrokenInstallation when it cannot tell, also within ``patience`` seconds."""
    answer = json.loads(_ask(lambda: _answer(library), library, patience))
    if "error" in answer:
        raise BrokenInstallation(answer["error"])
    return Gpus(answer["driver"], {int(minor): Gpu(*gpu) for minor, gpu in answer["gpus"].items()})


def _ask(work: Callable[[], str], library: str, patience: float) -> str:
    """Return what ``work`` gives in a child process: what hangs in a driver may not even be killed, so it is left."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            # slurmd waits for the end of prolog's output, which the child must not hold open.
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.close(read)
            os.write(write, work().encode())
        finally:
            os._exit(0)
    os.close(write)
    deadline = monotonic() + patience
    answer = b""
    try:
        while select.select([read], [], [], max(0.0, deadline - monotonic()))[0]:
            if not (part := os.read(read, 1 << 16)):
                os.waitpid(child, 0)
                if not answer:
                    raise BrokenInstallation(f"{library}: it ended the process that asked it")
                return answer.decode()
            answer += part
    finally:
        os.close(read)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, os.WNOHANG)
    raise BrokenInstallation(
        f"{library}: no answer in {patience:g} s: look at the GPUs of this node with nvidia-smi, and for Xid in dmesg"
    )


def _answer(library: str) -> str:
    try:
        driver, gpus = _read(library)
    except BrokenInstallation as error:
        return json.dumps({"error": str(error)})
    return json.dumps({"driver": driver, "gpus": gpus})


def _read(library: str) -> tuple[int, dict[int, tuple[str, int, int]]]:
    try:
        nvml = ctypes.CDLL(library)
    except OSError as error:
        raise BrokenInstallation(f"{library}: {error}: install the NVIDIA driver on this node") from None

    def call(name: str, *arguments) -> None:
        code = getattr(nvml, name)(*arguments)
        if code:
            raise BrokenInstallation(f"{name}: NVML says {code}: look at the GPUs of this node with nvidia-smi")

    try:
        call("nvmlInit_v2")
        version = ctypes.create_string_buffer(VERSION_SIZE)
        call("nvmlSystemGetDriverVersion", version, ctypes.c_uint(VERSION_SIZE))
        count = ctypes.c_uint()
        call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        found = {}
        for index in range(count.value):
            device, minor, mode = ctypes.c_void_p(), ctypes.c_uint(), ctypes.c_int()
            major, revision = ctypes.c_int(), ctypes.c_int()
            uuid = ctypes.create_string_buffer(UUID_SIZE)
            call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
            call("nvmlDeviceGetMinorNumber", device, ctypes.byref(minor))
            call("nvmlDeviceGetUUID", device, uuid, ctypes.c_uint(UUID_SIZE))
            call("nvmlDeviceGetComputeMode", device, ctypes.byref(mode))
            call("nvmlDeviceGetCudaComputeCapability", device, ctypes.byref(major), ctypes.byref(revision))
            found[minor.value] = uuid.value.decode(), mode.value, major.value
        branch = version.value.decode().partition(".")[0]
        if not branch.isdigit():
            raise BrokenInstallation(f"driver version {version.value!r} is not NUMBER.NUMBER")
        call("nvmlShutdown")
        return int(branch), found
    except AttributeError as error:
        raise BrokenInstallation(f"{library}: {error}: it is no NVML that is known here") from None
