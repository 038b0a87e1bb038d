"""The ways in which MPS holds a job to its share: by variables, by partitions of the SMs, by namespaces.

Each is NVIDIA's interface of some drivers (documentation of MPS, release 615): the classic one of all; static SM
partitions, from R590 on Ampere and newer; protocol 3 with named servers and namespaces, from R615. ``find`` is the one
place that knows which are to be tried. Standard library only.
"""

import os
import struct

from slurm_gpushare.backends.mps_control import run
from slurm_gpushare.errors import BackendError

VARIABLES = {"memory": "advisory", "compute": "advisory", "faults": "none"}
HELD = {"memory": "enforced", "compute": "enforced", "faults": "none"}

FIRST_WITH_NAMESPACES = 615
FIRST_WITH_PARTITIONS = 590
FIRST_CAPABILITY_WITH_PARTITIONS = 8  # Ampere
QUIT = "quit -t 5"  # seconds that the daemon gives its clients, of which there should be none


def percentage(fraction: float) -> str:
    """Return a share as MPS takes it: whole per cent, at least one."""
    return str(max(1, round(100 * fraction)))


def only(uid: int) -> bytes:
    """Return the access list of a folder of root's that ``uid`` may enter (acl(5); linux/posix_acl_xattr.h)."""
    nobody = 0xFFFFFFFF
    entries = ((0x01, 7, nobody), (0x02, 5, uid), (0x04, 0, nobody), (0x10, 5, nobody), (0x20, 0, nobody))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def csv(text: str, fewest: int) -> list[list[str]]:
    """Return the rows of a listing of protocol 3 that have at least so many fields."""
    return [row for line in text.splitlines() for row in [line.split(",")] if len(row) >= fewest]


