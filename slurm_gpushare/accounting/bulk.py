"""Many rows at once into MariaDB: PyMySQL, which forms them value by value, takes four times as long."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Connection
from sqlalchemy.sql.dml import Insert

_MOST = 1 << 19  # characters of one statement; MariaDB takes 16 MiB by default
_AT_ONCE = 500  # rows whose values are formed column by column, which takes less time than row by row
_FORM = re.compile(r"(INSERT INTO .+? VALUES )\((?:%(?:\(\w+\))?s(?:, )?)+\)(.*)", re.DOTALL)


def insert(connection: Connection, statement: Insert, rows: Sequence[Mapping]) -> None:
    """Execute ``statement``, an INSERT without values of its own, for ``rows``, which all have the same columns."""
    dialect, table = connection.dialect, statement.table
    columns = [column for column in table.columns if column.name in rows[0]]
    text = str(statement.compile(dialect=dialect, column_keys=[column.name for column in columns]))
    head, after = _FORM.fullmatch(text).groups()
    processes = [(column.name, column.type.dialect_impl(dialect).bind_processor(dialect)) for column in columns]
    lines = _lines(rows, processes, _literals(connection))
    with ThreadPoolExecutor(1) as server:
        under_way = None
        for part in _parts(lines):
            # While the server works at one statement, the next is formed. The driver puts its parameters, of which
            # there are none, in place of %.
            text = head + ",".join(part).replace("%", "%%") + after
            if under_way is not None:
                under_way.result()
            under_way = server.submit(connection.exec_driver_sql, text)
        under_way.result()


def _lines(rows: Sequence[Mapping], processes: Sequence[tuple], literals: Mapping) -> Iterator[str]:
    """Yield the values of each row as SQL."""
    for at in range(0, len(rows), _AT_ONCE):
        columns = []
        for name, process in processes:
            # Without it the thread that speaks with the server would wait for this one, 5 ms each time.
            time.sleep(0)
            values = [row[name] for row in rows[at : at + _AT_ONCE]]
            if process is not None:
                values = map(process, values)
            columns.append([literals[type(value)](value) for value in values])
        for values in zip(*columns, strict=True):
            yield "(" + ",".join(values) + ")"


def _parts(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield ``lines`` in parts of _MOST characters, as many as there are, one at least."""
    part: list[str] = []
    size = 0
    for line in lines:
        if part and size + len(line) > _MOST:
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line)
    yield part


def _literals(connection: Connection) -> dict[type, Callable[[object], str]]:
    texts = _Texts(connection.connection.dbapi_connection.escape)
    return {int: str, float: _number, str: texts.__getitem__, type(None): lambda value: "NULL"}


class _Texts(dict):
    """Texts as the driver quotes them by the server's mode; most come again and again."""

    def __init__(self, quote: Callable[[str], str]):
        self._quote = quote

    def __missing__(self, text: str) -> str:
        self[text] = quoted = self._quote(text)
        return quoted


def _number(value: float) -> str:
    text = repr(value)
    if text[-1] not in "0123456789":  # nan, inf
        raise ValueError(f"{text} is no number that MariaDB keeps")
    return text if "e" in text else text + "e0"  # without an exponent it would be a decimal
