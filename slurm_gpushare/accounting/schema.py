"""The store's tables."""

import json

from sqlalchemy import BigInteger, Double, Index, Integer, String, Table, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from slurm_gpushare.accounting.incoming import LENGTHS

# Names that differ in their case alone are two, as in Slurm and in the other databases.
_MARIADB = {"engine": "InnoDB", "default_charset": "utf8mb4", "collate": "utf8mb4_bin"}


_encode = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps makes one for every text


class Moment(TypeDecorator):
    """Seconds since the epoch, kept as whole microseconds: a float is no safe part of a key in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: object) -> int | None:
        return None if value is None else round(value * 1_000_000)

    def process_result_value(self, value: int | None, dialect: object) -> float | None:
        return None if value is None else value / 1_000_000


class Listed(TypeDecorator):
    """A list or an object, kept as JSON in a text; None is null."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: list | dict | None, dialect: object) -> str | None:
        return None if value is None else _encode(value)

    def process_result_value(self, value: str | None, dialect: object) -> list | dict | None:
        return None if value is None else json.loads(value)


def mariadb_options() -> dict[str, str]:
    """Return the options of every table that MariaDB must be told; the other databases do not read them."""
    return {f"{server}_{name}": value for server in ("mysql", "mariadb") for name, value in _MARIADB.items()}


class Base(DeclarativeBase):
    """Base of the tables. Their changes are migrations (migrations/versions/)."""

    @classmethod
    def __table_cls__(cls, *args: object, **options: object) -> Table:
        """Return the table of a model."""
        return Table(*args, **options, **mariadb_options())


