"""What leaves the store for other programs: whole tables, with types, as Parquet or CSV.

The service sends rows as lines of JSON; files are written where the command runs.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from sqlalchemy import Column
from sqlalchemy.types import Double, Integer

from slurm_gpushare.accounting.schema import Base, Hour, Job, Moment, Series, Usage
from slurm_gpushare.errors import GpushareError

# What, by its name: its table, and the column of times by which a period chooses its rows.
TABLES: dict[str, tuple[type[Base], str]] = {
    "usage": (Usage, "ended"),
    "jobs": (Job, "end"),
    "hours": (Hour, "hour"),
    "series": (Series, "ended"),
}
FORMATS = ("parquet", "csv")
TIME, WHOLE, NUMBER, TEXT = "time", "whole", "number", "text"
_SECONDS = {"submit", "start", "end"}  # columns of times that count seconds and not microseconds
_AT_ONCE = 10_000  # rows in one group of a Parquet file
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def kinds(what: str) -> dict[str, str]:
    """Return the kind of each column: TIME, WHOLE, NUMBER or TEXT."""
    return {column.name: _kind(column) for column in TABLES[what][0].__table__.columns}


def write(what: str, rows: Iterable[Mapping], path: Path, form: str) -> int:
    """Write ``rows`` as one of FORMATS into ``path``, which is replaced when all is written; return how many.

    Raises
    ------
    GpushareError
        Python's pyarrow, which writes Parquet, is missing.
    """
    count = 0

    def counted() -> Iterator[list]:
        nonlocal count
        columns = kinds(what)
        for row in rows:
            count += 1
            yield [_value(row[name], kind) for name, kind in columns.items()]

    with _replacing(path) as part:
        (_write_parquet if form == "parquet" else _write_csv)(part, kinds(what), counted())
    return count


def csv_line(values: Sequence) -> str:
    """Return a line of CSV: null is an empty field, a text is always in quotes, a time is ISO 8601 in UTC."""
    return ",".join(map(_csv_field, values)) + "\n"


def _csv_field(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return '"' + value.replace('"', '""') + '"' if isinstance(value, str) else repr(value)


def _kind(column: Column) -> str:
    if isinstance(column.type, Moment) or (column.name in _SECONDS and isinstance(column.type, Integer)):
        return TIME
    if isinstance(column.type, Double):
        return NUMBER
    return WHOLE if isinstance(column.type, Integer) else TEXT


def _value(value: object, kind: str) -> object:
    if value is None:
        return None
    if kind == TIME:
        return _EPOCH + timedelta(microseconds=round(value * 1_000_000))
    if kind == NUMBER:
        return float(value)
    return json.dumps(value, separators=(",", ":")) if isinstance(value, (list, dict)) else value


def _write_csv(path: Path, columns: dict[str, str], rows: Iterable[Sequence]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(csv_line(list(columns)))
        file.writelines(map(csv_line, rows))


def _write_parquet(path: Path, columns: dict[str, str], rows: Iterator[Sequence]) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise GpushareError(
            f"Python's {error.name or 'pyarrow'}, which writes Parquet, is missing: pip install "
            "'slurm-gpushare[parquet]', or write --format csv"
        ) from None
    types = {TIME: pyarrow.timestamp("us", tz="UTC"), WHOLE: pyarrow.int64(), NUMBER: pyarrow.float64()}
    schema = pyarrow.schema([(name, types.get(kind, pyarrow.string())) for name, kind in columns.items()])
    with parquet.ParquetWriter(path, schema, compression="zstd") as file:
        while group := list(islice(rows, _AT_ONCE)):
            by_column = zip(*group, strict=True)
            arrays = [pyarrow.array(values, field.type) for values, field in zip(by_column, schema, strict=True)]
            file.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a file beside ``path`` that takes its place in the end; it does not stay where writing fails."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
