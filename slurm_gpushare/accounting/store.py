"""The store: usage records and runs of jobs in a SQL database, SQLite unless the URL names another."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields

from sqlalchemy import Connection, and_, create_engine, delete, event, exists, inspect, or_, select, tuple_
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError, SQLAlchemyError

from slurm_gpushare.accounting.schema import VERSION, Base, Hour, Job, Meta, Series, Usage
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.errors import StoreError
from slurm_gpushare.gpu_hour import HOUR, GpuHour
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord

_BUSY = 30.0  # seconds that SQLite waits for another writer
_AT_ONCE = 500  # rows in one statement


class Store:
    """The open database. Its methods may be called from several threads at once."""

    def __init__(self, url: str):
        """Open the database at ``url``; make its tables when there are none.

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
            self._engine = create_engine(parsed, pool_pre_ping=True)
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
            with self._said():
                self._open()
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def add_usage(self, records: Iterable[UsageRecord | GpuHour]) -> None:
        """Keep ``records``; one that is there already is replaced. All or none; raises StoreError.

        Of a GPU's hour the one with more seconds stays: an hour only grows.
        """
        records = {record.key: record for record in records}.values()
        hours = [record for record in records if isinstance(record, GpuHour)]
        # Not asdict, which copies every point of every series.
        rows = [dict(vars(record)) for record in records if isinstance(record, UsageRecord)]
        names = [column.name for column in Series.__table__.columns]
        courses = [{name: row[name] for name in names} for row in rows if row["series"] is not None]
        for row in rows:
            del row["series"]
        with self._said(), self._engine.begin() as connection:
            self._write(connection, Usage, rows)
            self._write(connection, Series, courses)
            self._write(connection, Hour, [asdict(hour) for hour in hours if not self._has_more(connection, hour)])

    def add_jobs(self, rows: Iterable[JobRow]) -> None:
        """Keep ``rows``; one that is there already is replaced. All or none; raises StoreError."""
        self._upsert(Job, {row.key: asdict(row) for row in rows}.values())

    def jobs(self, selection: Selection) -> list[JobRow]:
        """Return the runs of ``selection`` that had begun."""
        query = select(*Job.__table__.columns).where(_job_conditions(selection))
        return self._read(query.order_by(Job.start, Job.job_id, Job.restart), JobRow)

    def usage(self, selection: Selection) -> list[UsageRecord]:
        """Return the records of ``selection``'s time, and all those of jobs that have a run in it, without series."""
        columns = select(*Usage.__table__.columns)
        of_runs = columns.where(
            exists().where(Job.cluster == Usage.cluster, Job.job_id == Usage.job_id, _job_conditions(selection))
        )
        of_time = columns.where(_usage_conditions(selection))
        found = self._read(of_runs, UsageRecord) + self._read(of_time, UsageRecord)
        return list({record.key: record for record in found}.values())

    def series(self, record: UsageRecord) -> dict | None:
        """Return the course of ``record``, None where there is none or none any more; raises StoreError."""
        key = [column == getattr(record, column.name) for column in Series.__table__.primary_key]
        with self._said(), self._engine.connect() as connection:
            return connection.execute(select(Series.series).where(*key)).scalar()

    def usage_of(self, cluster: str, jobs: Iterable[int]) -> list[UsageRecord]:
        """Return all records of ``jobs``, without series."""
        query = select(*Usage.__table__.columns).where(Usage.cluster == cluster, Usage.job_id.in_(list(jobs)))
        return self._read(query, UsageRecord)

    def hours(self, start: float, end: float) -> list[GpuHour]:
        """Return the GPUs' hours that lie in the period, or in part."""
        query = select(*Hour.__table__.columns).where(Hour.hour < end, Hour.hour > start - HOUR)
        return self._read(query.order_by(Hour.cluster, Hour.node, Hour.gpu, Hour.source, Hour.hour), GpuHour)

    def forget_series(self, before: float) -> int:
        """Delete the courses of runs that ended ``before`` (seconds since the epoch); return how many; StoreError."""
        with self._said(), self._engine.begin() as connection:
            return connection.execute(delete(Series).where(Series.ended < before)).rowcount

    def running(self) -> list[JobRow]:
        """Return the runs whose end is not known."""
        return self._read(select(*Job.__table__.columns).where(Job.start.is_not(None), Job.end.is_(None)), JobRow)

    def jobs_with_usage(self, start: float, end: float) -> set[tuple[str, int]]:
        """Return (cluster, job id) of all usage records of the period."""
        query = select(Usage.cluster, Usage.job_id).where(_usage_conditions(Selection(start, end))).distinct()
        with self._said(), self._engine.connect() as connection:
            return {(cluster, job_id) for cluster, job_id in connection.execute(query)}

    def _open(self) -> None:
        with self._engine.connect() as connection:
            if connection.dialect.name == "sqlite" and (fault := _fault(connection)):
                raise StoreError(
                    f"{self.name}: the file is no whole database ({fault}): restore it from a backup, "
                    "or name another; nothing was changed"
                )
            tables = set(inspect(connection).get_table_names())
            ours = {table.name for table in Base.metadata.sorted_tables}
            version = None
            if Meta.__tablename__ in tables:
                version = connection.execute(select(Meta.value).where(Meta.name == "schema")).scalar()
        if version is not None and version != str(VERSION):
            raise StoreError(
                f"{self.name}: its tables are of version {version}, this gpushare knows version {VERSION}: "
                "run the gpushare that made them, or name another database; nothing was changed"
            )
        if version is None and tables & (ours - {Meta.__tablename__}):
            raise StoreError(f"{self.name}: has some of our tables but no version: name another database")
        if version is None and tables - ours and self._engine.dialect.name == "sqlite":
            raise StoreError(f"{self.name}: is another program's database: name another file")
        if self._engine.dialect.name == "sqlite":
            # Only now: the journal's mode is written into the file, and a file that is refused stays as it is.
            event.listen(self._engine, "connect", _set_up_sqlite)
            self._engine.dispose()
        if version is not None:
            self._add_columns()
        with self._engine.begin() as connection:
            Base.metadata.create_all(connection)
            if version is None:
                self._write(connection, Meta, [{"name": "schema", "value": str(VERSION)}])

    def _add_columns(self) -> None:
        """Add the columns that an older gpushare of the same version of tables did not have; they may be null."""
        with self._engine.begin() as connection:
            tables = set(inspect(connection).get_table_names())
            for table in Base.metadata.sorted_tables:
                if table.name not in tables:
                    continue
                there = {column["name"] for column in inspect(connection).get_columns(table.name)}
                for column in table.columns:
                    if column.name not in there:
                        kind = column.type.compile(connection.dialect)
                        connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}")

    @staticmethod
    def _has_more(connection: Connection, hour: GpuHour) -> bool:
        key = [column == getattr(hour, column.name) for column in Hour.__table__.primary_key]
        there = connection.execute(select(Hour.seconds_sampled).where(*key)).scalar()
        return there is not None and there > hour.seconds_sampled

    def _upsert(self, model: type[Base], rows: Iterable[dict]) -> None:
        with self._said(), self._engine.begin() as connection:
            self._write(connection, model, list(rows))

    def _write(self, connection: Connection, model: type[Base], rows: Sequence[dict]) -> None:
        table = model.__table__
        keys = [column.name for column in table.primary_key]
        others = [column.name for column in table.columns if column.name not in keys]
        if connection.dialect.name in ("mysql", "mariadb"):
            statement = mysql.insert(table)
            statement = statement.on_duplicate_key_update({name: statement.inserted[name] for name in others})
        elif connection.dialect.name in ("sqlite", "postgresql"):
            statement = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
            new = {name: statement.excluded[name] for name in others}
            statement = statement.on_conflict_do_update(index_elements=keys, set_=new)
        else:
            raise StoreError(f"{self.name}: {connection.dialect.name} is not one of SQLite, MariaDB and PostgreSQL")
        for at in range(0, len(rows), _AT_ONCE):
            connection.execute(statement, rows[at : at + _AT_ONCE])

    def _read(self, query: object, kind: type) -> list:
        names = [item.name for item in fields(kind)]
        with self._said(), self._engine.connect() as connection:
            rows = connection.execute(query).mappings()
            return [kind(**{name: row[name] for name in names if name in row}) for row in rows]

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


