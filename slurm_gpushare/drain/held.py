"""All that is out of service, asked of Slurm."""

from slurm_gpushare.drain import nodes, servers
from slurm_gpushare.drain.hold import Hold
from slurm_gpushare.slurm import config
from slurm_gpushare.status import jobs


def fetch_held() -> list[Hold]:
    """Return the servers, then the GPUs of nodes, that are out of service, by name; raises SlurmError."""
    held = sorted(servers.fetch_holds().values(), key=lambda hold: hold.target)
    there = jobs.fetch_jobs() if held else []
    gpus = (each.hold for each in nodes.fetch_holders(config.slurm_user()) if each.in_place)
    return [*(servers.with_jobs(hold, there) for hold in held), *sorted(gpus, key=lambda hold: hold.target)]