class Usage(Base):
    """One usage record: one job on one GPU of one node (slurm_gpushare/usage.py)."""

    __tablename__ = "gpushare_usage"

    cluster: Mapped[str] = mapped_column(String(LENGTHS["cluster"]), primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    started: Mapped[float] = mapped_column(Moment, primary_key=True)
    node: Mapped[str] = mapped_column(String(LENGTHS["node"]), primary_key=True)
    gpu: Mapped[str] = mapped_column(String(LENGTHS["gpu"]), primary_key=True)
    gpu_index: Mapped[int | None] = mapped_column(BigInteger)
    gpu_name: Mapped[str | None] = mapped_column(String(LENGTHS["gpu_name"]))
    backend: Mapped[str] = mapped_column(String(LENGTHS["backend"]))
    fraction: Mapped[float] = mapped_column(Double)
    uid: Mapped[int] = mapped_column(BigInteger)
    user: Mapped[str] = mapped_column(String(LENGTHS["user"]))
    ended: Mapped[float] = mapped_column(Moment)
    seconds_sampled: Mapped[float] = mapped_column(Double)
    quality: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(String(LENGTHS["source"]))
    gpu_seconds_reserved: Mapped[float] = mapped_column(Double)
    gpu_seconds_used: Mapped[float | None] = mapped_column(Double)
    gpu_seconds_idle: Mapped[float | None] = mapped_column(Double)
    gpu_seconds_over: Mapped[float | None] = mapped_column(Double)
    memory_peak_bytes: Mapped[int | None] = mapped_column(BigInteger)
    energy_joules: Mapped[float | None] = mapped_column(Double)
    processes_seen: Mapped[int | None] = mapped_column(BigInteger)
    enforces: Mapped[str | None] = mapped_column(String(LENGTHS["enforces"]))
    memory_share_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sm_mean: Mapped[float | None] = mapped_column(Double)
    sm_p50: Mapped[float | None] = mapped_column(Double)
    sm_p95: Mapped[float | None] = mapped_column(Double)
    sm_max: Mapped[float | None] = mapped_column(Double)
    memory_mean_bytes: Mapped[int | None] = mapped_column(BigInteger)
    memory_p50_bytes: Mapped[int | None] = mapped_column(BigInteger)
    memory_p95_bytes: Mapped[int | None] = mapped_column(BigInteger)
    gpu_seconds_without_process: Mapped[float | None] = mapped_column(Double)
    gpu_seconds_read: Mapped[float | None] = mapped_column(Double)
    image: Mapped[str | None] = mapped_column(Text)
    gaps: Mapped[list | None] = mapped_column(Listed)

    __table_args__ = (
        Index("gpushare_usage_ended", "ended"),
        Index("gpushare_usage_gpu", "gpu", "ended"),  # who shared a GPU
        Index("gpushare_usage_uid", "uid", "ended"),  # reports on one user
    )


class Series(Base):
    """The course of one usage record, in a table of its own: it is the larger part of it and may go before it."""

    __tablename__ = "gpushare_series"

    cluster: Mapped[str] = mapped_column(String(LENGTHS["cluster"]), primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    started: Mapped[float] = mapped_column(Moment, primary_key=True)
    node: Mapped[str] = mapped_column(String(LENGTHS["node"]), primary_key=True)
    gpu: Mapped[str] = mapped_column(String(LENGTHS["gpu"]), primary_key=True)
    ended: Mapped[float] = mapped_column(Moment, index=True)
    series: Mapped[dict] = mapped_column(Listed)


class Hour(Base):
    """One GPU in one hour of the clock (slurm_gpushare/gpu_hour.py)."""

    __tablename__ = "gpushare_gpu_hours"

    cluster: Mapped[str] = mapped_column(String(LENGTHS["cluster"]), primary_key=True)
    node: Mapped[str] = mapped_column(String(LENGTHS["node"]), primary_key=True)
    gpu: Mapped[str] = mapped_column(String(LENGTHS["gpu"]), primary_key=True)
    source: Mapped[str] = mapped_column(String(LENGTHS["source"]), primary_key=True)
    hour: Mapped[float] = mapped_column(Moment, primary_key=True)
    gpu_name: Mapped[str | None] = mapped_column(String(LENGTHS["gpu_name"]))
    seconds_sampled: Mapped[float] = mapped_column(Double)
    quality: Mapped[str] = mapped_column(String(16))
    gpu_seconds_reserved: Mapped[float] = mapped_column(Double)
    gpu_seconds_used: Mapped[float | None] = mapped_column(Double)
    gpu_seconds_jobs: Mapped[float | None] = mapped_column(Double)
    gpu_seconds_overhead: Mapped[float | None] = mapped_column(Double)
    gpu_seconds_unattributed: Mapped[float | None] = mapped_column(Double)
    energy_joules: Mapped[float | None] = mapped_column(Double)
    energy_jobs_joules: Mapped[float | None] = mapped_column(Double)
    energy_overhead_joules: Mapped[float | None] = mapped_column(Double)
    energy_unattributed_joules: Mapped[float | None] = mapped_column(Double)

    __table_args__ = (Index("gpushare_gpu_hours_hour", "hour"),)


class Job(Base):
    """One run of a job, as sacct told it (slurm_gpushare/slurm/sacct.py)."""

    __tablename__ = "gpushare_jobs"

    cluster: Mapped[str] = mapped_column(String(LENGTHS["cluster"]), primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, index=True)
    submit: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    restart: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    array_job_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    array_task_id: Mapped[int | None] = mapped_column(BigInteger)
    start: Mapped[int | None] = mapped_column(BigInteger, index=True)
    end: Mapped[int | None] = mapped_column(BigInteger, index=True)
    elapsed_seconds: Mapped[int | None] = mapped_column(BigInteger)
    user: Mapped[str | None] = mapped_column(String(128))
    uid: Mapped[int | None] = mapped_column(BigInteger, index=True)
    account: Mapped[str | None] = mapped_column(String(128))
    partition: Mapped[str | None] = mapped_column(String(128))
    qos: Mapped[str | None] = mapped_column(String(128))
    state: Mapped[str] = mapped_column(String(32))
    exit_code: Mapped[str | None] = mapped_column(String(16))
    nodes: Mapped[int] = mapped_column(Integer)
    nodelist: Mapped[str | None] = mapped_column(Text)
    alloc_tres: Mapped[str] = mapped_column(Text)
    req_tres: Mapped[str] = mapped_column(Text)
    extra: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    lost_request: Mapped[str | None] = mapped_column(Text)
    het_job_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    het_offset: Mapped[int | None] = mapped_column(BigInteger)


class Meta(Base):
    """Facts about the store itself. The version of its tables is in one of Alembic's, gpushare_version."""

    __tablename__ = "gpushare_meta"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(255))
