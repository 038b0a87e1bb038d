"""Runs in a pool's allocation, as the job's user, and prints one JSON line per sample of the GPUs that it sees there.

The agent reads the lines. They are the user's text: `decode` takes only what can be a reading.
"""

import argparse
import json
import os
import re
import sys
import time

from slurm_gpushare.metrics.nvml import Nvml
from slurm_gpushare.metrics.readings import GpuReading, ProcessReading

VERSION = 1
LONGEST_LINE = 1 << 20  # bytes
_MOST_GPUS = 64
_MOST_PROCESSES = 4096
_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Fa-f-]{4,64}")


def encode(readings: list[GpuReading]) -> bytes:
    """Return the line for ``readings``; times are left out, since the reader counts by its own clock."""
    gpus = [
        {
            "index": reading.index,
            "uuid": reading.uuid,
            "name": reading.name,
            "memory_total": reading.memory_total,
            "sm": reading.sm,
            "power": reading.power,
            "energy": reading.energy,
            "processes": None
            if reading.processes is None
            else [{"pid": each.pid, "sm": each.sm, "memory": each.memory} for each in reading.processes],
        }
        for reading in readings
        if reading.fault is None
    ]
    return json.dumps({"v": VERSION, "gpus": gpus}, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes, now: float) -> list[GpuReading]:
    """Return the readings of one line, taken at ``now`` by the reader's clock.

    Raises
    ------
    ValueError
        The line is not a sample, or a value in it cannot be one.
    """
    try:
        data = json.loads(line)
        if data["v"] != VERSION or len(data["gpus"]) > _MOST_GPUS:
            raise ValueError(f"version {data['v']!r} with {len(data['gpus'])} GPUs")
        readings = [_reading(item, now) for item in data["gpus"]]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a sample: {type(error).__name__} {error}") from None
    uuids = [reading.uuid for reading in readings if reading.uuid is not None]
    if len({reading.index for reading in readings}) != len(readings) or len(set(uuids)) != len(uuids):
        raise ValueError("a GPU stands twice in the sample")
    return readings


def _reading(item: dict, now: float) -> GpuReading:
    processes = item["processes"]
    if processes is not None:
        if len(processes) > _MOST_PROCESSES:
            raise ValueError(f"{len(processes)} processes")
        processes = tuple(
            ProcessReading(
                int(_number(each["pid"], 1 << 32)), _number_or_none(each["sm"], 1), _bytes_or_none(each["memory"])
            )
            for each in processes
        )
    uuid, name = item["uuid"], item["name"]
    return GpuReading(
        index=int(_number(item["index"], _MOST_GPUS)),
        minor=None,
        uuid=uuid if isinstance(uuid, str) and _UUID.fullmatch(uuid) else None,
        name=name if isinstance(name, str) and name.isprintable() and len(name) <= 96 else None,
        memory_total=_bytes_or_none(item["memory_total"]),
        time=now,
        sm=_number_or_none(item["sm"], 1),
        power=_number_or_none(item["power"], 1e5),
        energy=_number_or_none(item["energy"], 1e15),
        processes=processes,
    )


def _number(value: object, most: float) -> float:
    # JSON of Python reads NaN and Infinity too; the comparison refuses both.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"{value!r:.40} is not a number from 0 to {most:g}")
    return value


def _number_or_none(value: object, most: float) -> float | None:
    return None if value is None else float(_number(value, most))


def _bytes_or_none(value: object) -> int | None:
    return None if value is None else int(_number(value, 1 << 50))


def main(arguments: list[str] | None = None) -> int:
    """Print a sample each interval until nobody reads any more."""
    parser = argparse.ArgumentParser(prog="slurm_gpushare.metrics.sampler", description=__doc__.splitlines()[0])
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two samples")
    interval = max(0.05, parser.parse_args(arguments).interval)
    gpus = Nvml(say=lambda line: print(f"gpushare: {line}", file=sys.stderr, flush=True))
    due = time.monotonic()
    try:
        while True:
            line = encode(gpus.read())
            while line:
                line = line[os.write(1, line) :]
            due = max(due + interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
    except (BrokenPipeError, KeyboardInterrupt):
        return 0
    finally:
        gpus.close()


if __name__ == "__main__":
    sys.exit(main())
