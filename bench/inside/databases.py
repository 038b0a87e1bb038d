"""In the lab, as root, imported by its neighbours: its MariaDB, and where the stores of a benchmark are."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DATABASE = "gpushare_bench"
# Bytes of MariaDB's buffer pool, which Slurm's guide to accounting wants to be large, and of its log, which a year that
# is loaded at once keeps full at its default of 96 MiB.
POOL = LOG = 1 << 30


def sql(statement: str, *options: str) -> list[list[str]]:
    """Ask the lab's MariaDB; return the rows as texts."""
    argv = ["mariadb", "--batch", "--skip-column-names", *options, "-e", statement]
    text = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [line.split("\t") for line in text.splitlines()]


@contextmanager
def as_on_a_site() -> Iterator[None]:
    """Give MariaDB memory and a log as docs/store.md does, and have it write what was committed, as is its default."""
    settings = {
        "innodb_buffer_pool_size": POOL,
        "innodb_log_file_size": LOG,
        "innodb_flush_log_at_trx_commit": 1,
    }
    before = {name: sql(f"select @@{name}")[0][0] for name in settings}
    try:
        sql("".join(f"set global {name}={value};" for name, value in settings.items()))
        yield
    finally:
        sql("".join(f"set global {name}={value};" for name, value in before.items()))


def cluster() -> str:
    """Return the name of the lab's cluster."""
    return sql("select name from slurm_acct_db.cluster_table where deleted = 0")[0][0]


def url(store: str, folder: str) -> str:
    """Return where the store of that kind is: sqlite or mariadb."""
    if store == "mariadb":
        return f"mariadb+pymysql://root@localhost/{DATABASE}?unix_socket=/run/mysqld/mysqld.sock"
    return f"sqlite:///{folder}/usage.sqlite"


def timed(work: Callable, *arguments: object, **options: object) -> float:
    """Return how many seconds it took."""
    began = time.monotonic()
    work(*arguments, **options)
    return time.monotonic() - began
