"""Every report on a month whose figures were made out by hand, in every format, on every database."""

import csv
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from click.testing import CliRunner, Result

from slurm_gpushare.accounting import client
from slurm_gpushare.accounting.chargeback import Prices, Rate
from slurm_gpushare.accounting.reports import REPORTS, chargeback
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.cli.report import report as group
from slurm_gpushare.gpu_hour import hour_to_json
from slurm_gpushare.usage import usage_to_json
from tests.unit.accounting.hand_month import HOURS, KWH, OCTOBER, RECORDS, RUNS
from tests.unit.accounting.test_service import Running

HOUR = 3600
PRICES = Prices(
    (Rate(Decimal("0.40"), backend="shard"), Rate(Decimal(2), backend="gpu"), Rate(Decimal("0.5"), gpu="V100")), "EUR"
)
# Of each group: runs, jobs, GPU-hours reserved, used, idle, over, unmeasured, and used / reserved of what was measured.
USERS = {
    "alice": (6, 5, 5.5, 2.7, 1.8, 0, 1, 0.6),  # job 2 ran twice
    "bob": (6, 6, 6.5, 3.3, 2.2, 0, 1, 0.6),
    "carol": (3, 3, 3.75, 3.2, 0.75, 0.2, 0, 0.8533),
    "dave": (1, 1, 0.5, 0.2, 0.3, 0, 0, 0.4),
}
# kWh: used hours x 0.2, of an A100 x 0.3.
ENERGY = {
    "user": {
        "alice": 0.64,  # 1.7 x 0.2 + 1 x 0.3
        "bob": 0.66,  # 3.3 x 0.2
        "carol": 0.52,  # 2.6 x 0.2: without the 0.6 in the pool
        "dave": 0.04,
    },
    "gpu": {"P100": 1.56, "A100": 0.3, "V100": None, None: None},  # 7.8 x 0.2
    "backend": {"shard": 1.56, "gpu": 0.3, "bitfusion": None, "mig": None},
    "cluster": {"hand": 1.86},
}
# The use at or below which 95 % of the reserved and measured hours lie, as even within each 5 % of the use; 1: more
# than 5 % of them were used wholly.
P95 = {
    "user": {
        "alice": 1,  # of 4.5 h 1.25 were used wholly: more than 5 %
        "bob": 1,
        "carol": 1,
        "dave": 0.4475,  # all of it in 40-45 %: 40 + 0.95 x 5
    },
    "partition": {"shard": 1, "gpu": 0.5475, "bitfusion": 0.6475, "mig": None, None: 0.4475},
    "node": {"n1": 1, "n2": 0.8475, "g1": 0.5475, "c1": 0.6475, "m1": None},
    # The last but one: 0.5 h in 40-45 %, 1.75 h in 80-85 %; 0.95 x 2.25 h are the first and 1.6375 of the second:
    # 80 + 1.6375 / 1.75 x 5.
    "week": {"2026-09-28": 1, "2026-10-05": 1, "2026-10-12": 1, "2026-10-19": 0.8468, "2026-10-26": 0.5475},
}
# GPU-hours that no job used; None: there is no hour of these GPUs.
NOBODYS = {
    "node": {"n1": 1.3, "n2": None, "g1": 0.1, "c1": None, "m1": None},
    "gpu": {"P100": 1.3, "A100": 0.1, "V100": None, None: None},
    "cluster": {"hand": 1.4},
    "month": {"2026-10": 1.4},
    "week": {"2026-09-28": 0.2, "2026-10-05": None, "2026-10-12": 0, "2026-10-19": 1.1, "2026-10-26": 0.1},
    "user": dict.fromkeys(("alice", "bob", "carol", "dave")),
}
NOBODYS_DAYS = {"2026-10-01": 0.2, "2026-10-12": 0, "2026-10-22": 0.5, "2026-10-25": 0.6, "2026-10-31": 0.1}
# GPU-hours reserved.
RESERVED = {
    "account": {"physics": 9.25, "biology": 6.5, None: 0.5},
    "partition": {"shard": 11.75, "gpu": 2, "bitfusion": 1, "mig": 1, None: 0.5},
    "qos": {"normal": 12, "high": 3.75, None: 0.5},
    "backend": {"shard": 12.25, "gpu": 2, "bitfusion": 1, "mig": 1},
    "gpu": {"P100": 11.25, "A100": 3, "V100": 1, None: 1},
    "node": {"n1": 11.25, "n2": 1, "g1": 2, "c1": 1, "m1": 1},
    "cluster": {"hand": 16.25},
    "month": {"2026-10": 16.25},
    "week": {"2026-09-28": 2, "2026-10-05": 4, "2026-10-12": 5, "2026-10-19": 3.25, "2026-10-26": 2},
    "day": {
        **{"2026-10-01": 1, "2026-10-02": 1, "2026-10-05": 2, "2026-10-07": 1, "2026-10-08": 1, "2026-10-12": 2},
        **{"2026-10-14": 1, "2026-10-15": 1, "2026-10-16": 1, "2026-10-20": 1, "2026-10-21": 0.5},
        **{"2026-10-22": None},  # nobody had a job, and a GPU was used
        **{"2026-10-25": 1.75, "2026-10-31": 2},
    },
}
USER_BY_WEEK = {
    ("alice", "2026-09-28"): 2,
    ("bob", "2026-10-05"): 4,
    ("alice", "2026-10-12"): 1.5,
    ("bob", "2026-10-12"): 1.5,
    ("carol", "2026-10-12"): 2,
    ("bob", "2026-10-19"): 1,
    ("dave", "2026-10-19"): 0.5,
    ("carol", "2026-10-19"): 1.75,
    ("alice", "2026-10-26"): 2,
}
LINE = (
    # 16.25 reserved, less 0.5 that Slurm does not know, plus 2 of the lost node that no record covers.
    "Slurm counted 17.75 GPU-hours of runs that have ended, 14.75 are recorded here (83.1 %); "
    "no agent measured 1.00 h on 1 GPU of runs; "
    "records cover 2.00 h less than their runs, as where a node is lost or a job suspended; "
    "Slurm does not know the runs of 1 record, 0.50 h."
)


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    monkeypatch.setenv("COLUMNS", "200")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def report(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Run a report against the real service over one of the databases, as root; October unless times are given."""
    monkeypatch.setattr(client, "munge_credential", lambda payload: f"0:{payload}")
    service = Running(Store(database_url), lambda *asked: RUNS, reports={**REPORTS, "chargeback": chargeback(PRICES)})
    body = "".join(f"{line}\n" for line in (*map(usage_to_json, RECORDS), *map(hour_to_json, HOURS))).encode()
    assert service.send(body)[0] == 200

    def run(name: str, *arguments: str, period: tuple = OCTOBER) -> Result:
        done = CliRunner().invoke(group, [name, *arguments, "--service", service.url, *period])
        assert done.exit_code == 0, done.output
        return done

    yield run
    service.stop()


def rows(done: Result) -> list[dict]:
    return json.loads(done.stdout)


def same_in_csv(done: Result, wanted: list[dict]) -> None:
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one == {name: "" if value is None else str(value) for name, value in other.items()}


def text_of(done: Result) -> str:
    """Return a page without its markup and scripts."""
    assert done.stdout.startswith("<!DOCTYPE html>")
    page = re.sub(r"<(script|style)\b.*?</\1>", "", done.stdout, flags=re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def hours(line: dict, *names: str) -> tuple:
    seconds = (line[f"gpu_seconds_{name}"] for name in names)
    return tuple(None if value is None else pytest.approx(value / HOUR, abs=1e-6) for value in seconds)


def test_usage(report) -> None:
    lines = rows(report("usage", "--by", "user", "--format", "json"))
    found = {
        line["user"]: (
            line["runs"],
            line["jobs"],
            *hours(line, "reserved", "used", "idle", "over", "unmeasured"),
            line["used_of_reserved"],
        )
        for line in lines
    }
    assert found == USERS and [line["user"] for line in lines] == ["bob", "alice", "carol", "dave"]
    for by, wanted in RESERVED.items():
        lines = rows(report("usage", "--by", by, "--format", "json"))
        assert {line[by]: hours(line, "reserved")[0] for line in lines} == wanted, by
    lines = rows(report("usage", "--by", "user,week", "--format", "json"))
    assert {(line["user"], line["week"]): hours(line, "reserved")[0] for line in lines} == USER_BY_WEEK


def test_energy_p95_and_use_by_no_job(report) -> None:
    def column(by: str, name: str, unit: float) -> dict:
        lines = rows(report("usage", "--by", by, "--format", "json"))
        return {line[by]: None if line[name] is None else pytest.approx(line[name] / unit, abs=1e-6) for line in lines}

    for by, wanted in ENERGY.items():
        assert column(by, "energy_joules", KWH) == wanted, by
    for by, wanted in P95.items():
        assert column(by, "use_p95", 1) == wanted, by
    for by, wanted in NOBODYS.items():
        assert column(by, "gpu_seconds_unattributed", HOUR) == wanted, by
    days = column("day", "gpu_seconds_unattributed", HOUR)
    assert {day: value for day, value in days.items() if value is not None} == NOBODYS_DAYS
    (idle,) = (line for line in rows(report("usage", "--by", "day", "--format", "json")) if line["day"] == "2026-10-22")
    assert (idle["runs"], idle["jobs"], idle["energy_joules"], idle["use_p95"]) == (0, 0, None, None)
    alices = rows(report("usage", "--by", "node", "-u", "alice", "--format", "json"))
    assert {line["gpu_seconds_unattributed"] for line in alices} == {None}, "of some jobs it cannot be told"


def test_usage_over_the_end_of_the_month(report) -> None:
    both = ("-S", "2026-10-01", "-E", "2026-11-01T06:00")
    lines = rows(report("usage", "--by", "month,backend", "--format", "json", period=both))
    found = {(line["month"], line["backend"]): (line["runs"], *hours(line, "reserved", "used")) for line in lines}
    assert found["2026-10", "gpu"] == (1, 2, 1) and found["2026-11", "gpu"] == (1, 4, 2)
    lines = rows(report("usage", "--by", "month,gpu", "--format", "json", period=both))
    november = {line["gpu"]: line for line in lines if line["month"] == "2026-11"}
    assert hours(november["A100"], "unattributed") == (0.1,)
    assert november["A100"]["energy_joules"] == pytest.approx(0.6 * KWH) and november["A100"]["use_p95"] == 0.5475
    (line,) = rows(report("usage", "--by", "cluster", "--format", "json", period=both))
    assert (line["runs"], line["jobs"]) == (16, 15) and hours(line, "reserved") == (20.25,)


def test_usage_in_other_formats(report) -> None:
    wanted = rows(report("usage", "--by", "user", "--format", "json"))
    done = report("usage", "--by", "user", "--format", "csv")
    same_in_csv(done, wanted)
    assert done.stderr == f"gpushare: reconciliation: {LINE}\n"
    table = report("usage", "--by", "user").stdout
    assert re.search(r"^carol +3 +3 +3\.75 +3\.20 +0\.75 +0\.20 +0\.00 +- +85 +100 +0\.520$", table, re.M)
    assert table.splitlines()[-1] == LINE
    page = text_of(report("usage", "--by", "user", "--format", "html"))
    assert "carol 3 3 3.75 3.20 0.75 0.20 0.00 - 85 100 0.520" in page and LINE in page
    table = report("usage", "--by", "node").stdout
    assert re.search(r"^g1 +1 +1 +2\.00 +1\.00 +1\.00 +0\.00 +0\.00 +0\.10 +50 +55 +0\.300$", table, re.M)
    assert re.search(r"^n1 .* +1\.30 +\d+ +100 +\d\.\d+$", table, re.M)
    assert "g1 1 1 2.00 1.00 1.00 0.00 0.00 0.10 50 55 0.300" in text_of(
        report("usage", "--by", "node", "--format", "html")
    )
    same_in_csv(
        report("usage", "--by", "gpu,week", "--format", "csv"),
        rows(report("usage", "--by", "gpu,week", "--format", "json")),
    )


def test_jobs(report) -> None:
    runs = rows(report("jobs", "--format", "json"))
    found = {(one["job_id"], one["restart"]): one for one in runs}
    assert len(runs) == 16 and (15, 0) not in found
    assert hours(found[2, 0], "reserved", "used") == (0.25, 0.05) and found[2, 0]["state"] == "REQUEUED"
    assert hours(found[2, 1], "reserved", "used") == (0.75, 0.75)
    assert [(found[n, 0]["array_job_id"], found[n, 0]["array_task_id"]) for n in (4, 3)] == [(3, 1), (3, 2)]
    assert found[6, 0]["start"] == "2026-10-25T00:00:00+02:00" and found[6, 0]["end"] == "2026-10-25T06:00:00+01:00"
    assert found[6, 0]["elapsed_seconds"] == 7 * HOUR and hours(found[6, 0], "reserved", "used") == (1.75, 1.4)
    assert hours(found[7, 0], "reserved", "used") == (6, 3), "a run is shown whole"
    assert hours(found[10, 0], "reserved", "used", "idle", "over") == (1, 1.2, 0, 0.2)
    assert hours(found[11, 0], "reserved", "used") == (1, 0.8) and found[11, 0]["state"] == "NODE_FAIL"
    assert found[13, 0]["gpu_seconds_used"] is None and found[13, 0]["quality"] == "unknown"
    assert hours(found[14, 0], "reserved") == (1,) and found[14, 0]["gpu_seconds_used"] is None
    assert found[99, None]["user"] == "dave" and found[99, None]["state"] is None
    joules = {key[0]: one["energy_joules"] for key, one in found.items()}
    # 0.4 and 1.4 h x 0.2, 3 h x 0.3.
    assert [joules[n] for n in (1, 6, 7)] == [pytest.approx(kwh * KWH) for kwh in (0.08, 0.28, 0.9)]
    assert [joules[n] for n in (12, 13, 14)] == [None] * 3
    same_in_csv(report("jobs", "--format", "csv"), runs)
    table = report("jobs").stdout
    assert re.search(r"^3_1 .*gpu:0.5 .* 02:00:00 +3600\.0 +720\.0 +1024 +measured", table, re.M)
    assert "3_1" in text_of(report("jobs", "--format", "html"))
    assert {one["job_id"] for one in rows(report("jobs", "-u", "carol", "-s", "CD", "--format", "json"))} == {6, 10, 12}


def test_a_job(report) -> None:
    first, second = rows(report("job", "2", "--format", "json", period=()))
    assert [hours(one, "reserved", "used") for one in (first, second)] == [(0.25, 0.05), (0.75, 0.75)]
    both = rows(report("job", "3", "--format", "json", period=()))
    assert {one["array_task_id"] for one in both} == {1, 2}
    (shared,) = rows(report("job", "10", "--format", "json", period=()))
    assert json.dumps(shared).count('"alice"') >= 1 and '"bob"' in json.dumps(shared)
    (plain,) = rows(report("job", "1", "--format", "json", period=()))
    assert plain["energy_joules"] == pytest.approx(0.08 * KWH) == plain["measured"][0]["energy_joules"]
    assert "288.00 kJ" in report("job", "1", period=()).stdout and "0.280 kWh" in report("job", "6", period=()).stdout
    assert "0.280 kWh" in text_of(report("job", "6", "--format", "html", period=()))
    pool = report("job", "12", period=())
    assert "p95 30 %" in pool.stdout and "kWh" not in pool.stdout and "kJ" not in pool.stdout
    assert "V100 50 - 30 - 4096 16384 1440 - measured" in text_of(report("job", "12", "--format", "html", period=()))
    (line,) = csv.DictReader(io.StringIO(report("job", "12", "--format", "csv", period=()).stdout))
    assert line["sm_p95"] == "0.3" and line["energy_joules"] == ""
    text = report("job", "11", period=()).stdout
    assert "NODE_FAIL" in text and "n2" in text
    assert "NODE_FAIL" in text_of(report("job", "11", "--format", "html", period=()))
    assert "NODE_FAIL" in report("job", "11", "--format", "csv", period=()).stdout


def test_efficiency(report) -> None:
    ranks = rows(report("efficiency", "--format", "json"))["ranks"]
    assert [(one["name"], one["rank"], one["of"]) for one in ranks] == [
        ("carol", 1, 4),
        ("alice", 2, 4),
        ("bob", 2, 4),
        ("dave", 4, 4),
    ]
    table = report("efficiency", "-n", "1").stdout
    assert re.search(r"^7 +alice ", table, re.M), "an hour of a whole GPU is the most that one run left idle"
    assert "carol" in report("efficiency", "--format", "csv").stdout
    assert "carol" in text_of(report("efficiency", "--format", "html"))


def test_advice(report) -> None:
    (line,) = wanted = rows(report("advice", "--format", "json"))
    assert (line["user"], line["backend"], line["fraction"], line["fraction_advised"]) == (
        "carol",
        "bitfusion",
        0.5,
        0.3,
    )
    assert (line["jobs"], line["memory_peak_bytes"]) == (1, 4 << 30) and hours(line, "reserved", "freed") == (1, 0.4)
    same_in_csv(report("advice", "--format", "csv"), wanted)
    assert "gpu:0.3" in report("advice").stdout and "gpu:0.3" in text_of(report("advice", "--format", "html"))


def test_chargeback(report) -> None:
    lines = rows(report("chargeback", "--format", "json"))
    found = {(one["user"], one["backend"], one["gpu"]): one["amount"] for one in lines}
    assert {key: None if amount is None else Decimal(str(amount)) for key, amount in found.items()} == {
        ("alice", "shard", "P100"): Decimal("1.00"),
        ("alice", "gpu", "A100"): Decimal("4.00"),
        ("alice", "mig", "A100"): None,
        ("bob", "shard", "P100"): Decimal("2.20"),
        ("bob", "shard", None): Decimal("0.40"),
        ("carol", "shard", "P100"): Decimal("1.10"),
        ("carol", "bitfusion", "V100"): Decimal("0.50"),
        ("dave", "shard", "P100"): Decimal("0.20"),
    }
    assert "9.40" in report("chargeback").stdout
    invoice = list(csv.DictReader(io.StringIO(report("chargeback", "--format", "csv").stdout)))
    assert {(one["user"], one["backend"], one["gpu"] or None): one["amount"] for one in invoice} == {
        key: "" if amount is None else f"{amount:.2f}" for key, amount in found.items()
    }
    assert "9.40" in text_of(report("chargeback", "--format", "html"))


@pytest.mark.parametrize("name", ["usage", "jobs", "efficiency", "advice", "chargeback"])
def test_a_time_without_jobs_is_said_and_no_error(report, name: str) -> None:
    assert re.search(r"^(No job|Nothing|Nobody)", report(name, period=("-S", "2026-09-01", "-E", "2026-09-03")).stdout)
