"""The launcher: what a task's command becomes, and its execve.

The plugin puts it before every task of a job that has a launch record or asks for a container. It runs as the user, so
it decides nothing that the user could not do without it; what the policy allows is checked here by real path. No
shell, and few imports: it runs for every task.
"""

import _signal as signal  # the module signal costs every task 6 ms for the names of its numbers
import os
import sys

from slurm_gpushare import backends, paths
from slurm_gpushare.errors import (
    EXIT_BROKEN,
    EXIT_CANNOT_EXECUTE,
    EXIT_NOT_FOUND,
    EXIT_REFUSED,
    BrokenInstallation,
    GpushareError,
    RefusedError,
)
from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import ContainerRequest, LaunchRecord, Place, read_record
from slurm_gpushare.node_policy import BackendPolicy, NodePolicy, read_node_policy
from slurm_gpushare.record import Record

OPTIONS = (
    "record", "step", "prefix", "container-image", "container-mounts", "dataset", "container-scope",
    "container-workdir", "container-mount-home", "container-env", "container-writable",
)  # fmt: skip

LISTS = ("LD_LIBRARY_PATH", "LD_PRELOAD")  # variables of which the user's own value follows ours

# What an srun in an image needs of the node: munge's socket and Slurm's configuration, which everybody may read.
SLURMS = ("/run/munge", "/etc/slurm")
FETCHED = "/run/slurm/conf"  # a configless slurmd's link to what it fetched, which SLURM_CONF names by its real path

OUTSIDE = ("batch", "interactive")  # the steps that --container-scope=tasks leaves on the host


