"""What `gpushare pool sync` changes: which licences Slurm must have, and keep from jobs. Pure.

A remote licence of which something must not be given to jobs keeps its count; its LastConsumed says that so much is in
use outside of Slurm. slurmctld takes that at once: it withholds LastConsumed less what its own jobs have in use at that
moment, until LastConsumed is set again (tried on 24.11 and 26.05). Jobs that need the licence wait with the reason
Licenses; running ones keep theirs. With a count of 0 instead, Slurm refuses new jobs that name the licence, and 26.05
puts the pending ones on hold for good when slurmctld restarts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from slurm_gpushare.policy.schema import Bitfusion, Server
from slurm_gpushare.pool.compare import UNLISTED, UP, PoolState, label, licence_names, licence_of
from slurm_gpushare.slurm.licences import Licence


@dataclass(frozen=True)
class Act:
    """One command of Slurm's, and why."""

    argv: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Wanted:
    """How much of one licence is to be kept from jobs."""

    licence: str
    count: int  # what there is of it when all is well
    withheld: int | None  # None: as it is
    why: str


def wanted(pool: Bitfusion, slices: int, states: Sequence[PoolState], licences: dict[str, Licence]) -> list[Wanted]:
    """Return what Slurm should have of each licence, after several looks at the pool.

    What was seen well in one of the looks is well: a server or GPU is away, and an allocation not Slurm's, only where
    all looks agree.
    """
    found, kept, reasons, unknown = [], 0, [], False
    for server in pool.servers:
        for gpu in range(server.gpus):
            want = _of_gpu(server, gpu, slices, states)
            found.append(want)
            kept, unknown = kept + (want.withheld or 0), unknown or want.withheld is None
            reasons += [want.why] if want.withheld and want.why not in reasons else []
    if pool.placement != "flat":
        return found
    name = pool.licence
    excess = min((state.excess.get(name, 0) for state in states), default=0)
    if excess and name in licences and licences[name].remote:
        kept += excess
        reasons.append(_excess_text("the pool"))
    count = licence_names(pool)[name] * slices
    return [Wanted(name, count, None if unknown else min(kept, count), "; ".join(reasons) or "the whole pool answers")]


def _of_gpu(server: Server, gpu: int, slices: int, states: Sequence[PoolState]) -> Wanted:
    licence = licence_of(server, gpu)
    seen = [(row, state) for state in states for row in state.gpus if (row.address, row.gpu) == (server.address, gpu)]
    there = [state for row, state in seen if row.pool_used is not None]
    conditions = {row.state for row, _ in seen}
    if there:
        if excess := min(state.excess.get(licence, 0) for state in there):
            return Wanted(licence, slices, min(excess, slices), _excess_text(f"GPU {gpu} of {label(server)}"))
        return Wanted(licence, slices, 0, f"{label(server)} has its GPU {gpu}")
    if UNLISTED in conditions:
        return Wanted(licence, slices, None, f"the client here does not list {label(server)}")
    if UP in conditions:
        return Wanted(licence, slices, slices, f"{label(server)} has no GPU {gpu} now")
    return Wanted(licence, slices, slices, f"{label(server)} does not answer")


def _excess_text(what: str) -> str:
    return f"{what} is in use by what no job of Slurm's holds"


def acts(wants: Sequence[Wanted], licences: dict[str, Licence], cluster: str) -> tuple[list[Act], list[str]]:
    """Return the commands that make Slurm's licences what they should be, and what only an administrator can do."""
    todo, left = [], []
    for want in wants:
        licence = licences.get(want.licence)
        name, mark, server = want.licence.partition("@")
        if licence is None and mark:
            argv = ("sacctmgr", "-i", "add", "resource", f"name={name}", f"server={server}", "type=license")
            argv = (*argv, f"count={want.count}", "allowed=100", f"cluster={cluster}")
            todo.append(Act(argv, "Slurm has none of them"))
        elif licence is None or not licence.remote:
            right = want.count - (want.withheld or 0)
            if licence is None or (licence.total != right and want.withheld is not None):
                has = "has none" if licence is None else f"counts {licence.total}"
                left.append(
                    f"licence {want.licence}: Slurm {has}, {right} are there ({want.why}): slurm.conf keeps it: write "
                    f"Licenses={want.licence}:{right} there, then `scontrol reconfigure`; of a remote licence, "
                    f"{name}@SERVER, this command does it"
                )
        else:
            todo += _of_remote(want, licence)
    return todo, left


def _of_remote(want: Wanted, licence: Licence) -> list[Act]:
    name, _, server = want.licence.partition("@")
    modify = ("sacctmgr", "-i", "modify", "resource", "where", f"name={name}", f"server={server}", "set")
    if licence.total != want.count:
        return [Act((*modify, f"count={want.count}"), f"slurmctld counts {licence.total}")]
    if want.withheld is None or licence.withheld == want.withheld:
        return []
    if want.withheld == want.count:
        if licence.withheld >= want.count:
            return []
        # Twice, so that none is left whatever the jobs that still hold some give back.
        return [Act((*modify, f"lastconsumed={2 * want.count}"), want.why)]
    consumed = licence.used + want.withheld if want.withheld else 0
    return [Act((*modify, f"lastconsumed={consumed}"), want.why)]
