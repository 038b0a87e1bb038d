"""What cannot be answered is one clear line of the command itself: no traceback, nothing changed, no password."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_gpushare.accounting import client
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.cli.main import main
from tests.databases import Server
from tests.unit.accounting.month import RECORDS, used
from tests.unit.accounting.test_service import Running

NOWHERE = "http://127.0.0.1:1"
REPORTS = ("usage", "jobs", "efficiency", "advice", "chargeback")
Said = tuple[int, str, str]


@pytest.fixture
def said(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Run a command as root would; return its status, and what it wrote to stdout and stderr."""
    monkeypatch.setattr(client, "munge_credential", lambda payload: f"0:{payload}")

    def run(*argv: str) -> Said:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main(list(argv))
        return left.value.code, *capfd.readouterr()

    return run


def one_line(answer: Said, status: int, *words: str) -> None:
    """The command failed with one line on stderr that has these words, and printed nothing else."""
    code, out, err = answer
    assert (code, out, err.count("\n")) == (status, "", 1), err
    assert err.startswith("gpushare: ") and all(word in err for word in words), err
    assert "Traceback" not in err and "geheim" not in err


@pytest.mark.parametrize("name", [*REPORTS, "job 1"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-S 2026-02-30", ("-S", "'2026-02-30' does not exist", "day")),
        ("-E 2025-02-29", ("-E", "'2025-02-29' does not exist")),
        ("-S 2026-13-01", ("'2026-13-01' does not exist", "month")),
        ("-S 2026-11-01T24:00", ("'2026-11-01T24:00' does not exist", "23:59:59")),
        ("-S soon", ("'soon' is not a time: write 2026-01-31",)),
        ("-S now-3moons", ("'now-3moons' is not a time", "weeks")),
        ("-S 99999-01-01", ("'99999-01-01' is not a time",)),
        ("-S 2026-11-02 -E 2026-11-01", ("-E 2026-11-01", "lies before -S 2026-11-02", "write the earlier as -S")),
        ("-u alice,", ("user 'alice,' is not the name of one",)),
        ("-A ,", ("account ',' is not the name of one, or several with a comma between",)),
        ("-s CRASHED", ("state 'CRASHED' is none of a job that had a GPU: write BOOT_FAIL",)),
        ("-s CD,", ("state 'CD,' is not the name of one",)),
        ("--format xml", ("'xml' is not one of", "table", "json", "csv", "html")),
        ("--colour", ("No such option", "--colour")),
    ],
)
def test_an_option_that_cannot_be(said: Callable[..., Said], name: str, options: str, words: tuple) -> None:
    if name == "job 1" and options[:2] in ("-S", "-E", "-u", "-A", "-s"):
        words = ("No such option",)  # a job is named, whenever and whose it was
    one_line(said("report", *name.split(), "--service", NOWHERE, *options.split()), 2, *words, "--help")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("usage --by colour", ("'colour' is nothing to sum by: write one or more of cluster, user",)),
        ("usage --by day,month", ("'day,month': each at most once, and of day, week, month only one",)),
        ("usage --by user,user", ("'user,user': each at most once",)),
        ("usage --by ,", ("'' is nothing to sum by",)),
        ("efficiency --by node", ("'node' is not one of 'user', 'account'",)),
        ("efficiency -n 0", ("-n", "0 is not in the range 1<=x<=1000")),
        ("efficiency -n ten", ("'ten' is not a valid integer",)),
        ("efficiency --show all", ("'all' is not one of",)),
        ("jobs -j 12_", ("'12_' is no job's number: write 12, 12_3",)),
        ("job 12.batch", ("'12.batch' is no job's number",)),
        ("job", ("Missing argument",)),
        ("sums", ("No such command 'sums'",)),
    ],
)
def test_a_value_that_cannot_be(said: Callable[..., Said], command: str, words: tuple) -> None:
    one_line(said("report", *command.split()), 2, *words, "--help")


