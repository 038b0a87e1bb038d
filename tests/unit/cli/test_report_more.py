"""What `gpushare report job`, `efficiency` and `chargeback` print, over answers made from a store in memory."""

import csv
import io
import json
import time
from dataclasses import fields, replace
from decimal import Decimal

import pytest
from click.testing import CliRunner, Result

from slurm_gpushare.accounting import client
from slurm_gpushare.accounting.chargeback import Charge, Prices, Rate
from slurm_gpushare.accounting.efficiency import Ranked, Waste
from slurm_gpushare.accounting.reports import REPORTS, chargeback
from slurm_gpushare.accounting.selection import JobRef, Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.cli.report import chargeback as chargeback_command
from slurm_gpushare.cli.report import efficiency as efficiency_command
from slurm_gpushare.cli.report import job as job_command
from slurm_gpushare.cli.report import report as group
from slurm_gpushare.errors import StoreError
from tests.unit.accounting import month
from tests.unit.accounting.month import GIB, T, run, used

NOVEMBER = ("-S", "2026-11-01", "-E", "2026-12-01")
COURSE = {"every": 1.0, "sm": [0.5] * 50 + [None] * 20 + [0.1] * 30, "memory": [GIB] * 100}
PRICES = Prices((Rate(Decimal("0.45"), backend="shard"),), "EUR")


class Asked:
    """The service's substitute: answers from a store, and remembers what it was asked."""

    def __init__(self, store: Store):
        self.store, self.selection, self.uid, self.live = store, None, None, {"agents": []}

    def __call__(self, service: str, name: str, selection: Selection, **given: str) -> client.Answer:
        assert service == "http://s:1"
        self.selection = selection
        report = {**REPORTS, "chargeback": chargeback(PRICES)}[name]
        assert set(given) <= report.parameters
        data = json.loads(json.dumps(report.answer(self.store, replace(selection, uid=self.uid), given)))
        return client.Answer(data, data.pop("warnings", []))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    time.tzset()
    store = Store("sqlite://")
    store.add_jobs(month.RUNS)
    changed = {"series": COURSE, "gaps": [[50, 20, "agent was down"]], "memory_share_bytes": 4 * GIB}
    measured = {"sm_mean": 0.2, "sm_p50": 0.5, "sm_p95": 0.5, "sm_max": 0.5, "gpu_seconds_without_process": 4.0}
    store.add_usage(replace(one, **changed, **measured) if one.job_id == 2 else one for one in month.RECORDS)
    asked = Asked(store)
    monkeypatch.setattr(client, "ask", asked)
    monkeypatch.setattr(client, "live", lambda service: asked.live)
    yield asked
    monkeypatch.undo()
    time.tzset()


def report(name: str, *arguments: str) -> Result:
    result = CliRunner().invoke(group, [name, "--service", "http://s:1", *arguments])
    assert result.exception is None or isinstance(result.exception, (SystemExit, StoreError)), result.exception
    return result


# One job


def test_everything_on_one_job_as_text(asked: Asked) -> None:
    result = report("job", "2_7")
    assert asked.selection.jobs == (JobRef(2, 7),)
    text = " ".join(result.stdout.split())
    for said in (
        "Job 2_7: COMPLETED",
        "alice, account physics, partition shard, QOS normal",
        "2026-11-22T15:13:20+00:00 to 2026-11-22T15:15:00+00:00, 00:01:40, after 00:06:40 in the queue",
        "0.25 of 1 GPU on 1 node (n1) by shard, rule default",
        "25.0 GPU-s reserved, 20.0 GPU-s used (80 %), 5.0 GPU-s idle",
        "mean 20 %, median 50 %, p95 50 %, most 50 %, share 25 %",
        "peak 1024 MiB, share 4096 MiB",
        "5.0 GPU-s, 4.0 GPU-s of it without a process",
        "20 s from 2026-11-22T15:14:10+00:00: agent was down",
        "00:01:40 of the time, with 4 (bob, 25 %, 00:01:40)",
    ):
        assert said in text, said
    assert max(map(len, result.stdout.splitlines()[:-1])) == 80


