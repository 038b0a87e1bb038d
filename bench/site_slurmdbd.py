"""Runs of jobs as rows of slurmdbd's own tables, to be loaded by SQL. Standard library and the package alone."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime

from slurm_gpushare.slurm.sacct import JobRow
from slurm_gpushare.slurm.tres import parse_tres

_NO_VAL = 0xFFFFFFFE  # SLURM's "not set" (slurm.h)
# enum job_states and JOB_REQUEUE of slurm.h.
_STATES = {
    "COMPLETED": 3,
    "CANCELLED": 4,
    "FAILED": 5,
    "TIMEOUT": 6,
    "OUT_OF_MEMORY": 11,
    "REQUEUED": 1 << 10,
}
_DAY = 86400
# The columns of CLUSTER_job_table (24.11) that a line fills; the others have defaults.
COLUMNS = (
    *("mod_time", "account", "cpus_req", "exit_code", "extra", "job_name", "id_assoc", "id_array_job", "id_array_task"),
    *("id_job", "id_qos", "id_resv", "id_wckey", "id_user", "id_group", "het_job_id", "het_job_offset"),
    *("state_reason_prev", "nodelist", "nodes_alloc", "partition", "priority", "restart_cnt", "state"),
    *("time_submit", "time_eligible", "time_start", "time_end", "tres_alloc", "tres_req"),
)


def held(row: JobRow, tres_ids: Mapping[str, int]) -> dict[int, int]:
    """Return what a run held, by the ids of ``tres_ids``, which is what tres_table calls cpu, gres/shard and so on."""
    return {tres_ids[name]: int(amount.rstrip("M")) for name, amount in parse_tres(row.alloc_tres).items()}


def table_line(row: JobRow, associations: Mapping[tuple[str, str], int], tres_ids: Mapping[str, int]) -> str:
    """Return ``row`` as a line of LOAD DATA with ``COLUMNS``: tabs between the fields, a line end behind.

    ``associations`` is (user, account) -> id_assoc.
    """
    amounts = held(row, tres_ids)
    numbers = ",".join(f"{number}={amount}" for number, amount in amounts.items())
    array = (0, _NO_VAL) if row.array_task_id is None else (row.array_job_id, row.array_task_id)
    fields = (
        *(row.end, row.account, amounts[tres_ids["cpu"]], 0 if row.exit_code == "0:0" else 256, row.extra, "train"),
        *(associations[row.user, row.account], *array, row.job_id, 1, 0, 0, row.uid, row.uid, 0, _NO_VAL),
        *(0, row.nodelist, row.nodes, row.partition, 1, row.restart, _STATES[row.state]),
        *(row.submit, row.submit, row.start, row.end, numbers, numbers),
    )
    return "\t".join(map(str, fields)) + "\n"


class Sums:
    """What every association held in each day, as CLUSTER_assoc_usage_day_table has it, and in each month.

    slurmdbd would take an hour to add a year up: it does so for each hour, then over all hours for each day.
    """

    COLUMNS = ("creation_time", "mod_time", "id", "id_tres", "time_start", "alloc_secs")

    def __init__(self, tres_ids: Mapping[str, int]):
        self._tres_ids = tres_ids
        self._days: dict[tuple[int, int, int], int] = defaultdict(int)

    def add(self, row: JobRow, association: int) -> None:
        """Add a run up, day by day of UTC."""
        for tres, amount in held(row, self._tres_ids).items():
            moment = row.start
            while moment < row.end:
                day = moment - moment % _DAY
                until = min(day + _DAY, row.end)
                self._days[association, tres, day] += amount * (until - moment)
                moment = until

    def days(self) -> Iterator[str]:
        """Yield the lines for the table of days."""
        return self._lines(self._days)

    def months(self) -> Iterator[str]:
        """Yield the lines for the table of months."""
        months: dict[tuple[int, int, int], int] = defaultdict(int)
        for (association, tres, day), amount in self._days.items():
            first = datetime.fromtimestamp(day).replace(day=1, hour=0)
            months[association, tres, int(first.timestamp())] += amount
        return self._lines(months)

    @staticmethod
    def _lines(sums: Mapping[tuple[int, int, int], int]) -> Iterator[str]:
        return ("\t".join(map(str, (1, 1, *key, amount))) + "\n" for key, amount in sums.items())
