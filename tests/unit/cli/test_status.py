"""`gpushare status`: what it prints, and what it does where something does not answer."""

import csv
import io
import json
from dataclasses import asdict, replace

import pytest
from click.testing import CliRunner, Result

from slurm_gpushare.cli import status as command
from slurm_gpushare.drain.hold import Hold
from slurm_gpushare.metrics.live import LiveJob
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.nodes import Gpu
from slurm_gpushare.status import look
from slurm_gpushare.status.compose import Look
from tests.unit.status.test_compose import FREE, GIB, POLICY, WHOLE, job, live, node, sample

JOBS = [job(1, {"n1": {0: (25, 100)}}), job(3, {}, 0.5, "bitfusion", nodes=("c1",))]
NODES = [
    node("n1", Gpu(55, 100, False), WHOLE),
    node("n2", FREE, state=("IDLE", "DRAIN"), reason="fan broken", reason_by="root", reason_at=1_795_392_416),
]
SAID = live(sample(jobs=(LiveJob(1, 1001, 0, 0.2, GIB),)), sample("n2", age=130.0))
FULL = Look(1_795_392_500.0, NODES, JOBS, POLICY, SAID)


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch):
    """Run the command on one look after the other; each may be an error. The last look ends the watching."""

    def run(*argv: str, looks: tuple = (FULL,)) -> Result:
        left = list(looks)

        def take_look(*arguments: object) -> Look:
            one = left.pop(0)
            if isinstance(one, Exception):
                raise one
            return one

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if not left:
                raise KeyboardInterrupt

        monkeypatch.setattr(look, "take_look", take_look)
        monkeypatch.setattr(command.time, "sleep", sleep)
        return CliRunner().invoke(command.status, argv)

    slept = run.slept = []
    return run


def test_the_table_has_a_line_for_each_job_and_each_trouble(show) -> None:
    lines = [" ".join(line.split()) for line in show().stdout.splitlines()]
    assert "n1 0 p100 Tesla P100 mixed 55/100 50% 1024/16384 2 s 1 alice 0.25 shard 20% 1024 nothing" in lines
    assert "(not shown) - 0.3 - - - -" in lines
    assert "n1 1 p100 - mixed 100/100 - - - (not shown) - 1 - - - -" in lines
    assert "n2 0 p100 Tesla P100 idle+drain 0/100 - -/16384 -" in lines
    assert "1.55 of 3 GPUs given; 1 on nodes that take no job" in lines
    assert "3 alice bitfusion gpu:0.5 50 - - memory, faults" in lines
    (drained, silent) = lines[-2:]
    assert drained.startswith("n2: idle+drain: fan broken (root 2026-11-2")
    assert silent == "n2: its agent is silent: last heard 2 min ago; see whether `gpushare agent` runs there"


def test_json_is_the_whole_answer_with_null_for_what_is_not_known(show) -> None:
    data = json.loads(show("--format", "json").stdout)
    assert list(data) == ["time", "gpus", "elsewhere", "places", "warnings", "out_of_service"]
    first, second, third = data["gpus"]
    assert (first["slices_given"], first["slices_hidden"], first["sm"], first["age"]) == (55, 30, 0.5, 2.0)
    assert first["jobs"][0]["enforces"] == {"memory": "none", "compute": "none", "faults": "none"}
    assert (second["sm"], second["age"]) == (None, None)
    assert (third["agent"], third["sm"], third["reason"]) == ("silent", None, "fan broken")
    assert [one["job_id"] for one in data["elsewhere"]] == [3]


def test_csv_has_a_line_for_each_job_on_each_gpu(show) -> None:
    rows = list(csv.DictReader(io.StringIO(show("--format", "csv").stdout)))
    assert list(rows[0]) == list(command.CSV_COLUMNS)
    assert [(row["node"], row["gpu"], row["job_id"]) for row in rows] == [
        ("n1", "0", "1"),
        ("n1", "1", ""),
        ("n2", "0", ""),
        ("", "", "3"),
    ]
    assert (rows[0]["sm"], rows[0]["job_sm"], rows[0]["job_enforces_memory"]) == ("0.5", "0.2", "none")
    assert (rows[2]["sm"], rows[2]["slices_given"]) == ("", "0")


