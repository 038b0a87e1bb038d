"""The server: ``LUPINE_PORT=14833 python3 -m slurm_gpushare.lab.standins.lupine.server --config FILE``.

It owns the GPUs of the configuration (as the GPU stand-in's) and gives every client all of them: who uses how much is
nobody's concern here, as it is with the original. A client first sends ``allocation lupine 1`` (the connection's kind
and version), then speaks the GPU stand-in's protocol.
"""

import argparse
import asyncio
import itertools
import os
import re
import sys
from pathlib import Path

from slurm_gpushare.errors import EXIT_FAILED, LabError
from slurm_gpushare.lab.standins.gpu import protocol
from slurm_gpushare.lab.standins.gpu.daemon import load_gpus
from slurm_gpushare.lab.standins.gpu.engine import Gpus
from slurm_gpushare.lab.standins.serving import Serving

DEFAULT_PORT = 14833
HELLO = b"allocation lupine 1\n"
HELLO_SECONDS = 10.0
# nvmlReturn_t: NVML_ERROR_DRIVER_NOT_LOADED.
DRIVER_NOT_LOADED = 9

_ASSUMED = (Path(__file__).parent / "assumed.h").read_text(encoding="utf-8")
FIRST_CHILD = int(re.search(r"^#define ASSUMED_FIRST_CHILD (\d+)$", _ASSUMED, re.MULTILINE)[1])


def read_port(text: str | None) -> int:
    """Return LUPINE_PORT; raises LabError for what is none, as the original ends on it."""
    if text is None:
        return DEFAULT_PORT
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise LabError(f"LUPINE_PORT={text!r}: it must be 1 to 65535")
    return int(text)


async def serve(gpus: Gpus, port: int) -> None:
    """Serve on every address until SIGTERM or SIGINT. Raises OSError when the port is taken."""
    children = itertools.count(FIRST_CHILD)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = await reader.readline()
            if hello != HELLO:
                writer.write(f"error {DRIVER_NOT_LOADED} this is no client of the LUPINE stand-in\n".encode())
                return
            writer.write(b"ok\n")
            await protocol.serve_connection(reader, writer, gpus, next(children), False)
        except (OSError, ValueError, TimeoutError):
            pass  # the client vanished, was silent or sent no line: nobody is left to answer
        finally:
            writer.close()

    async with Serving() as serving:
        handler = serving.client(client)
        serving.add(await asyncio.start_server(handler, "0.0.0.0", port, limit=protocol.MAX_LINE))
        print(f"Server listening on port {port}...", flush=True)
        await serving.stopped.wait()


def main(argv: list[str] | None = None) -> int:
    """Run the server; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="lupine_driver_server", description="stand-in for LUPINE's server", allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="JSON file that describes the GPUs")
    options = parser.parse_args(argv)
    try:
        asyncio.run(serve(load_gpus(options.config), read_port(os.environ.get("LUPINE_PORT"))))
    except (LabError, OSError) as error:
        print(f"lupine_driver_server: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