@pytest.mark.parametrize("name", [*REPORTS, "job 1"])
def test_no_service_there(said: Callable[..., Said], name: str) -> None:
    answer = said("report", *name.split(), "--service", NOWHERE)
    one_line(answer, 1, f"{NOWHERE}: Connection refused: is `gpushare serve` running there?")


@pytest.mark.parametrize("url", ["127.0.0.1:6827", "ftp://127.0.0.1", "http://127.0.0.1:x", "http://", "http://[::1"])
def test_what_is_no_services_url(said: Callable[..., Said], url: str) -> None:
    one_line(said("report", "usage", "--service", url), 1, f"{url}: is no service's address: write http://HOST:6827")


# `gpushare serve`, as a process of its own


def serve(url: str) -> subprocess.CompletedProcess:
    argv = [sys.executable, "-m", "slurm_gpushare.cli.main", "serve", "--listen", "127.0.0.1:0", "--database", url]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    one_line((done.returncode, done.stdout, done.stderr), 1, *words)


def damage(path: Path, kind: str) -> None:
    if kind == "noise":
        path.write_bytes(b"no database at all " * 300)
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-20000])
    elif kind == "a page":
        whole = bytearray(path.read_bytes())
        whole[8192:16384] = b"\x5a" * 8192
        path.write_bytes(whole)
    else:
        with sqlite3.connect(path) as database:
            database.execute("pragma journal_mode=delete")
            database.execute("update gpushare_version set version_num = '0999'")
        database.close()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("noise", ("the file is no whole database (file is not a database)", "nothing was changed")),
        ("cut", ("the file is no whole database (", "restore it from a backup")),
        ("a page", ("the file is no whole database (", "restore it from a backup")),
        ("newer", ("tables are of version 0999", "run the gpushare that made them", "nothing was changed")),
    ],
)
def test_a_damaged_or_newer_file_is_said_and_not_touched(tmp_path: Path, kind: str, words: tuple) -> None:
    path = tmp_path / "usage.sqlite"
    store = Store(f"sqlite:///{path}")
    store.add_usage([*RECORDS, *(used(job, 0, 1, 0.1) for job in range(100, 600))])
    store.close()
    damage(path, kind)
    before, times = path.read_bytes(), path.stat().st_mtime_ns
    refused(serve(f"sqlite:///{path}"), str(path), *words)
    assert path.read_bytes() == before and path.stat().st_mtime_ns == times
    assert os.listdir(tmp_path) == [path.name], "no journal is left beside it"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mariadb+pymysql://me:geheim@127.0.0.1:1/gpu", ("mariadb+pymysql://me:***@127.0.0.1:1/gpu", "refused")),
        ("postgresql+psycopg://me:geheim@127.0.0.1:1/gpu", ("postgresql+psycopg://me:***@127.0.0.1:1/gpu", "refused")),
        ("oracle://me:geheim@127.0.0.1/gpu", ("oracle://me:***@127.0.0.1/gpu", "driver is missing")),
        ("gpu:geheim", ("URL is not one of a database that is known here",)),
        ("sqlite:////proc/none/usage.sqlite", ("/proc/none",)),
        ("sqlite:////dev/null", ("/dev/null",)),
    ],
)
def test_a_database_that_cannot_be_opened(url: str, words: tuple) -> None:
    refused(serve(url), *words)


def test_a_database_that_goes_away_is_named_without_its_password(said: Callable[..., Said], server: Server) -> None:
    service = Running(Store(server.create("geheim")), lambda *asked: [])
    period = ("-S", "2026-11-01", "-E", "2026-11-02", "--service", service.url)
    try:
        assert said("report", "jobs", *period)[0] == 0
        server.kill()
        try:
            for name in REPORTS:
                code, out, err = said("report", name, *period)
                assert "***@" in service.store.name and "geheim" not in err
                logged, told = err.splitlines()  # the service's own log comes first
                assert logged.startswith("gpushare serve: ")
                one_line((code, out, told + "\n"), 1, f"{service.url}: {service.store.name}: ")
        finally:
            server.start()
        assert said("report", "jobs", *period)[0] == 0
    finally:
        service.stop()
