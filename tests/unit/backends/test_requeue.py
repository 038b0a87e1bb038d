import os

import pytest

from slurm_gpushare.backends import requeue
from slurm_gpushare.backends.client import Endings

# scontrol as far as it is used; `refuses` makes it fail with its text.
SCONTROL = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/scontrol.calls"
case "$1 $#" in
"requeue 2" | "update 3") ;;
*) echo "invalid keyword: $1" >&2; exit 1 ;;
esac
if [ -e "$here/refuses" ]; then cat "$here/refuses" >&2; exit 1; fi
"""


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    path = tmp_path / "slurm/scontrol"
    path.parent.mkdir()
    path.write_text(SCONTROL)
    path.chmod(0o755)
    monkeypatch.setattr(requeue, "END", 0.0)
    monkeypatch.setattr(requeue, "SEARCH", "/usr/bin:/bin")
    return path.parent


def calls(scontrol):
    path = scontrol / "scontrol.calls"
    return path.read_text().splitlines() if path.exists() else []


def ask(work, settings, scontrol, **variables):
    environment = {"PATH": f"{scontrol}:/usr/bin:/bin", "SLURM_JOB_ID": "17", **variables}
    with Endings() as endings:
        return requeue.ask(str(work), settings(requeue_limit=3, requeue_delay=60.0), environment, endings, "FULL")


@pytest.mark.parametrize("count, seconds", [(None, 60), ("0", 60), ("1", 120), ("2", 240), ("-1", 60), ("x", 60)])
def test_the_delay_doubles(work, settings, scontrol, capfd, count, seconds):
    variables = {} if count is None else {"SLURM_RESTART_COUNT": count}
    assert ask(work, settings, scontrol, **variables) == "requeued"
    assert calls(scontrol) == ["requeue 17"]
    assert (work / "requeue").read_text() == f"17 {seconds}\n"
    number = {120: 2, 240: 3}.get(seconds, 1)
    told = f"gpushare: FULL; job 17 is requeued ({number} of 3), to start again in {seconds} s or later\n"
    assert capfd.readouterr().err == told


@pytest.mark.parametrize("count", ["3", "4", "999999999"])
def test_the_limit(work, settings, scontrol, count):
    assert ask(work, settings, scontrol, SLURM_RESTART_COUNT=count) == (
        f"the job was started again {count} times already, and 3 is the policy's limit"
    )
    assert calls(scontrol) == [] and os.listdir(work) == []


def test_a_job_that_may_not_be_requeued(work, settings, scontrol):
    (scontrol / "refuses").write_text("Requested operation is presently disabled for job 17\n")
    said = ask(work, settings, scontrol)
    assert said == "not requeued: Requested operation is presently disabled for job 17"
    assert os.listdir(work) == []


def test_a_node_without_scontrol(work, settings, scontrol, tmp_path, monkeypatch):
    monkeypatch.setattr(requeue, "SEARCH", str(tmp_path))
    (scontrol / "scontrol").unlink()
    assert "not requeued: scontrol is in none of" in ask(work, settings, scontrol)
    assert os.listdir(work) == []


def later(work, scontrol, uid=None):
    client = requeue.later(str(work), os.getuid() if uid is None else uid, {"PATH": str(scontrol) + ":/usr/bin:/bin"})
    if client is None:
        return None
    client.wait(30)
    client.close()
    return client.status


def test_the_epilog_gives_the_job_its_time(work, settings, scontrol):
    ask(work, settings, scontrol)
    assert later(work, scontrol) == 0
    assert later(work, scontrol) is None  # a second time it would put off a job that is to start, or has started
    assert calls(scontrol)[1:] == ["update JobId=17 StartTime=now+60"]


@pytest.mark.parametrize("note", ["", "17", "17 x", "x 17", "1 2 3", "17 -1", "17 ²"])
def test_a_note_that_is_none(work, scontrol, note):
    (work / "requeue").write_text(note)
    assert later(work, scontrol) is None and calls(scontrol) == []


def test_a_note_of_somebody_else_or_behind_a_link(work, scontrol, tmp_path):
    assert later(work, scontrol) is None
    (tmp_path / "note").write_text("17 60\n")
    (work / "requeue").symlink_to(tmp_path / "note")
    assert later(work, scontrol) is None
    (work / "requeue").unlink()
    (work / "requeue").write_text("17 60\n")
    assert later(work, scontrol, uid=os.getuid() + 1) is None
    os.mkfifo(work / "requeue")
    assert later(work, scontrol) is None
