"""Where a job's way broke, by what was seen of it."""

from dataclasses import replace

from slurm_gpushare.doctor.job import STAGES, Trace, follow
from slurm_gpushare.grant import decode_grant
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.slurm.sacct import JobRow

EXTRA = (
    '{"v":1,"backend":"shard","gpus":1,"fraction":0.25,"slices":25,"memory":null,"nodes":1,"rule":"default",'
    '"request":"gpu:0.25","extra":""}'
)
LIVE = {"job_id": 7, "state": "RUNNING", "reason": "", "extra": EXTRA, "nodes": ["n1"]}
RECORD = LaunchRecord(
    job_id=7, uid=1, gid=1, user="alice", node="n1", cluster="c", started=1.0, grant=decode_grant(EXTRA), gpus=(0,)
)
ROW = JobRow(
    *("c", 7, 1, 0, None, None, 2, 9, 7, "alice", 1, "a", "p", "q", "COMPLETED", "0:0", 1, "n1", "", "", EXTRA),
)
RUNNING = Trace("7", LIVE, None, RECORD, "n1", {"measured": []}, True)
ENDED = Trace("7", "slurmctld does not know job 7", ROW, None, "n1", {"measured": [{}], "quality": "measured"}, True)


def _stages(trace: Trace) -> dict:
    found = dict(follow(trace))
    assert tuple(found) == STAGES
    return found


def _broken(trace: Trace, stage: str, words: str) -> None:
    found = _stages(trace)
    assert [name for name in STAGES if found[name].status == "fail"] == [stage]
    assert words in found[stage].found, found[stage]
    assert found[stage].remedy
    assert all(found[name].status == "skip" for name in STAGES[STAGES.index(stage) + 1 :])


def test_jobs_that_went_all_the_way() -> None:
    for trace in (RUNNING, ENDED):
        assert {one.status for one in _stages(trace).values()} == {"ok"}


def test_nobody_knows_it() -> None:
    _broken(replace(ENDED, row=None), "request", "slurmctld does not know job 7; slurmdbd has no such job")


def test_the_client_lost_the_request() -> None:
    _broken(replace(ENDED, row=replace(ROW, lost_request="--gpus-per-task=0.25")), "request", "lost --gpus-per-task")


def test_a_grant_of_another_version() -> None:
    _broken(replace(RUNNING, live={**LIVE, "extra": EXTRA.replace('"v":1', '"v":9')}), "grant", "version 9")


def test_no_grant_is_no_fault() -> None:
    assert "JobSubmitPlugins" in _stages(replace(RUNNING, live={**LIVE, "extra": ""}))["grant"].found


def test_it_waits() -> None:
    found = _stages(replace(RUNNING, live={**LIVE, "state": "PENDING", "reason": "Licenses"}))
    assert found["grant"].found.endswith(": Licenses")
    assert found["grant"].remedy == "gpushare why 7"
    assert found["launch"].status == "skip"


def test_no_record_on_its_node() -> None:
    _broken(replace(RUNNING, record=None, prolog_alloc=False), "launch", "prolog did not run (PrologFlags)")
    _broken(replace(RUNNING, record=None), "launch", "no record on n1")


def test_its_record_is_elsewhere_or_closed() -> None:
    assert _stages(replace(RUNNING, record=None, here="n2"))["launch"].found == "its record lies on n1"
    assert _stages(replace(RUNNING, record="launch.json: Permission denied"))["launch"].status == "skip"


def test_prolog_refused_it() -> None:
    refused = LaunchRecord(
        **{
            name: getattr(RECORD, name)
            for name in ("job_id", "uid", "gid", "user", "node", "cluster", "started", "grant")
        },
        refused="no such image",
    )
    _broken(replace(RUNNING, record=refused), "launch", "no such image")


def test_how_it_ended() -> None:
    failed = replace(ROW, state="FAILED", exit_code="255:0")
    _broken(replace(ENDED, row=failed), "launch", "could not start the image")
    _broken(replace(ENDED, row=replace(failed, exit_code="77:0")), "launch", "the policy refuses it")
    _broken(replace(ENDED, row=replace(failed, exit_code="0:53")), "launch", "its output file")
    _broken(replace(ENDED, row=replace(failed, state="NODE_FAIL")), "launch", "the node failed")
    for row in (replace(failed, exit_code="1:0"), replace(ROW, state="CANCELLED", exit_code="0:15")):
        assert _stages(replace(ENDED, row=row))["launch"].status == "ok"
    _broken(replace(ENDED, row=replace(ROW, state="CANCELLED", start=None)), "launch", "it never started")


def test_nothing_was_measured() -> None:
    _broken(replace(ENDED, run={"measured": []}), "usage", "no agent sent a record")


def test_the_service_is_away() -> None:
    found = _stages(replace(ENDED, run="http://login:6827: refused"))
    assert (found["usage"].status, found["report"].status) == ("skip", "skip")
