"""Runtimes: Apptainer, and the versions of Singularity, which differ by little.

Standard library only and few imports: the launcher runs for every task.
"""

import os

from slurm_gpushare.container.mounts import Mount, bind_option, mount_option
from slurm_gpushare.errors import BrokenInstallation, RefusedError
from slurm_gpushare.paths import PREFIX

SEARCH = ("/usr/local/bin", "/usr/bin", "/bin", "/opt/apptainer/bin", "/opt/singularity/bin")

# Slurm sends SIGTERM to every process of a step, so also to the helper that serves a SIF file: it would unmount the
# image under the program. In this folder stands a helper of the same name that ignores SIGTERM.
SHIELD = PREFIX + "/libexec/shield"
SHIELDED = "/usr/bin/squashfuse_ll"

# What a program that starts the runtime (a pool's client) sets for the runtime's container.
CLIENT_ENV = PREFIX + "/libexec/client.env"
PRELOADS = ("LD_LIBRARY_PATH", "LD_PRELOAD")

# What a user may set for the runtime itself; everything else of that form was left by an outer container, or would add
# to what the launcher has checked (APPTAINER_BIND, SINGULARITY_MOUNT, ...).
FOLDERS = ("APPTAINER_TMPDIR", "SINGULARITY_TMPDIR", "APPTAINER_CACHEDIR", "SINGULARITY_CACHEDIR")
LOGINS = tuple(
    f"{name}_DOCKER_{word}" for name in ("APPTAINER", "SINGULARITY") for word in ("USERNAME", "PASSWORD")
)  # of a registry, for docker:// and oras://

# The folder with the container's first program.
INSIDE = PREFIX + "/libexec/inside"

# What the runtime itself sets in a container, whatever it is told.
FIXED = ("HOME", "PWD", "UID", "EUID", "GID", "IFS", "OPTIND")


