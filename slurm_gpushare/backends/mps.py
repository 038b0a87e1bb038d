"""A share of a GPU of the node, as gres/shard counts it, under NVIDIA MPS.

One control daemon for each GPU, or for each GPU and user, lives from the first job to the last in
/run/gpushare/NODE/mps/NAME: pipe/ and log/ are the daemon's, jobs/ has a file for each job that uses it, with what is
the job's alone, and ``way`` says how the daemon holds jobs to their shares (``mps_ways.py``). NVIDIA's documentation of
MPS, release 615. Standard library only.
"""

import fcntl
import os

from slurm_gpushare import paths
from slurm_gpushare.backends import watched
from slurm_gpushare.backends.gpu import agrees, binds, epilog, prepare, task_argv, task_environment
from slurm_gpushare.backends.mps_control import environment as daemon_environment
from slurm_gpushare.backends.mps_ways import HELD, VARIABLES, WAYS, Variables, find, only
from slurm_gpushare.errors import BackendError, BrokenInstallation

__all__ = [
    "ENFORCES",
    "MODES",
    "REMOTE",
    "SAMPLED",
    "SEES",
    "agrees",
    "begin",
    "binds",
    "epilog",
    "finish",
    "prepare",
    "task_argv",
    "task_environment",
]

ENFORCES = VARIABLES
# In compute mode DEFAULT a program that leaves MPS has the GPU as if there were none.
MODES = {
    "each process is limited by its variables": VARIABLES,
    "each process is limited by the daemon: one share for all (`fraction`), EXCLUSIVE_PROCESS": HELD,
    "each job has SMs of its own: one share for all, driver R590, Ampere or newer, EXCLUSIVE_PROCESS": HELD,
    "each process is limited by its job's namespace: driver R615, EXCLUSIVE_PROCESS": HELD,
    watched.CONDITION: {**VARIABLES, "memory": "enforced"},
}
REMOTE = False
SAMPLED = False
SEES = "card"

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
UUID = len("GPU-00000000-0000-0000-0000-000000000000")
LONGEST = 107  # bytes of a socket's path, unix(7)


def begin(record, settings, environment: dict[str, str]) -> dict:
    """Have a daemon for the job's GPU, and return what makes the job's programs its clients.

    Raises
    ------
    BrokenInstallation
        MPS or NVML is not usable on this node.
    BackendError
        The daemon does not start, or does not answer.
    """
    from slurm_gpushare.node import gpus as door  # the job's path needs NVML here alone

    node = door.read_gpus()
    number = record.gpus[0] if record.gpus else -1
    if number not in node.by_number:
        raise BrokenInstallation(f"Slurm gave GPU {number}, and NVML shows {sorted(node.by_number)} on this node")
    gpu = node.by_number[number]
    exclusive = gpu.compute_mode == door.EXCLUSIVE_PROCESS
    per_user = settings.users == "time_sliced"
    if per_user and exclusive:
        raise BrokenInstallation(
            f"GPU {number} is in compute mode EXCLUSIVE_PROCESS, which admits MPS of one user, and the policy says "
            f"`users: time_sliced`: run `nvidia-smi -i {number} -c DEFAULT` on this node, or change the policy"
        )
    name = f"{gpu.uuid}-{record.uid}" if per_user else gpu.uuid
    folder = os.path.join(paths.node_dir(record.node), "mps", name)
    if len(f"{folder}/pipe/u{record.uid}/j{record.job_id}/control") > LONGEST:
        raise BrokenInstallation(f"{folder}: too long for the sockets of MPS: give the node a shorter name")
    environment = daemon_environment(folder, gpu.uuid)
    base = _open_base(record.node)
    try:
        _prepare_folder(base, name, record.uid if per_user else None)
        _forget_ended(base, name, record.node)
        _write(base, f"{name}/jobs/{record.job_id}")  # so that whatever follows is taken back by its end
        ways = find(node.driver, gpu.capability, settings)
        way = _ensure_daemon(base, name, [way(environment, gpu.uuid, settings) for way in ways])
        others = [job for job in _jobs(base, name) if job != str(record.job_id)]
        variables, kept = way.admit(record, [_read(base, f"{name}/jobs/{job}") for job in others])
        _write(base, f"{name}/jobs/{record.job_id}", kept)
    finally:
        os.close(base)
    enforces = dict(way.enforces() if exclusive else VARIABLES)
    if record.grant.memory is None:
        enforces["memory"] = "none"  # the policy does not know how much this GPU has
    if watched.limits(record.node, settings, node.driver):
        enforces["memory"] = "enforced"
    return {
        "environment": {
            "CUDA_MPS_PIPE_DIRECTORY": folder + "/pipe",
            "CUDA_MPS_LOG_DIRECTORY": folder + "/log",
            # The daemon is no process of the job's cgroup: Slurm's numbers of the GPUs are not its own.
            "CUDA_VISIBLE_DEVICES": gpu.uuid,
            **variables,
        },
        "binds": [folder + "/pipe", folder + "/log"],
        "enforces": enforces,
    }


