"""Roll-ups in the database: which units are built, their rows, and what makes them out of date."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Connection, Engine, and_, case, delete, func, insert, or_, select, update

from slurm_gpushare.accounting.calendar_units import beginnings
from slurm_gpushare.accounting.rollup_schema import AMOUNTS, DAY, MONTH, USES, Rollup, RollupBuilt
from slurm_gpushare.accounting.schema import Job, Meta, Usage
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.usage_report import Tally

_AT_ONCE = 500  # rows or names in one statement
_2000, _2060 = 946684800, 2840140800  # seconds since the epoch


class RollupStore:
    """The tables of roll-ups in one open database. Units are known by their kind and beginning, in seconds."""

    def __init__(self, engine: Engine, said: Callable[[], AbstractContextManager]):
        """``said`` turns the database's errors into StoreError."""
        self._engine = engine
        self._said = said

    def built(self, unit: str, start: float, end: float) -> set[int]:
        """Return the beginnings of the units in [start, end) that are built."""
        conditions = (RollupBuilt.unit == unit, RollupBuilt.moment >= start, RollupBuilt.moment < end)
        with self._said(), self._engine.connect() as connection:
            return set(connection.scalars(select(RollupBuilt.moment).where(*conditions, RollupBuilt.done == 1)))

    def begin(self, unit: str, moment: int) -> None:
        """Announce that a unit is being built: what changes from now on undoes it."""
        row = {"unit": unit, "moment": moment, "done": 0}
        with self._said(), self._engine.begin() as connection:
            connection.execute(delete(RollupBuilt).where(*_is(RollupBuilt, unit, moment)))
            connection.execute(insert(RollupBuilt), [row])

    def finish(self, unit: str, moment: int, rows: Sequence[Mapping]) -> bool:
        """Keep the rows of a unit that was begun; False where something changed since, and nothing is kept."""
        with self._said(), self._engine.begin() as connection:
            done = update(RollupBuilt).where(*_is(RollupBuilt, unit, moment)).values(done=1)
            if not connection.execute(done).rowcount:
                return False
            connection.execute(delete(Rollup).where(*_is(Rollup, unit, moment)))
            for at in range(0, len(rows), _AT_ONCE):
                connection.execute(insert(Rollup.__table__), list(rows[at : at + _AT_ONCE]))
        return True

    def rows(self, unit: str, start: float, end: float) -> list[dict]:
        """Return the rows of the units in [start, end), without their ids."""
        columns = [column for column in Rollup.__table__.columns if column.name != "id"]
        query = select(*columns).where(Rollup.unit == unit, Rollup.moment >= start, Rollup.moment < end)
        with self._said(), self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def tallies(
        self, unit: str, start: float, end: float, carried: bool, selection: Selection, by: Sequence[str]
    ) -> Iterator[tuple[tuple, Tally]]:
        """Yield each group of ``selection`` by ``by`` with its tally over the units in [start, end).

        With ``carried`` the runs that had begun before the first unit are counted too.
        """
        columns = [getattr(Rollup, name) for name in by]
        begun = Rollup.begun_gpu if "gpu" in by else Rollup.begun
        before = Rollup.carried_gpu if "gpu" in by else Rollup.carried
        runs = begun + case((Rollup.moment == start, before), else_=0) if carried else begun
        sums = [func.sum(getattr(Rollup, name)) for name in (*AMOUNTS, *USES)]
        jobs = func.sum(case((Rollup.is_last == 1, runs), else_=0))
        query = select(func.sum(runs), jobs, *sums, *columns).where(
            Rollup.unit == unit, Rollup.moment >= start, Rollup.moment < end, *_chosen(selection)
        )
        with self._said(), self._engine.connect() as connection:
            for row in connection.execute(query.group_by(*columns)):
                counts, values, key = row[:2], row[2 : 2 + len(sums)], tuple(row[2 + len(sums) :])
                if counts[0] is None:
                    continue  # a sum by nothing, over nothing
                amounts = {name: _number(name, value) for name, value in zip(AMOUNTS, values, strict=False)}
                yield key, Tally(*map(int, counts), **amounts, bins=tuple(values[len(AMOUNTS) :]))

    def same_zone(self, zone: str) -> bool:
        """Take ``zone`` as that of all units; False where they were of another one, and are gone now."""
        with self._said(), self._engine.begin() as connection:
            known = connection.execute(select(Meta.value).where(Meta.name == "rollup_zone")).scalar()
            if known == zone:
                return True
            connection.execute(delete(RollupBuilt))
            connection.execute(delete(Rollup))
            connection.execute(delete(Meta).where(Meta.name == "rollup_zone"))
            connection.execute(insert(Meta), [{"name": "rollup_zone", "value": zone}])
        return known is None

    def span(self) -> tuple[float, float] | None:
        """Return the earliest beginning and the latest end of all runs and records, None where there are none."""
        with self._said(), self._engine.connect() as connection:
            found = [
                connection.execute(select(func.min(Job.start), func.max(Job.end))).one(),
                connection.execute(select(func.min(Usage.started), func.max(Usage.ended))).one(),
            ]
        starts = [low for low, _ in found if low is not None]
        return (min(starts), max(high or low for low, high in found if low is not None)) if starts else None


