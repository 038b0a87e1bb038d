"""The tables of roll-ups: what runs that have ended add up to, by the days and months of the service's time zone."""

from sqlalchemy import BigInteger, Double, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from slurm_gpushare.accounting.incoming import LENGTHS
from slurm_gpushare.accounting.schema import Base
from slurm_gpushare.accounting.usage_report import BINS

DAY, MONTH = "day", "month"
# What pieces are told apart by here: all of dimensions.py but the node, with which there were a row for each run.
KEYS = ("cluster", "user", "uid", "account", "partition", "qos", "state", "is_last", "backend", "gpu")
AMOUNTS = (
    *("reserved", "used", "idle", "over", "energy", "unmeasured", "held"),
    *("slurm", "recorded", "unrecorded", "foreign", "parts_unrecorded", "parts_foreign"),
)
USES = tuple(f"use_{number:02}" for number in range(BINS))
COUNTS = ("begun", "carried", "begun_gpu", "carried_gpu")
_IDENTITY = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself in an INTEGER alone


class Rollup(Base):
    """One group of pieces in one unit. Amounts are those of usage_report.Tally, null where nothing is known.

    A run counts in ``begun`` of the unit that it began in and in ``carried`` of the later ones; in one row of a unit,
    whatever GPUs it had. ``begun_gpu`` and ``carried_gpu`` count it once for each model.
    """

    __tablename__ = "gpushare_rollup"

    id: Mapped[int] = mapped_column(_IDENTITY, primary_key=True)
    unit: Mapped[str] = mapped_column(String(8))
    moment: Mapped[int] = mapped_column(BigInteger)  # its beginning, seconds since the epoch
    cluster: Mapped[str] = mapped_column(String(LENGTHS["cluster"]))
    user: Mapped[str | None] = mapped_column(String(128))
    uid: Mapped[int | None] = mapped_column(BigInteger)
    account: Mapped[str | None] = mapped_column(String(128))
    partition: Mapped[str | None] = mapped_column(String(128))
    qos: Mapped[str | None] = mapped_column(String(128))
    state: Mapped[str | None] = mapped_column(String(32))
    is_last: Mapped[int] = mapped_column(Integer)
    backend: Mapped[str | None] = mapped_column(String(LENGTHS["backend"]))
    gpu: Mapped[str | None] = mapped_column(String(LENGTHS["gpu_name"]))
    begun: Mapped[int] = mapped_column(BigInteger)
    carried: Mapped[int] = mapped_column(BigInteger)
    begun_gpu: Mapped[int] = mapped_column(BigInteger)
    carried_gpu: Mapped[int] = mapped_column(BigInteger)
    reserved: Mapped[float | None] = mapped_column(Double)
    used: Mapped[float | None] = mapped_column(Double)
    idle: Mapped[float | None] = mapped_column(Double)
    over: Mapped[float | None] = mapped_column(Double)
    energy: Mapped[float | None] = mapped_column(Double)
    unmeasured: Mapped[float] = mapped_column(Double)
    held: Mapped[float] = mapped_column(Double)
    slurm: Mapped[float | None] = mapped_column(Double)
    recorded: Mapped[float | None] = mapped_column(Double)
    unrecorded: Mapped[float | None] = mapped_column(Double)
    foreign: Mapped[float | None] = mapped_column(Double)
    parts_unrecorded: Mapped[int] = mapped_column(BigInteger)
    parts_foreign: Mapped[int] = mapped_column(BigInteger)
    use_00: Mapped[float] = mapped_column(Double)
    use_01: Mapped[float] = mapped_column(Double)
    use_02: Mapped[float] = mapped_column(Double)
    use_03: Mapped[float] = mapped_column(Double)
    use_04: Mapped[float] = mapped_column(Double)
    use_05: Mapped[float] = mapped_column(Double)
    use_06: Mapped[float] = mapped_column(Double)
    use_07: Mapped[float] = mapped_column(Double)
    use_08: Mapped[float] = mapped_column(Double)
    use_09: Mapped[float] = mapped_column(Double)
    use_10: Mapped[float] = mapped_column(Double)
    use_11: Mapped[float] = mapped_column(Double)
    use_12: Mapped[float] = mapped_column(Double)
    use_13: Mapped[float] = mapped_column(Double)
    use_14: Mapped[float] = mapped_column(Double)
    use_15: Mapped[float] = mapped_column(Double)
    use_16: Mapped[float] = mapped_column(Double)
    use_17: Mapped[float] = mapped_column(Double)
    use_18: Mapped[float] = mapped_column(Double)
    use_19: Mapped[float] = mapped_column(Double)
    use_20: Mapped[float] = mapped_column(Double)

    __table_args__ = (Index("gpushare_rollup_unit", "unit", "moment"),)


class RollupBuilt(Base):
    """A unit whose rows say what runs and records say; whoever changes one of these deletes it.

    It is written before runs and records are read, and is ``done`` once the rows are there: 0 is a build under way, or
    one that was cut off.
    """

    __tablename__ = "gpushare_rollup_built"

    unit: Mapped[str] = mapped_column(String(8), primary_key=True)
    moment: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    done: Mapped[int] = mapped_column(Integer)
