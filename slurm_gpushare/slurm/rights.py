"""Who may see whose jobs, as slurmdbd has it: AdminLevel, coordinators of accounts, and PrivateData."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from slurm_gpushare.slurm.command import SlurmError, run_slurm

TIMEOUT = 10.0  # seconds
SEE_ALL = ("Operator", "Administrator")

_SETTING = re.compile(r"^(\w+)\s*=\s*(.*?)\s*$", re.MULTILINE)
_DBD = "SlurmDBD configuration:"
_CONF = re.compile(r"(\w+)\s*=\s*(\"[^\"]*\"|\S+)")
_YES = ("yes", "up", "true", "1")  # as slurmdbd reads its file


@dataclass(frozen=True)
class Person:
    """One user of Slurm's."""

    level: str = "None"  # None, Operator or Administrator
    coordinates: tuple[str, ...] = ()  # accounts, those below them included

    @property
    def sees_all(self) -> bool:
        """Whether slurmdbd tells that user all jobs."""
        return self.level in SEE_ALL


@dataclass(frozen=True)
class Privacy:
    """What the configuration says of privacy."""

    slurm: frozenset[str]  # the words of slurm.conf's PrivateData; jobs hides from squeue ...
    slurmdbd: frozenset[str]  # ... and in slurmdbd.conf from sacct, usage from sreport
    coordinators: bool = True  # false: DisableCoordDBD, where being one means nothing to slurmdbd


def person_argv(name: str) -> list[str]:
    """Return the argv that asks sacctmgr for one user."""
    where = ["where", f"name={name}"]
    return ["sacctmgr", "-nP", "show", "user", "withcoord", *where, "format=User,AdminLevel,Coordinators"]


def parse_person(text: str, name: str) -> Person | None:
    """Read what `person_argv` has printed: NAME|LEVEL|ACCOUNT,… ; None where Slurm has no such user.

    Raises
    ------
    SlurmError
        It is not readable.
    """
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != 3:
            raise SlurmError(f"sacctmgr show user: {line!r} is not a name, a level and accounts")
        if fields[0] == name:
            return Person(fields[1], tuple(account for account in fields[2].split(",") if account))
    return None


def fetch_person(name: str) -> Person | None:
    """Ask slurmdbd for one user; raises SlurmError."""
    return parse_person(run_slurm(person_argv(name), TIMEOUT), name)


def parse_privacy(text: str, read: Callable[[str], str]) -> Privacy:
    """Read what `sacctmgr show config` has printed: slurm.conf's settings, then those of slurmdbd.

    sacctmgr 26.05 prints its own in the place of slurmdbd's (its StorageType is accounting_storage/slurmdbd, which no
    slurmdbd has). Then ``read`` is given the path of slurmdbd.conf.

    Raises
    ------
    SlurmError
        One of the two says nothing of PrivateData: what is not known hides nothing.
    """
    ours, found, theirs = text.partition(_DBD)
    if not found:
        raise SlurmError("sacctmgr show config: tells nothing of slurmdbd")
    client, dbd = (dict(_SETTING.findall(part)) for part in (ours, theirs))
    if dbd.get("StorageType") == "accounting_storage/slurmdbd":
        dbd = _of_file(dbd.get("SLURMDBD_CONF", ""), read)
    for part, name in ((client, "slurm.conf"), (dbd, "slurmdbd.conf")):
        if "PrivateData" not in part:
            raise SlurmError(f"sacctmgr show config: names no PrivateData of {name}")
    return Privacy(
        *(frozenset(re.split(r"[,\s]+", part["PrivateData"].lower())) - {"none", ""} for part in (client, dbd)),
        coordinators=dbd.get("DisableCoordDBD", "no").lower() not in _YES,
    )


def _of_file(path: str, read: Callable[[str], str]) -> dict[str, str]:
    """Return what slurmdbd.conf says of privacy; raises SlurmError where that is not to be known from it."""
    try:
        lines = [line.partition("#")[0] for line in read(path).splitlines()]
    except OSError as error:
        raise SlurmError(
            f"sacctmgr of this version does not tell slurmdbd's PrivateData, and {path or 'slurmdbd.conf'} cannot be "
            f"read: {error.strerror}: run gpushare serve where slurmdbd runs"
        ) from None
    if any(line.lower().split()[:1] == ["include"] for line in lines):
        raise SlurmError(f"{path}: has an Include: write PrivateData and DisableCoordDBD into the file itself")
    found = {"privatedata": "none", "disablecoorddbd": "no"}
    for name, value in (pair for line in lines for pair in _CONF.findall(line)):
        if name.lower() in found:
            found[name.lower()] = value.strip('"')
    return {"PrivateData": found["privatedata"], "DisableCoordDBD": found["disablecoorddbd"]}


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def fetch_privacy() -> Privacy:
    """Ask slurmdbd what is private; raises SlurmError."""
    return parse_privacy(run_slurm(["sacctmgr", "-nP", "show", "config"], TIMEOUT), _read)


def fetch_known(kind: str, names: Iterable[str]) -> set[str]:
    """Return those of ``names`` that Slurm has of ``kind``, "user" or "account", if in small letters; SlurmError."""
    wanted = set(names)
    argv = ["sacctmgr", "-nP", "show", kind, "where", f"name={','.join(sorted(wanted))}", f"format={kind}"]
    listed = {name.lower() for name in run_slurm(argv, TIMEOUT).splitlines()}
    return {name for name in wanted if name.lower() in listed}
