"""The folder by which the tasks of a step reach Slurm's PMIx server.

Standard library only and few imports: the launcher runs for every task.
"""

import os

from slurm_gpushare.container.mounts import Mount, open_source
from slurm_gpushare.errors import RefusedError


def pmix_mount(environment: dict[str, str], step: str) -> Mount | None:
    """Return the mount of the step's folder, None for a step without PMIx.

    The variable is one that anybody may set, so it is believed only of a folder that slurmstepd made: of this user's,
    by the step's name (src/plugins/mpi/pmix/pmixp_info.c), in a folder that only root or Slurm's user may write to.
    """
    path = environment.get("PMIX_SERVER_TMPDIR", "").rstrip("/")
    if os.path.basename(path) != f"pmix.{environment.get('SLURM_JOB_ID')}.{step}":
        return None
    try:
        found = open_source(path, "PMIx")
        above = os.stat(os.path.join(found.path, ".."))
    except (RefusedError, OSError):
        return None
    ours = found.folder and found.path.endswith("/" + os.path.basename(path)) and found.uid == os.getuid()
    if not ours or above.st_uid == os.getuid() or above.st_mode & 0o022:
        return None
    return Mount(found.path, path, False)