class Variables:
    """The classic interface: limits of each process are its variables, and the daemon's defaults above them."""

    NAME = "variables"
    OPTIONS: tuple[str, ...] = ()
    MULTIUSER = "-multiuser-server"

    def __init__(self, environment: dict[str, str], uuid: str, settings):
        """Speak to the daemon that ``environment`` names, which has the GPU ``uuid`` alone."""
        self.environment = environment
        self.uuid = uuid
        self.settings = settings
        self.pipe = environment["CUDA_MPS_PIPE_DIRECTORY"]

    def alive(self) -> bool:
        """Return whether the daemon answers."""
        return run(self.environment, say="get_default_active_thread_percentage")[0] == 0

    def start(self) -> None:
        """Start the daemon and give it its defaults; raises BackendError."""
        several = [self.MULTIUSER] if self.settings.users == "multiuser" else []
        self._do("-d", *self.OPTIONS, *several)
        try:
            if self.settings.fraction is not None:
                self._defaults(self.settings.fraction)
        except BackendError:
            self.quit()
            raise

    def _defaults(self, fraction: float) -> None:
        self._say(f"set_default_active_thread_percentage {percentage(fraction)}")
        if self.settings.gpu_memory is not None:
            limit = int(self.settings.gpu_memory * fraction) >> 20
            self._say(f"set_default_device_pinned_mem_limit {self.uuid} {limit}M")

    def admit(self, record, taken: list[str]) -> tuple[dict[str, str], str]:
        """Let a job in; return the variables of its programs, and what is to be kept of it as long as it runs.

        ``taken`` is what was kept of the other jobs. It may be the job's second time. Raises BackendError.
        """
        variables = {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": percentage(record.grant.fraction)}
        if record.grant.memory is not None:
            variables["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"{self.uuid}={record.grant.memory >> 20}M"
        return variables, ""

    def dismiss(self, job_id: int) -> None:
        """Take from the daemon what it has of the job; raises BackendError."""

    def enforces(self) -> dict[str, str]:
        """Return what holds on a GPU that none can use without MPS."""
        return HELD if self.settings.fraction is not None else VARIABLES

    def quit(self) -> None:
        """End the daemon; raises BackendError."""
        self._say(QUIT)

    def _say(self, line: str) -> str:
        status, text = run(self.environment, say=line)
        if status != 0:
            raise BackendError(f"MPS of GPU {self.uuid} refused {line!r}: {text[:200] or status}")
        return text

    def _do(self, *words: str) -> str:
        status, text = run(self.environment, *words)
        if status != 0:
            raise BackendError(f"MPS of GPU {self.uuid} refused {' '.join(words)!r}: {text[:200] or status}")
        return text


class Partitions(Variables):
    """Static SM partitions: as many of one size as the policy's one share allows, each for one job at a time.

    They are all made before there is a client, since none can be made later (``sm_partition add``). A percentage of
    threads means nothing then; the limit of memory is the daemon's, as in the classic interface.
    """

    NAME = "partitions"
    OPTIONS = ("-S",)

    def _defaults(self, fraction: float) -> None:
        super()._defaults(fraction)
        chunks = int(self._chunks() * fraction + 1e-9)
        if chunks < 1:
            raise BackendError(f"GPU {self.uuid}: a chunk of SMs is more than the share {fraction:g}")
        for _ in range(int(1 / fraction + 1e-9)):
            self._say(f"sm_partition add {self.uuid} {chunks}")

    def _chunks(self) -> int:
        """Return the chunks of the GPU that no partition has."""
        for words in map(str.split, self._say("lspart").splitlines()):
            if len(words) > 2 and self.uuid.startswith(words[0]) and words[1] == "-" and words[2].isdecimal():
                return int(words[2])
        raise BackendError(f"MPS of GPU {self.uuid}: lspart does not say how many chunks it has")

    def _partitions(self) -> list[str]:
        rows = map(str.split, self._say("lspart").splitlines())
        return [
            f"{self.uuid}/{words[1]}"
            for words in rows
            if len(words) > 2 and self.uuid.startswith(words[0]) and words[0].startswith("GPU-") and words[1] != "-"
        ]

    def admit(self, record, taken: list[str]) -> tuple[dict[str, str], str]:
        """Give the job a partition that no other has."""
        free = [partition for partition in self._partitions() if partition not in taken]
        if not free:
            raise BackendError(f"GPU {self.uuid}: every partition of its SMs has a job")
        variables, _ = super().admit(record, taken)
        del variables["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"]
        return variables | {"CUDA_MPS_SM_PARTITION": free[0]}, free[0]


class Namespaces(Variables):
    """Protocol 3: a server for each user, or one for all, and in it a namespace with its own limits for each job.

    A program comes into the namespace in whose folder it finds the socket, so every other way in is closed to users:
    the main socket, the server's, and the folders of other users' jobs.
    """

    NAME = "namespaces"
    OPTIONS = ("-p", "3")
    MULTIUSER = "-m"

    def alive(self) -> bool:
        """Return whether the daemon answers."""
        return run(self.environment, "server", "list", "--format=csv,noheader")[0] == 0

    def _defaults(self, fraction: float) -> None:
        """Do nothing: each namespace has limits of its own."""

    def admit(self, record, taken: list[str]) -> tuple[dict[str, str], str]:
        """Make the job's namespace, with its limits, for its user alone."""
        grant = record.grant
        owner = 0 if self.settings.users == "multiuser" else record.uid
        server, name = f"u{owner}", f"j{record.job_id}"  # short, for the paths of sockets are
        if run(self.environment, "server", "get", server, "status")[0] != 0:
            self._do("server", "create", server, f"--uid={owner}", f"--allowed-devices={self.uuid}")
        if run(self.environment, "namespace", "get", name, server, "server-status")[0] != 0:
            self._do("namespace", "create", name, f"--server={server}")
        limits = [f"--active-thread-percentage={percentage(grant.fraction)}"]
        if grant.memory is not None:
            limits.append(f"--pinned-memory-limit={grant.memory >> 20}M")
        self._do("namespace", "set", name, f"--server={server}", *limits)
        self._close(server, name, record.uid)
        return {"CUDA_MPS_PIPE_DIRECTORY": f"{self.pipe}/{server}/{name}"}, ""

    def _close(self, server: str, name: str, uid: int) -> None:
        # The folders are root's and nobody else can put anything into them.
        for path in (f"{self.pipe}/control", f"{self.pipe}/{server}/control"):
            os.chmod(path, 0o600)
        os.chmod(f"{self.pipe}/{server}", 0o711)
        os.chmod(f"{self.pipe}/{server}/default", 0o700)
        folder = f"{self.pipe}/{server}/{name}"
        os.chmod(folder, 0o700)
        os.chmod(f"{folder}/control", 0o666)
        os.setxattr(folder, "system.posix_acl_access", only(uid))

    def dismiss(self, job_id: int) -> None:
        """Delete the job's namespace, with what is left in it."""
        for name, server, *_ in csv(self._do("namespace", "list", "--format=csv,noheader"), 2):
            if name == f"j{job_id}":
                self._do("namespace", "delete", name, f"--server={server}", "--force")

    def enforces(self) -> dict[str, str]:
        """Return what holds on a GPU that none can use without MPS."""
        return HELD

    def quit(self) -> None:
        """End the daemon and its servers; raises BackendError."""
        self._do("-q")


WAYS = {way.NAME: way for way in (Variables, Partitions, Namespaces)}


def find(driver: int, capability: int, settings) -> list[type[Variables]]:
    """Return the ways to try on a GPU, the best first: what the driver's branch and the card promise.

    ``capability`` is the first number of CUDA's compute capability. Static partitions are for the policy's one share:
    of different shares none could be made while others run.
    """
    ways: list[type[Variables]] = [Variables]
    if driver >= FIRST_WITH_NAMESPACES:
        ways.insert(0, Namespaces)
    elif (
        driver >= FIRST_WITH_PARTITIONS
        and capability >= FIRST_CAPABILITY_WITH_PARTITIONS
        and settings.fraction is not None
    ):
        ways.insert(0, Partitions)
    return ways
