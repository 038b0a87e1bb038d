"""The store: usage records and runs of jobs in a SQL database, SQLite unless the URL names another."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import (
    BigInteger,
    Connection,
    String,
    and_,
    delete,
    exists,
    false,
    func,
    or_,
    select,
    tuple_,
    type_coerce,
)

from slurm_gpushare.accounting.database import Database
from slurm_gpushare.accounting.export import TABLES
from slurm_gpushare.accounting.longest import longest, longest_of, row_of
from slurm_gpushare.accounting.report import SLACK
from slurm_gpushare.accounting.rollup import Rollups
from slurm_gpushare.accounting.rollup_store import RollupStore, outdate
from slurm_gpushare.accounting.schema import Hour, Job, Meta, Series, Usage
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.gpu_hour import HOUR, GpuHour
from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.usage import UsageRecord

# How long the names that Slurm tells may be here; SQLite alone would take longer ones.
_LENGTHS = {
    column.name: column.type.length
    for column in Job.__table__.columns
    if isinstance(column.type, String) and column.type.length
}
_COVERED = ("slurm_since", "slurm_until")
_AT_ONCE = 500  # names in one statement
_PART = 1000  # rows that are in memory at a time when all leave the store
_COURSE = [column.name for column in Series.__table__.columns]


class Store(Database):
    """Usage records, GPU hours and runs of jobs. Its methods may be called from several threads at once."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time):
        """Open the database at ``url``, as Database does. ``clock`` tells which days are over."""
        super().__init__(url)
        self.rollups = Rollups(self, RollupStore(self._engine, self._said), clock)

    def add_usage(self, records: Sequence[UsageRecord | GpuHour]) -> None:
        """Keep ``records``; one that is there already is replaced. All or none; raises StoreError.

        Of a GPU's hour the one with more seconds stays: an hour only grows.
        """
        kept = {record.key: record for record in records if isinstance(record, UsageRecord)}
        # In the order of the key, in which a database finds the places of many rows soonest.
        rows = [vars(kept[key]) for key in sorted(kept)]
        courses = [{name: row[name] for name in _COURSE} for row in rows if row["series"] is not None]
        found = sorted((hour for hour in records if isinstance(hour, GpuHour)), key=lambda hour: hour.seconds_sampled)
        hours = [vars(hour) for hour in {hour.key: hour for hour in found}.values()]

        def write(connection: Connection) -> None:
            self._write(connection, Usage, rows)
            self._write(connection, Series, courses)
            self._write(connection, Hour, hours, grows="seconds_sampled")
            outdate(connection, ((row["cluster"], row["job_id"]) for row in rows))

        self._lengthen(Usage, rows)
        self._transaction(write)

    def add_jobs(self, rows: Iterable[JobRow]) -> None:
        """Keep those of ``rows`` that have begun; one that is there is replaced. All or none; raises StoreError."""
        values = {row.key: _job_values(row) for row in rows if row.start is not None}

        def write(connection: Connection) -> None:
            # Slurm tells of the same runs again and again; what did not change leaves roll-ups as they are.
            before = _stored(connection, {job_id for _, job_id, _, _ in values})
            changed = [value for key, value in values.items() if value != before.get(key)]
            self._write(connection, Job, changed)
            old = [before[_run(value)] for value in changed if _run(value) in before]
            spans = [(one["start"], one["end"]) for one in old if None not in (one["start"], one["end"])]
            outdate(connection, ((value["cluster"], value["job_id"]) for value in changed), spans)

        self._lengthen(Job, list(values.values()))
        self._transaction(write)

    def _lengthen(self, model: type[Usage] | type[Job], rows: Sequence[Mapping]) -> None:
        """Keep how long the longest row is, before ``rows`` are written: more than it is does no harm."""
        seconds = longest_of(model, rows)
        if seconds > self._longest()[model]:
            row = row_of(model, seconds)
            self._transaction(lambda connection: self._write(connection, Meta, [row], grows="value"))

    def _longest(self) -> dict[type, float]:
        """Return how long rows of each model are at most, in seconds."""
        with self._said(), self._engine.connect() as connection:
            return {model: longest(connection, model) for model in (Usage, Job)}

    def jobs(self, selection: Selection) -> list[JobRow]:
        """Return the runs of ``selection`` that had begun."""
        conditions = _job_conditions(selection, self._longest())
        found = self._read(select(*Job.__table__.columns).where(conditions), JobRow)
        # Not by the database: for the order SQLite would go through all runs there are.
        return sorted(found, key=lambda row: (row.start, row.job_id, row.restart))

    def followed(self, rows: Iterable[JobRow]) -> set[tuple]:
        """Return the keys of those of ``rows`` whose job has run again since; raises StoreError."""
        rows, last = list(rows), {}
        ids = sorted({row.job_id for row in rows})
        if ids and ids[-1] - ids[0] < 4 * len(ids):
            among = [Job.job_id.between(ids[0], ids[-1])]  # all jobs of some days: a fifth of the time
        else:
            among = [Job.job_id.in_(ids[at : at + _AT_ONCE]) for at in range(0, len(ids), _AT_ONCE)]
        query = select(Job.cluster, Job.job_id, func.max(Job.restart)).group_by(Job.cluster, Job.job_id)
        query = query.where(Job.restart > 0, Job.start.is_not(None), Job.alloc_tres != "")
        with self._said(), self._engine.connect() as connection:
            for some in among:
                for cluster, job_id, restart in connection.execute(query.where(some)):
                    last[cluster, job_id] = restart
        return {row.key for row in rows if row.restart < last.get((row.cluster, row.job_id), 0)}

    def usage(self, selection: Selection) -> list[UsageRecord]:
        """Return the records of ``selection``'s time, and all those of jobs that have a run in it, without series."""
        columns = select(*Usage.__table__.columns)
        # A join with the jobs, not a condition on records, which SQLite and MariaDB would ask of every record there is.
        # Not distinct, for which SQLite would go through all jobs by their keys.
        most = self._longest()
        jobs = select(Job.cluster, Job.job_id).where(_job_conditions(selection, most)).subquery()
        of_runs = columns.join(jobs, and_(jobs.c.cluster == Usage.cluster, jobs.c.job_id == Usage.job_id))
        if selection.uid is not None and selection.accounts_seen:
            of_runs = of_runs.where(_seen_usage(selection))  # a job may have had another account in another run
        of_time = columns.where(_usage_conditions(selection, most))
        if selection.uid is None and selection.users is None and selection.jobs is None:
            # Those of the time come anyhow; read twice they would take twice as long.
            of_runs = of_runs.where(or_(Usage.started > selection.end, Usage.ended < selection.start))
        if selection.jobs is not None:
            of_time = of_time.where(Usage.cluster.in_(self._clusters()))  # so the key's index is read
        found = self._read(of_runs, UsageRecord) + self._read(of_time, UsageRecord)
        return list({record.key: record for record in found}.values())

    def _clusters(self) -> list[str]:
        """Return the clusters of all records, each found by the key's index: DISTINCT would have SQLite read all."""
        found: list[str] = []
        with self._said(), self._engine.connect() as connection:
            while (name := connection.scalar(_next_cluster(found[-1] if found else ""))) is not None:
                found.append(name)
        return found

    def series(self, record: UsageRecord) -> dict | None:
        """Return the course of ``record``, None where there is none or none any more; raises StoreError."""
        key = [column == getattr(record, column.name) for column in Series.__table__.primary_key]
        with self._said(), self._engine.connect() as connection:
            return connection.execute(select(Series.series).where(*key)).scalar()

    def usage_of(self, cluster: str, jobs: Iterable[int]) -> list[UsageRecord]:
        """Return all records of ``jobs``, without series."""
        query = select(*Usage.__table__.columns).where(Usage.cluster == cluster, Usage.job_id.in_(list(jobs)))
        return self._read(query, UsageRecord)

    def on_gpu(self, record: UsageRecord) -> list[UsageRecord]:
        """Return the records of other jobs on the GPU of ``record`` that overlap with its time, without series."""
        query = select(*Usage.__table__.columns).where(
            Usage.gpu == record.gpu, Usage.ended > record.started, Usage.started < record.ended
        )
        others = query.where(Usage.cluster == record.cluster, Usage.job_id != record.job_id)
        return self._read(others.order_by(Usage.started, Usage.job_id), UsageRecord)

    def largest(self, selection: Selection, name: str) -> Iterator[tuple[float, tuple[str, int]]]:
        """Yield the jobs of ``selection``, (cluster, job id), by the sum of a column of their records, largest first.

        The sum is of whole records of all sources: no run of the job has more in the selection's time.
        """
        amount = func.sum(getattr(Usage, name))
        most = self._longest()
        conditions = _usage_conditions(replace(selection, jobs=None), most)
        query = select(Usage.cluster, Usage.job_id, amount).where(conditions)
        wanted = (
            (Job.account, selection.accounts),
            (Job.partition, selection.partitions),
            (Job.state, selection.states),
        )
        chosen = [column.in_(names) for column, names in wanted if names is not None]
        if chosen or selection.jobs is not None:
            chosen += [Job.cluster == Usage.cluster, Job.job_id == Usage.job_id]
            chosen.append(_job_conditions(selection, most))
            query = query.where(exists().where(*chosen))
        query = query.group_by(Usage.cluster, Usage.job_id).having(amount > 0).order_by(amount.desc())
        with self._said(), self._engine.connect() as connection:
            for cluster, job_id, value in connection.execution_options(yield_per=1000).execute(query):
                yield value, (cluster, job_id)

    def hours(self, start: float, end: float) -> list[GpuHour]:
        """Return the GPUs' hours that lie in the period, or in part."""
        query = select(*Hour.__table__.columns).where(Hour.hour < end, Hour.hour > start - HOUR)
        return self._read(query.order_by(Hour.cluster, Hour.node, Hour.gpu, Hour.source, Hour.hour), GpuHour)

    def hours_in(self, start: float, end: float, bucket: float) -> list[tuple]:
        """Return what GPUs did in buckets of ``bucket`` seconds from ``start`` on, of hours that begin in [start, end).

        (node, gpu, model, the bucket's number, seconds sampled, GPU-seconds used, reserved). Hours of an unknown use
        are left out.
        """
        since, wide = round(start * 1_000_000), round(bucket * 1_000_000)
        number = ((type_coerce(Hour.hour, BigInteger) - since) // wide).label("number")
        sums = (func.sum(column) for column in (Hour.seconds_sampled, Hour.gpu_seconds_used, Hour.gpu_seconds_reserved))
        query = select(Hour.node, Hour.gpu, Hour.gpu_name, number, *sums).where(
            Hour.hour >= start, Hour.hour < end, Hour.gpu_seconds_used.is_not(None)
        )
        with self._said(), self._engine.connect() as connection:
            found = connection.execute(query.group_by(Hour.node, Hour.gpu, Hour.gpu_name, number))
            return [(node, gpu, model, int(at), *amounts) for node, gpu, model, at, *amounts in found]

    def unattributed(self, start: float, end: float, by: Sequence[str]) -> list[tuple]:
        """Return (hour, GPU-seconds by no job, a value of each of ``by``) of hours that begin in [start, end).

        ``by`` are of cluster, node and gpu (the model).
        """
        columns = [Hour.gpu_name if name == "gpu" else getattr(Hour, name) for name in by]
        query = select(Hour.hour, func.sum(Hour.gpu_seconds_unattributed), *columns).where(
            Hour.hour > start, Hour.hour < end, Hour.gpu_seconds_unattributed.is_not(None)
        )
        with self._said(), self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(query.group_by(Hour.hour, *columns))]

    def rows(self, what: str, start: float, end: float) -> Iterator[list[dict]]:
        """Yield the rows of one of export.py's TABLES whose time lies in [start, end), some at a time."""
        model, name = TABLES[what]
        time = getattr(model, name)
        query = select(*model.__table__.columns).where(time >= start, time < end).order_by(time)
        with self._said(), self._engine.connect() as connection:
            for part in connection.execution_options(yield_per=_PART).execute(query).mappings().partitions():
                yield [dict(row) for row in part]

    def forget_series(self, before: float) -> int:
        """Delete the courses of runs that ended ``before`` (seconds since the epoch); return how many; StoreError."""
        with self._said(), self._engine.begin() as connection:
            return connection.execute(delete(Series).where(Series.ended < before)).rowcount

    def running(self) -> list[JobRow]:
        """Return the runs whose end is not known."""
        return self._read(select(*Job.__table__.columns).where(Job.start.is_not(None), Job.end.is_(None)), JobRow)

    def covered(self) -> tuple[float, float] | None:
        """Return the time, from when until when, of which Slurm told all runs; None: it was not asked yet."""
        with self._said(), self._engine.connect() as connection:
            found = dict(map(tuple, connection.execute(select(Meta.name, Meta.value).where(Meta.name.in_(_COVERED)))))
        return (float(found[_COVERED[0]]), float(found[_COVERED[1]])) if len(found) == 2 else None

    def cover(self, since: float, until: float) -> None:
        """Keep that Slurm told all runs from ``since`` until ``until``."""
        rows = [{"name": name, "value": repr(value)} for name, value in zip(_COVERED, (since, until), strict=True)]
        self._transaction(lambda connection: self._write(connection, Meta, rows))

    def known_among(self, kind: str, names: Iterable[str]) -> set[str]:
        """Return those of ``names``, of "user" or "account", that have a run or a record."""
        names = list(names)
        columns = (Job.user, Usage.user) if kind == "user" else (Job.account,)
        with self._said(), self._engine.connect() as connection:
            return {
                name
                for column in columns
                for name in names
                if connection.execute(select(column).where(column == name).limit(1)).first() is not None
            }

    def jobs_with_usage(self, start: float, end: float) -> set[tuple[str, int]]:
        """Return (cluster, job id) of all usage records of the period."""
        query = select(Usage.cluster, Usage.job_id).where(_usage_conditions(Selection(start, end), self._longest()))
        with self._said(), self._engine.connect() as connection:
            return {(cluster, job_id) for cluster, job_id in connection.execute(query)}


