"""Heterogeneous jobs, indexes for reports on one job, one user and one GPU, and roll-ups.

The version is in a table of its own from now on, which an older gpushare refuses. In MariaDB the case of names counts.
"""

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, String, Table

from slurm_gpushare.accounting.migrations.steps import add_column, add_index, add_table

revision = "0002"
down_revision = "0001"

_metadata = MetaData()

Table(
    "gpushare_rollup",
    _metadata,
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
Table(
    "gpushare_rollup_built",
    _metadata,
    Column("unit", String(8), primary_key=True),
    Column("moment", BigInteger(), primary_key=True, autoincrement=False),
    Column("done", Integer(), nullable=False),
)


def upgrade() -> None:
    for name in ("het_job_id", "het_offset"):
        add_column("gpushare_jobs", Column(name, BigInteger()))
    add_index("ix_gpushare_jobs_het_job_id", "gpushare_jobs", "het_job_id")
    add_index("ix_gpushare_jobs_job_id", "gpushare_jobs", "job_id")
    add_index("gpushare_usage_job", "gpushare_usage", "job_id")
    add_index("gpushare_usage_gpu", "gpushare_usage", "gpu", "ended")
    add_index("gpushare_usage_uid", "gpushare_usage", "uid", "ended")
    for table in _metadata.sorted_tables:
        add_table(table)
    if op.get_bind().dialect.name in ("mysql", "mariadb"):
        for name in ("usage", "series", "gpu_hours", "jobs", "meta"):
            op.execute(f"ALTER TABLE gpushare_{name} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    op.execute("DELETE FROM gpushare_meta WHERE name = 'schema'")
