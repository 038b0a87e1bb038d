"""The service over HTTP, where munge and Slurm are substitutes; with its client and the agents' sender."""

import asyncio
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from slurm_gpushare.accounting import client
from slurm_gpushare.accounting.identity import Identity, IdentityError
from slurm_gpushare.accounting.refresh import Refresher
from slurm_gpushare.accounting.report import KEYS
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.service import MAX_BODY, Service
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.errors import StoreError
from slurm_gpushare.metrics.live import LONGEST, LiveGpu, LiveJob, LiveSample, sample_to_json
from slurm_gpushare.metrics.sender import post
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.usage import usage_to_json
from tests.unit.accounting.month import GIB, RECORDS, RUNS, T, used

SLURM_USER = 64030
PERIOD = Selection(T, T + 2000)
BODY = "".join(usage_to_json(record) + "\n" for record in RECORDS).encode()


def jobs_of(url: str, selection: Selection) -> SimpleNamespace:
    """Return the answer to a report of jobs: its runs and warnings."""
    answer = client.ask(url, "jobs", selection)
    return SimpleNamespace(runs=answer.data["runs"], warnings=answer.warnings)


def credential(uid: int, content: bytes) -> str:
    """Return what the substitute of munge takes: who, and over what."""
    return f"{uid}:{hashlib.sha256(content).hexdigest()}"


def identify(text: str) -> Identity:
    """The substitute of munge: takes what credential() makes, refuses all else."""
    uid, _, payload = text.partition(":")
    if not uid.isdigit():
        raise IdentityError("Invalid credential (8)")
    return Identity(int(uid), payload.encode())


class Running:
    """A service that runs in a thread of its own."""

    def __init__(self, store: Store, fetch: Callable, **options: object):
        self.store = store
        refresher = Refresher(store, fetch, dict, lambda: next(self._ticks))
        self._ticks = iter(range(0, 10**9, 100))
        options = {"identify": identify, "slurm_user": lambda: SLURM_USER, **options}
        self._service = Service(store, refresher, **options)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(20)
        self.url = f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(self._service.app())

        async def start() -> None:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            self._ready.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        # A connection whose client still holds it open would be told of at the end of the tests.
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(20)

    def send(self, body: bytes, uid: int = 0, over: bytes | None = None) -> tuple[int, dict]:
        status, answer = post(self.url + "/v1/usage", body, credential(uid, body if over is None else over))
        return status, json.loads(answer)


@pytest.fixture
def serve(tmp_path: Path):
    running = []

    def start(fetch: Callable = lambda *args: RUNS, **options: object) -> Running:
        running.append(Running(Store(f"sqlite:///{tmp_path}/usage.sqlite"), fetch, **options))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def as_uid(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def become(uid: int) -> None:
        monkeypatch.setattr(client, "munge_credential", lambda payload: f"{uid}:{payload}")

    become(0)
    return become


def test_records_are_kept_and_twice_is_once(serve, as_uid) -> None:
    service = serve()
    for _ in range(2):
        assert service.send(BODY) == (200, {"accepted": len(RECORDS), "rejected": []})
    assert len(service.store.usage(PERIOD)) == len(RECORDS)
    answer = jobs_of(service.url, PERIOD)
    assert answer.warnings == []
    assert [tuple(one) for one in answer.runs] == [KEYS] * len(answer.runs)
    runs = {(one["job_id"], one["restart"]): one for one in answer.runs}
    assert sorted(runs) == [(1, 0), (1, 1), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0)]
    assert runs[1, 1]["gpu_seconds_used"] == pytest.approx(100)
    assert runs[6, 0]["gpu_seconds_used"] is None


def test_bad_records_are_told_by_their_line(serve) -> None:
    service = serve()
    lines = BODY.splitlines()
    status, answer = service.send(b"\n".join([lines[0], b"x", lines[1]]))
    assert (status, answer["accepted"], [one["index"] for one in answer["rejected"]]) == (200, 2, [1])
    assert service.send(b"") == (200, {"accepted": 0, "rejected": []})


@pytest.mark.parametrize(("uid", "status"), [(0, 200), (SLURM_USER, 200), (1001, 403), (65534, 403)])
def test_only_root_and_slurm_user_write(serve, uid: int, status: int) -> None:
    service = serve()
    assert service.send(BODY, uid)[0] == status
    assert bool(service.store.usage(PERIOD)) == (status == 200)


def test_nobody_and_another_content_are_refused(serve) -> None:
    service = serve()
    assert service.send(BODY, over=BODY[:-1])[0] == 401
    for forged in ("", "root", "MUNGE:AwQFAAD:"):
        status, answer = post(service.url + "/v1/usage", BODY, forged)
        assert status == 401 and "error" in json.loads(answer)
    assert service.store.usage(PERIOD) == []


