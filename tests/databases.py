"""Real database servers for the tests: MariaDB and PostgreSQL of the test tools' root file system, private and small.

They listen on a socket in a folder of their own below /tmp; each test gets a database of its own.
"""

import itertools
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from tests.tools import inside

KINDS = ("sqlite", "mariadb", "postgresql")
_PATIENCE = 60.0  # seconds for a start
_POSTGRESQL = "/usr/lib/postgresql/17/bin"
_numbers = itertools.count(1)


class Server:
    """A database server of one kind: ``start``, ``kill`` and ``start`` again as often as wanted, ``remove``."""

    def __init__(self, kind: str):
        self._kind = kind
        self._work = Path(tempfile.mkdtemp(prefix="gpushare-db-", dir="/tmp"))
        self._process: subprocess.Popen | None = None
        if kind == "mariadb":
            self._user = "mysql"
            self._make(
                *("mariadb-install-db", "--no-defaults", f"--datadir={self._work}/data", "--skip-test-db"),
                "--auth-root-authentication-method=normal",
            )
        else:
            self._user = "postgres"
            self._make(f"{_POSTGRESQL}/initdb", "--auth=trust", "--no-sync", "-D", f"{self._work}/data")

    def start(self) -> None:
        """Start it, and return when it answers."""
        if self._kind == "mariadb":
            argv = ["mariadbd", "--no-defaults", f"--datadir={self._work}/data", f"--socket={self._work}/s"]
            argv += ["--skip-networking", "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M"]
            argv += ["--innodb-log-file-size=16M"]
        else:
            # A write that the server had done when it was killed is there: the machine does not go down.
            argv = [f"{_POSTGRESQL}/postgres", "-D", f"{self._work}/data", "-k", str(self._work), "-c", "fsync=off"]
            argv += ["-c", "listen_addresses="]
        with (self._work / "log").open("ab") as log:
            self._process = subprocess.Popen(inside(argv, self._work, user=self._user), stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._kind} does not answer:\n{(self._work / 'log').read_text()[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash would."""
        # bwrap takes its whole pid namespace with it.
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def remove(self) -> None:
        """End it and delete its files."""
        self.kill()
        shutil.rmtree(self._work)

    def url(self, database: str = "") -> str:
        """Return the URL of a database of it."""
        if self._kind == "mariadb":
            return f"mariadb+pymysql://root@localhost/{database}?unix_socket={self._work}/s"
        return f"postgresql+psycopg://postgres@/{database or 'postgres'}?host={self._work}"

    def create(self, password: str | None = None) -> str:
        """Make an empty database; return its URL: with ``password`` that of a user of its own, who has one."""
        name = f"usage{next(_numbers)}"
        self._execute(f"create database {name}")
        if password is None:
            return self.url(name)
        if self._kind == "mariadb":
            self._execute(f"grant all on {name}.* to {name}@localhost identified by '{password}'")
        else:
            self._execute(f"create user {name} password '{password}'")
            self._execute(f"alter database {name} owner to {name}")
        url = make_url(self.url(name)).set(username=name, password=password)
        return url.render_as_string(hide_password=False)

    def _answers(self) -> bool:
        try:
            self._execute("select 1")
        except SQLAlchemyError:
            return False
        return True

    def _execute(self, statement: str) -> None:
        engine = create_engine(self.url(), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(statement)
        finally:
            engine.dispose()

    def _make(self, *argv: str) -> None:
        done = subprocess.run(
            inside(list(argv), self._work, user=self._user), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{argv[0]}: {done.stdout[-3000:]}")


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, Server]]:
    """The session's servers by kind; ``database_url`` starts them when the first test wants one."""
    found: dict[str, Server] = {}
    yield found
    for server in found.values():
        server.remove()


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path, servers: dict[str, Server]) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store/usage.sqlite"
    return _started(request.param, servers).create()


@pytest.fixture(params=KINDS[1:])
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    """A server of each kind in turn; whoever kills it starts it again."""
    return _started(request.param, servers)


def _started(kind: str, servers: dict[str, Server]) -> Server:
    if kind not in servers:
        server = Server(kind)
        server.start()
        servers[kind] = server
    return servers[kind]
