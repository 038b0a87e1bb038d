"""The longest run and the longest record are known, so that old periods are found without all that is newer."""

import math

from alembic import op
from sqlalchemy import BigInteger, String, column, delete, func, insert, select, table

revision = "0005"
down_revision = "0004"

_DAY = 86400  # seconds
_meta = table("gpushare_meta", column("name", String), column("value", String))


def upgrade() -> None:
    for name, rows, low, high, unit in (
        ("longest_usage", "gpushare_usage", "started", "ended", 1_000_000),
        ("longest_run", "gpushare_jobs", "start", "end", 1),
    ):
        low, high = column(low, BigInteger), column(high, BigInteger)
        most = op.get_bind().scalar(select(func.max(high - low)).select_from(table(rows, low, high)))
        op.execute(delete(_meta).where(_meta.c.name == name))
        value = f"{math.ceil(int(most or 0) / unit / _DAY):08}"
        op.execute(insert(_meta).values(name=name, value=value))
