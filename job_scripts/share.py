"""Keep a framework to the job's share of a GPU's memory, where it would otherwise take the whole card.

JAX and TensorFlow go by variables that the launcher has set (docs/enforcement.md); PyTorch needs the call below.
"""

import argparse
import os
import sys


def use_torch(size: int) -> str:
    """Multiply two matrices with PyTorch."""
    import torch

    # Unset where the GPU itself is no larger than the share: whole GPUs, MIG, vGPU.
    fraction = float(os.environ.get("GPUSHARE_MEMORY_FRACTION", "1"))
    for device in range(torch.cuda.device_count()):
        torch.cuda.set_per_process_memory_fraction(fraction, device)
    matrix = torch.rand(size, size, device="cuda")
    return f"PyTorch: {float((matrix @ matrix).mean()):.1f}, {torch.cuda.max_memory_reserved() >> 20} MiB reserved"


def use_jax(size: int) -> str:
    """Multiply two matrices with JAX."""
    import jax

    matrix = jax.random.uniform(jax.random.key(7), (size, size))
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")  # the CPU has none
    taken = "no GPU" if limit is None else f"takes at most {limit >> 20} MiB"
    return f"JAX: {float((matrix @ matrix).mean()):.1f}, {taken}"


def use_tensorflow(size: int) -> str:
    """Multiply two matrices with TensorFlow."""
    import tensorflow

    matrix = tensorflow.random.uniform((size, size))
    mean = float(tensorflow.reduce_mean(tensorflow.matmul(matrix, matrix)))
    if not tensorflow.config.list_physical_devices("GPU"):
        return f"TensorFlow: {mean:.1f}, no GPU"
    peak = tensorflow.config.experimental.get_memory_info("GPU:0")["peak"]
    return f"TensorFlow: {mean:.1f}, {peak >> 20} MiB at its peak"


FRAMEWORKS = {"torch": use_torch, "jax": use_jax, "tensorflow": use_tensorflow}


def main() -> int:
    """Print one line of what was computed, and of the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the matrix")
    arguments = parser.parse_args()
    try:
        print(FRAMEWORKS[arguments.framework](arguments.size))
    except ImportError as error:
        sys.exit(f"{error}: choose an image that has it, or another framework")
    return 0


if __name__ == "__main__":
    sys.exit(main())
