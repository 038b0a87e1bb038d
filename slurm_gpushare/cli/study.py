"""``gpushare study``: measure what sharing a GPU gains, through Slurm or on one machine."""

import shlex
import sys
from datetime import date
from pathlib import Path

import click

from slurm_gpushare.cli.output import format_option, print_rows
from slurm_gpushare.errors import GpushareError
from slurm_gpushare.study import plan


@click.command(short_help="Measure what sharing a GPU gains.")
@click.option("--engine", type=click.Choice(plan.ENGINES), default="slurm", show_default=True)
@click.option("--models", default=",".join(plan.MODELS), show_default=True, help="What each job trains.")
@click.option("--jobs", default=4, show_default=True, help="Jobs that share the GPU, each with as much of it.")
@click.option("--repeat", default=5, show_default=True, help="Rounds that count.")
@click.option("--burn-in", default=1, show_default=True, help="Rounds before them.")
@click.option("--seed", default=1, show_default=True, help="Of the random orders.")
@click.option(
    "--ways",
    help="Ways to share, each compared with the whole GPU. Slurm: partitions (default: the default one). "
    f"Local: {', '.join(plan.LOCAL_WAYS)} (default: time-slicing, and mps where it can be had).",
)
@click.option("--whole", default="", help="Slurm: the partition of the whole GPU; default: the first of --ways.")
@click.option("--command", default="", help="Run this with --model=NAME instead of job_scripts/cnn_benchmark.py.")
@click.option("--arguments", default="", help='For the benchmark, such as "--batch_size=32 --num_batches=200".')
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of results, which nodes and this host share; default: study-DATE. The same command goes on there.",
)
@format_option()
@click.argument("sbatch_options", nargs=-1, type=click.UNPROCESSED)
def study(
    engine: str,
    models: str,
    jobs: int,
    repeat: int,
    burn_in: int,
    seed: int,
    ways: str | None,
    whole: str,
    command: str,
    arguments: str,
    out: Path | None,
    output_format: str,
    sbatch_options: tuple[str, ...],
) -> None:
    """Train networks in one job that has a whole GPU, then in several at one time that share one, and compare.

    Options of sbatch follow after --, such as: gpushare study --ways=shard,mps -- --container-image=tensorflow.sif
    """
    from slurm_gpushare.study import draw, figures
    from slurm_gpushare.study.conduct import conduct
    from slurm_gpushare.study.local_engine import LocalEngine, possible_ways
    from slurm_gpushare.study.script import read_benchmark
    from slurm_gpushare.study.slurm_engine import SlurmEngine

    if ways is None:
        chosen = ("",) if engine == "slurm" else possible_ways()
    else:
        chosen = tuple(part.strip() for part in ways.split(","))
    settings = plan.Settings(
        engine=engine,
        models=tuple(part.strip() for part in models.split(",")),
        jobs=jobs,
        repeats=repeat,
        burn_in=burn_in,
        seed=seed,
        ways=chosen,
        whole=whole,
        command=_words("--command", command),
        arguments=_words("--arguments", arguments),
        options=sbatch_options,
    )
    folder = out or Path(f"study-{date.today().isoformat()}")
    run = SlurmEngine(settings, _say) if engine == "slurm" else LocalEngine(settings)
    results = conduct(settings, folder, run, "" if settings.command else read_benchmark(), _say)
    if output_format == "json":
        click.echo((folder / "results.json").read_text(encoding="utf-8"), nl=False)
    else:
        print_rows(figures.rows(results), figures.COLUMNS, output_format, cells=_cell)
    if output_format == "table":
        for line in figures.sentences(results):
            click.echo(line)
    try:
        drawn = draw.write(results, folder)
    except GpushareError as error:
        drawn = []
        _say(str(error))
    _say(f"written: {', '.join(map(str, [folder / 'results.json', *drawn]))}")
    if results["missing"]:
        _say("rounds are missing: the same command runs them again, and only them")
        sys.exit(1)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _words(option: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise click.UsageError(f"{option}={text}: {str(error).lower()}: close the quotes") from None


def _cell(name: str, value: object) -> str:
    if name in ("mean", "sd", "low", "high"):
        return f"{value:.1f}"
    return f"{value:.2f}" if name == "ratio" else f"{value:g}" if isinstance(value, float) else str(value)
