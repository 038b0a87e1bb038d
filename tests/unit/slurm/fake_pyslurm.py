"""A fake of pyslurm 25.11.2's ``db`` interface, and says so. It has the names that the real one has, and no others.

What it copies of the real one's manners: collections whose ``values()`` are jobs; of a requeued job the last run
alone, by job id; 0 read as nothing (task 0, offset 0); NO_VAL where a job is no part of a heterogeneous one; a number
for the name of an unknown user; UnicodeDecodeError for text that is not UTF-8; a line on stdout for a TRES that it
does not know.
"""

from types import SimpleNamespace
from typing import ClassVar

FAKE = True
__version__ = "25.11.2"

NO_VAL = 0xFFFFFFFE
_FILTER_WORDS = (
    "ids start_time end_time accounts association_ids clusters constraints cpus max_cpus nodes max_nodes qos names "
    "partitions groups timelimit max_timelimit users wckeys nodelist with_script with_env truncate_time"
)
_JOB_WORDS = (
    "_extra account allocated_tres array_id array_task_id array_tasks_waiting cluster elapsed_time end_time "
    "exit_code exit_code_signal heterogeneous_id heterogeneous_offset id nodelist num_nodes partition qos "
    "requested_tres requeue_count start_time state submit_command submit_time system_comment user_id user_name"
)


class PyslurmError(Exception):
    """The base of the errors."""


class RPCError(PyslurmError):
    """What slurmdbd or libslurm refuses."""


class TrackableResource:
    """One TRES."""

    def __init__(self, tres_type: str, count: int, name: str | None = None, tres_id: int | None = None):
        self.type, self.count, self.name, self.id = tres_type, count, name, tres_id

    @property
    def type_and_name(self) -> str:
        return f"{self.type}/{self.name}" if self.name else self.type


class GPU:
    """A GPU as a TRES of its own kind: ``name`` is gpu:TYPE."""

    def __init__(self, count: int, gpu_type: str | None = None, tres_id: int | None = None):
        self.count, self.type, self.id = count, gpu_type, tres_id

    @property
    def name(self) -> str:
        return f"gpu:{self.type}" if self.type else "gpu"

    @property
    def type_and_name(self) -> str:
        return f"gres/{self.name}"


class TrackableResources:
    """The TRES of a job: None for each that it has not."""

    def __init__(self, text: str):
        self.cpu = self.mem = self.energy = self.node = self.billing = self.vmem = self.pages = None
        self.fs, self.gres, self.license, self.interconnect, self.other = {}, {}, {}, {}, {}
        for pair in text.split(","):
            word, count = pair.split("=")
            kind, _, name = word.partition("/")
            tres = TrackableResource(kind, int(count.removesuffix("M")), name or None)
            if kind == "gres" and name.partition(":")[0] == "gpu":
                self.gres[name] = GPU(tres.count, name.partition(":")[2] or None)
            elif kind in ("fs", "gres", "license", "interconnect"):
                getattr(self, kind)[name] = tres
            elif hasattr(self, kind):
                setattr(self, kind, tres)
            else:
                print(tres.type, tres.name, tres.type_and_name)
                self.other[tres.type_and_name] = tres


class Job:
    """One job. Its attributes are those of pyslurm.db.Job that are asked for here; any other is an AttributeError."""

    __slots__ = tuple(_JOB_WORDS.split())

    def __init__(self, extra: bytes | None = None, **values: object):
        for name in self.__slots__:
            setattr(self, name, values.pop(name, None))
        assert not values, f"the fake knows no {sorted(values)}"
        self._extra = extra

    @property
    def extra(self) -> str | None:
        return None if not self._extra else self._extra.decode()


class JobFilter:
    """What to ask for; it takes no word that the real one does not."""

    def __init__(self, **wanted: object):
        for name, value in wanted.items():
            if name not in _FILTER_WORDS.split():
                raise AttributeError(f"'pyslurm.db.job.JobFilter' object has no attribute '{name}'")
            setattr(self, name, value)


class Jobs:
    """A collection over clusters: not a list and not a dict."""

    table: ClassVar[list[Job]] = []  # what slurmdbd has: the runs, the older before the newer
    asked: ClassVar[list[dict]] = []
    away = False

    def __init__(self, found: list[Job]):
        self._data: dict[str, dict[int, Job]] = {}
        for job in found:
            self._data.setdefault(job.cluster, {})[job.id] = job

    @staticmethod
    def load(db_filter: JobFilter | None = None, db_connection: object = None) -> "Jobs":
        assert db_connection is None and isinstance(db_filter, JobFilter)
        if Jobs.away:
            raise RPCError("Failed to get Jobs from slurmdbd")
        wanted = vars(db_filter)
        Jobs.asked.append(wanted)
        assert set(wanted) in ({"ids"}, {"start_time", "end_time"}), "the fake answers no other question"
        return Jobs([job for job in Jobs.table if "ids" not in wanted or {job.id, job.array_id} & set(wanted["ids"])])

    def values(self) -> list[Job]:
        return [job for jobs in self._data.values() for job in jobs.values()]


db = SimpleNamespace(
    Job=Job,
    Jobs=Jobs,
    JobFilter=JobFilter,
    TrackableResource=TrackableResource,
    TrackableResources=TrackableResources,
)