class Apptainer:
    """Apptainer 1.0 or newer."""

    names = ("apptainer",)
    environment_prefix = "APPTAINERENV_"

    def __init__(self, program: str):
        self.program = program

    def bind_words(self, mount: Mount) -> list[str]:
        """Return the words by which the runtime mounts ``mount``; raises RefusedError for what cannot be written."""
        return ["--mount", mount_option(mount)]

    def exec_argv(
        self,
        image: str,
        mounts: list[Mount],
        command: list[str],
        cwd: str,
        nv: bool = False,
        pid: bool = True,
        env_file: str | None = None,
        hidden: tuple[str, ...] = (),
        writable: bool = False,
    ) -> list[str]:
        """Return the argv that runs ``command`` in ``image``.

        ``cwd`` is bound by the runtime itself and must then be there: without --pwd it would go elsewhere silently.
        ``pid``: a pid namespace of its own, so that nothing outlives the command. ``nv``: the node's NVIDIA driver.
        ``env_file``: variables for the container, in which $NAME is that of the runtime's own environment.
        ``hidden``: of home and cwd, what the runtime is not to mount. ``writable``: the image seems writable, and what
        is written is gone at the command's end.
        """
        argv = [self.program, "--quiet", "exec"]
        if pid:
            argv.append("--pid")
        if nv:
            argv.append("--nv")
        if writable:
            argv.append("--writable-tmpfs")
        if hidden:
            argv += ["--no-mount", ",".join(hidden)]
        if env_file:
            argv += ["--env-file", env_file]
        argv += ["--pwd", cwd]
        for mount in mounts:
            argv += self.bind_words(mount)
        return argv + [image] + command

    def environment(self, environment: dict[str, str], inside: dict[str, str], shield: str | None) -> dict[str, str]:
        """Return the environment for the runtime's own process.

        An outer container leaves APPTAINER_* and SINGULARITY_* behind, which are input to the next one (its binds may
        not exist here), so they are dropped; APPTAINERENV_* and SINGULARITYENV_* are the user's. ``inside`` is what
        the container must have whatever the user set; its LD_LIBRARY_PATH comes before that of the user or the image,
        which the runtime's script in the container reads there, and its LD_PRELOAD before the user's for the container.
        ``shield`` is a folder to search first for helpers.
        """
        kept = {
            name: value
            for name, value in environment.items()
            if not name.startswith(("APPTAINER_", "SINGULARITY_"))
            or name in LOGINS
            or (name in FOLDERS and os.path.isdir(value))
        }
        for name, value in inside.items():
            users = [kept.pop(prefix + name, "") for prefix in ("APPTAINERENV_", "SINGULARITYENV_")]
            after = users[0] or users[1]
            if name == "LD_LIBRARY_PATH":
                value += ":" + after if after else "${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
            elif name == "LD_PRELOAD" and after:
                value += ":" + after
            elif name == "APPEND_PATH" and after:
                value = after + ":" + value
            kept[self.environment_prefix + name] = value
        if shield:
            # The container's PATH is the image's own, so this reaches nobody but the runtime.
            kept["PATH"] = shield + ":" + kept.get("PATH", "/usr/bin:/bin")
        return kept

    def forwarded(self, environment: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
        """Return ``environment`` with the variables ``names`` as the container's own, whatever its image sets.

        The runtime's script in the container evaluates such a value as a shell does, so it is written for that.

        Raises
        ------
        RefusedError
            A name is none, or the runtime does not let it be set.
        """
        given = dict(environment)
        for name in names:
            if not name.isascii() or not name.isidentifier():
                raise RefusedError(f"--container-env: {name!r} is not the name of a variable")
            if name in FIXED or name.startswith(("APPTAINER", "SINGULARITY")):
                raise RefusedError(f"--container-env: {name!r} is the runtime's own in a container: leave it out")
            if name in environment:
                for prefix in ("APPTAINERENV_", "SINGULARITYENV_"):
                    given.pop(prefix + name, None)
                value = environment[name]
                for special in "\\$`":
                    value = value.replace(special, "\\" + special)
                given[self.environment_prefix + name] = value
        return given

    def around(self, environment: dict[str, str]) -> dict[str, str]:
        """Return ``environment`` for a client that starts the runtime: what it sets then reaches the container.

        LD_LIBRARY_PATH of the host never enters a container, but what the client sets, CLIENT_ENV hands on, with what
        it found; the user's own words for the container would hide it.
        """
        hidden = {prefix + name for prefix in ("APPTAINERENV_", "SINGULARITYENV_") for name in PRELOADS}
        return {name: text for name, text in environment.items() if name not in hidden and name != "LD_LIBRARY_PATH"}

    def inside(self, environment: dict[str, str], name: str) -> str | None:
        """Return the value that ``name`` would have in the container, None when it would be unset there."""
        for key in ("APPTAINERENV_" + name, "SINGULARITYENV_" + name, name):
            if key in environment:
                return environment[key]
        return None


class Singularity(Apptainer):
    """SingularityCE 3.9 or newer."""

    names = ("singularity",)
    environment_prefix = "SINGULARITYENV_"


class OldSingularity(Singularity):
    """Singularity 3.7 and 3.8, which have no --mount; before 3.7 there was no --no-mount either."""

    def bind_words(self, mount: Mount) -> list[str]:
        return ["--bind", bind_option(mount)]


def find_runtime(wanted: str, search: tuple[str, ...] = SEARCH) -> Apptainer:
    """Return the runtime that the policy names: auto, apptainer, singularity, or a program's path.

    Raises
    ------
    BrokenInstallation
        None is installed on this node, or it is too old.
    """
    if wanted.startswith("/"):
        programs = [wanted]
    else:
        names = ("apptainer", "singularity") if wanted == "auto" else (wanted,)
        programs = [os.path.join(folder, name) for name in names for folder in search]
    for program in programs:
        if os.access(program, os.X_OK):
            # Apptainer installs a link named singularity; of the others only they themselves can tell the version.
            real = os.path.basename(os.path.realpath(program))
            return Apptainer(program) if real in Apptainer.names else runtime_of(program, version_of(program))
    where = wanted if wanted.startswith("/") else f"({wanted}) in {', '.join(search)}"
    raise BrokenInstallation(f"no container runtime {where} on this node: install apptainer")


def runtime_of(program: str, version: str) -> Apptainer:
    """Return the runtime whose ``--version`` is ``version``, as ``singularity-ce version 3.11.4-jammy``.

    Raises
    ------
    BrokenInstallation
        It is older than 3.7, or not a runtime that is known here.
    """
    name, _, number = version.rpartition(" version ")
    major, _, rest = number.partition(".")
    minor = rest.partition(".")[0]
    if name == "apptainer" and major.isdigit():
        return Apptainer(program)
    if name in ("singularity", "singularity-ce", "singularity-pro") and major.isdigit() and minor.isdigit():
        release = (int(major), int(minor))
        if release >= (3, 9):
            return Singularity(program)
        if release >= (3, 7):
            return OldSingularity(program)
    raise BrokenInstallation(
        f"{program} is {version or 'no runtime'!r}: containers need apptainer, or singularity from 3.7 on"
    )


def version_of(program: str) -> str:
    """Return what ``program --version`` prints in its first line, "" when it cannot be asked."""
    reading, writing = os.pipe()
    try:
        child = os.posix_spawn(
            program,
            [program, "--version"],
            {"PATH": "/usr/bin:/bin"},
            file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_CLOSE, reading)],
        )
    except OSError:
        os.close(reading)
        return ""
    finally:
        os.close(writing)
    with open(reading, errors="replace") as stream:
        text = stream.read(4096)
    os.waitpid(child, 0)
    return text.split("\n")[0].strip()


def find_shield(work: str | None, shield: str = SHIELD, shielded: str = SHIELDED) -> str | None:
    """Return the folder of the helper that bears SIGTERM, None where it or what it stands for is missing.

    In the job's folder ``work``, if there is one, it is a link, so that the helper knows whose it is by its own name.
    """
    helper = os.path.join(shield, "squashfuse_ll")
    if not (os.path.exists(shielded) and os.access(helper, os.X_OK)):
        return None
    if work is None:
        return shield
    own = os.path.join(work, "shield")
    for make in (lambda: os.mkdir(own, 0o700), lambda: os.symlink(helper, os.path.join(own, "squashfuse_ll"))):
        try:
            make()
        except FileExistsError:
            pass  # made by another task of the job
    return own
