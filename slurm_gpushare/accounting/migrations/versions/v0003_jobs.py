"""Roll-ups tell the last run of a job from earlier ones. They are derived: they are made anew, not converted."""

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, String, Table, inspect

from slurm_gpushare.accounting.migrations.steps import add_table

revision = "0003"
down_revision = "0002"

_rollup = Table(
    "gpushare_rollup",
    MetaData(),
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("unit", String(8), nullable=False),
    Column("moment", BigInteger(), nullable=False),
    Column("cluster", String(64), nullable=False),
    Column("user", String(128)),
    Column("uid", BigInteger()),
    Column("account", String(128)),
    Column("partition", String(128)),
    Column("qos", String(128)),
    Column("state", String(32)),
    Column("is_last", Integer(), nullable=False),
    Column("backend", String(64)),
    Column("gpu", String(128)),
    *(Column(name, BigInteger(), nullable=False) for name in ("begun", "carried", "begun_gpu", "carried_gpu")),
    *(Column(name, Double()) for name in ("reserved", "used", "idle", "over", "energy")),
    *(Column(name, Double(), nullable=False) for name in ("unmeasured", "held")),
    *(Column(name, Double()) for name in ("slurm", "recorded", "unrecorded", "foreign")),
    *(Column(name, BigInteger(), nullable=False) for name in ("parts_unrecorded", "parts_foreign")),
    *(Column(f"use_{number:02}", Double(), nullable=False) for number in range(21)),
    Index("gpushare_rollup_unit", "unit", "moment"),
)


def upgrade() -> None:
    op.execute("DELETE FROM gpushare_rollup_built")
    found = inspect(op.get_bind())
    names = {one["name"] for one in found.get_columns(_rollup.name)} if found.has_table(_rollup.name) else set()
    if names and "is_last" not in names:
        op.drop_table(_rollup.name)
    add_table(_rollup)
