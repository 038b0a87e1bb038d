"""What `gpushare report jobs` prints, over answers of a substitute of the service."""

import csv
import io
import json
import time
from dataclasses import asdict, fields

import click
import pytest
from click.testing import CliRunner, Result

from slurm_gpushare.accounting import client
from slurm_gpushare.accounting.advice import Advice, advise
from slurm_gpushare.accounting.report import KEYS, build
from slurm_gpushare.accounting.selection import JobRef, Selection
from slurm_gpushare.accounting.usage_report import Sums, pieces, summarise
from slurm_gpushare.cli.output import local_time
from slurm_gpushare.cli.report import advice as advice_command
from slurm_gpushare.cli.report import jobs as jobs_command
from slurm_gpushare.cli.report import report as group
from slurm_gpushare.cli.report import usage as usage_command
from slurm_gpushare.errors import StoreError
from tests.unit.accounting import month
from tests.unit.accounting.month import T

RUNS = [asdict(one) for one in build(month.RUNS, month.RECORDS, T, T + 2000)]


class Asked:
    """The service's substitute: remembers what it was asked."""

    def __init__(self):
        self.runs, self.warnings, self.service, self.selection = RUNS, [], None, None

    def __call__(self, service: str, name: str, selection: Selection) -> client.Answer:
        assert name == "jobs"
        self.service, self.selection = service, selection
        return client.Answer({"runs": self.runs}, self.warnings)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    asked = Asked()
    monkeypatch.setattr(client, "ask", asked)
    yield asked
    monkeypatch.undo()
    time.tzset()


def report(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["jobs", "--service", "http://s:1", *arguments])


def test_the_keys_are_those_of_the_report() -> None:
    assert jobs_command.COLUMNS == KEYS


def test_json_has_the_contracts_keys_and_local_times(asked: Asked) -> None:
    runs = json.loads(report("--format", "json").stdout)
    assert [tuple(one) for one in runs] == [KEYS] * len(RUNS)
    assert runs[0]["start"] == "2026-11-22T16:06:50+01:00"
    assert runs[0]["start"].endswith("+01:00")
    assert (runs[-1]["end"], runs[-1]["gpu_seconds_used"], runs[-1]["coverage"]) == (None, None, None)
    assert [one["gpu_seconds_reserved"] for one in runs] == [one["gpu_seconds_reserved"] for one in RUNS]


def test_csv_has_the_same_values_and_nothing_for_unknown(asked: Asked) -> None:
    rows = list(csv.DictReader(io.StringIO(report("--format", "csv").stdout)))
    runs = json.loads(report("--format", "json").stdout)
    assert list(rows[0]) == list(KEYS)
    assert rows == [{name: "" if one[name] is None else str(one[name]) for name in KEYS} for one in runs]


def test_the_table_fits_names_jobs_as_slurm_does_and_ends_with_totals(asked: Asked) -> None:
    lines = report().stdout.splitlines()
    assert max(map(len, lines)) <= 120
    cells = {line.split()[0]: " ".join(line.split()) for line in lines[2:-1]}
    assert list(cells) == ["1", "2_7", "2_6", "4", "5", "6", "7"]
    assert cells["4"] == "4 bob biology shard gpu:0.25 1 0.25 COMPLETED 00:01:40 25.0 60.0 1024 measured"
    assert cells["6"] == "6 alice physics gpu gpu:1 1 1 COMPLETED 00:01:00 120.0 - - unknown"
    assert lines[-1] == "8 runs: 495.0 GPU-seconds reserved, 410.0 GPU-seconds used (known of 6)"


def test_no_use_known_is_not_0(asked: Asked) -> None:
    asked.runs = RUNS[-1:]
    assert report().stdout.splitlines()[-1] == "1 run: 25.0 GPU-seconds reserved, GPU-seconds used not known"


def test_an_empty_result_says_so(asked: Asked) -> None:
    asked.runs = []
    result = report("-u", "carol", "-S", "2026-11-01", "-E", "2026-11-02")
    assert (result.exit_code, result.stdout) == (
        0,
        "No job of carol had a share of a GPU between 2026-11-01T00:00:00+01:00 and 2026-11-02T00:00:00+01:00.\n",
    )
    assert json.loads(report("--format", "json").stdout) == []
    assert report("--format", "csv").stdout == ",".join(KEYS) + "\n"


def test_what_is_asked(asked: Asked) -> None:
    report("-S", "2026-11-01", "-E", "2026-11-02T12:00", "-u", "alice,bob", "--job", "3,2_7")
    chosen = asked.selection
    assert chosen.end - chosen.start == 36 * 3600
    assert (chosen.users, chosen.jobs, asked.service) == (("alice", "bob"), (JobRef(3), JobRef(2, 7)), "http://s:1")
    report()
    assert local_time(asked.selection.start)[10:19] == "T00:00:00"
    report("--job", "3")
    assert asked.selection.start == 0
    report("-S", "1960-01-01")
    assert asked.selection.start == 0


