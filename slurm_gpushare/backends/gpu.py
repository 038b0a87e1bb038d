"""Whole GPUs of the node: Slurm's own gres/gpu, where nothing is left to do."""

# In the cgroup that Slurm makes with ConstrainDevices=yes there is no other GPU.
ENFORCES = {"memory": "enforced", "compute": "enforced", "faults": "enforced"}
MODES = {"Slurm keeps all other GPUs out of reach (`ConstrainDevices=yes`)": ENFORCES}
REMOTE = False
SAMPLED = False
SEES = "share"


def gpu_numbers(text: str) -> tuple[int, ...]:
    """Read SLURM_JOB_GPUS, such as ``0,1`` or ``0-3,6``; raises ValueError when it is none."""
    numbers = []
    for item in text.split(","):
        if item:
            first, dash, last = item.partition("-")
            if not (first + (last if dash else "0")).isdecimal() or not first or (dash and not last):
                raise ValueError(f"SLURM_JOB_GPUS: {item!r} is no number of a GPU")
            numbers += range(int(first), int(last if dash else first) + 1)
    return tuple(numbers)


def agrees(grant, environment: dict[str, str], settings) -> str | None:
    """Return why the grant is not believed: Slurm did not give as many GPUs on this node."""
    try:
        count = len(gpu_numbers(environment.get("SLURM_JOB_GPUS", "")))
    except ValueError as error:
        return str(error)
    if count != grant.gpus:
        return f"the grant is of {grant.gpus} GPUs on each node, but Slurm gave this job {count} here"
    return None


def begin(record, settings, environment: dict[str, str]) -> dict:
    """Return nothing: Slurm has done all."""
    return {}


def finish(job_id: int, node: str, settings) -> None:
    """Do nothing: there is nothing of the job's but what Slurm takes away."""


def task_argv(grant, settings, step: str, command: list[str], tmpdir: str | None) -> list[str]:
    """Return the command as it is: Slurm has set what it needs."""
    return command


def task_environment(work: str, settings=None, place=None) -> dict[str, str]:
    """Return nothing: Slurm has set what the task needs."""
    return {}


def binds(settings) -> list[str]:
    """Return nothing: the runtime brings the driver in."""
    return []


def prepare(grant, settings, step: str, work: str, environment: dict[str, str], place=None, meanwhile=None) -> None:
    """Do nothing: Slurm has allocated the GPU already."""


def epilog(settings, work: str, environment: dict[str, str]) -> bool:
    """Do nothing: Slurm frees the GPU itself."""
    return True
