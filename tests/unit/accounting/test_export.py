"""Rows that leave the store: each once, with its type, whole or not at all; to operators alone."""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from pyarrow import parquet

from slurm_gpushare.accounting import client
from slurm_gpushare.accounting.export import TABLES, csv_line, kinds, write
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.cli.export import FORMATS, WHAT, export
from slurm_gpushare.errors import StoreError
from tests.unit.accounting.month import RECORDS, RUNS, T, used
from tests.unit.accounting.test_service import SLURM_USER, Running
from tests.unit.accounting.test_store import gpu_hour

ODD = used(77, 0.123457, 10.25, None, gpu_name='a "b",\nc', gaps=[[1.5, 2.0, "lost"]])
COURSE = {"every": 1.0, "sm": [0.25, None], "memory": [1 << 30, None]}


@pytest.fixture
def service(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(client, "munge_credential", lambda payload: f"0:{payload}")
    store = Store(database_url)
    store.add_usage([*RECORDS, ODD, used(78, 0, 10, 0.5, series=COURSE), gpu_hour(0, 10, gpu_seconds_used=None)])
    store.add_jobs(RUNS)
    running = Running(store, lambda *args: RUNS)
    yield running
    running.stop()


def run(service: Running, *words: str) -> str:
    done = CliRunner().invoke(export, [*words, "--service", service.url], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_all_rows_come_with_their_types(service: Running, tmp_path: Path) -> None:
    told = run(service, "--to", f"{tmp_path}/all/", *(word for what in WHAT for word in ("--what", what)))
    assert told.splitlines()[0] == f"{tmp_path}/all/usage.parquet: {len(RECORDS) + 2} rows"
    rows = parquet.read_table(tmp_path / "all/usage.parquet").to_pylist()
    odd = next(row for row in rows if row["job_id"] == 77)
    assert odd["started"] == datetime.fromtimestamp(T, UTC).replace(microsecond=123457)
    assert odd["gpu_name"] == ODD.gpu_name and odd["gaps"] == '[[1.5,2.0,"lost"]]'
    assert odd["gpu_seconds_used"] is None and odd["gpu_seconds_reserved"] == ODD.gpu_seconds_reserved
    jobs = parquet.read_table(tmp_path / "all/jobs.parquet").to_pylist()
    assert sorted(row["job_id"] for row in jobs) == sorted(row.job_id for row in RUNS if row.end is not None)
    assert next(row for row in jobs if row["job_id"] == 4)["end"] == datetime.fromtimestamp(T + 500, UTC)
    assert parquet.read_table(tmp_path / "all/hours.parquet").to_pylist()[0]["gpu_seconds_used"] is None
    series = parquet.read_table(tmp_path / "all/series.parquet").to_pylist()
    assert [row["series"] for row in series] == ['{"every":1.0,"sm":[0.25,null],"memory":[1073741824,null]}']
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(f"{what}.parquet" for what in WHAT)


def test_csv_says_the_same(service: Running, tmp_path: Path) -> None:
    run(service, "--to", f"{tmp_path}/u.csv", "--what", "usage", "--format", "csv")
    with (tmp_path / "u.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    odd = next(row for row in rows if row["job_id"] == "77")
    assert len(rows) == len(RECORDS) + 2 and list(odd) == list(kinds("usage"))
    assert odd["started"].endswith(".123457Z") and odd["gpu_name"] == ODD.gpu_name and odd["gpu_seconds_used"] == ""
    assert float(odd["ended"][17:-1]) == (T + 10.25) % 60


def test_neighbouring_periods_take_each_row_once(service: Running) -> None:
    edges = [0.0, T, *(T + end for end in (10, 110.5, 500, 700)), T + 10.0**6]
    for what, (model, name) in TABLES.items():
        keys = [column.name for column in model.__table__.primary_key]
        found = [
            tuple(row[key] for key in keys)
            for start, end in pairwise(edges)
            for row in client.export(service.url, what, start, end)
        ]
        whole = [tuple(row[key] for key in keys) for row in client.export(service.url, what, 0.0, T + 10.0**6)]
        assert sorted(found) == sorted(whole) and len(set(whole)) == len(whole) > 0, name


@pytest.mark.parametrize(("uid", "allowed"), [(SLURM_USER, True), (1001, False)])
def test_operators_alone_get_it(service: Running, monkeypatch: pytest.MonkeyPatch, uid: int, allowed: bool) -> None:
    monkeypatch.setattr(client, "munge_credential", lambda payload: f"{uid}:{payload}")
    if allowed:
        assert len(list(client.export(service.url, "usage", 0.0, T + 10.0**6))) == len(RECORDS) + 2
    else:
        with pytest.raises(StoreError, match="only operators"):
            list(client.export(service.url, "usage", 0.0, 1.0))


def test_what_is_not_known_is_told(service: Running) -> None:
    with pytest.raises(StoreError, match="'cats' is not known here: usage, jobs, hours, series are"):
        list(client.export(service.url, "cats", 0.0, 1.0))
    with pytest.raises(StoreError, match="lies before start"):
        list(client.export(service.url, "usage", 1.0, 0.0))


def test_an_export_that_breaks_off_leaves_the_older_file(
    service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(what: str, start: float, end: float) -> Iterator[list[dict]]:
        yield [dict.fromkeys(kinds(what))]
        raise StoreError("the database is away")

    monkeypatch.setattr(service.store, "rows", rows)
    file = tmp_path / "u.csv"
    file.write_text("older\n")
    done = CliRunner().invoke(
        export, ["--to", str(file), "--what", "usage", "--format", "csv", "--service", service.url]
    )
    assert isinstance(done.exception, StoreError) and "broke off" in str(done.exception)
    assert file.read_text() == "older\n" and [path.name for path in tmp_path.glob("*u.csv*")] == ["u.csv"]


@pytest.mark.parametrize("form", FORMATS)
def test_no_rows_are_a_file_with_columns_alone(tmp_path: Path, form: str) -> None:
    file = tmp_path / "f"
    assert write("jobs", [], file, form) == 0
    if form == "csv":
        assert file.read_text() == csv_line(list(kinds("jobs")))
    else:
        assert parquet.read_table(file).column_names == list(kinds("jobs"))


def test_null_is_no_empty_text() -> None:
    assert csv_line([None, "", 'a"b', 1, 0.1, datetime.fromtimestamp(0.5, UTC)]) == (
        ',"","a""b",1,0.1,1970-01-01T00:00:00.500000Z\n'
    )
