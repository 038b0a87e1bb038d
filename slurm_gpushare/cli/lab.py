"""``gpushare lab``: a whole Slurm cluster in a folder."""

import contextlib
import json
import sys
from collections.abc import Iterator

import click

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.params import PLACEMENTS, SLURM_VERSIONS


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Turn a LabError into the last lines of its log and its one line, and exit with its status."""
    try:
        yield
    except LabError as error:
        for line in getattr(error, "tail", []):
            click.echo(f"  | {line}", err=True)
        click.echo(f"gpushare: {error}", err=True)
        sys.exit(error.exit_status)


NAME = click.option("--name", default="lab", show_default=True, help="Which lab.")
SLURM = click.option(
    "--slurm",
    type=click.Choice(SLURM_VERSIONS),
    default=SLURM_VERSIONS[0],
    show_default=True,
    help="Which version of Slurm.",
)


@click.group(help="A whole Slurm cluster in a folder of this machine: real daemons, stand-in GPUs.")
def lab() -> None:
    pass


@lab.command(help="Bring a lab up; builds its root file system when there is none for this recipe.")
@NAME
@SLURM
@click.option("--nodes", default=2, show_default=True, help="Nodes with GPUs of their own.")
@click.option("--gpus", default=2, show_default=True, help="GPUs in each of them.")
@click.option("--clients", default=2, show_default=True, help="Nodes without, which use the pool.")
@click.option("--pool-servers", default=1, show_default=True, help="Servers of the remote pool.")
@click.option("--pool-gpus", default=1, show_default=True, help="GPUs in each of them.")
@click.option(
    "--pool-placement",
    type=click.Choice(PLACEMENTS),
    default=PLACEMENTS[0],
    show_default=True,
    help="Who places a share on the pool's GPUs: its client, job_submit, or Slurm (from 25.05 on).",
)
@click.option(
    "--pool-auto-release", type=float, default=600, show_default=True, help="Seconds until an idle allocation ends."
)
@click.option("--pool-wait", default=1800, show_default=True, help="Seconds that the pool's client waits for room.")
@click.option(
    "--pool-on-disconnect",
    type=click.Choice(["free", "hold"]),
    default="free",
    show_default=True,
    help="What the pool does with the allocation of a client that vanished.",
)
@click.option("--lupine", is_flag=True, help="With a LUPINE server of 2 GPUs, and a node and a partition that use it.")
@click.option("--mps", is_flag=True, help="With a node of 2 GPUs and a partition that shares them by MPS.")
@click.option("--mig", is_flag=True, help="With a node whose GPU is parted by MIG, and a partition.")
@click.option("--vgpu", is_flag=True, help="With a node that has an NVIDIA vGPU, and a partition.")
@click.option("--hami", is_flag=True, help="With a node of 2 GPUs and a partition that shares them by HAMi-core.")
@click.option("--bare", is_flag=True, help="A site without this project: its Slurm and its GPUs.")
@click.option("--samples", is_flag=True, help="With the data set and the image of the example jobs.")
@click.option("--tensorflow", is_flag=True, help="With the data set and the image of the TensorFlow jobs.")
def up(name: str, samples: bool, tensorflow: bool, **settings: object) -> None:
    from slurm_gpushare.lab import cluster
    from slurm_gpushare.lab.params import LabParams
    from slurm_gpushare.lab.progress import Progress

    with _one_line():
        params = LabParams(name=name, **settings)
        progress = Progress(click.echo)
        started = cluster.up(params, progress)
        if samples or tensorflow:
            from slurm_gpushare.lab.samples import DIGITS, TENSORFLOW, put_samples

            for image in [*[DIGITS] * samples, *[TENSORFLOW] * tensorflow]:
                put_samples(name, progress, image)
        click.echo(f"lab {name} is {'up' if started else 'up already'}")


@lab.command(help="Stop a lab and remove its folder; nothing of it stays.")
@NAME
def down(name: str) -> None:
    from slurm_gpushare.lab import cluster

    with _one_line():
        click.echo(f"lab {name} is down" if cluster.down(name) else f"lab {name} was not up")


@lab.command(help="Build what the cache lacks: the labs' root file system and the base image of the example jobs.")
@SLURM
def build(slurm: str) -> None:
    from slurm_gpushare.lab import cluster, host, rootfs
    from slurm_gpushare.lab.progress import Progress
    from slurm_gpushare.lab.recipe import IMAGE

    with _one_line():
        progress = Progress(click.echo)
        click.echo(cluster.build(progress, slurm))
        click.echo(rootfs.ensure(host.cache_dir(), IMAGE, progress))


@lab.command(help="Stop every lab; remove the run folder and the cache folder.")
def clean() -> None:
    from slurm_gpushare.lab import cluster

    with _one_line():
        cluster.clean()


@lab.command(help="Tell how a lab is, and which folders of this machine labs use.")
@NAME
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(name: str, form: str) -> None:
    from slurm_gpushare.lab import cluster

    with _one_line():
        data = cluster.status(name)
    if form == "json":
        click.echo(json.dumps(data))
        return
    for key, value in data.items():
        if key == "settings" and value:
            value = " ".join(f"{name}={setting}" for name, setting in value.items() if name != "name")
        click.echo(f"{key:9} {'-' if value is None else value}")


@lab.command(
    name="exec",
    help="Run a command in a lab, as a user, with its streams and exit status.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@NAME
@click.option("--user", default="root", show_default=True, help="Who runs it: root, alice or bob.")
@click.option("--node", help="Run it on this node instead of the login view.")
@click.option("--cwd", help="In this folder of the lab; the user's home by default.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, user: str, node: str | None, cwd: str | None, command: tuple[str, ...]) -> None:
    from slurm_gpushare.lab import enter, host, state

    with _one_line():
        host.require_root()
        current = state.require_up(host.run_dir(), name)
        status = enter.run_inside(current, list(command), user, node, cwd)
    sys.exit(status)


if __name__ == "__main__":
    lab()
