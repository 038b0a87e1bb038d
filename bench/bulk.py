"""How long a month of a large site's records takes into the store, on SQLite and MariaDB."""

from collections.abc import Iterator

from bench.lab import Setting, running
from bench.reports import STORES, filled
from bench.result import MOST, Bound, Result

JOBS, DAYS = 200_000, 36
RECORDS = 20_000
LIMIT = 1.0  # seconds for RECORDS


def run(setting: Setting) -> Iterator[Result]:
    """Yield seconds of loading beside the same number of rows by SQL into Slurm's database."""
    with running(setting) as lab, filled(lab, JOBS, DAYS) as (_, loaded):
        pass
    slurms = loaded["slurmdbd"] * RECORDS / loaded["jobs"]
    for store in STORES:
        taken = loaded["loaded"][store]["records"] * RECORDS / loaded["records"]
        name, against = f"bulk: {RECORDS} records into {store}", "as many jobs into slurmdbd's table by LOAD DATA"
        yield Result(name, against, taken, slurms, "s", loaded["records"] // RECORDS, Bound(MOST, LIMIT))