def finish(job_id: int, node: str, settings) -> None:
    """Take the job from every daemon of the node, and end those that have no more.

    Raises
    ------
    BackendError
        A daemon does not answer; its job is still noted.
    """
    try:
        base = _open_base(node, create=False)
    except FileNotFoundError:
        return
    try:
        for name in os.listdir(base):
            if str(int(job_id)) in _jobs(base, name):
                others = [other for other in _jobs(base, name) if other != str(int(job_id))]
                way = _way(base, name, os.path.join(paths.node_dir(node), "mps", name), settings)
                if not others:
                    _end_daemon(base, name, way)
                    continue
                if way is not None and way.alive():
                    way.dismiss(int(job_id))
                os.unlink(f"{name}/jobs/{int(job_id)}", dir_fd=base)
    finally:
        os.close(base)


def _open_base(node: str, create: bool = True) -> int:
    """Return a locked descriptor of the node's folder of daemons; everything is done relative to it."""
    path = os.path.join(paths.node_dir(node), "mps")
    if create:
        os.makedirs(path, 0o755, exist_ok=True)
    descriptor = os.open(path, FOLDER)
    status = os.fstat(descriptor)
    if status.st_uid != 0 or status.st_mode & 0o022:
        os.close(descriptor)
        raise BrokenInstallation(f"{path} is not root's alone")
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _prepare_folder(base: int, name: str, uid: int | None) -> None:
    """Make the folders of a daemon: nobody but root can change them, and only ``uid`` gets in, None: everybody."""
    for part, mode in ((name, 0o700), (f"{name}/pipe", 0o755), (f"{name}/log", 0o755), (f"{name}/jobs", 0o700)):
        try:
            os.mkdir(part, mode, dir_fd=base)
        except FileExistsError:
            pass  # an earlier job's
        folder = os.open(part, FOLDER, dir_fd=base)
        try:
            os.fchmod(folder, mode if part != name or uid is not None else 0o755)
            if part == name and uid is not None:
                os.setxattr(folder, "system.posix_acl_access", only(uid))
        finally:
            os.close(folder)
    # Servers run as the users, and write to a file in a folder that is not theirs.
    log = os.open(f"{name}/log/server.log", os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base)
    os.fchmod(log, 0o666)
    os.close(log)


def _jobs(base: int, name: str) -> list[str]:
    try:
        folder = os.open(f"{name}/jobs", FOLDER, dir_fd=base)
    except OSError:
        return []
    try:
        return os.listdir(folder)
    finally:
        os.close(folder)


def _forget_ended(base: int, name: str, node: str) -> None:
    """Forget jobs that are not here any more: their epilog was never run."""
    for job in _jobs(base, name):
        if not (job.isdigit() and os.path.isdir(paths.job_dir(node, int(job)))):
            os.unlink(f"{name}/jobs/{job}", dir_fd=base)


def _way(base: int, name: str, folder: str, settings) -> Variables | None:
    """Return how the daemon that was started here holds jobs to their shares, None where none was."""
    kind = WAYS.get(_read(base, f"{name}/way"))
    uuid = name[:UUID]
    return None if kind is None else kind(daemon_environment(folder, uuid), uuid, settings)


def _ensure_daemon(base: int, name: str, ways: list[Variables]) -> Variables:
    """Return the way of the daemon that runs; where none does, start one in the first way that this node can do."""
    started = _read(base, f"{name}/way")
    for way in ways:
        if started == way.NAME and way.alive():
            return way
    failures = []
    for way in ways:
        # What a daemon leaves that was killed keeps the next one from starting.
        _empty(base, f"{name}/pipe")
        try:
            way.start()
        except BackendError as error:
            failures.append(str(error))
            continue
        _write(base, f"{name}/way", way.NAME)
        return way
    raise BackendError(f"MPS did not start: {'; '.join(failures)}")


def _end_daemon(base: int, name: str, way: Variables | None) -> None:
    if way is not None and way.alive():
        way.quit()
    for part in ("pipe", "log", "jobs"):
        _empty(base, f"{name}/{part}")
        os.rmdir(f"{name}/{part}", dir_fd=base)
    if way is not None:
        os.unlink(f"{name}/way", dir_fd=base)
    os.rmdir(name, dir_fd=base)


def _read(base: int, path: str) -> str:
    """Return a small file's text, "" where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base)
    except FileNotFoundError:
        return ""
    try:
        return os.read(descriptor, 1 << 12).decode()
    finally:
        os.close(descriptor)


def _write(base: int, path: str, text: str = "") -> None:
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600, dir_fd=base)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _empty(base: int, path: str) -> None:
    folder = os.open(path, FOLDER, dir_fd=base)
    try:
        for entry in os.listdir(folder):
            try:
                os.unlink(entry, dir_fd=folder)
            except IsADirectoryError:  # a server's, with its namespaces
                _empty(folder, entry)
                os.rmdir(entry, dir_fd=folder)
    finally:
        os.close(folder)
