"""Serve the GPUs of a node on a Unix socket.

``python3 -m slurm_gpushare.lab.standins.gpu.daemon --config FILE --socket PATH``; the configuration is JSON:
``{"gpus": [{"uuid": …, "name": …, "memory_mib": …, "idle_watts": …, "max_watts": …, "capability": …, "minor": …}]}``
Everybody may connect; only root's connections may script failures. A client's process is what the kernel says
(SO_PEERCRED), in the daemon's own pid namespace.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import struct
import sys

from slurm_gpushare.errors import EXIT_FAILED, LabError
from slurm_gpushare.lab.standins.gpu.engine import Gpus
from slurm_gpushare.lab.standins.gpu.protocol import MAX_LINE, serve_connection
from slurm_gpushare.lab.standins.gpu.spec import GpuSpec, parse_specs

DEFAULT_SOCKET = "/dev/nvidia-standin/socket"


def load_specs(path: str) -> list[GpuSpec]:
    """Read the configuration file. Raises LabError, which names the file."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse_specs(json.load(file))
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise LabError(f"{path} is not JSON: {error}") from None
    except LabError as error:
        raise LabError(f"{path}: {error}") from None


def bind(path: str) -> socket.socket:
    """Return a listening socket at ``path``, in the place of one that nobody serves any more. Raises LabError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(path) == 0:
                raise LabError(f"{path} is served already: stop that daemon or name another socket")
        if os.path.lexists(path):
            os.unlink(path)
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise LabError(f"{path}: {error.strerror or error}") from None
    except LabError:
        listener.close()
        raise
    return listener


async def serve_client(gpus: Gpus, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection of the Unix socket; its process ends its loads."""
    peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", peer)
    loop = asyncio.get_running_loop()
    process = None
    if pid:
        try:
            # A child may have inherited the connection: what the process used ends with the process all the same.
            process = os.pidfd_open(pid)
            loop.add_reader(process, writer.transport.abort)
        except ProcessLookupError:
            writer.transport.abort()
        except OSError:
            # No pidfd in this kernel or sandbox: the connection alone tells.
            pass
    try:
        await serve_connection(reader, writer, gpus, pid, allow_control=uid == 0)
    finally:
        if process is not None:
            loop.remove_reader(process)
            os.close(process)


async def serve(gpus: Gpus, path: str) -> None:
    """Serve until SIGTERM or SIGINT, then remove the socket. Raises LabError when the socket cannot be made."""
    listener = bind(path)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks: set[asyncio.Task] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        try:
            await serve_client(gpus, reader, writer)
        except asyncio.CancelledError:
            # The daemon stops; asyncio would report a cancelled client as an error.
            pass

    server = await asyncio.start_unix_server(client, sock=listener, limit=MAX_LINE)
    try:
        await stop.wait()
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            os.unlink(path)
        except FileNotFoundError:
            # From Python 3.13 on the server has removed it.
            pass


def main(argv: list[str] | None = None) -> int:
    """Run the daemon; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="gpu-standin", description="serve stand-in GPUs on a Unix socket", allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="JSON file that describes the GPUs")
    parser.add_argument("--socket", default=DEFAULT_SOCKET, help=f"where to listen (default {DEFAULT_SOCKET})")
    options = parser.parse_args(argv)
    try:
        asyncio.run(serve(Gpus(load_specs(options.config)), options.socket))
    except LabError as error:
        print(f"gpu-standin: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