def outdate(connection: Connection, jobs: Iterable[tuple[str, int]], spans: Iterable[tuple[float, float]] = ()) -> None:
    """Undo the units in which these jobs, (cluster, job id), have a run or a record, and those of ``spans``.

    It is part of the transaction that changes them.
    """
    if connection.execute(select(RollupBuilt.moment).limit(1)).first() is None:
        return
    spans = [*spans, *_spans_of(connection, jobs)]
    for unit in (DAY, MONTH):
        moments = sorted({moment for low, high in spans for moment in beginnings(low, high, unit)})
        for at in range(0, len(moments), _AT_ONCE):
            of_them = RollupBuilt.moment.in_(moments[at : at + _AT_ONCE])
            connection.execute(delete(RollupBuilt).where(RollupBuilt.unit == unit, of_them))


def _spans_of(connection: Connection, jobs: Iterable[tuple[str, int]]) -> Iterator[tuple[float, float]]:
    numbers: dict[str, list[int]] = {}
    for cluster, job_id in set(jobs):
        numbers.setdefault(cluster, []).append(job_id)
    for cluster, ids in numbers.items():
        for at in range(0, len(ids), _AT_ONCE):
            some = ids[at : at + _AT_ONCE]
            # One that runs is in no roll-up yet.
            runs = select(Job.start, Job.end).where(Job.cluster == cluster, Job.job_id.in_(some))
            yield from map(tuple, connection.execute(runs.where(Job.start.is_not(None), Job.end.is_not(None))))
            records = select(Usage.started, Usage.ended).where(Usage.cluster == cluster, Usage.job_id.in_(some))
            yield from map(tuple, connection.execute(records))


def _number(name: str, value: object) -> float | int | None:
    """Return a sum as a number of Python's: MariaDB's and PostgreSQL's sums of whole numbers are decimals."""
    return int(value) if name.startswith("parts_") else value


def _is(table: type, unit: str, moment: int) -> tuple:
    return table.unit == unit, table.moment == moment


def _chosen(selection: Selection) -> list:
    wanted = (
        (Rollup.user, selection.users),
        (Rollup.account, selection.accounts),
        (Rollup.partition, selection.partitions),
        (Rollup.state, selection.states),
    )
    conditions = [column.in_(names) for column, names in wanted if names is not None]
    if selection.uid is not None:
        conditions.append(or_(Rollup.uid == selection.uid, Rollup.account.in_(selection.accounts_seen or ())))
    return [and_(*conditions)] if conditions else []


def zone_name() -> str:
    """Return a text that tells this host's time zone from others: when its offset from UTC changes, and to what."""
    offsets = (str(time.localtime(moment).tm_gmtoff) for moment in range(_2000, _2060, 86400))
    return hashlib.sha256(",".join(offsets).encode()).hexdigest()
