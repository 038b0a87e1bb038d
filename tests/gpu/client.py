"""A CUDA program of a few lines, by the driver's own library.

``client.py memory MIB | busy SECONDS | load SECONDS SHARE MIB | fault``. Prints one JSON object: sms (multiprocessors
that it was shown), and of memory the MiB that it got before the first failure, of busy the kernels that ran, of load
the seconds that its kernels take of the GPU, and error, CUDA's number of what ended it (0: nothing did).
"""

import ctypes
import json
import sys
import time

MULTIPROCESSORS = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
CHUNK = 64 << 20
BLOCKS, THREADS, ROUNDS = 256, 256, 20000
PERIOD = 0.05  # seconds: a load computes at the beginning of each

KERNEL = b"""
.version 6.4
.target sm_70
.address_size 64
.visible .entry spin(.param .u64 out, .param .u32 rounds)
{
  .reg .pred %p1;
  .reg .b32 %r<3>;
  .reg .f32 %f<2>;
  .reg .b64 %rd<2>;
  ld.param.u32 %r1, [rounds];
  mov.u32 %r2, 0;
  mov.f32 %f1, 0f3F000000;
again:
  fma.rn.f32 %f1, %f1, %f1, %f1;
  add.u32 %r2, %r2, 1;
  setp.lt.u32 %p1, %r2, %r1;
  @%p1 bra again;
  ld.param.u64 %rd1, [out];
  st.global.f32 [%rd1], %f1;
  ret;
}
\0"""


class Failed(Exception):
    """A call of CUDA's did not return 0."""


class Cuda:
    """The device that this process is shown first, with its primary context."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)
        self._device = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(self._device), 0)
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self.call("cuCtxSetCurrent", context)

    def call(self, name: str, *arguments: object) -> None:
        """Call a function of the library; raises Failed with its number."""
        status = getattr(self._library, name)(*arguments)
        if status:
            raise Failed(status)

    def multiprocessors(self) -> int:
        """Return how many multiprocessors this process may use (MPS shows its share)."""
        count = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(count), MULTIPROCESSORS, self._device)
        return count.value

    def allocate(self, size: int) -> ctypes.c_uint64:
        """Return the address of ``size`` bytes of the device."""
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address

    def kernel(self) -> ctypes.c_void_p:
        """Return the one kernel, translated for the device by the driver."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), KERNEL)
        self.call("cuModuleGetFunction", ctypes.byref(function), module, b"spin")
        return function

    def run(self, kernel: ctypes.c_void_p, address: ctypes.c_uint64) -> None:
        """Run the kernel once, which writes to ``address``, and wait for it."""
        rounds = ctypes.c_uint32(ROUNDS)
        arguments = (ctypes.c_void_p * 2)(ctypes.addressof(address), ctypes.addressof(rounds))
        self.call("cuLaunchKernel", kernel, BLOCKS, 1, 1, THREADS, 1, 1, 0, None, arguments, None)
        self.call("cuCtxSynchronize")


def memory(cuda: Cuda, found: dict, mib: float) -> None:
    """Take so much memory, as far as it is given."""
    found["mib"] = 0
    while found["mib"] < mib:
        cuda.allocate(CHUNK)
        found["mib"] += CHUNK >> 20


def busy(cuda: Cuda, found: dict, seconds: float) -> None:
    """Run kernels for so long; says "ready" on its standard error after the first."""
    kernel, address = cuda.kernel(), cuda.allocate(1 << 20)
    found["kernels"], end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        cuda.run(kernel, address)
        found["kernels"] += 1
        if found["kernels"] == 1:
            print("ready", file=sys.stderr, flush=True)


def load(cuda: Cuda, found: dict, seconds: float, share: float, mib: float) -> None:
    """Compute for ``share`` of the time for so long, with so much memory; says "ready" as ``busy`` does.

    Begins when a line comes on its standard input: what one kernel takes is measured before, alone on the GPU.
    """
    kernel, address = cuda.kernel(), cuda.allocate(int(mib) << 20)
    alone = []
    for _ in range(50):
        start = time.perf_counter()
        cuda.run(kernel, address)
        alone.append(time.perf_counter() - start)
    each = sorted(alone)[len(alone) // 2]
    print("ready", file=sys.stderr, flush=True)
    sys.stdin.readline()
    kernels, start = 0, time.perf_counter()
    while (now := time.perf_counter() - start) < seconds:
        if kernels * each < share * now:
            cuda.run(kernel, address)
            kernels += 1
        else:
            time.sleep(PERIOD - now % PERIOD)
    found |= {"busy": kernels * each, "seconds": time.perf_counter() - start, "kernel_seconds": each}


def fault(cuda: Cuda, found: dict) -> None:
    """Write to address 0."""
    cuda.run(cuda.kernel(), ctypes.c_uint64(0))


def main(action: str, *amounts: float) -> None:
    """Do one of them and print what was found."""
    found: dict = {"error": 0}
    try:
        cuda = Cuda()
        found["sms"] = cuda.multiprocessors()
        {"memory": memory, "busy": busy, "load": load, "fault": fault}[action](cuda, found, *amounts)
    except Failed as error:
        found["error"] = error.args[0]
    print(json.dumps(found), flush=True)


main(sys.argv[1], *map(float, sys.argv[2:]))
