"""What is said of a job that holds too much memory: to its user, and in accounting. Pure."""

from slurm_gpushare.watch.judge import Holding

# Reports take Slurm's system comment for a reason of ours by this; they import slurm/sacct.py alone.
SAYS = "gpushare: "
_GIB = 1 << 30


def told(holding: Holding, node: str, ended: bool) -> str:
    """Return the line that the job's user reads."""
    need = f"--gpu-mem={-(-(holding.held or 0) // _GIB)}G"
    what = "the job is ended now" if ended else "others may fail for it"
    return f"{SAYS}{_fact(holding, node)}: {what}; ask for {need}, or use less"


def reason(holding: Holding, node: str) -> str:
    """Return why the job was ended, as sacct and reports show it; nothing that sacctmgr reads as its own syntax."""
    return f"{SAYS}ended by the memory watcher: {_fact(holding, node)}"


def _fact(holding: Holding, node: str) -> str:
    held, share = _amounts(holding.held or 0, holding.share)
    return f"job {holding.run[0]} holds {held} GiB of GPU {holding.gpu} of {node} and its share is {share} GiB"


def _amounts(held: int, share: int) -> tuple[str, str]:
    """Return both in GiB, with as many digits as it takes to see the difference."""
    for digits in (1, 2, 3):
        texts = f"{held / _GIB:.{digits}f}", f"{share / _GIB:.{digits}f}"
        if texts[0] != texts[1]:
            break
    return texts
