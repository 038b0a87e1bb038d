"""Single packages of Debian, unpacked into a folder: the host's own packages, lists and cache are not touched."""

import os
import subprocess
from pathlib import Path

from slurm_gpushare.lab import mirror


def unpack(package: str, suite: str, work: Path) -> None:
    """Fetch ``package`` of ``suite`` from the host's own mirror and unpack it into ``work``/tree.

    apt has its own folders and configuration, in ``work``. Raises LabError when the host is not Debian,
    CalledProcessError when its mirror does not answer.
    """
    (work / "sources.list").write_text(mirror.deb_line(mirror.read_host(), suite, stale=True) + "\n")
    (work / "status").touch()
    (work / "apt.conf").write_text(
        "\n".join(
            [
                # Hooks in the host's own configuration may empty the host's cache.
                'Dir::Etc::main "/dev/null";',
                'Dir::Etc::parts "/dev/null";',
                *mirror.host_transport_options(),
                f'Dir::Etc::sourcelist "{work}/sources.list";',
                'Dir::Etc::sourceparts "/dev/null";',
                'Dir::Etc::preferences "/dev/null";',
                'Dir::Etc::preferencesparts "/dev/null";',
                f'Dir::State "{work}/state";',
                f'Dir::State::status "{work}/status";',
                f'Dir::Cache "{work}/cache";',
                'APT::Sandbox::User "root";',
                'Acquire::Languages "none";',
            ]
        )
        + "\n"
    )
    (work / "state" / "lists" / "partial").mkdir(parents=True)
    (work / "cache" / "archives" / "partial").mkdir(parents=True)
    _run(["apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update"], work)
    _run(["apt-get", "-qq", "download", package], work)
    (found,) = work.glob(f"{package}_*.deb")
    _run(["dpkg-deb", "--extract", str(found), str(work / "tree")], work)


def _run(argv: list[str], work: Path) -> None:
    environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf"), "LC_ALL": "C"}
    subprocess.run(argv, cwd=work, env=environment, capture_output=True, text=True, check=True)
