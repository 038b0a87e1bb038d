"""Running jobs of this node, and which of them a process belongs to.

Jobs are the launch records that prolog left. A process is traced by what its user cannot forge first: its cgroup, then
an ancestor that is root's slurmstepd, and only then its environment, believed for jobs of the same user alone.
"""

import os
import re
from collections.abc import Callable, Mapping

from slurm_gpushare.errors import GrantError
from slurm_gpushare.launch import LaunchRecord, read_record

# Slurm's cgroup folders: v1 (any version), v2 with job_N (22.05 to 25.11), v2 with the run's SLUID (26.05 on);
# several slurmd on one machine put the node's name into the path.
CGROUP_JOB = re.compile(
    r"(?:/slurm(?:_[^/\n]+)?/uid_\d+/job_(\d+)|[^/\n]*slurmstepd\.scope/(?:job_(\d+)|(s[0-9A-HJKMNP-TV-Z]{13})))(?:/|$)",
    re.MULTILINE,
)
# The title that slurmstepd gives itself: "slurmstepd: [12.batch]", "slurmstepd: [12+1.0]" in a heterogeneous job.
STEPD_TITLE = re.compile(rb"slurmstepd: \[(\d+)(?:\+\d+)?\.")

_MPS_SERVER = b"nvidia-cuda-mps-server"[:15]  # the kernel keeps 15 characters of a name
_GENERATIONS = 64  # a longer chain of ancestors is followed no further


class JobFolders:
    """The launch records under ``folder`` (…/NODE/jobs); each file is read once."""

    def __init__(self, folder: str, say: Callable[[str], None] = lambda line: None):
        self._folder = folder
        self._say = say
        self._known: dict[int, tuple[tuple, LaunchRecord | None]] = {}

    def scan(self) -> dict[int, LaunchRecord]:
        """Return the record of each job that has one, by job id; what is not readable is told once and left out."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            names = []
        known = {}
        for name in names:
            if not (name.isascii() and name.isdigit()):
                continue
            path = f"{self._folder}/{name}/launch.json"
            try:
                status = os.lstat(path)
            except OSError:
                continue
            mark = (status.st_ino, status.st_mtime_ns, status.st_size)
            old = self._known.get(int(name))
            known[int(name)] = old if old is not None and old[0] == mark else (mark, self._read(path, int(name)))
        self._known = known
        return {job_id: record for job_id, (_, record) in known.items() if record is not None}

    def _read(self, path: str, job_id: int) -> LaunchRecord | None:
        try:
            record = read_record(path)
        except (OSError, GrantError) as error:
            self._say(f"job {job_id}: {error}")
            return None
        if record.job_id != job_id:
            self._say(f"job {job_id}: {path} speaks of job {record.job_id}; it is left out")
            return None
        return record


def job_from_cgroup(text: str, sluids: Mapping[str, int]) -> int | None:
    """Return the job that /proc/PID/cgroup names, None when it names none or a run that is not among ``sluids``."""
    for match in CGROUP_JOB.finditer(text):
        # Below systemd's manager of a user's session that user makes folders of any name.
        if "/user@" in text[text.rfind("\n", 0, match.start()) + 1 : match.start()]:
            continue
        number = match.group(1) or match.group(2)
        return int(number) if number else sluids.get(match.group(3))
    return None


def parse_stat(data: bytes) -> tuple[int, int]:
    """Return (parent's pid, start time in ticks since boot) from /proc/PID/stat; the name in it may hold anything."""
    fields = data[data.rindex(b")") + 2 :].split(maxsplit=20)
    return int(fields[1]), int(fields[19])


def is_mps_server(pid: int, proc: str = "/proc") -> bool:
    """Tell whether a process calls itself as NVIDIA's server of MPS does; to be asked of those of no job alone."""
    try:
        with open(f"{proc}/{pid}/comm", "rb") as stream:
            return stream.read(64).rstrip(b"\n") == _MPS_SERVER
    except OSError:
        return False


class ProcessTracer:
    """Says which job a pid belongs to. Answers are kept by (pid, start time): a pid used again is another process."""

    def __init__(self, node: str, proc: str = "/proc"):
        self._node = node.encode()
        self._proc = proc
        self._known: dict[int, tuple[int, int | None]] = {}  # pid -> (start time, job)

    def trace(
        self, pids: set[int], records: Mapping[int, LaunchRecord], whole: bool = True
    ) -> dict[int, tuple[int, int | None]]:
        """Return, for each of ``pids`` that exists or was traced before, its start time and its job here, or None.

        ``whole``: these are all pids of interest, so that the others can be forgotten.
        """
        sluids = {record.sluid: job_id for job_id, record in records.items() if record.sluid}
        found = {}
        for pid in pids:
            old = self._known.get(pid)
            try:
                start = self._stat(pid)[1]
            except (OSError, ValueError, IndexError):
                # It has ended: its last reading still belongs to the job it was seen in.
                if old is not None:
                    found[pid] = old
                continue
            if old is not None and old[0] == start and old[1] is not None:
                found[pid] = old
            else:
                found[pid] = (start, self._job(pid, records, sluids))
        self._known = found if whole else self._known | found
        return {pid: (start, job if job in records else None) for pid, (start, job) in found.items()}

    def _job(self, pid: int, records: Mapping[int, LaunchRecord], sluids: Mapping[str, int]) -> int | None:
        try:
            job = job_from_cgroup(self._file(pid, "cgroup").decode("utf-8", "replace"), sluids)
            if job is None:
                job = self._job_of_ancestor(pid)
            return self._job_of_environment(pid, records) if job is None else job
        except (OSError, ValueError, IndexError):
            return None

    def _job_of_ancestor(self, pid: int) -> int | None:
        for _ in range(_GENERATIONS):
            pid = self._stat(pid)[0]
            if pid <= 1:
                return None
            match = STEPD_TITLE.match(self._file(pid, "cmdline"))
            # Anyone can give a process this title, and a set-uid program has root's effective id: the real one counts.
            if match is not None and self._uids(pid) == {0}:
                return int(match.group(1))
        return None

    def _job_of_environment(self, pid: int, records: Mapping[int, LaunchRecord]) -> int | None:
        values = dict(
            item.split(b"=", 1)
            for item in self._file(pid, "environ").split(b"\0")
            if item.startswith((b"SLURM_JOB_ID=", b"SLURMD_NODENAME="))
        )
        number = values.get(b"SLURM_JOB_ID", b"")
        if not number.isdigit() or values.get(b"SLURMD_NODENAME", self._node) != self._node:
            return None
        record = records.get(int(number))
        return record.job_id if record is not None and self._uids(pid) == {record.uid} else None

    def _uids(self, pid: int) -> set[int]:
        for line in self._file(pid, "status").splitlines():
            if line.startswith(b"Uid:"):
                return {int(field) for field in line.split()[1:4]}
        return set()

    def _file(self, pid: int, name: str) -> bytes:
        with open(f"{self._proc}/{pid}/{name}", "rb") as stream:
            return stream.read(1 << 20)

    def _stat(self, pid: int) -> tuple[int, int]:
        # Of each process at each sample: without a file object it takes a third of the time.
        descriptor = os.open(f"{self._proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return parse_stat(os.read(descriptor, 4096))
        finally:
            os.close(descriptor)
