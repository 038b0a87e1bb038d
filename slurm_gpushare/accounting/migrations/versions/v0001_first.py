"""The tables as they were before versions were kept in a table of their own.

The first databases lack some of them, and columns that came later; all of those may be null.
"""

from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, String, Table, Text

from slurm_gpushare.accounting.migrations.steps import add_table

revision = "0001"
down_revision = None

_metadata = MetaData()


def _key(name: str, kind: object) -> Column:
    return Column(name, kind, primary_key=True, autoincrement=False, nullable=False)


def _needed(name: str, kind: object) -> Column:
    return Column(name, kind, nullable=False)


Table(
    "gpushare_usage",
    _metadata,
    _key("cluster", String(64)),
    _key("job_id", BigInteger()),
    _key("started", BigInteger()),
    _key("node", String(128)),
    _key("gpu", String(128)),
    Column("gpu_index", BigInteger()),
    Column("gpu_name", String(128)),
    _needed("backend", String(64)),
    _needed("fraction", Double()),
    _needed("uid", BigInteger()),
    _needed("user", String(128)),
    _needed("ended", BigInteger()),
    _needed("seconds_sampled", Double()),
    _needed("quality", String(16)),
    _needed("source", String(32)),
    _needed("gpu_seconds_reserved", Double()),
    Column("gpu_seconds_used", Double()),
    Column("gpu_seconds_idle", Double()),
    Column("gpu_seconds_over", Double()),
    Column("memory_peak_bytes", BigInteger()),
    Column("energy_joules", Double()),
    Column("processes_seen", BigInteger()),
    Column("enforces", String(64)),
    Column("memory_share_bytes", BigInteger()),
    Column("sm_mean", Double()),
    Column("sm_p50", Double()),
    Column("sm_p95", Double()),
    Column("sm_max", Double()),
    Column("memory_mean_bytes", BigInteger()),
    Column("memory_p50_bytes", BigInteger()),
    Column("memory_p95_bytes", BigInteger()),
    Column("gpu_seconds_without_process", Double()),
    Column("gpu_seconds_read", Double()),
    Column("gaps", Text()),
    Index("gpushare_usage_ended", "ended"),
)
Table(
    "gpushare_series",
    _metadata,
    _key("cluster", String(64)),
    _key("job_id", BigInteger()),
    _key("started", BigInteger()),
    _key("node", String(128)),
    _key("gpu", String(128)),
    _needed("ended", BigInteger()),
    _needed("series", Text()),
    Index("ix_gpushare_series_ended", "ended"),
)
Table(
    "gpushare_gpu_hours",
    _metadata,
    _key("cluster", String(64)),
    _key("node", String(128)),
    _key("gpu", String(128)),
    _key("source", String(32)),
    _key("hour", BigInteger()),
    Column("gpu_name", String(128)),
    _needed("seconds_sampled", Double()),
    _needed("quality", String(16)),
    _needed("gpu_seconds_reserved", Double()),
    Column("gpu_seconds_used", Double()),
    Column("gpu_seconds_jobs", Double()),
    Column("gpu_seconds_overhead", Double()),
    Column("gpu_seconds_unattributed", Double()),
    Column("energy_joules", Double()),
    Column("energy_jobs_joules", Double()),
    Column("energy_overhead_joules", Double()),
    Column("energy_unattributed_joules", Double()),
    Index("gpushare_gpu_hours_hour", "hour"),
)
Table(
    "gpushare_jobs",
    _metadata,
    _key("cluster", String(64)),
    _key("job_id", BigInteger()),
    _key("submit", BigInteger()),
    _key("restart", Integer()),
    Column("array_job_id", BigInteger()),
    Column("array_task_id", BigInteger()),
    Column("start", BigInteger()),
    Column("end", BigInteger()),
    Column("elapsed_seconds", BigInteger()),
    Column("user", String(128)),
    Column("uid", BigInteger()),
    Column("account", String(128)),
    Column("partition", String(128)),
    Column("qos", String(128)),
    _needed("state", String(32)),
    Column("exit_code", String(16)),
    _needed("nodes", Integer()),
    Column("nodelist", Text()),
    _needed("alloc_tres", Text()),
    _needed("req_tres", Text()),
    _needed("extra", Text()),
    Column("reason", Text()),
    Column("lost_request", Text()),
    Index("ix_gpushare_jobs_array_job_id", "array_job_id"),
    Index("ix_gpushare_jobs_start", "start"),
    Index("ix_gpushare_jobs_end", "end"),
    Index("ix_gpushare_jobs_uid", "uid"),
)
Table("gpushare_meta", _metadata, _key("name", String(64)), _needed("value", String(255)))


def upgrade() -> None:
    for table in _metadata.sorted_tables:
        add_table(table)


def table(name: str) -> Table:
    """Return one of them."""
    return _metadata.tables[name]
