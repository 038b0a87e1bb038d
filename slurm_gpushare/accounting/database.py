"""The store's database: opening it safely, transactions, and what its drivers say in one line. It knows no report."""

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import TypeVar

from sqlalchemy import Connection, create_engine, event, func
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError, SQLAlchemyError

from slurm_gpushare.accounting.bulk import insert
from slurm_gpushare.accounting.migrations import prepare, recognise
from slurm_gpushare.accounting.schema import Base
from slurm_gpushare.errors import StoreError

_BUSY = 30.0  # seconds that SQLite waits for another writer, and we for another who changes the tables
_CONNECT = 10  # seconds that a server may take to answer, unless the URL says otherwise
_AT_ONCE = 500  # rows in one statement
_ATTEMPTS = 5  # at a transaction that the server ended for the sake of another
# MariaDB's codes for that (1020: of innodb_snapshot_isolation, on from 11.6.2), and PostgreSQL's.
_LOST_OUT = {1020, 1205, 1213, "40001", "40P01"}
_LOCK = "gpushare tables"

T = TypeVar("T")


class Database:
    """The open database. Its methods may be called from several threads at once."""

    def __init__(self, url: str):
        """Open the database at ``url``; make its tables when there are none, bring older ones up to date.

        Raises
        ------
        StoreError
            It cannot be reached or read, is newer than this version, or belongs to something else; nothing of it is
            changed then. The message has the URL without its password.
        """
        try:
            parsed = make_url(url)
            self.name = parsed.render_as_string(hide_password=True)
            _prepare_file(parsed)
            self._engine = create_engine(parsed, pool_pre_ping=True, connect_args=_connect_args(parsed))
        except ArgumentError:
            # make_url's own message repeats the URL, password included.
            raise StoreError(
                "the store's URL is not one of a database that is known here: write one such as "
                "sqlite:////var/lib/gpushare/usage.sqlite or mariadb+pymysql://gpushare@HOST/gpushare"
            ) from None
        except ImportError as error:
            raise StoreError(f"{self.name}: the database's driver is missing: install Python's {error.name}") from None
        except OSError as error:
            raise StoreError(f"{self.name}: {error.filename}: {error.strerror}") from None
        try:
            if self._engine.dialect.name not in ("sqlite", "mysql", "mariadb", "postgresql"):
                raise StoreError(
                    f"{self.name}: {self._engine.dialect.name} is not one of SQLite, MariaDB and PostgreSQL"
                )
            with self._said():
                self._open()
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _open(self) -> None:
        with self._engine.connect() as connection:
            if connection.dialect.name == "sqlite" and (fault := _fault(connection)):
                raise StoreError(
                    f"{self.name}: the file is no whole database ({fault}): restore it from a backup, "
                    "or name another; nothing was changed"
                )
            recognise(connection, self.name)
        if self._engine.dialect.name == "sqlite":
            # Only now: the journal's mode is written into the file, and a file that is refused stays as it is.
            event.listen(self._engine, "connect", _set_up_sqlite)
            self._engine.dispose()
        with self._engine.connect() as connection, self._alone(connection):
            recognise(connection, self.name)  # another may just have made them, and may be newer
            connection.rollback()
            prepare(connection)

    @contextmanager
    def _alone(self, connection: Connection) -> Iterator[None]:
        """Keep other services on the same server from changing the tables at the same time."""
        server = connection.dialect.name
        if server == "sqlite":
            yield
            return
        if server == "postgresql":
            take, give = f"SELECT pg_advisory_lock(hashtext('{_LOCK}'))", "SELECT pg_advisory_unlock_all()"
        else:
            # MariaDB's names of locks are the server's, not the database's.
            lock = f"concat('{_LOCK} ', database())"
            take, give = f"SELECT get_lock({lock}, {_BUSY:g})", f"SELECT release_lock({lock})"
        if connection.exec_driver_sql(take).scalar() == 0:
            raise StoreError(f"{self.name}: another gpushare is changing its tables: try again when it is done")
        connection.rollback()  # what another did meanwhile is seen
        try:
            yield
        finally:
            if not connection.invalidated:
                connection.rollback()
                connection.exec_driver_sql(give)

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` does in one transaction, again where the server preferred another's; raises StoreError.

        Not for work that is half done when it fails outside of the database.
        """
        with self._said():
            for left in reversed(range(_ATTEMPTS)):
                try:
                    with self._engine.begin() as connection:
                        return work(connection)
                except DBAPIError as error:
                    if not left or not _lost_out(error):
                        raise
                    time.sleep(random.uniform(0, 0.2))
            raise AssertionError("unreachable")

    def _write(self, connection: Connection, model: type[Base], rows: Sequence[dict], grows: str | None = None) -> None:
        """Keep ``rows``; each replaces what is there of its key, unless that has more of column ``grows``."""
        if not rows:
            return
        dialect, table = connection.dialect, model.__table__
        statement = _upsert(dialect.name, table, grows)
        if dialect.driver == "pymysql":
            insert(connection, statement, rows)
            return
        compiled = statement.compile(dialect=dialect)
        # Straight to the driver, which takes half of the time: SQLAlchemy would look at every value of every row.
        kinds = [(column.name, column.type.bind_processor(dialect)) for column in table.columns]
        kinds = [(name, process) for name, process in kinds if process is not None]
        values = [row | {name: process(row[name]) for name, process in kinds} for row in rows]
        if compiled.positiontup is not None:
            values = list(map(itemgetter(*compiled.positiontup), values))
        for at in range(0, len(values), _AT_ONCE):
            connection.exec_driver_sql(str(compiled), values[at : at + _AT_ONCE])

    def _read(self, query: object, kind: type) -> list:
        """Return the rows as objects of ``kind``, whose fields have the names of the query's columns."""
        with self._said(), self._engine.connect() as connection:
            rows = connection.execute(query)
            names = tuple(rows.keys())
            return [kind(**dict(zip(names, row, strict=True))) for row in rows]

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            # The first line of the driver's message; SQLAlchemy adds the statement and a link below it.
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()
            raise StoreError(f"{self.name}: {cause[0] if cause else type(error).__name__}") from None
        except UnicodeError as error:
            raise StoreError(f"{self.name}: {error}") from None


def _upsert(server: str, table: object, grows: str | None) -> object:
    """Return the statement that inserts a row or replaces that of the same key."""
    keys = [column.name for column in table.primary_key]
    others = [column.name for column in table.columns if column.name not in keys]
    if server in ("mysql", "mariadb"):
        statement = mysql.insert(table)
        new = statement.inserted
        if grows is None:
            return statement.on_duplicate_key_update([(name, new[name]) for name in others or keys])
        # It takes one column after the other: the one by which it decides comes last.
        others = [name for name in others if name != grows] + [grows]
        more = new[grows] >= table.c[grows]
        values = [(name, func.if_(more, new[name], table.c[name])) for name in others]
        return statement.on_duplicate_key_update(values)
    statement = (sqlite if server == "sqlite" else postgresql).insert(table)
    if not others:
        return statement.on_conflict_do_nothing(index_elements=keys)
    new = statement.excluded
    where = None if grows is None else new[grows] >= table.c[grows]
    return statement.on_conflict_do_update(index_elements=keys, set_={name: new[name] for name in others}, where=where)


def _lost_out(error: DBAPIError) -> bool:
    cause = error.orig
    code = getattr(cause, "sqlstate", None) or (cause.args[0] if cause is not None and cause.args else None)
    return code in _LOST_OUT


def _connect_args(url: URL) -> dict[str, object]:
    """Return what the driver is given beside the URL: a server that is down is told of, not waited for."""
    if url.get_backend_name() == "sqlite":
        return {}
    given = {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT}
    tls = any(name.startswith("ssl") for name in url.query)
    if url.get_driver_name() == "pymysql" and "unix_socket" in url.query and not tls:
        # MariaDB 11.4 and newer offer TLS to everybody, and PyMySQL takes it, where no byte leaves the host.
        given["ssl_disabled"] = True
    return given


def _prepare_file(url: URL) -> None:
    """Make the folder and the empty file of a SQLite database, for their owner alone."""
    path = url.database
    if url.get_backend_name() != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return
    os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o750, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _fault(connection: Connection) -> str | None:
    """Return the first thing that is wrong with a SQLite file, None where nothing is."""
    try:
        found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    except DatabaseError as error:
        if isinstance(error, OperationalError):
            raise  # it cannot be opened or is locked, which says nothing about what is in it
        return str(error.orig)
    return None if found == "ok" else " ".join(str(found).split())


def _set_up_sqlite(connection: object, record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA busy_timeout={int(_BUSY * 1000)}")
    cursor.close()
