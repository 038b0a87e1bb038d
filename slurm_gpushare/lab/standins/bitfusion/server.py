"""The server of a pool: ``python3 -m slurm_gpushare.lab.standins.bitfusion.server --config FILE``.

One process is one server. Its state is in memory alone: a server that was restarted knows of no allocation.
Several servers are several processes, and clients ask each of those in their servers.conf.
"""

import argparse
import asyncio
import os
import signal
import sys

from slurm_gpushare.errors import EXIT_FAILED, LabError
from slurm_gpushare.lab.standins.bitfusion.config import ServerConfig, load_config
from slurm_gpushare.lab.standins.bitfusion.control import MAX_LINE, REQUEST_SECONDS, serve_control
from slurm_gpushare.lab.standins.bitfusion.pool import Pool
from slurm_gpushare.lab.standins.gpu import daemon, protocol

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


async def serve_host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pool: Pool) -> None:
    """Serve the whole cards to NVML of the server's own host."""
    await daemon.serve_client(pool.gpus, reader, writer)


async def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises LabError when a port cannot be had."""
    pool = Pool(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks: set[asyncio.Task] = set()

    def handler(serve_client):
        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            tasks.add(task)
            try:
                await serve_client(reader, writer, pool)
            finally:
                tasks.discard(task)

        return client

    async def expire() -> None:
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            pool.expire()

    servers = []
    try:
        control = serve_control, config.port, MAX_LINE
        data = serve_data, config.data_port, protocol.MAX_LINE
        for client, port, limit in (control, data):
            try:
                servers.append(await asyncio.start_server(handler(client), config.listen, port, limit=limit))
            except OSError as error:
                raise LabError(f"cannot listen on {config.listen}:{port}: {error.strerror}") from None
        if config.nvml is not None:
            os.makedirs(os.path.dirname(config.nvml), mode=0o755, exist_ok=True)
            listener = daemon.bind(config.nvml)
            servers.append(await asyncio.start_unix_server(handler(serve_host), sock=listener, limit=protocol.MAX_LINE))
        tasks.add(loop.create_task(expire()))
        print(f"bitfusion stand-in: {len(config.gpus)} GPUs on {config.listen}:{config.port}", flush=True)
        await stop.wait()
    finally:
        for server in servers:
            server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
