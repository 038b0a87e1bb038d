"""How long reports take over a year of a large site, on SQLite and MariaDB, beside Slurm's own over the same jobs."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median

from bench import site_year
from bench.lab import Setting, run_program, running
from bench.result import MOST, Bound, Result
from slurm_gpushare.lab import inside

RUNS = 7
LIMIT = 1.0  # seconds for a report, start of the command included
STORES = ("sqlite", "mariadb")
# What Slurm has that comes nearest to each report.
PEERS = {
    "usage, a month": "sreport, a month",
    "usage, this month": "sreport, a month",
    "usage, a year": "sreport, a year",
    "efficiency of a user": "sacct of a user, 30 days",
    "efficiency of a user, a year": "sacct of a user, a year",
    "advice for a user": "sacct of a user, 30 days",
    "advice for a user, a year": "sacct of a user, a year",
}
# Of every one of a user's 10,000 runs; both are meant for recent ones.
UNBOUND = ("efficiency of a user, a year", "advice for a user, a year")
FOLDER = "/var/tmp/reports"  # in the lab: modules of the programs, and the SQLite file
MODULES = ("site_year.py", "site_slurmdbd.py", "inside/databases.py")


def run(setting: Setting, jobs: int = site_year.JOBS, days: int = site_year.DAYS) -> Iterator[Result]:
    """Yield seconds of each report."""
    runs = setting.runs or RUNS
    with running(setting) as lab, filled(lab, jobs, days) as (year, _):
        asked = run_program(lab, "reports", {**year, "runs": runs, "user": site_year.ALICE[0]})
    yield from reports(asked, runs)


@contextmanager
def filled(lab: str, jobs: int, days: int) -> Iterator[tuple[dict, dict]]:
    """Yield arguments of programs about a year that was put into the lab's databases, and what load_year.py said."""
    end = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
    year = {"folder": FOLDER, "stores": STORES, "days": days, "end": int(end.timestamp())}
    put_modules(lab)
    try:
        yield year, run_program(lab, "load_year", {**year, "jobs": jobs})
    finally:
        inside.run(lab, ["rm", "-rf", FOLDER])


def put_modules(lab: str) -> None:
    """Put what the programs import into the lab."""
    inside.run(lab, ["mkdir", "-p", FOLDER])
    for name in MODULES:
        path = Path(__file__).parent / name
        inside.run(lab, ["dd", f"of={FOLDER}/{path.name}", "status=none"], stdin=path.read_text(encoding="utf-8"))


def reports(asked: dict, runs: int) -> Iterator[Result]:
    """Yield the median of each report beside Slurm's."""
    for store in STORES:
        for name, taken in asked["reports"][store].items():
            figures = median(taken), median(asked["peers"][PEERS[name]])
            bound = None if name in UNBOUND else Bound(MOST, LIMIT)
            yield Result(f"reports: {name}, {store}", PEERS[name], *figures, "s", runs, bound)
