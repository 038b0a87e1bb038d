"""A share of a GPU of the node, as gres/shard counts it, under NVIDIA MPS.

One control daemon for each GPU, or for each GPU and user, lives from the first job to the last in
/run/gpushare/NODE/mps/NAME: pipe/ and log/ are the daemon's, jobs/ has a file for each job that uses it. Each client
process is limited by its variables (CUDA_MPS_ACTIVE_THREAD_PERCENTAGE, CUDA_MPS_PINNED_DEVICE_MEM_LIMIT), which
may only tighten the daemon's defaults; of these there is one for all clients, so only where the policy gives one
fraction does a program that clears its variables gain nothing, and only in compute mode EXCLUSIVE_PROCESS does one that
goes around MPS get no GPU. NVIDIA's documentation of MPS; nothing here needs release 615. Standard library only.
"""

import fcntl
import os
import struct

from slurm_gpushare import paths
from slurm_gpushare.backends.gpu import agrees, binds, epilog, prepare, task_argv, task_environment
from slurm_gpushare.backends.mps_control import environment as daemon_environment
from slurm_gpushare.backends.mps_control import run
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

ENFORCES = {"memory": "advisory", "compute": "advisory", "faults": "none"}
ONE_FRACTION = {"memory": "enforced", "compute": "enforced", "faults": "none"}
MODES = {
    "each process is limited by its variables": ENFORCES,
    "each process is limited by the daemon: one share for all (`fraction`) and EXCLUSIVE_PROCESS": ONE_FRACTION,
}
REMOTE = False
SAMPLED = False
SEES = "card"

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
UUID = len("GPU-00000000-0000-0000-0000-000000000000")
LONGEST = 107  # bytes of a socket's path, unix(7)
QUIT = "quit -t 5"  # seconds that the daemon gives its clients, of which there should be none


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
    grant, number = record.grant, record.gpus[0] if record.gpus else -1
    if number not in node.by_number:
        raise BrokenInstallation(f"Slurm gave GPU {number}, and NVML shows {sorted(node.by_number)} on this node")
    gpu = node.by_number[number]
    per_user = settings.users == "time_sliced"
    name = f"{gpu.uuid}-{record.uid}" if per_user else gpu.uuid
    folder = os.path.join(paths.node_dir(record.node), "mps", name)
    if len(folder + "/pipe/control") > LONGEST:
        raise BrokenInstallation(f"{folder}: too long for the sockets of MPS: give the node a shorter name")
    base = _open_base(record.node)
    try:
        _prepare_folder(base, name, record.uid if per_user else None)
        _forget_ended(base, name, record.node)
        _ensure_daemon(base, name, daemon_environment(folder, gpu.uuid), settings)
        os.close(os.open(f"{name}/jobs/{record.job_id}", os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600, dir_fd=base))
    finally:
        os.close(base)
    variables = {
        "CUDA_MPS_PIPE_DIRECTORY": folder + "/pipe",
        "CUDA_MPS_LOG_DIRECTORY": folder + "/log",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": _percentage(grant.fraction),
        # The daemon is no process of the job's cgroup: Slurm's numbers of the GPUs are not its own.
        "CUDA_VISIBLE_DEVICES": gpu.uuid,
    }
    held = settings.fraction is not None and gpu.compute_mode == door.EXCLUSIVE_PROCESS
    enforces = dict(ONE_FRACTION if held else ENFORCES)
    if grant.memory is None:
        enforces["memory"] = "none"  # the policy does not know how much this GPU has
    else:
        variables["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"{gpu.uuid}={grant.memory >> 20}M"
    return {"environment": variables, "binds": [folder + "/pipe", folder + "/log"], "enforces": enforces}


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
                if not others:
                    _end_daemon(base, name, os.path.join(paths.node_dir(node), "mps", name))
                else:
                    os.unlink(f"{name}/jobs/{int(job_id)}", dir_fd=base)
    finally:
        os.close(base)


def _percentage(fraction: float) -> str:
    return str(max(1, round(100 * fraction)))


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
                os.setxattr(folder, "system.posix_acl_access", _only(uid))
        finally:
            os.close(folder)
    # Servers run as the users, and write to a file in a folder that is not theirs.
    log = os.open(f"{name}/log/server.log", os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base)
    os.fchmod(log, 0o666)
    os.close(log)


def _only(uid: int) -> bytes:
    """Return the access list of a folder of root's that ``uid`` may enter (acl(5); linux/posix_acl_xattr.h)."""
    nobody = 0xFFFFFFFF
    entries = ((0x01, 7, nobody), (0x02, 5, uid), (0x04, 0, nobody), (0x10, 5, nobody), (0x20, 0, nobody))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


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


def _ensure_daemon(base: int, name: str, variables: dict[str, str], settings) -> None:
    if run(variables, say="get_default_active_thread_percentage")[0] == 0:
        return
    # What a daemon leaves that was killed keeps the next one from starting.
    _empty(base, f"{name}/pipe")
    status, text = run(variables, "-d", *(["-multiuser-server"] if settings.users == "multiuser" else []))
    if status != 0:
        raise BackendError(f"MPS did not start on GPU {variables['CUDA_VISIBLE_DEVICES']}: {text[:200] or status}")
    if settings.fraction is not None:
        lines = [f"set_default_active_thread_percentage {_percentage(settings.fraction)}"]
        if settings.gpu_memory is not None:
            limit = int(settings.gpu_memory * settings.fraction) >> 20
            lines.append(f"set_default_device_pinned_mem_limit {variables['CUDA_VISIBLE_DEVICES']} {limit}M")
        for line in lines:
            status, text = run(variables, say=line)
            if status != 0:
                raise BackendError(f"MPS refused {line!r}: {text[:200] or status}")


def _end_daemon(base: int, name: str, folder: str) -> None:
    variables = daemon_environment(folder, name[:UUID])
    if run(variables, say="get_default_active_thread_percentage")[0] == 0:
        status, text = run(variables, say=QUIT)
        if status != 0:
            raise BackendError(f"MPS in {folder} does not quit: {text[:200] or status}")
    for part in ("pipe", "log", "jobs"):
        _empty(base, f"{name}/{part}")
        os.rmdir(f"{name}/{part}", dir_fd=base)
    os.rmdir(name, dir_fd=base)


def _empty(base: int, path: str) -> None:
    folder = os.open(path, FOLDER, dir_fd=base)
    try:
        for entry in os.listdir(folder):
            os.unlink(entry, dir_fd=folder)
    finally:
        os.close(folder)
