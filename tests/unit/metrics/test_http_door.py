import selectors
import socket
import threading
import urllib.error
import urllib.request

import pytest

from slurm_gpushare.metrics import http_door as module
from slurm_gpushare.metrics.exposition import CONTENT_TYPE
from slurm_gpushare.metrics.http_door import HttpDoor

from .test_exposition import FIGURES, JOB, replace, value


class Agent:
    """A loop as the agent's, with a door."""

    def __init__(self, address="127.0.0.1:0", most=1000):
        self.selector = selectors.DefaultSelector()
        self.figures, self.lines, self.asked = FIGURES, [], 0
        self.news = threading.Condition()
        self.door = HttpDoor(address, self.selector, self.measure, most, lambda: 7, self.say)
        self.turn, self.over = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self.loop)
        self.thread.start()
        self.door.start()

    def measure(self):
        assert threading.current_thread() is self.thread
        self.asked += 1
        if isinstance(self.figures, Exception):
            raise self.figures
        return self.figures

    def say(self, line):
        with self.news:
            self.lines.append(line)
            self.news.notify_all()

    def wait_for(self, text):
        with self.news:
            assert self.news.wait_for(lambda: any(text in line for line in self.lines), 20), self.lines

    def loop(self):
        while not self.over.is_set():
            ready = self.selector.select(0.05)
            with self.turn:
                for key, _ in ready:
                    key.data()

    def get(self, path="/metrics", method="GET"):
        self.wait_for("/metrics on")
        request = urllib.request.Request(f"http://127.0.0.1:{self.door.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), error.headers

    def raw(self, data):
        self.wait_for("/metrics on")
        with socket.create_connection(("127.0.0.1", self.door.port), 20) as connection:
            connection.sendall(data)
            answer = b""
            try:
                while more := connection.recv(4096):
                    answer += more
            except ConnectionResetError:
                pass
            return answer

    def stop(self):
        self.over.set()
        self.door.stop()
        self.thread.join()


@pytest.fixture
def agent():
    agent = Agent()
    yield agent
    agent.stop()


def test_what_the_loop_knows_now_is_shown(agent):
    assert agent.asked == 0
    status, text, headers = agent.get()
    assert (status, headers["Content-Type"]) == (200, CONTENT_TYPE)
    assert value(text, "gpushare_job_gpu_used_seconds_total", jobid="7") == 2
    assert value(text, "gpushare_agent_unsent_bytes") == 7
    assert value(text, "process_resident_memory_bytes") > 1e6
    assert value(text, "process_cpu_seconds_total") > 0
    agent.figures = replace(FIGURES, jobs=(replace(JOB, job_id=8),))
    _, text, _ = agent.get()
    assert value(text, "gpushare_job_info", jobid="7") is None
    assert value(text, "gpushare_job_info", jobid="8") == 1


def test_while_the_loop_hangs_nothing_old_is_shown(agent, monkeypatch):
    assert agent.get()[0] == 200
    monkeypatch.setattr(module, "_LONGEST", 0.2)
    with agent.turn:
        status, text, _ = agent.get()
    assert status == 503 and "gpushare_" not in text
    monkeypatch.undo()
    assert agent.get()[0] == 200


def test_a_fault_in_the_figures_does_not_end_the_loop(agent):
    agent.figures = RuntimeError("no")
    assert agent.get()[0] == 503
    agent.wait_for("/metrics: RuntimeError no")
    agent.figures = FIGURES
    assert agent.get()[0] == 200


@pytest.mark.parametrize(
    "path, method, status",
    [("/", "GET", 404), ("/metricsx", "GET", 404), ("/metrics?a=b", "GET", 200), ("/metrics", "POST", 405)],
)
def test_there_is_one_page_and_it_is_only_read(agent, path, method, status):
    assert agent.get(path, method)[0] == status


def test_head_has_no_body(agent):
    head = agent.raw(b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("data", [b"\x16\x03\x01\r\n\r\n", b"GET /metrics\r\n\r\n", b" \r\n\r\n"])
def test_what_is_not_http_is_refused(agent, data):
    assert agent.raw(data).startswith(b"HTTP/1.1 400 ")


def test_a_question_without_end_is_not_read_to_its_end(agent):
    assert agent.raw(b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 5000) == b""


def test_those_who_say_nothing_hold_it_up_for_a_bounded_time(agent, monkeypatch):
    monkeypatch.setattr(module, "_LONGEST", 0.2)
    agent.wait_for("/metrics on")
    silent = [socket.create_connection(("127.0.0.1", agent.door.port)) for _ in range(4)]
    try:
        for _ in range(3):
            assert agent.get()[0] in (200, 503)
    finally:
        for each in silent:
            each.close()


def test_more_series_than_the_limit_are_told_once():
    agent = Agent(most=20)
    try:
        for _ in range(2):
            assert value(agent.get()[1], "gpushare_agent_dropped_series") == 16
        agent.figures = replace(FIGURES, jobs=())
        agent.get()
        agent.wait_for("all series are shown again")
        assert sum("16 series are left out" in line for line in agent.lines) == 1
    finally:
        agent.stop()


def test_an_address_that_is_taken_is_told_and_tried_again(monkeypatch):
    monkeypatch.setattr(module, "_AGAIN", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        agent = Agent(f"127.0.0.1:{port}")
        agent.wait_for(f"cannot listen on 127.0.0.1:{port}")
    try:
        assert agent.get()[0] == 200
        assert sum("cannot listen" in line for line in agent.lines) == 1
    finally:
        agent.stop()


def test_it_listens_on_ipv6_too():
    agent = Agent("[::1]:0")
    try:
        agent.wait_for("/metrics on")
        with socket.create_connection(("::1", agent.door.port), 20) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    finally:
        agent.stop()