def _next_cluster(name: str) -> object:
    return select(func.min(Usage.cluster)).where(Usage.cluster > name)


def _run(values: Mapping) -> tuple[str, int, int, int]:
    return values["cluster"], values["job_id"], values["submit"], values["restart"]


def _stored(connection: Connection, jobs: set[int]) -> dict[tuple, dict]:
    """Return the runs of ``jobs`` as they are stored, by their keys."""
    ids = sorted(jobs)
    found = {}
    for at in range(0, len(ids), _AT_ONCE):
        query = select(*Job.__table__.columns).where(Job.job_id.in_(ids[at : at + _AT_ONCE]))
        found.update((_run(one), dict(one)) for one in connection.execute(query).mappings())
    return found


def _job_values(row: JobRow) -> dict:
    values = dict(vars(row))
    for name, length in _LENGTHS.items():
        if values[name] is not None and len(values[name]) > length:
            values[name] = values[name][:length]
    return values


def _job_conditions(selection: Selection, longest: Mapping[type, float]) -> object:
    # SQLite does not know which index has less to read: never that on beginnings, which it is kept from by the sum.
    conditions = [Job.start + 0 <= selection.end, Job.alloc_tres != ""]
    ended = Job.end.between(selection.start, selection.end + longest[Job])
    conditions.append(or_(Job.end.is_(None), ended))
    if selection.uid is not None:
        own = Job.uid == selection.uid
        conditions.append(or_(own, Job.account.in_(selection.accounts_seen)) if selection.accounts_seen else own)
    if selection.users is not None:
        conditions.append(Job.user.in_(selection.users))
    if selection.jobs is not None:
        # Lists, since a database takes only so many OR-ed terms. Each term has an index, else none of them is used.
        terms = [false()]
        if whole := [ref.job_id for ref in selection.jobs if ref.task_id is None and ref.het_offset is None]:
            terms += [column.in_(whole) for column in (Job.job_id, Job.array_job_id, Job.het_job_id)]
        for columns, parts in (
            ((Job.array_job_id, Job.array_task_id), [(ref.job_id, ref.task_id) for ref in selection.jobs]),
            ((Job.het_job_id, Job.het_offset), [(ref.job_id, ref.het_offset) for ref in selection.jobs]),
        ):
            if named := [part for part in parts if part[1] is not None]:
                terms.append(and_(columns[0].in_([job_id for job_id, _ in named]), tuple_(*columns).in_(named)))
        conditions.append(or_(*terms))
    return and_(*conditions)


