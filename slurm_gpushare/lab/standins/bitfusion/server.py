"""The server of a pool: ``python3 -m slurm_gpushare.lab.standins.bitfusion.server --config FILE``.

One process is one server. Its state is in memory alone: a server that was restarted knows of no allocation.
Several servers are several processes, and clients ask each of those in their servers.conf.
"""

import argparse
import asyncio
import os
import sys
from functools import partial

from slurm_gpushare.errors import EXIT_FAILED, LabError
from slurm_gpushare.lab.standins.bitfusion.config import ServerConfig, load_config
from slurm_gpushare.lab.standins.bitfusion.control import MAX_LINE, REQUEST_SECONDS, serve_control
from slurm_gpushare.lab.standins.bitfusion.pool import Pool
from slurm_gpushare.lab.standins.gpu import daemon, protocol
from slurm_gpushare.lab.standins.serving import Serving, bind

EXPIRE_SECONDS = 0.25
# nvmlReturn_t: NVML_ERROR_DRIVER_NOT_LOADED.
DRIVER_NOT_LOADED = 9


async def serve_data(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pool: Pool) -> None:
    """Serve the GPUs of one allocation: after a line ``allocation UUID SECRET``, in the GPU stand-in's own protocol."""
    allocation = None
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            words = (await reader.readline()).decode("utf-8", "replace").split()
        if len(words) == 3 and words[0] == "allocation":
            allocation = pool.find(words[1], words[2])
        if allocation is None:
            writer.write(f"error {DRIVER_NOT_LOADED} no such allocation\n".encode())
            return
        writer.write(b"ok\n")
        pool.connect(allocation)
        try:
            await protocol.serve_connection(reader, writer, allocation.view, None, False)
        finally:
            pool.disconnect(allocation)
    except (OSError, ValueError, TimeoutError):
        # The client vanished, was silent, or sent no line: nobody is left to answer.
        pass
    finally:
        writer.close()


async def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises LabError when a port cannot be had."""
    pool = Pool(config)

    async def expire() -> None:
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            pool.expire()

    async with Serving() as serving:
        control = serve_control, config.port, MAX_LINE
        data = serve_data, config.data_port, protocol.MAX_LINE
        for serve_client, port, limit in (control, data):
            client = serving.client(partial(serve_client, pool=pool))
            try:
                serving.add(await asyncio.start_server(client, config.listen, port, limit=limit))
            except OSError as error:
                raise LabError(f"cannot listen on {config.listen}:{port}: {error.strerror}") from None
        if config.nvml is not None:
            os.makedirs(os.path.dirname(config.nvml), mode=0o755, exist_ok=True)
            client = serving.client(partial(daemon.serve_client, pool.gpus))
            listener = bind(config.nvml)
            serving.add(await asyncio.start_unix_server(client, sock=listener, limit=protocol.MAX_LINE))
        serving.task(expire())
        print(f"bitfusion stand-in: {len(config.gpus)} GPUs on {config.listen}:{config.port}", flush=True)
        await serving.stopped.wait()


def main(argv: list[str] | None = None) -> int:
    """Run the server; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="bitfusion-standin-server", description="serve a pool of stand-in GPUs", allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="JSON file that describes the server")
    options = parser.parse_args(argv)
    try:
        asyncio.run(serve(load_config(options.config)))
    except LabError as error:
        print(f"bitfusion-standin-server: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
