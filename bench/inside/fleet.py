"""In the lab, as root: agents whose jobs end at one moment, and what a `gpushare serve` of its own has of them.

Arguments as JSON: agents, jobs (of each agent), killed (end the service with SIGKILL as soon as it has some, and
start it again), deadline (seconds for everything).
Prints JSON: {"lags": [seconds from that moment until an agent forgot a record, since the service had it, ...], "lost",
"doubled", "wrong": records}. An agent is its own spool and its sender; what it would measure is made up.
"""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

from slurm_gpushare.metrics.sender import Sender
from slurm_gpushare.metrics.spool import Spool
from slurm_gpushare.usage import MOST_POINTS, UsageRecord

SERVE = "/opt/gpushare/bin/gpushare"
STARTED = 1.7e9
SPAN = 3600.0
START = 60.0  # seconds for the service to come up


class TimedSpool(Spool):
    """A spool that keeps the moment in which each of its records was sent."""

    def __init__(self, folder: str):
        super().__init__(folder)
        self.sent_at: list[float] = []
        self._batch = 0

    def batch(self, most: int) -> tuple[list[bytes], int]:
        """Return the oldest records."""
        lines, length = super().batch(most)
        self._batch = len(lines)
        return lines, length

    def sent(self, length: int) -> None:
        """Forget what was sent."""
        super().sent(length)
        self.sent_at += [time.monotonic()] * self._batch


def record(agent: int, job: int) -> UsageRecord:
    """Return the record of an hour's job, as large as they become."""
    number = agent * 1000 + job
    return UsageRecord(
        cluster="fleet",
        job_id=number,
        node=f"n{agent}",
        gpu=f"GPU-{number:08d}-0000-0000-0000-000000000000",
        gpu_index=0,
        gpu_name="Tesla P100-PCIE-16GB",
        backend="shard",
        fraction=0.25,
        uid=1001,
        user="alice",
        started=STARTED,
        ended=STARTED + SPAN,
        seconds_sampled=SPAN,
        quality="measured",
        source="node",
        gpu_seconds_reserved=SPAN / 4,
        gpu_seconds_used=float(number),
        gpu_seconds_idle=0.0,
        gpu_seconds_over=0.0,
        memory_peak_bytes=number,
        energy_joules=float(number),
        processes_seen=1,
        gaps=[[10.0 * gap, 1.5, "GPU gives no reading"] for gap in range(20)],
        series={
            "every": 16.0,
            "sm": [round((number + point) % 97 / 97, 4) for point in range(MOST_POINTS)],
            "memory": [4294967296 + number * 1000 + point for point in range(MOST_POINTS)],
        },
    )


def serve(port: int, store: str) -> subprocess.Popen:
    """Start the service; return when it listens."""
    argv = [SERVE, "serve", "--listen", f"127.0.0.1:{port}", "--database", f"sqlite:///{store}"]
    service = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return service
        except OSError:
            if service.poll() is not None or time.monotonic() > end:
                sys.exit(f"gpushare serve does not listen on port {port}")
            time.sleep(0.05)


def stored(store: str) -> list[tuple]:
    """Return what the store has of each record."""
    query = "select job_id, node, gpu, gpu_seconds_used, memory_peak_bytes from gpushare_usage"
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def main(arguments: dict) -> dict:
    """Run it."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port, store = free.getsockname()[1], f"{folder}/usage.sqlite"
        free.close()
        service = serve(port, store)
        spools = [TimedSpool(f"{folder}/spool/{agent}") for agent in range(arguments["agents"])]
        senders = [Sender(spool, f"http://127.0.0.1:{port}") for spool in spools]
        records = [[record(agent, job) for job in range(arguments["jobs"])] for agent in range(arguments["agents"])]
        for spool, ended in zip(spools, records, strict=True):
            spool.append(ended)  # each node has a disk of its own
        began = time.monotonic()
        try:
            for sender in senders:
                sender.start()
            deadline = began + arguments["deadline"]
            if arguments["killed"]:
                while not stored(store) and time.monotonic() < deadline:
                    time.sleep(0.01)
                service.send_signal(signal.SIGKILL)
                service.wait()
                service = serve(port, store)
            while any(len(spool.sent_at) < arguments["jobs"] for spool in spools) and time.monotonic() < deadline:
                time.sleep(0.02)
            rows = stored(store)
        finally:
            for sender in senders:
                sender.stop(0.0)
            service.terminate()
            service.wait()
    expected = {
        (one.job_id, one.node, one.gpu): (one.gpu_seconds_used, one.memory_peak_bytes)
        for agent in records
        for one in agent
    }
    found = {row[:3]: row[3:] for row in rows}
    return {
        "lags": [at - began for spool in spools for at in spool.sent_at],
        "lost": len(set(expected) - set(found)),
        "doubled": len(rows) - len(set(found) & set(expected)),
        "wrong": sum(found[key] != expected[key] for key in set(found) & set(expected)),
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