def test_the_timeline_is_as_wide_as_the_terminal_and_marks_share_and_gaps(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = report("job", "2_7").stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("n1 GPU 0: use"))
    assert lines[at] == "n1 GPU 0: use; ╌ the share, 25 %"
    top, second, third, bottom = (line[12:] for line in lines[at + 1 : at + 5])
    assert [len(line) for line in (top, second, third, bottom)] == [68] * 4
    assert lines[at + 1].startswith("      50 % │") and lines[at + 2].startswith("      25 % │")
    # Half of the time 50 %, then 20 s of nothing measured, then 10 %.
    assert set(top[:34]) == {"█"} and set(bottom[34:47]) == {"·"} and "╌" in second[48:] and "█" not in bottom[48:]
    assert lines[-2] == "· not measured" and lines[-3].split()[0] == "15:13:20" and lines[-3].split()[-1] == "15:15:00"
    assert lines[-1].startswith("Slurm counted 0.01 GPU-hours of runs that have ended, 0.01 are recorded here")
    monkeypatch.setenv("LC_ALL", "C")
    plain = report("job", "2_7").stdout
    assert plain.isascii() and "n1 GPU 0: use; - the share, 25 %" in plain and "? not measured" in plain
    monkeypatch.setenv("COLUMNS", "140")
    assert max(map(len, report("job", "2_7").stdout.splitlines()[:-1])) == 140


def test_a_requeued_job_has_a_line_for_each_run_and_then_each(asked: Asked) -> None:
    text = report("job", "1").stdout
    assert text.count("REQUEUED") == 2 and "Job 1, restart 1: COMPLETED" in text


def test_json_has_the_course_and_csv_a_line_for_each_gpu(asked: Asked) -> None:
    (one,) = json.loads(report("job", "2_7", "--format", "json").stdout)
    assert one["measured"][0]["course"]["every"] == 1.0 and one["start"] == "2026-11-22T15:13:20+00:00"
    assert one["measured"][0]["others"][0]["user"] == "bob"
    rows = list(csv.DictReader(io.StringIO(report("job", "5", "--format", "csv").stdout)))
    assert tuple(rows[0]) == (*job_command.RUN_COLUMNS, *job_command.GPU_COLUMNS)
    assert [(row["job"], row["node"], row["gpu_seconds_used"]) for row in rows] == [
        ("5", "n1", "50.0"),
        ("5", "n1", "50.0"),
        ("5", "n2", "50.0"),
        ("5", "n2", "50.0"),
    ]
    (nobody,) = csv.DictReader(io.StringIO(report("job", "6", "--format", "csv").stdout))
    assert (nobody["job"], nobody["node"], nobody["gpu_seconds_used"]) == ("6", "", "")
    assert json.loads(report("job", "99", "--format", "json").stdout) == []


def test_a_running_job_has_what_is_measured_now(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"job_id": 7, "uid": 1001, "gpu": 0, "sm": 0.2, "memory": GIB, "started": T + 901.0, "measured": 60.0}
    other = {**own, "job_id": 8, "used": None}
    earlier = {**own, "started": T + 500.0, "used": 1.0}
    agent = {"kind": "node", "name": "n1", "age": 1.0, "jobs": [other, earlier, {**own, "used": 10.0}]}
    asked.live = {"agents": [agent]}
    text = report("job", "7").stdout
    assert text.count("Now ") == 1
    assert "n1 GPU 0: 20 % of the GPU, 1024 MiB; so far 10.0 GPU-s in 00:01:00" in text
    (one,) = json.loads(report("job", "7", "--format", "json").stdout)
    assert [each["used"] for each in one["now"]] == [10.0]

    def away(service: str) -> dict:
        raise StoreError("s:1: away")

    monkeypatch.setattr(client, "live", away)
    result = report("job", "7")
    assert result.exit_code == 0 and "what is measured now is not known: s:1: away" in result.stderr


def test_a_job_that_nobody_knows_and_one_that_is_none(asked: Asked) -> None:
    result = report("job", "99")
    assert (result.exit_code, result.stdout) == (
        0,
        "No run of job 99 had a share of a GPU, or it is not yours to see.\n",
    )
    result = report("job", "12-3")
    assert result.exit_code == 2 and "'12-3' is no job's number: write 12, 12_3" in result.stderr


def test_an_array_is_told_in_lines(asked: Asked) -> None:
    asked.store.add_jobs(run(job, 0, 10, array_job_id=100, array_task_id=job - 100) for job in range(100, 120))
    lines = report("job", "100").stdout.splitlines()
    assert len(lines) == 2 + 20 + 1 + 1 and lines[-2].startswith("20 runs: name one task")


