"""Runtimes: Apptainer, and SingularityCE which differs by little.

Standard library only and few imports: the launcher runs for every task.
"""

import os

from slurm_gpushare.container.mounts import Mount, mount_option
from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.paths import PREFIX

SEARCH = ("/usr/local/bin", "/usr/bin", "/bin", "/opt/apptainer/bin", "/opt/singularity/bin")

# Slurm sends SIGTERM to every process of a step, so also to the helper that serves a SIF file: it would unmount the
# image under the program. In this folder stands a helper of the same name that ignores SIGTERM.
SHIELD = PREFIX + "/libexec/shield"
SHIELDED = "/usr/bin/squashfuse_ll"

# What a program that starts the runtime (a pool's client) sets for the runtime's container.
CLIENT_ENV = PREFIX + "/libexec/client.env"
PRELOADS = ("LD_LIBRARY_PATH", "LD_PRELOAD")

# What a user may set for the runtime itself; everything else of that form was left by an outer container.
KEPT = ("APPTAINER_TMPDIR", "SINGULARITY_TMPDIR")


class Apptainer:
    """Apptainer 1.0 or newer."""

    names = ("apptainer",)
    environment_prefix = "APPTAINERENV_"

    def __init__(self, program: str):
        self.program = program

    def exec_argv(
        self,
        image: str,
        mounts: list[Mount],
        command: list[str],
        cwd: str,
        nv: bool = False,
        pid: bool = True,
        env_file: str | None = None,
    ) -> list[str]:
        """Return the argv that runs ``command`` in ``image``.

        ``cwd`` is bound by the runtime itself and must then be there: without --pwd it would go elsewhere silently.
        ``pid``: a pid namespace of its own, so that nothing outlives the command. ``nv``: the node's NVIDIA driver.
        ``env_file``: variables for the container, in which $NAME is that of the runtime's own environment.
        """
        argv = [self.program, "--quiet", "exec"]
        if pid:
            argv.append("--pid")
        if nv:
            argv.append("--nv")
        if env_file:
            argv += ["--env-file", env_file]
        argv += ["--pwd", cwd]
        for mount in mounts:
            argv += ["--mount", mount_option(mount)]
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
            if not name.startswith(("APPTAINER_", "SINGULARITY_")) or (name in KEPT and os.path.isdir(value))
        }
        for name, value in inside.items():
            users = [kept.pop(prefix + name, "") for prefix in ("APPTAINERENV_", "SINGULARITYENV_")]
            after = users[0] or users[1]
            if name == "LD_LIBRARY_PATH":
                value += ":" + after if after else "${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
            elif name == "LD_PRELOAD" and after:
                value += ":" + after
            kept[self.environment_prefix + name] = value
        if shield:
            # The container's PATH is the image's own, so this reaches nobody but the runtime.
            kept["PATH"] = shield + ":" + kept.get("PATH", "/usr/bin:/bin")
        return kept

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
    """SingularityCE 3.9 or newer; Apptainer installs a link of this name too."""

    names = ("singularity",)
    environment_prefix = "SINGULARITYENV_"


def find_runtime(wanted: str, search: tuple[str, ...] = SEARCH) -> Apptainer:
    """Return the runtime that the policy names (auto, apptainer or singularity).

    Raises
    ------
    BrokenInstallation
        None is installed on this node.
    """
    kinds = [kind for kind in (Apptainer, Singularity) if wanted in ("auto", *kind.names)]
    for kind in kinds:
        for name in kind.names:
            for folder in search:
                program = os.path.join(folder, name)
                if os.access(program, os.X_OK):
                    # A link named singularity may lead to Apptainer.
                    real = os.path.basename(os.path.realpath(program))
                    return Apptainer(program) if real in Apptainer.names else kind(program)
    raise BrokenInstallation(f"no container runtime ({wanted}) on this node in {', '.join(search)}: install apptainer")


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
