"""Serve the GPUs of a node on a Unix socket.

``python3 -m slurm_gpushare.lab.standins.gpu.daemon --config FILE --socket PATH``; the configuration is JSON:
``{"gpus": [{"uuid": …, "name": …, "memory_mib": …, "idle_watts": …, "max_watts": …, "capability": …, "minor": …}]}``;
a GPU may have a ``compute_mode`` (DEFAULT, EXCLUSIVE_PROCESS, PROHIBITED), the document a ``driver_version``.
Everybody may connect; only root's connections may script failures. A client's process is what the kernel says
(SO_PEERCRED), in the daemon's own pid namespace.
"""

import argparse
import asyncio
import json
import sys
from functools import partial
from pathlib import Path

from slurm_gpushare.errors import EXIT_FAILED, LabError
from slurm_gpushare.lab.standins.gpu.engine import Gpus
from slurm_gpushare.lab.standins.gpu.protocol import MAX_LINE, serve_connection
from slurm_gpushare.lab.standins.gpu.spec import parse_driver_version, parse_specs
from slurm_gpushare.lab.standins.serving import EndsWithProcess, Serving, bind, peer

DEFAULT_SOCKET = "/dev/nvidia-standin/socket"


def load_gpus(path: str) -> Gpus:
    """Return the machine that the configuration file describes. Raises LabError, which names the file."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        return Gpus(parse_specs(document), driver_version=parse_driver_version(document))
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise LabError(f"{path} is not JSON: {error}") from None
    except LabError as error:
        raise LabError(f"{path}: {error}") from None


async def serve_client(gpus: Gpus, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection of the Unix socket; its process ends its loads."""
    pid, uid = peer(writer)
    with EndsWithProcess(writer, pid):
        await serve_connection(reader, writer, gpus, pid, allow_control=uid == 0)


async def serve(gpus: Gpus, path: str) -> None:
    """Serve until SIGTERM or SIGINT, then remove the socket. Raises LabError when the socket cannot be made."""
    async with Serving() as serving:
        # Who finds the socket may send a signal, so the signals' handlers come before it.
        listener = bind(path)
        try:
            client = serving.client(partial(serve_client, gpus))
            serving.add(await asyncio.start_unix_server(client, sock=listener, limit=MAX_LINE))
            await serving.stopped.wait()
        finally:
            Path(path).unlink(missing_ok=True)  # from Python 3.13 on the server removes it, too


def main(argv: list[str] | None = None) -> int:
    """Run the daemon; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="gpu-standin", description="serve stand-in GPUs on a Unix socket", allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="JSON file that describes the GPUs")
    parser.add_argument("--socket", default=DEFAULT_SOCKET, help=f"where to listen (default {DEFAULT_SOCKET})")
    options = parser.parse_args(argv)
    try:
        asyncio.run(serve(load_gpus(options.config), options.socket))
    except LabError as error:
        print(f"gpu-standin: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