def _usage_conditions(selection: Selection, longest: Mapping[type, float]) -> object:
    ended = Usage.ended.between(selection.start, selection.end + longest[Usage])
    conditions = [Usage.started <= selection.end, ended]
    if selection.uid is not None:
        conditions.append(_seen_usage(selection))
    if selection.users is not None:
        conditions.append(Usage.user.in_(selection.users))
    if selection.jobs is not None:
        whole = [ref.job_id for ref in selection.jobs if ref.task_id is None and ref.het_offset is None]
        conditions.append(Usage.job_id.in_(whole))
    return and_(*conditions)


def _seen_usage(selection: Selection) -> object:
    """Return the condition for a record of somebody who may not see all: the own, and those of runs of the accounts."""
    if not selection.accounts_seen:
        return Usage.uid == selection.uid
    run = exists().where(
        *(Job.cluster == Usage.cluster, Job.job_id == Usage.job_id, Job.account.in_(selection.accounts_seen)),
        # A record counts microseconds, a run seconds.
        type_coerce(Usage.started, BigInteger) >= (Job.start - SLACK) * 1_000_000,
        or_(Job.end.is_(None), type_coerce(Usage.started, BigInteger) <= (Job.end + SLACK) * 1_000_000),
    )
    return or_(Usage.uid == selection.uid, run)