def parse_arguments(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the options and the command of ``--NAME=VALUE … -- COMMAND [ARGUMENT…]``.

    Raises
    ------
    BrokenInstallation
        The plugin that wrote them is of another version.
    """
    options = {}
    for position, argument in enumerate(argv):
        if argument == "--":
            command = argv[position + 1 :]
            if not command or not options.get("record") or not options.get("step"):
                break
            return options, command
        name, equals, value = argument.removeprefix("--").partition("=")
        if not (argument.startswith("--") and equals and name in OPTIONS):
            raise BrokenInstallation(f"the launcher does not know {argument!r}: plugin and package differ in version")
        options[name] = value
    raise BrokenInstallation("usage: gpushare-launch --record=PATH --step=STEP [--OPTION=VALUE…] -- COMMAND [ARG…]")


def spelled(text: str, prefix: str) -> str:
    """Return a line for the user with our options as plugstack.conf has them named, by ``prefix=``."""
    for name in ("--container-", "--no-container-", "--dataset"):
        text = text.replace(name, f"--{prefix}{name[2:]}")
    return text


def container_of(record: LaunchRecord | None, options: dict[str, str], step: str, policy) -> ContainerRequest | None:
    """Return the container of a step, None for the host: each option of the step overrides the job's.

    ``policy`` is called for the NodePolicy where its defaults are needed.

    Raises
    ------
    RefusedError
        Something is to be mounted in no container, or the scope is not known.
    """
    job = record.container if record is not None and record.container is not None else ContainerRequest("")
    request = ContainerRequest(
        image=options.get("container-image") or job.image,
        mounts=_items(options.get("container-mounts")) or job.mounts,
        datasets=_items(options.get("dataset")) or job.datasets,
        scope=options.get("container-scope") or job.scope,
        workdir=options.get("container-workdir") or job.workdir,
        mount_home=_flag(options, "container-mount-home") or job.mount_home,
        env=_items(options.get("container-env")) or job.env,
        writable=_flag(options, "container-writable") or job.writable,
    )
    if request.scope not in ("", "job", "tasks"):
        raise RefusedError(f"--container-scope: {request.scope!r} is neither job nor tasks")
    if not (request.image or request.mounts or request.datasets):
        return None
    if step in OUTSIDE and (request.scope or policy().container.scope) == "tasks":
        return None
    if not request.image:
        raise RefusedError("--container-mounts and --dataset mount into a container: add --container-image=PATH")
    return request


def _flag(options: dict[str, str], name: str) -> str:
    if options.get(name, "yes") not in ("yes", "no"):
        raise RefusedError(f"--{name}: {options[name]!r} is neither yes nor no")
    return options.get(name, "")


def _items(text: str | None) -> tuple[str, ...]:
    return tuple(item for item in (text or "").split(",") if item)


def find_program(name: str, path: str | None) -> str:
    """Return what ``execve`` is given for ``name``, found as slurmd finds it: by PATH unless it has a slash."""
    if "/" not in name:
        for folder in (path or "/usr/bin:/bin").split(":"):
            program = os.path.join(folder or ".", name)
            if os.path.isfile(program) and os.access(program, os.X_OK):
                return program
    return name


class Task(Record):
    """What is to be run, and by which backend."""

    step: str
    command: list[str]
    work: str
    grant: Grant | None
    backend: object  # a module of slurm_gpushare.backends
    settings: BackendPolicy | None
    nv: bool  # the container needs the node's NVIDIA driver
    folder: str = ""  # where its allocation in a pool is kept: the work folder, or one of its own in there
    place: Place | None = None  # where that allocation lies, None where the client finds out
    options: dict = {}  # noqa: RUF012 (never changed); what prolog found: of the launch record


def allocation_number(grant: Grant, step: str, environment: dict[str, str]) -> int:
    """Return which of its job's allocations on this node a task uses: of each step, task i the number i.

    Where the job has one, all share it. What the user makes of the variables leads to no number beyond the grant's.

    Raises
    ------
    RefusedError
        The step has more tasks on this node than the job has allocations.
    """
    if grant.tasks == 1 or step in OUTSIDE:
        return 0
    text = environment.get("SLURM_LOCALID", "0")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    count = max(number + 1, tasks_here(environment))
    if count > grant.tasks:
        raise RefusedError(
            f"step {step} has {count} tasks on this node, but the job has {grant.tasks} shares of GPUs here, one for "
            f"each task: start at most {grant.tasks} tasks on a node"
        )
    return number


def tasks_here(environment: dict[str, str]) -> int:
    """Return how many tasks the step has on this node, by SLURM_STEP_TASKS_PER_NODE such as ``2(x3),1``; or 0."""
    try:
        left = int(environment["SLURM_NODEID"])
        for item in environment["SLURM_STEP_TASKS_PER_NODE"].split(","):
            count, _, times = item.rstrip(")").partition("(x")
            left -= int(times or "1")
            if left < 0:
                return int(count)
    except (KeyError, ValueError):
        pass
    return 0


def task_of(
    record: LaunchRecord | None, step: str, command: list[str], work: str, policy, environment: dict[str, str]
) -> Task:
    """Return what is to be run, with the backend of its grant; the whole GPUs' where there is none.

    ``policy`` is called for the NodePolicy where it is needed.

    Raises
    ------
    RefusedError
        The step has more tasks than its job has allocations.
    BrokenInstallation
        The backend is not known on this node, or the record names no place for the task.
    """
    grant = None if record is None else record.grant
    backend = backends.find("gpu" if grant is None else grant.backend)
    settings, folder, place = None, work, None
    if backend.REMOTE:
        settings = policy().backends.get(grant.backend)
        if settings is None:
            raise BrokenInstallation(f"backend {grant.backend!r} is not in this node's policy: compile it again")
        number = allocation_number(grant, step, environment)
        if grant.tasks > 1:
            folder = os.path.join(work, str(number))
        if record.places:
            if number >= len(record.places):
                raise BrokenInstallation(f"the launch record names no place for allocation {number} of this node")
            place = record.places[number]
    # A pool's client brings the driver's libraries of its own, which those of the node would hide.
    nv = record is not None and bool(record.gpus) and not backend.REMOTE
    options = {} if record is None else record.options
    return Task(step, command, work, grant, backend, settings, nv, folder, place, options)


def variables_of(task: Task, environment: dict[str, str], present) -> dict[str, str]:
    """Return what the task must find in its environment by prolog's word; ``present`` is called for what it has."""
    given = dict(task.options.get("environment", ()))
    if "card_share" in task.options:
        from slurm_gpushare.node import frameworks  # only shares of a card that programs see whole need it

        tasks = tasks_here(environment) if task.grant.tasks == 1 else 1
        given.update(frameworks.variables(task.options["card_share"], task.grant.gpus, tasks, present))
    return given


def on_host(task: Task, environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the argv and the environment of a task outside a container."""
    argv = task.backend.task_argv(task.grant, task.settings, task.step, task.command, environment.get("TMPDIR"))
    given = task.backend.task_environment(task.folder, task.settings, task.place)
    if task.options:
        given.update(variables_of(task, environment, environment.get))
    for name in LISTS:
        users = environment.get(name)
        if users and name in given:
            # A step inherits what its batch script was given.
            inherited = (users + ":").startswith(given[name] + ":")
            given[name] = users if inherited else given[name] + ":" + users
    return argv, {**environment, **given}


def in_container(
    task: Task, request: ContainerRequest, environment: dict[str, str], policy: NodePolicy
) -> tuple[list[str], dict[str, str]]:
    """Return the argv and the environment of a task in a container, within the pool's client or around it.

    Raises
    ------
    RefusedError
        The policy does not allow the image or a mount, or the user cannot read it here.
    BrokenInstallation
        There is no container runtime on this node.
    """
    # Only a task in a container pays for these imports.
    from slurm_gpushare.container.image import identity, resolve_image
    from slurm_gpushare.container.mounts import INSIDE_FOLDER
    from slurm_gpushare.container.runtime import CLIENT_ENV, find_runtime, find_shield
    from slurm_gpushare.container.workdir import working_folder

    rules = policy.container
    runtime = find_runtime(rules.runtime)
    image, found = resolve_image(request.image, rules.images, rules.owners)
    first = task.options.get("image", {"asked": None})  # the job's, when it began
    if found is not None and first["asked"] == request.image and first != identity(found, request.image):
        raise RefusedError(
            f"--container-image: {request.image!r} is another image than when the job began: submit the job again"
        )
    if (request.writable == "yes") > rules.writable:
        raise RefusedError("--container-writable: the policy does not allow it here: leave it out")
    inside = task.backend.task_environment(task.folder, task.settings, task.place)
    mounts, checks = mounts_of(task, request, image, environment, policy, bool(inside))
    environment = runtime.forwarded(environment, request.env or rules.env)
    given = variables_of(task, environment, lambda name: runtime.inside(environment, name))
    if task.step in OUTSIDE:
        # There lies an srun that says what to do where the image has none.
        given["APPEND_PATH"] = INSIDE_FOLDER
    mount_home = request.mount_home == "yes" if request.mount_home else rules.mount_home
    cwd, hidden, words = working_folder(request.workdir or rules.workdir, mount_home, rules.mounts)
    settings = {
        "pid": rules.pid_namespace,
        "hidden": hidden,
        "writable": request.writable == "yes" if request.writable else rules.seems_writable,
    }
    before = [INSIDE_FOLDER + "/inside", *checks, *words, "--"]
    # A folder needs no helper, and Apptainer starts this one three times to ask for its version (1.4: 6 ms in all).
    shield = None if os.path.isdir(image) else find_shield(task.work if os.path.isdir(task.work) else None)
    if task.settings is not None and task.settings.client == "outside":
        argv = runtime.exec_argv(image, mounts, before + task.command, cwd, env_file=CLIENT_ENV, **settings)
        argv = task.backend.task_argv(task.grant, task.settings, task.step, argv, environment.get("TMPDIR"))
        return argv, {**runtime.around(runtime.environment(environment, given, shield)), **inside}
    tmpdir = runtime.inside(environment, "TMPDIR")
    argv = task.backend.task_argv(task.grant, task.settings, task.step, task.command, tmpdir)
    return (
        runtime.exec_argv(image, mounts, before + argv, cwd, nv=task.nv, **settings),
        runtime.environment(environment, {**inside, **given}, shield),
    )


def mounts_of(
    task: Task, request: ContainerRequest, image: str, environment: dict[str, str], policy: NodePolicy, work: bool
) -> tuple[list, list[str]]:
    """Return all mounts of a task's container, and the words by which its first program knows those of the user's.

    ``work``: the container needs the job's work folder. Raises RefusedError for what the policy does not allow.
    """
    from slurm_gpushare.container.mounts import (
        INSIDE_FOLDER,
        Mount,
        check_distinct,
        expectation,
        resolve_datasets,
        resolve_mounts,
    )
    from slurm_gpushare.container.runtime import INSIDE

    mounts = resolve_mounts(request.mounts, policy.container.mounts)
    mounts += resolve_datasets(request.datasets, policy.datasets)
    checks = [expectation(mount.found, mount.destination) for mount in mounts]
    mounts += [Mount(path, path, True) for path in task.backend.binds(task.settings)]
    if work:
        mounts.append(Mount(task.work, task.work, False))
    mounts += [Mount(path, path, False) for path in task.options.get("binds", ())]
    if task.step == "batch":
        # The spooled script lies in a folder that no image sees.
        mounts.append(Mount(task.command[0], task.command[0], True))
    if "PMIX_SERVER_TMPDIR" in environment:
        from slurm_gpushare.container.pmix import pmix_mount

        if (server := pmix_mount(environment, task.step)) is not None:
            mounts.append(server)
    mounts.append(Mount(INSIDE, INSIDE_FOLDER, True))
    if task.step in OUTSIDE and may_have_srun(image):
        places = dict.fromkeys((*SLURMS, os.path.realpath(FETCHED)))
        mounts += [Mount(path, path, True) for path in places if os.access(path, os.R_OK | os.X_OK)]
    check_distinct(mounts)
    return mounts, checks


def may_have_srun(image: str) -> bool:
    """Tell whether there may be an srun in the image: into a folder one can look."""
    return not os.path.isdir(image) or any(os.path.lexists(f"{image}/usr/{place}bin/srun") for place in ("", "local/"))


def own_environment() -> dict[str, str]:
    """Return the environment that this process was started with; Python itself may have set LC_CTYPE in its copy."""
    with open("/proc/self/environ", "rb") as stream:
        pairs = [os.fsdecode(item).partition("=") for item in stream.read().split(b"\0") if item]
    return {name: value for name, equals, value in pairs if equals}


def launch(argv: list[str], environment: dict[str, str], node_policy: str = paths.NODE_POLICY) -> None:
    """Become the task; returns only by raising GpushareError or OSError."""
    options, command = parse_arguments(argv)
    if "prefix" in options:
        # Batch scripts have it from Slurm; the container's first program names options, too.
        environment["SLURM_SPANK_GPUSHARE_PREFIX"] = options["prefix"]
    path = options["record"]
    try:
        record = read_record(path)
    except FileNotFoundError:
        record = None  # a job without anything of ours, whose step asks for a container
    if record is not None and record.uid != os.getuid():
        raise BrokenInstallation(f"{path} is of a job of uid {record.uid}, not of uid {os.getuid()}")
    if record is not None and record.refused is not None:
        raise Refused(record.refused, record.options.get("status", EXIT_REFUSED))
    cached: list[NodePolicy] = []

    def policy() -> NodePolicy:
        # A task on the host that needs no client has no need of the policy.
        if not cached:
            cached.append(read_node_policy(node_policy))
        return cached[0]

    work = "" if record is None else paths.work_dir(record.node, record.job_id)
    task = task_of(record, options["step"], command, work, policy, environment)
    request = container_of(record, options, task.step, policy)
    composed = []

    def compose() -> None:
        if request is None:
            composed.append(on_host(task, environment))
        else:
            composed.append(in_container(task, request, environment, policy()))

    task.backend.prepare(task.grant, task.settings, task.step, task.folder, environment, task.place, compose)
    if not composed:
        compose()
    execute(*composed[0])


class Refused(GpushareError):
    """Prolog found that no task of this job may run."""

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.exit_status = status


def execute(argv: list[str], environment: dict[str, str]) -> None:
    """Replace this process by ``argv``; raises GpushareError with status 126 or 127 when that fails."""
    program = find_program(argv[0], environment.get("PATH"))
    # Python ignores these two, and a program would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execve(program, argv, environment)
    except FileNotFoundError:
        hint = ": the interpreter that its first line names is missing" if os.path.exists(program) else " on this node"
        raise Refused(f"{argv[0]!r}: no such program{hint}", EXIT_NOT_FOUND) from None
    except OSError as error:
        raise Refused(f"{argv[0]!r}: cannot be executed: {error.strerror}", EXIT_CANNOT_EXECUTE) from None


def main(node_policy: str = paths.NODE_POLICY) -> None:
    """Run as a task's first program; every failure is one line and an exit status of errors.py."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        launch(sys.argv[1:], own_environment(), node_policy)
    except GpushareError as error:
        status, text = error.exit_status, str(error)
    except OSError as error:
        status, text = EXIT_BROKEN, f"{error.filename or 'launcher'}: {error.strerror}"
    prefix = next((word[9:] for word in sys.argv[1:5] if word.startswith("--prefix=")), "")
    os.write(2, ("gpushare: " + " ".join(spelled(text, prefix).split()) + "\n").encode(errors="backslashreplace"))
    os._exit(status)