class Offered:
    """What summaries are told of."""

    def __init__(self):
        self.told, self.jobs = [], []

    def start(self) -> None:
        self.told.append("start")

    def stop(self) -> None:
        self.told.append("stop")

    def offer(self, records: list) -> None:
        self.jobs.append({record.job_id for record in records})


def test_summaries_hear_of_kept_records_alone(serve) -> None:
    summaries = Offered()
    service = serve(summaries=summaries)
    assert service.send(BODY, 1001)[0] == 403
    lines = BODY.splitlines()
    assert service.send(b"x\n" + lines[0])[0] == 200
    assert summaries.jobs == [{RECORDS[0].job_id}]
    service.stop()
    assert summaries.told == ["start", "stop"]


def test_a_body_without_end_is_refused(serve) -> None:
    service = serve()
    body = b"x" * (MAX_BODY + 1)
    assert service.send(body)[0] == 413


def test_who_asks_sees_own_jobs_root_and_slurm_user_all(serve, as_uid) -> None:
    service = serve()
    service.send(BODY)
    as_uid(1002)
    assert {one["job_id"] for one in jobs_of(service.url, PERIOD).runs} == {4, 6}
    as_uid(4711)
    assert jobs_of(service.url, PERIOD).runs == []
    with pytest.raises(StoreError, match="jobs of alice: only coordinators of their accounts, operators"):
        jobs_of(service.url, Selection(T, T + 2000, users=("alice",)))
    as_uid(SLURM_USER)
    only = jobs_of(service.url, Selection(T, T + 2000, users=("bob",)))
    assert {one["job_id"] for one in only.runs} == {4}


def test_a_credential_for_another_question_is_refused(serve, as_uid, monkeypatch: pytest.MonkeyPatch) -> None:
    service = serve()
    monkeypatch.setattr(client, "munge_credential", lambda payload: "0:" + payload[::-1])
    with pytest.raises(StoreError, match="not made over the path"):
        jobs_of(service.url, PERIOD)


def test_slurm_away_is_a_warning_and_the_stored_answer(serve, as_uid) -> None:
    away = threading.Event()

    def fetch(*arguments: object) -> list:
        if away.is_set():
            raise SlurmError("sacct: status 1: Problem talking to the database")
        return RUNS

    service = serve(fetch)
    before = jobs_of(service.url, PERIOD)
    away.set()
    after = jobs_of(service.url, PERIOD)
    assert after.runs == before.runs != []
    assert len(after.warnings) == 1 and "Problem talking" in after.warnings[0]


def test_an_unknown_slurm_user_has_no_rights_but_root_has(serve) -> None:
    def unknown() -> int:
        raise SlurmError("scontrol: status 1: Unable to contact slurm controller")

    service = serve(slurm_user=unknown)
    assert service.send(BODY, SLURM_USER)[0] == 403
    assert service.send(BODY, 0)[0] == 200


def test_a_client_that_sends_no_body_holds_up_no_other_and_is_let_go(serve) -> None:
    service = serve(body_timeout=2.0)
    head = "POST /v1/usage HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n"
    head += f"Authorization: MUNGE {credential(0, b'')}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as slow:
        slow.sendall(head.encode())
        for _ in range(20):
            assert service.send(BODY)[0] == 200
        assert b" 408 " in slow.recv(100)


def test_a_slurm_that_hangs_holds_up_no_agent(serve, as_uid) -> None:
    asked, release = threading.Event(), threading.Event()

    def fetch(*arguments: object) -> list:
        asked.set()
        assert release.wait(30)
        return RUNS

    service = serve(fetch)
    reader = threading.Thread(target=jobs_of, args=(service.url, PERIOD))
    reader.start()
    assert asked.wait(30)
    assert service.send(BODY)[0] == 200
    release.set()
    reader.join(30)