def _job_conditions(selection: Selection) -> object:
    conditions = [Job.start.is_not(None), Job.alloc_tres != "", Job.start <= selection.end]
    conditions.append(or_(Job.end.is_(None), Job.end >= selection.start))
    if selection.uid is not None:
        conditions.append(Job.uid == selection.uid)
    if selection.users is not None:
        conditions.append(Job.user.in_(selection.users))
    if selection.jobs is not None:
        # Lists, since a database takes only so many OR-ed terms.
        whole = [ref.job_id for ref in selection.jobs if ref.task_id is None]
        tasks = [(ref.job_id, ref.task_id) for ref in selection.jobs if ref.task_id is not None]
        conditions.append(
            or_(
                Job.job_id.in_(whole),
                Job.array_job_id.in_(whole),
                tuple_(Job.array_job_id, Job.array_task_id).in_(tasks),
            )
        )
    return and_(*conditions)


def _usage_conditions(selection: Selection) -> object:
    conditions = [Usage.started <= selection.end, Usage.ended >= selection.start]
    if selection.uid is not None:
        conditions.append(Usage.uid == selection.uid)
    if selection.users is not None:
        conditions.append(Usage.user.in_(selection.users))
    if selection.jobs is not None:
        conditions.append(Usage.job_id.in_([ref.job_id for ref in selection.jobs if ref.task_id is None]))
    return and_(*conditions)


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
