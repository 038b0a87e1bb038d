import hashlib
import http.server
import json
import threading
import time

import pytest

from slurm_gpushare.errors import StoreError
from slurm_gpushare.metrics.accumulate import Accumulator
from slurm_gpushare.metrics.sender import Sender, munge_credential, rejected
from slurm_gpushare.metrics.spool import Spool

from .records import launch


def record(job_id):
    return Accumulator(launch(job_id), "GPU-1", 0, "shard", 0.25, "node").record(1010.0)


class Service:
    """A real HTTP server that answers by ``status(job ids)`` and keeps what it took."""

    def __init__(self):
        self.status = lambda jobs: 200
        self.answer = b"because\n"
        self.taken, self.requests = [], []
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                jobs = [json.loads(line)["job_id"] for line in body.splitlines()]
                service.requests.append((self.path, self.headers["Authorization"], body))
                status = service.status(jobs)
                if status == 200:
                    service.taken += jobs
                self.send_response(status)
                self.end_headers()
                self.wfile.write(service.answer)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service():
    service = Service()
    yield service
    service.close()


@pytest.fixture
def spool(tmp_path):
    return Spool(str(tmp_path / "spool"))


def sender(spool, service, **options):
    return Sender(spool, service.url, credential=lambda payload: "cred-" + payload, **options)


def drain(one):
    for _ in range(100):
        if not one.send_once():
            return
    raise AssertionError("it never came to an end")


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_a_batch_carries_the_digest_of_its_body_as_credential(spool, service):
    spool.append([record(1), record(2)])
    drain(sender(spool, service))
    ((path, authorization, body),) = service.requests
    assert path == "/v1/usage" and authorization == "MUNGE cred-" + hashlib.sha256(body).hexdigest()
    assert service.taken == [1, 2] and spool.batch(9) == ([], 0)


@pytest.mark.parametrize("bad", [1, 37, 64])
def test_one_bad_record_is_set_aside_and_the_others_arrive(spool, service, tmp_path, bad):
    spool.append([record(number) for number in range(1, 65)])
    service.status = lambda jobs: 400 if bad in jobs else 200
    drain(sender(spool, service))
    assert service.taken == [number for number in range(1, 65) if number != bad]
    (kept,) = (tmp_path / "spool/refused.jsonl").read_text().splitlines()
    assert json.loads(kept)["record"]["job_id"] == bad and "because" in json.loads(kept)["answer"]
    assert len(service.requests) < 30


def test_a_record_that_the_service_rejects_beside_others_is_set_aside(spool, service, tmp_path):
    spool.append([record(1), record(2), record(3)])
    service.answer = b'{"accepted":2,"rejected":[{"index":1,"reason":"gpu is \'\'"},{"index":7,"reason":"x"}]}'
    drain(sender(spool, service))
    (kept,) = (tmp_path / "spool/refused.jsonl").read_text().splitlines()
    assert json.loads(kept)["record"]["job_id"] == 2 and json.loads(kept)["answer"] == "gpu is ''"
    assert spool.batch(9) == ([], 0)


@pytest.mark.parametrize("answer", ["", "{}", "[]", "5", '{"rejected":[1]}', '{"rejected":[{"index":"x","reason":1}]}'])
def test_an_answer_that_names_nothing_rejects_nothing(answer):
    assert rejected(answer, 3) == []


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_service_that_refuses_us_costs_no_record(spool, service, tmp_path, status):
    spool.append([record(1)])
    service.status = lambda jobs: status
    with pytest.raises(StoreError, match=str(status)):
        sender(spool, service).send_once()
    assert len(spool.batch(9)[0]) == 1 and not (tmp_path / "spool/refused.jsonl").exists()


def test_a_service_that_is_away_costs_no_record(spool, service):
    spool.append([record(1)])
    service.close()
    with pytest.raises(StoreError, match="127"):
        sender(spool, service).send_once()
    assert len(spool.batch(9)[0]) == 1


@pytest.mark.parametrize("url", ["http://", "http://[", "nonsense"])
def test_a_url_that_is_none_is_an_error_and_no_crash(spool, url):
    spool.append([record(1)])
    with pytest.raises(StoreError):
        Sender(spool, url, credential=str).send_once()


def test_the_thread_sends_old_and_new_records_and_tries_again(spool, service):
    lines, answers = [], iter([503, 503])
    service.status = lambda jobs: next(answers, 200)
    spool.append([record(1)])
    one = sender(spool, service, say=lines.append, retry_first=0.01)
    one.start()
    until(lambda: service.taken == [1])
    spool.append([record(2)])
    one.wake()
    until(lambda: service.taken == [1, 2])
    one.stop()
    assert len([line for line in lines if "wait in the spool" in line]) == 1
    assert lines[-1] == "the service takes usage records again"


def test_munge_that_is_missing_is_one_line(tmp_path):
    with pytest.raises(StoreError, match="is munge installed"):
        munge_credential("abc", str(tmp_path / "none"))