def test_one_refresh_at_a_time(serve, as_uid) -> None:
    known = threading.Semaphore(0)
    active, most = [], []

    def who(text: str) -> Identity:
        known.release()
        return identify(text)

    def fetch(*arguments: object) -> list:
        active.append(1)
        if not most:
            # The first waits until all the others have been let in.
            assert all(known.acquire(timeout=30) for _ in range(8))
        most.append(len(active))
        active.pop()
        return RUNS

    service = serve(fetch, identify=who)
    readers = [threading.Thread(target=jobs_of, args=(service.url, PERIOD)) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert most == [1] * 8


def test_what_is_wrong_with_a_question_is_told(serve) -> None:
    service = serve()
    for path in (
        "/v1/report/jobs",
        "/v1/report/jobs?start=5&end=4",
        "/v1/report/jobs?start=0&end=1&who=x",
        "/v1/report/usage?start=0&end=1",
        "/v1/report/usage?start=0&end=1&by=colour",
    ):
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        connection.request("GET", path, headers={"Authorization": "MUNGE " + credential(0, path.encode())})
        response = connection.getresponse()
        assert response.status == 400
        assert "write" in json.loads(response.read())["error"]
        connection.close()


def test_sums_are_of_what_who_asks_may_see(serve, as_uid) -> None:
    service = serve()
    for record in RECORDS:
        assert service.send(usage_to_json(record).encode())[0] == 200
    period = Selection(T, T + 1000)

    def used(by: str, selection: Selection = period) -> dict[str | None, float]:
        answer = client.ask(service.url, "usage", selection, by=by)
        return {line["group"][by]: line["gpu_seconds_used"] for line in answer.data["lines"]}

    as_uid(0)
    assert used("user") == {"alice": 350, "bob": 60}
    assert used("account", replace(period, accounts=("biology",))) == {"biology": 60}
    assert used("node", replace(period, users=("alice",), states=("COMPLETED",))) == {"n1": 240, "n2": 100, None: None}
    as_uid(1002)
    assert used("node") == {"n1": 60, None: None}  # the second is a run of two nodes that nobody measured
    with pytest.raises(StoreError, match="alice"):
        used("user", replace(period, users=("alice",)))


def test_advice_is_on_what_who_asks_may_see(serve, as_uid) -> None:
    service = serve()
    told = {"sm_p95": 0.1, "memory_peak_bytes": GIB, "memory_share_bytes": 4 * GIB}
    for record in (used(2, 400, 500, 0.1, **told), used(4, 400, 500, 0.1, user="bob", uid=1002, **told)):
        assert service.send(usage_to_json(record).encode())[0] == 200

    def users(**chosen: tuple) -> list[str]:
        answer = client.ask(service.url, "advice", Selection(T, T + 1000, **chosen))
        return [line["user"] for line in answer.data["lines"]]

    as_uid(0)
    assert users() == ["alice", "bob"] and users(accounts=("biology",)) == ["bob"]
    as_uid(1002)
    assert users() == ["bob"]


def test_the_client_tells_one_line_when_nobody_answers(as_uid) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StoreError) as error:
            jobs_of(url, PERIOD)
    assert str(error.value).startswith(f"{url}: Connection refused")


def test_sigterm_ends_the_command_cleanly(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "slurm_gpushare.cli.main", "serve", "--listen", "127.0.0.1:0"]
    argv += ["--database", f"sqlite:///{tmp_path}/usage.sqlite"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        said = []
        while not (said and "listening on 127.0.0.1" in said[-1]):
            said.append(process.stderr.readline())
            assert said[-1], said  # "": it ended
        os.kill(process.pid, signal.SIGTERM)
        rest = process.communicate(timeout=30)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "Traceback" not in rest and "ended" in rest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["usage.sqlite"]


SAMPLE = LiveSample("node", "n1", 0.5, (LiveGpu(0, "GPU-0", "P100", 1, 0.5, 1, 9.0),), (LiveJob(7, 1001, 0, 0.5, 1),))


@pytest.mark.parametrize(
    ("uid", "body", "status"),
    [
        (0, sample_to_json(SAMPLE), 200),
        (SLURM_USER, sample_to_json(SAMPLE), 200),
        (1001, sample_to_json(SAMPLE), 403),
        (0, b"{}", 400),
        (0, b" " * (LONGEST + 1), 413),
    ],
)
def test_only_root_and_slurm_user_say_what_is_measured(serve, as_uid, uid: int, body: bytes, status: int) -> None:
    service = serve()
    assert post(service.url + "/v1/live", body, credential(uid, body))[0] == status
    assert post(service.url + "/v1/live", body, credential(uid, body + b" "))[0] in (401, 403)
    assert [agent["name"] for agent in client.live(service.url)["agents"]] == ["n1"] * (status == 200)


def test_who_asks_what_is_measured_sees_own_jobs_root_and_slurm_user_all(serve, as_uid) -> None:
    service = serve()
    body = sample_to_json(SAMPLE)
    assert post(service.url + "/v1/live", body, credential(0, body)) == (200, "{}")
    for uid, jobs, sm in ((0, [7], 0.5), (SLURM_USER, [7], 0.5), (1001, [7], 0.5), (1002, [], None)):
        as_uid(uid)
        (agent,) = client.live(service.url)["agents"]
        assert [job["job_id"] for job in agent["jobs"]] == jobs
        assert agent["gpus"][0]["sm"] == sm
