import threading

import pytest

from slurm_gpushare.errors import StoreError
from slurm_gpushare.metrics import live_sender as module
from slurm_gpushare.metrics.live import LiveSample, sample_from_json
from slurm_gpushare.metrics.live_sender import PAUSE, LiveSender

SAMPLE = LiveSample("node", "n1", 0.0, (), ())


class Service:
    """What `gpushare serve` answers, a clock, and what the sender says."""

    def __init__(self, monkeypatch):
        self.now, self.answer, self.got, self.said = 0.0, (200, "{}"), [], []
        self.arrived = threading.Event()
        monkeypatch.setattr(module, "post", self.post)
        self.sender = LiveSender("http://here:1/", self.said.append, lambda payload: payload, lambda: self.now)

    def post(self, url, body, credential):
        self.got.append((url, sample_from_json(body), len(credential)))
        self.arrived.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def service(monkeypatch):
    return Service(monkeypatch)


def test_a_sample_is_sent_when_it_is_time_and_made_only_then(service):
    made = []

    def measure():
        made.append(service.now)
        return SAMPLE

    service.now = PAUSE
    service.sender.offer(measure)
    service.sender.offer(measure)
    assert made == [PAUSE]
    service.sender.start()
    assert service.arrived.wait(20)
    service.sender.stop(20)
    assert service.got == [("http://here:1/v1/live", SAMPLE, 64)]


def test_a_service_that_refuses_is_told_once_and_asked_less_often(service):
    for answer in (StoreError("refused"), StoreError("refused"), (200, "{}"), (403, "no"), (403, "no")):
        service.answer = answer
        service.sender.send_once(SAMPLE)
    assert [line.partition(": ")[0] for line in service.said] == [
        "the service does not take what is measured now",
        "the service takes what is measured now",
        "the service does not take what is measured now",
    ]
    assert "status 403: no" in service.said[-1]
    service.now = PAUSE
    service.sender.offer(lambda: SAMPLE)
    service.sender._news.clear()
    made = []
    for service.now in range(int(PAUSE), int(6 * PAUSE)):
        service.sender.offer(lambda: made.append(service.now))
        service.sender._news.clear()
    assert made == [5 * PAUSE]
