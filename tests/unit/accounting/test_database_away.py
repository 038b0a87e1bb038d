"""Agents send while the database is killed and comes back: nothing is lost, nothing is there twice."""

import threading
import time

from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.usage import usage_to_json
from tests.databases import Server
from tests.unit.accounting.month import T, used
from tests.unit.accounting.test_service import Running

AGENTS, RECORDS = 6, 15
PATIENCE = 120.0  # seconds


def test_agents_that_send_again_lose_nothing(server: Server) -> None:
    service = Running(Store(server.create()), lambda *args: [])
    refused, kept = threading.Event(), threading.Event()
    failed: list[str] = []

    def agent(number: int) -> None:
        deadline = time.monotonic() + PATIENCE
        for job in range(1, RECORDS + 1):
            body = (usage_to_json(used(job, number, 100, 0.5, node=f"n{number}")) + "\n").encode()
            while (answer := service.send(body))[0] != 200:
                if answer[0] != 503 or "usage" not in answer[1]["error"] or time.monotonic() > deadline:
                    failed.append(str(answer))
                    return
                refused.set()
                time.sleep(0.05)
            kept.set()
            if job == RECORDS // 2:
                # All agents have something left to send when the database goes.
                refused.wait(PATIENCE)

    agents = [threading.Thread(target=agent, args=(number,)) for number in range(AGENTS)]
    try:
        for each in agents:
            each.start()
        assert kept.wait(PATIENCE)
        server.kill()
        try:
            body = usage_to_json(used(1, 0, 100, 0.5, node="n0")).encode()
            assert service.send(body)[0] == 503
            refused.set()
        finally:
            server.start()
        for each in agents:
            each.join(PATIENCE)
        assert failed == []
        found = service.store.usage(Selection(T, T + 1000))
        assert sorted(one.key for one in found) == sorted(
            used(job, number, 100, 0.5, node=f"n{number}").key
            for number in range(AGENTS)
            for job in range(1, RECORDS + 1)
        )
    finally:
        refused.set()
        service.stop()
