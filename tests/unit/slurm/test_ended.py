"""Ended runs and their steps as sacct prints them."""

import pytest

from slurm_gpushare.slurm import ended
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.ended import FIELDS, node_names, parse_cpu_time, parse_ended, parse_size, sacct_argv

D = "\x1fd\x1f"


def row(**changed: str) -> str:
    values = {
        "Cluster": "lab",
        "JobIDRaw": "12",
        "JobID": "12",
        "Submit": "1000",
        "Restarts": "0",
        "Start": "1010",
        "End": "1110",
        "NNodes": "1",
        "NodeList": "n1",
        "AllocTRES": "billing=2,cpu=2,gres/gpu=1,mem=1000M,node=1",
        "TotalCPU": "01:02.500",
        "TRESUsageInTot": "",
        "AdminComment": "",
    } | changed
    return D.join(values[name] for name in FIELDS) + D + "\n"


def step(name: str, memory: str) -> str:
    return row(JobIDRaw=name, JobID=name, TRESUsageInTot=f"cpu=00:00:01,fs/disk=0,mem={memory},vmem=0")


def test_a_run_has_what_its_steps_used_at_most() -> None:
    (run,) = parse_ended(row() + step("12.batch", "2000K") + step("12.0", "1000K"), D)
    assert (run.job_id, run.name, run.start, run.end, run.nodes, run.nodelist) == (12, "12", 1010, 1110, 1, "n1")
    assert (run.cpus, run.gpus, run.memory_bytes, run.cpu_seconds) == (2, 1, 1000 * 1024**2, 62.5)
    assert run.memory_used_bytes == 2000 * 1024
    assert run.admin_comment == ""


def test_without_accounting_of_steps_cpu_time_is_not_known() -> None:
    (run,) = parse_ended(row(TotalCPU="00:00:00") + row(JobIDRaw="12.batch"), D)
    assert run.cpu_seconds is None and run.memory_used_bytes is None


def test_runs_of_a_requeued_job_have_their_own_steps() -> None:
    text = row() + step("12.batch", "1K") + row(Submit="1110", Restarts="1", End="Unknown") + step("12.batch", "5K")
    first, second = parse_ended(text, D)
    assert (first.restart, first.memory_used_bytes) == (0, 1024)
    assert (second.restart, second.memory_used_bytes, second.end) == (1, 5 * 1024, None)


@pytest.mark.parametrize(("shown", "raw", "name"), [("12_3", "15", "12_3"), ("12_[4-9]", "12", "12"), ("7", "7", "7")])
def test_a_task_has_the_name_that_means_it_alone(shown: str, raw: str, name: str) -> None:
    (run,) = parse_ended(row(JobID=shown, JobIDRaw=raw), D)
    assert (run.job_id, run.name) == (int(raw), name)


def test_a_comment_may_hold_anything() -> None:
    (run,) = parse_ended(row(AdminComment="two\nlines | and a bar"), D)
    assert run.admin_comment == "two\nlines | and a bar"


@pytest.mark.parametrize("text", [row()[3:], row(Submit="x"), "x" + D, row(AllocTRES="cpu=1,mem=5Q")])
def test_what_is_no_answer_is_refused(text: str) -> None:
    if text == row()[3:]:
        text = text.replace(D, "", 1)
    with pytest.raises(SlurmError):
        parse_ended(text, D)


def test_sizes_and_times() -> None:
    assert [parse_size(text) for text in ("0", "12", "1.5K", "2G")] == [0, 12, 1536, 2 * 1024**3]
    assert parse_cpu_time("1-02:03:04") == 93784
    assert parse_cpu_time("02:03:04") == 7384
    assert parse_cpu_time("03:04.500") == 184.5


def test_only_lists_are_asked_of_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(ended, "run_slurm", lambda argv, timeout: asked.append(argv) or "n1\nn2\n")
    assert node_names("n1") == ["n1"] and node_names("") == [] and asked == []
    assert node_names("n[1-2]") == ["n1", "n2"]
    assert asked == [["scontrol", "show", "hostnames", "n[1-2]"]]


def test_all_runs_are_asked_for() -> None:
    argv = sacct_argv("lab", [3, 4], D)
    assert argv[0] == "sacct" and "-D" in argv and "-X" not in argv and argv[-2:] == ["-j", "3,4"] and "-Mlab" in argv
