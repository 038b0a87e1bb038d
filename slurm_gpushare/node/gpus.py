"""The job path's own small door to NVML: what prolog must know of the node's GPUs.

Standard library only. NVML's names and codes are those of nvml.h.
"""

import ctypes

from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.record import Record

LIBRARY = "libnvidia-ml.so.1"
UUID_SIZE, VERSION_SIZE = 96, 80  # NVML_DEVICE_UUID_V2_BUFFER_SIZE, NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
EXCLUSIVE_PROCESS = 3  # NVML_COMPUTEMODE_EXCLUSIVE_PROCESS


class Gpu(Record):
    """One GPU of the node."""

    uuid: str
    compute_mode: int  # nvmlComputeMode_t
    capability: int = 0  # the first number of CUDA's compute capability


class Gpus(Record):
    """The node's GPUs and what its driver can do."""

    driver: int  # the branch, such as 615
    by_number: dict[int, Gpu]  # by minor number, which is Slurm's number of /dev/nvidiaN


def read_gpus(library: str = LIBRARY) -> Gpus:
    """Ask NVML for the node's GPUs; raises BrokenInstallation when it cannot tell."""
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
            found[minor.value] = Gpu(uuid.value.decode(), mode.value, major.value)
        branch = version.value.decode().partition(".")[0]
        if not branch.isdigit():
            raise BrokenInstallation(f"driver version {version.value!r} is not NUMBER.NUMBER")
        call("nvmlShutdown")
        return Gpus(int(branch), found)
    except AttributeError as error:
        raise BrokenInstallation(f"{library}: {error}: it is no NVML that is known here") from None