def test_what_does_not_answer_is_a_warning(show) -> None:
    result = show(looks=(Look(5.0, NODES, JOBS, POLICY, warnings=("what is measured is not known: refused",)),))
    assert result.exit_code == 0
    assert result.stderr == "gpushare: warning: what is measured is not known: refused\n"
    assert "55/100" in result.stdout and "silent" not in result.stdout


def test_slurm_must_answer(show) -> None:
    result = show(looks=(SlurmError("scontrol: no answer"),))
    assert isinstance(result.exception, SlurmError) and result.stdout == ""


def test_watching_goes_on_where_slurm_is_away_for_a_while(show) -> None:
    result = show("--watch", "--format", "json", looks=(FULL, SlurmError("scontrol: no answer"), FULL))
    assert [len(json.loads(line)["gpus"]) for line in result.stdout.splitlines() if line] == [3, 3]
    assert "gpushare: scontrol: no answer" in result.stderr
    assert show.slept == [5.0] * 3
    assert "55/100" in show("--watch", "30", looks=(FULL,)).stdout
    assert show.slept[-1] == 30.0


@pytest.mark.parametrize(
    ("options", "nodes"),
    [
        (("-w", "n2"), {"n2"}),
        (("-w", "n[1-2]"), {"n1", "n2"}),
        (("-p", "shard"), {"n1", "n2"}),
        (("-p", "shard", "-w", "n1"), {"n1"}),
    ],
)
def test_some_nodes_alone(show, options: tuple, nodes: set) -> None:
    data = json.loads(show(*options, "--format", "json").stdout)
    assert {gpu["node"] for gpu in data["gpus"]} == {place["name"] for place in data["places"]} == nodes


@pytest.mark.parametrize("options", [("-w", "n9"), ("-p", "gone"), ("-w", "n1", "-p", "gone")])
def test_nodes_that_are_not_there_are_named(show, options: tuple) -> None:
    result = show(*options)
    assert options[1] in str(result.exception)


@pytest.mark.parametrize("options", [("-w", "n["), ("--watch", "0"), ("--format", "xml")])
def test_wrong_usage(show, options: tuple) -> None:
    assert show(*options, looks=()).exit_code == 2


@pytest.mark.parametrize(
    ("levels", "text"),
    [
        (("enforced",) * 3, "all"),
        (("none",) * 3, "nothing"),
        (("enforced", "advisory", "enforced"), "memory, faults; compute advisory"),
        (("advisory", "advisory", "none"), "memory, compute advisory"),
    ],
)
def test_what_is_enforced_in_few_words(levels: tuple, text: str) -> None:
    assert command.enforced_text(dict(zip(("memory", "compute", "faults"), levels, strict=True))) == text


def test_an_unknown_enforcement_is_unknown() -> None:
    assert command.enforced_text(None) is None


def test_what_is_out_of_service(show) -> None:
    """By `gpushare gpu drain`: one GPU of a node that is in service itself."""
    hold = Hold("n1:1", "node", 1_795_392_416.0, "root", "ECC errors", "job 17")
    there = replace(FULL, held=(hold,))
    lines = [" ".join(line.split()) for line in show(looks=(there,)).stdout.splitlines()]
    assert [line for line in lines if ", out of service" in line] == [
        "n1 1 p100 - mixed, out of service 100/100 - - - (not shown) - 1 - - - -"
    ]
    assert [line for line in lines if line.startswith("n1:1: out of service: ECC errors (root 20")]
    assert json.loads(show("--format=json", looks=(there,)).stdout)["out_of_service"] == [{**asdict(hold), "jobs": []}]
    assert json.loads(show("--format=json", "-w", "n2", looks=(there,)).stdout)["out_of_service"] == []