def test_warnings_are_told_beside_the_data(asked: Asked) -> None:
    asked.warnings = ["sacct: away"]
    result = report("--format", "json")
    assert result.stderr == "gpushare: warning: sacct: away\n"
    json.loads(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-S", "2026-02-30"], "'2026-02-30' does not exist"),
        (["-S", "soon"], "'soon' is not a time"),
        (["-S", "2026-11-02", "-E", "2026-11-01"], "lies before"),
        (["--job", "3,x"], "'x' is no job's number"),
        (["-u", "alice,"], "user 'alice,' is not the name of one"),
        (["--format", "xml"], "'xml'"),
    ],
)
def test_bad_input_is_wrong_usage_and_named(asked: Asked, arguments: list[str], said: str) -> None:
    result = report(*arguments)
    assert result.exit_code == 2 and said in result.stderr
    assert asked.selection is None


def test_a_service_away_is_the_error_of_the_family(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(service: str, name: str, selection: Selection) -> client.Answer:
        raise StoreError(f"{service}: Connection refused")

    monkeypatch.setattr(client, "ask", away)
    assert isinstance(report().exception, StoreError)


def test_elapsed_as_slurm_writes_it() -> None:
    assert [jobs_command.elapsed_text(n) for n in (0, 3661, 86399, 90061)] == [
        "00:00:00",
        "01:01:01",
        "23:59:59",
        "1-01:01:01",
    ]
    assert isinstance(group, click.Group)


# Sums


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list:
    """The service's substitute of sums over the same history; returns what it was asked."""
    asked = []

    def ask(service: str, name: str, selection: Selection, by: str) -> client.Answer:
        assert name == "usage"
        by = tuple(by.split(","))
        asked.append((by, selection))
        found = [
            one for one in pieces(month.RUNS, month.RECORDS, T + 1000, {month.REQUEUED[0].key}) if selection.takes(one)
        ]
        lines = [asdict(line) for line in summarise(found, by, selection.start, selection.end)]
        return client.Answer({"lines": json.loads(json.dumps(lines))}, [])

    monkeypatch.setattr(client, "ask", ask)
    return asked


def usage(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["usage", "--service", "http://s:1", *arguments])


def test_the_keys_are_those_of_the_sums() -> None:
    assert tuple(usage_command.SUMS) == tuple(item.name for item in fields(Sums))[1:]


def test_sums_in_hours_and_in_seconds(sums: list) -> None:
    # 470 s reserved, 350 used, 145 of which nobody measured anything.
    result = usage("-S", "2026-11-01", "-E", "2026-11-30")
    assert result.exit_code == 0, result.output
    head, _, physics, biology = (line.split() for line in result.stdout.splitlines())
    assert head[0] == "Account"
    assert physics[:5] == ["physics", "7", "6", "0.13", "0.10"], "job 1 ran twice"
    assert biology[:5] == ["biology", "1", "1", "0.01", "0.02"]
    rows = json.loads(usage("--by", "user,node", "-A", "physics", "-S", "2026-11-01", "--format", "json").stdout)
    assert list(rows[0]) == ["user", "node", *usage_command.SUMS]
    assert [(row["node"], row["gpu_seconds_reserved"]) for row in rows] == [("n1", 250), (None, 120), ("n2", 100)]
    assert sums[-1][0] == ("user", "node")


def test_sums_of_nothing_say_so(sums: list) -> None:
    result = usage("-A", "chemistry", "-S", "2026-11-01", "-E", "2026-11-30")
    assert result.exit_code == 0 and result.stdout.startswith("No job among those asked for had a share of a GPU")
    assert json.loads(usage("-A", "chemistry", "--format", "json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--by", "colour"], "'colour' is nothing to sum by"),
        (["-s", "lost"], "'LOST' is none"),
        (["-A", ""], "account"),
    ],
)
def test_what_cannot_be_summed_is_wrong_usage(sums: list, arguments: list[str], said: str) -> None:
    result = usage(*arguments)
    assert result.exit_code == 2 and said in result.stderr and sums == []


# Advice


def advice(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["advice", "--service", "http://s:1", *arguments])


def test_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    history = [month.run(1, 0, 100)]
    told = {"sm_p95": 0.1, "memory_peak_bytes": month.GIB, "memory_share_bytes": 4 * month.GIB}
    lines = [asdict(one) for one in advise(history, [month.used(1, 0, 100, 0.1, **told)])]
    monkeypatch.setattr(client, "ask", lambda service, name, selection: client.Answer({"lines": lines}, ["late"]))
    assert tuple(advice_command.ADVICE) == tuple(item.name for item in fields(Advice))
    result = advice()
    assert result.exit_code == 0 and result.stderr == "gpushare: warning: late\n"
    assert result.stdout.splitlines()[2].split()[-8:] == ["gpu:0.25", "1", "0", "10", "1024", "gpu:0.1", "0.01", "0.00"]
    (row,) = json.loads(advice("--format", "json").stdout)
    assert row["fraction_advised"] == 0.1 and row["gpu_seconds_freed"] == 15
    lines.clear()
    assert advice().stdout == "No job is known that would have done with a smaller share.\n"
