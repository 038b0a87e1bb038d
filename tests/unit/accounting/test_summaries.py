"""Which summaries are written, when, and which are left alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.summaries import BATCH, SETTLE, Summaries
from slurm_gpushare.accounting.summary import decode
from slurm_gpushare.slurm.command import SlurmError
from tests.unit.accounting.month import GIB, T, used
from tests.unit.accounting.test_summary import RUN


class Slurm:
    """slurmdbd with the runs that the test sets; sacctmgr changes the last run of a job."""

    def __init__(self):
        self.runs, self.asked, self.written, self.away, self.refused = {}, [], [], False, set()
        self.now, self.said, self.slow = 1000.0, [], None

    def put(self, *runs) -> None:
        for run in runs:
            self.runs.setdefault(run.job_id, []).append(run)

    def fetch(self, cluster, jobs):
        self.asked.append((cluster, list(jobs)))
        if self.away or self.slow in jobs:
            raise SlurmError("sacct: status 1: no slurmdbd")
        return [run for job in jobs for run in self.runs.get(job, ())]

    def command(self, argv, timeout):
        self.written.append(argv)
        job = next(word for word in argv if word.startswith("jobid=")).removeprefix("jobid=")
        if self.away or job in self.refused:
            raise SlurmError("sacctmgr: status 1: no slurmdbd")
        text = argv[-1].removeprefix("admincomment=")
        last = self.runs[int(job)]
        last[-1] = replace(last[-1], admin_comment=text)
        return ""


@pytest.fixture
def slurm() -> Slurm:
    return Slurm()


@pytest.fixture
def store(tmp_path: Path):
    store = Store(f"sqlite:///{tmp_path}/usage.sqlite")
    yield store
    store.close()


@pytest.fixture
def summaries(store: Store, slurm: Slurm) -> Summaries:
    return Summaries(store, slurm.said.append, slurm.fetch, lambda nodes: [nodes], slurm.command, lambda: slurm.now)


def arrive(store: Store, summaries: Summaries, *records) -> None:
    store.add_usage(records)
    summaries.offer(records)


def later(summaries: Summaries, slurm: Slurm, seconds: float = SETTLE) -> None:
    slurm.now += seconds
    summaries.work()


def measured(job: int = 12, share: float = 0.2, **changed: object):
    return used(job, 0, 200, share, memory_share_bytes=10 * GIB, memory_peak_bytes=GIB, **changed)


def comment(slurm: Slurm, job: int = 12, run: int = -1) -> str:
    return slurm.runs[job][run].admin_comment


def test_an_ended_job_gets_its_summary_once(store, slurm, summaries) -> None:
    slurm.put(RUN)
    arrive(store, summaries, measured())
    summaries.work()
    assert slurm.asked == []  # records of other nodes may still come
    later(summaries, slurm)
    assert slurm.asked == [("lab", [12])]
    (argv,) = slurm.written
    assert argv[:8] == ["sacctmgr", "-i", "modify", "job", "where", "jobid=12", "cluster=lab", "set"]
    assert decode(comment(slurm))["nodes"]["n1"]["gpu_utilization"] == {"0": 80.0}
    later(summaries, slurm, 10_000)
    assert len(slurm.asked) == 1
    arrive(store, summaries, measured())
    later(summaries, slurm)
    assert len(slurm.asked) == 2 and len(slurm.written) == 1


def test_a_record_that_comes_late_renews_our_own_text(store, slurm, summaries) -> None:
    slurm.put(RUN)
    arrive(store, summaries, measured())
    later(summaries, slurm)
    arrive(store, summaries, measured(gpu="GPU-2", gpu_index=1, share=0.0))
    later(summaries, slurm)
    assert len(slurm.written) == 2
    assert decode(comment(slurm))["nodes"]["n1"]["gpu_utilization"] == {"0": 80.0, "1": 0.0}


@pytest.mark.parametrize("text", ["JS1:Short", "JS1:None", "JS1:H4sIAAAAAAAA", "ticket 12"])
def test_the_text_of_others_stays(store, slurm, summaries, text: str) -> None:
    slurm.put(replace(RUN, admin_comment=text))
    arrive(store, summaries, measured())
    later(summaries, slurm)
    assert slurm.written == [] and comment(slurm) == text


def test_a_job_without_an_end_is_asked_for_again_and_then_let_go(store, slurm, summaries) -> None:
    slurm.put(replace(RUN, end=None))
    arrive(store, summaries, measured())
    for _ in range(200):
        later(summaries, slurm, 60)
    assert slurm.written == [] and 5 < len(slurm.asked) < 40
    slurm.runs[12][0] = RUN
    arrive(store, summaries, measured())
    later(summaries, slurm)
    assert len(slurm.written) == 1


def test_slurmdbd_away_is_waited_for_and_told_once(store, slurm, summaries) -> None:
    slurm.put(RUN)
    slurm.away = True
    arrive(store, summaries, measured())
    for _ in range(100):
        later(summaries, slurm, 300)
    assert len(slurm.said) == 1 and slurm.written == []
    slurm.away = False
    later(summaries, slurm, 600)
    assert decode(comment(slurm)) is not None
    assert slurm.said[1:] == ["summaries are written again"]


def test_a_sacctmgr_that_fails_again_and_again_is_not_asked_for_each_job(store, slurm, summaries) -> None:
    jobs = range(20, 40)
    slurm.put(*(replace(RUN, job_id=job, name=str(job)) for job in jobs))
    slurm.refused = {str(job) for job in jobs}
    arrive(store, summaries, *(measured(job) for job in jobs))
    later(summaries, slurm)
    assert len(slurm.written) == 3
    slurm.refused = {"20"}
    for _ in range(20):
        later(summaries, slurm, 300)
    assert [job for job in jobs if not comment(slurm, job)] == [20]


def test_many_jobs_are_asked_for_together(store, slurm, summaries) -> None:
    jobs = range(1000, 1000 + 2 * BATCH + 1)
    slurm.put(*(replace(RUN, job_id=job, name=str(job)) for job in jobs))
    arrive(store, summaries, *(measured(job) for job in jobs))
    later(summaries, slurm)
    assert [len(asked) for _, asked in slurm.asked] == [BATCH, BATCH, 1]
    assert len(slurm.written) == len(jobs)


def test_a_job_of_which_slurm_does_not_tell_in_time_holds_up_no_other(store, slurm, summaries) -> None:
    jobs = range(1000, 1000 + 2 * BATCH)
    slurm.put(*(replace(RUN, job_id=job, name=str(job)) for job in jobs))
    slurm.slow = 1003
    arrive(store, summaries, *(measured(job) for job in jobs))
    for _ in range(120):
        later(summaries, slurm, 60)
    assert [job for job in jobs if not comment(slurm, job)] == [1003]


def test_jobs_beyond_what_can_wait_are_told_of(store, slurm, summaries, monkeypatch) -> None:
    monkeypatch.setattr("slurm_gpushare.accounting.summaries._MOST", 2)
    slurm.put(*(replace(RUN, job_id=job, name=str(job)) for job in (1, 2, 3)))
    arrive(store, summaries, *(measured(job) for job in (1, 2, 3)))
    assert slurm.said == ["1 jobs get no summary before the next start: 2 wait already"]
    later(summaries, slurm)
    assert len(slurm.written) == 2


def test_the_last_run_of_a_requeued_job_has_its_own_summary(store, slurm, summaries) -> None:
    second = replace(RUN, submit=T + 300, restart=1, start=T + 310, end=T + 410)
    slurm.put(RUN, second)
    arrive(store, summaries, measured(), used(12, 310, 410, 0.05, memory_share_bytes=GIB))
    later(summaries, slurm)
    assert decode(comment(slurm))["nodes"]["n1"]["gpu_utilization"] == {"0": 20.0}
    assert decode(comment(slurm))["total_time"] == 100
    assert comment(slurm, run=0) == ""


def test_after_a_start_the_last_days_are_looked_at(store, slurm, summaries, monkeypatch) -> None:
    slurm.put(RUN)
    store.add_usage([measured(), measured(13, cluster="other")])
    monkeypatch.setattr("time.time", lambda: T + 1000.0)
    summaries.look_back()
    later(summaries, slurm)
    assert sorted(slurm.asked) == [("lab", [12]), ("other", [13])]
    assert len(slurm.written) == 1


def test_nothing_known_is_nothing_written(store, slurm, summaries) -> None:
    slurm.put(RUN)
    arrive(store, summaries, used(12, 0, 200, None))
    later(summaries, slurm)
    assert slurm.written == []


def test_the_thread_ends_when_it_is_told(store, slurm, summaries) -> None:
    summaries.start()
    summaries.stop()
    assert not summaries._thread.is_alive()
