"""In the lab, as root: put the same year of a large site into stores and into the lab's slurmdbd.

Arguments as JSON: folder (of bench/site_year.py and its neighbours, and for the SQLite file), jobs, days, end (seconds
since the epoch), stores (of sqlite, mariadb).
Prints JSON: {"jobs", "records": how many, "loaded": {store: {"jobs", "records": seconds}}, "slurmdbd": seconds
for the jobs}.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

SAID = 100_000  # jobs


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"load: {text}", file=sys.stderr, flush=True)


class Slurmdbd:
    """The lab's slurmdbd, which gets the year by SQL."""

    def __init__(self, folder: Path):
        from databases import cluster, sql
        from site_slurmdbd import Sums
        from site_year import FIRST_JOB, users

        self._sql, self._cluster = sql, f"slurm_acct_db.{cluster()}"
        self._file = folder / "jobs.tsv"
        everybody = users()
        for account in sorted({user.account for user in everybody}):
            names = ",".join(user.name for user in everybody if user.account == account)
            for what in (["account", account], ["user", names, f"account={account}"]):
                # It fails for what is there already, and says that the system has no such users.
                subprocess.run(["sacctmgr", "-iQ", "add", *what], capture_output=True, check=False)
        query = f"select user, acct, id_assoc from {self._cluster}_assoc_table where user != '' and not deleted"
        self._associations = {(user, account): int(number) for user, account, number in sql(query)}
        query = "select if(name = '', type, concat(type, '/', name)), id from slurm_acct_db.tres_table"
        self._tres_ids = {name: int(number) for name, number in sql(query)}
        self._sums = Sums(self._tres_ids)
        sql(f"delete from {self._cluster}_job_table where id_job >= {FIRST_JOB}")

    def put(self, rows: Iterable) -> None:
        """Keep ``rows`` until they are loaded."""
        from site_slurmdbd import table_line

        with open(self._file, "a", encoding="utf-8") as lines:
            for row in rows:
                lines.write(table_line(row, self._associations, self._tres_ids))
                self._sums.add(row, self._associations[row.user, row.account])

    def load(self) -> float:
        """Load what was put, and its sums; return how many seconds the runs took."""
        from databases import timed
        from site_slurmdbd import COLUMNS

        seconds = timed(self._load, "job_table", COLUMNS)
        for unit, lines in (("day", self._sums.days()), ("month", self._sums.months())):
            with open(self._file, "w", encoding="utf-8") as file:
                file.writelines(lines)
            self._load(f"assoc_usage_{unit}_table", self._sums.COLUMNS)
            # sreport tells nothing of a cluster without sums of its own.
            self._sql(
                f"replace into {self._cluster}_usage_{unit}_table (creation_time, mod_time, id_tres, time_start, "
                f"`count`, alloc_secs) select 1, 1, id_tres, time_start, 1000, sum(alloc_secs) "
                f"from {self._cluster}_assoc_usage_{unit}_table group by id_tres, time_start"
            )
        return seconds

    def _load(self, table: str, columns: Iterable[str]) -> None:
        names = ",".join(f"`{name}`" for name in columns)
        statement = f"load data local infile '{self._file}' replace into table {self._cluster}_{table} ({names})"
        self._sql(statement, "--local-infile=1")
        self._file.unlink()


def fill(name: str, store: object, year: Iterable) -> tuple[int, int, dict[str, float]]:
    """Put the year into ``store``; return how many jobs and records it has, and how many seconds each kind took."""
    from databases import timed

    jobs = records = 0
    seconds = {"jobs": 0.0, "records": 0.0}
    for rows, used in year:
        jobs, records = jobs + len(rows), records + len(used)
        seconds["jobs"] += timed(store.add_jobs, rows)
        seconds["records"] += timed(store.add_usage, used)
        if jobs % SAID < len(rows):
            say(f"{name}: {jobs} jobs, {records} records: {seconds}")
    return jobs, records, seconds


def main(arguments: dict) -> dict:
    """Run it."""
    sys.path.insert(0, arguments["folder"])
    from databases import DATABASE, as_on_a_site, cluster, sql, url
    from site_year import batches

    from slurm_gpushare.accounting.store import Store

    folder, end = Path(arguments["folder"]), arguments["end"]
    for file in (*folder.glob("usage.sqlite*"), *folder.glob("*.tsv")):
        file.unlink()
    if "mariadb" in arguments["stores"]:
        sql(f"drop database if exists {DATABASE}; create database {DATABASE}")
    year = partial(batches, cluster(), end, arguments["jobs"], arguments["days"])
    with as_on_a_site():
        # One after the other: a site has one store, and two would wait for each other's writing to the disk.
        seconds = {}
        for name in arguments["stores"]:
            store = Store(url(name, str(folder)))
            jobs, records, seconds[name] = fill(name, store, year())
            # As on a site whose service ran all the year: it need not ask Slurm for all of it now.
            store.cover(end - 86400.0 * arguments["days"], end)
            store.close()
        slurmdbd = Slurmdbd(folder)
        for rows, _ in year():
            slurmdbd.put(rows)
        loaded = slurmdbd.load()
    return {"jobs": jobs, "records": records, "loaded": seconds, "slurmdbd": loaded}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
