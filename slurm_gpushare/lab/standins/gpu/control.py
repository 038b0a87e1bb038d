"""Script failures of the stand-in GPUs, or look at their state, from a shell.

``python3 -m slurm_gpushare.lab.standins.gpu.control --socket PATH fail 0 nvmlDeviceGetPowerUsage not_supported``;
the requests are the protocol's (``protocol.py``): ``fail``, ``heal``, ``failures``, ``snapshot``.
"""

import argparse
import json
import socket
import sys

from slurm_gpushare.errors import EXIT_FAILED, LabError
from slurm_gpushare.lab.standins.gpu.daemon import DEFAULT_SOCKET
from slurm_gpushare.lab.standins.gpu.engine import FAILURES


def request(path: str, *words: str) -> str:
    """Send one request to the daemon at ``path`` and return the values of its answer. Raises LabError."""
    if any(not word or " " in word or "\n" in word for word in words):
        raise LabError(f"{list(words)}: a word of a request must not be empty, nor hold blanks")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            connection.sendall(" ".join(words).encode() + b"\n")
            with connection.makefile(encoding="utf-8") as answers:
                answer = answers.readline()
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}: is the GPU stand-in's daemon running?") from None
    kind, _, values = answer.rstrip("\n").partition(" ")
    if kind == "ok":
        return values
    raise LabError(values.partition(" ")[2] or f"{path}: the daemon closed the connection")


def main(argv: list[str] | None = None) -> int:
    """Run one request; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="gpu-standin-control", description="script failures of the stand-in GPUs", allow_abbrev=False
    )
    parser.add_argument("--socket", default=DEFAULT_SOCKET, help=f"the daemon's socket (default {DEFAULT_SOCKET})")
    requests = parser.add_subparsers(dest="request", required=True)
    fail = requests.add_parser("fail", help="let a function fail from now on")
    heal = requests.add_parser("heal", help="remove failures")
    for command in (fail, heal):
        command.add_argument("gpu", help="index, UUID or all")
        command.add_argument("function", help="as in nvml.h, without _vN, or all")
    fail.add_argument("failure", help=", ".join(FAILURES))
    fail.add_argument("milliseconds", nargs="?", help="for slow")
    requests.add_parser("failures", help="print the failures that are set")
    requests.add_parser("snapshot", help="print the whole state")
    options = vars(parser.parse_args(argv))
    words = [options.get(name) for name in ("request", "gpu", "function", "failure", "milliseconds")]
    try:
        answer = request(options["socket"], *(word for word in words if word is not None))
    except LabError as error:
        print(f"gpu-standin-control: {error}", file=sys.stderr)
        return EXIT_FAILED
    if answer:
        print(json.dumps(json.loads(answer), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