def test_a_lost_request_is_told(asked: Asked) -> None:
    asked.store.add_jobs([run(50, 0, 10, alloc_tres="cpu=1", extra="", lost_request="--gpus-per-task=0.25")])
    assert "nothing: a client without cli_filter lost what it asked for" in report("job", "50").stdout


# Efficiency


def test_the_parts_of_efficiency(asked: Asked) -> None:
    parts = json.loads(report("efficiency", *NOVEMBER, "--format", "json").stdout)
    assert list(parts) == ["ranks", "distribution", "wasters", "holders"]
    assert tuple(parts["ranks"][0]) == tuple(efficiency_command.RANKS) == tuple(each.name for each in fields(Ranked))
    assert tuple(efficiency_command.WASTE) == tuple(each.name for each in fields(Waste))
    assert [(one["rank"], one["of"]) for one in parts["ranks"]][:1] == [(1, 2)]
    assert parts["wasters"][0]["start"] == "2026-11-22T15:06:50+00:00"
    text = report("efficiency", *NOVEMBER).stdout
    assert "1 of 2" in text and "100 % and more ████" in text and "without a process" in text
    rows = list(csv.DictReader(io.StringIO(report("efficiency", *NOVEMBER, "--format", "csv").stdout)))
    assert tuple(rows[0]) == tuple(efficiency_command.RANKS)
    show = ("--show", "holders", "-n", "1")
    (row,) = csv.DictReader(io.StringIO(report("efficiency", *NOVEMBER, "--format", "csv", *show).stdout))
    assert (row["job"], row["gpu_seconds_without_process"]) == ("2_7", "4.0")


def test_only_the_best_and_the_worst_are_shown(asked: Asked) -> None:
    asked.store.add_usage(
        used(number, 0, 100, number / 100, user=f"u{number:02}", uid=number) for number in range(10, 60)
    )
    lines = report("efficiency", *NOVEMBER, "--show", "ranks", "-n", "2").stdout.splitlines()
    assert len(lines) == 2 + 4 + 1 + 1 and lines[-2] == "The best and the worst 2 of 52."
    assert lines[-1].startswith("Slurm counted ")
    assert len(json.loads(report("efficiency", *NOVEMBER, "-n", "2", "--format", "json").stdout)["ranks"]) == 52


def test_efficiency_of_nothing_says_so(asked: Asked) -> None:
    result = report("efficiency", "-S", "2020-01-01", "-E", "2020-02-01")
    assert result.exit_code == 0 and result.stdout.startswith("No job had a share of a GPU")
    assert report("efficiency", "-n", "0").exit_code == 2


# Chargeback


def test_chargeback(asked: Asked) -> None:
    assert tuple(chargeback_command.CHARGE) == tuple(each.name for each in fields(Charge))
    result = report("chargeback", *NOVEMBER)
    assert result.stdout.splitlines()[-1] == "Total: 0.137499 GPU-hours, 0.04 EUR, without 1 line that has no amount"
    assert "no rate for 0.033333 GPU-hours of account physics, backend gpu" in result.stderr
    rows = list(csv.DictReader(io.StringIO(report("chargeback", *NOVEMBER, "--format", "csv").stdout)))
    assert rows[0] == {
        "period": "2026-11",
        "period_start": "2026-11-01",
        "period_end": "2026-12-01",
        "account": "biology",
        "user": "bob",
        "backend": "shard",
        "gpu": "Tesla",
        "gpu_hours": "0.006944",
        "rate": "0.45",
        "amount": "0.00",
        "currency": "EUR",
    }
    assert sum(Decimal(row["amount"]) for row in rows if row["amount"]) == Decimal("0.04")
    lines = json.loads(report("chargeback", *NOVEMBER, "--format", "json").stdout)
    assert lines[0]["gpu_hours"] == 0.006944 and [one["rate"] for one in lines].count(None) == 1


def test_chargeback_is_of_the_last_month_unless_told(asked: Asked) -> None:
    report("chargeback")
    start, end = (time.localtime(moment) for moment in (asked.selection.start, asked.selection.end))
    assert (start.tm_mday, end.tm_mday, start.tm_hour, end.tm_hour) == (1, 1, 0, 0)
    assert (end.tm_year * 12 + end.tm_mon) - (start.tm_year * 12 + start.tm_mon) == 1
    now = time.localtime()
    assert (end.tm_year, end.tm_mon) == (now.tm_year, now.tm_mon)
    assert report("chargeback", "-S", "2020-01-01", "-E", "2020-02-01").stdout.startswith("No job had a share")
