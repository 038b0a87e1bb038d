"""Rounds as jobs of Slurm: submitted with sbatch, waited for with squeue, told of by scontrol."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from slurm_gpushare import backends
from slurm_gpushare.slurm.command import SlurmError, run_slurm
from slurm_gpushare.slurm.job import fetch_job
from slurm_gpushare.study.plan import WHOLE, Round, Settings
from slurm_gpushare.study.read import StudyError
from slurm_gpushare.study.runner import MARK

TIMEOUT = 60.0  # seconds for one command of Slurm's
PATIENCE = 300.0  # seconds without an answer of squeue, as when slurmctld is restarted
ARRIVAL = 10.0  # seconds until what a job wrote on its node is seen here, on a shared file system


def sbatch_argv(settings: Settings, one: Round, number: int, script: Path) -> list[str]:
    """Return the sbatch of job ``number`` (from 1) of a round; its output goes beside ``script``. Pure."""
    whole = one.case == WHOLE
    partition = (settings.whole or settings.ways[0]) if whole else settings.ways[settings.cases.index(one.case) - 1]
    return [
        *["sbatch", "--parsable", f"--job-name=study-{one.name}", "--no-requeue", "--open-mode=truncate"],
        f"--output={str(script.with_suffix('.out')).replace('%', '%%')}",
        f"--gres=gpu:{1 if whole else format(settings.fraction, 'g')}",
        *([f"--partition={partition}"] if partition else []),
        *settings.options,
        str(script),
    ]


class SlurmEngine:
    """Runs rounds through Slurm; ``say`` takes a line of progress."""

    def __init__(self, settings: Settings, say: Callable[[str], None], every: float = 1.0):
        """Ask squeue ``every`` so many seconds."""
        self.settings, self.say, self.every = settings, say, every

    def run(self, one: Round, scripts: list[Path]) -> dict:
        """Run the jobs of a round to their end; return what Slurm knows of them. Raises StudyError.

        When it does not come to that, jobs that are left are cancelled.
        """
        jobs: list[int] = []
        try:
            for number, script in enumerate(scripts, 1):
                jobs.append(self._submit(sbatch_argv(self.settings, one, number, script)))
            self._wait(jobs)
        except BaseException:
            if jobs:
                subprocess.run(["scancel", *map(str, jobs)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
            raise
        known = [_look(job) for job in jobs]
        for job, (state, _), script in zip(jobs, known, scripts, strict=True):
            _arrived(job, state, script.with_suffix(".out"))
        backend = next((name for _, name in known if name), None)
        return {"jobs": jobs, "backend": backend, "remote": bool(backend and backends.find(backend).REMOTE)}

    def _submit(self, argv: list[str]) -> int:
        try:
            # As the user has set it: the job gets this environment.
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False)
        except OSError as error:
            raise StudyError(
                f"sbatch: {error.strerror}: run it where Slurm's commands are, or --engine=local"
            ) from None
        except subprocess.TimeoutExpired:
            raise StudyError(f"sbatch: no answer within {TIMEOUT:g} s") from None
        said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        number = done.stdout.decode("utf-8", "replace").strip().partition(";")[0]
        if done.returncode or not number.isdecimal():
            told = next(
                (line for line in said if "gpushare:" in line), said[-1] if said else f"status {done.returncode}"
            )
            raise StudyError(f"{told.removeprefix('sbatch: ').removeprefix('error: ')} ({' '.join(argv[1:-1])})")
        return int(number)

    def _wait(self, jobs: list[int]) -> None:
        before, heard = "", time.monotonic()
        while True:
            try:
                left = _left(jobs)
                heard = time.monotonic()
            except SlurmError as error:
                if time.monotonic() - heard > PATIENCE:
                    raise StudyError(str(error)) from error
                left = None
            if left == []:
                return
            if left is not None:
                waiting = ", ".join(f"job {job} waits ({reason})" for job, state, reason in left if state == "PENDING")
                if waiting != before and waiting:
                    self.say(f"  {waiting}")
                before = waiting
            time.sleep(self.every)


def _left(jobs: list[int]) -> list[tuple[str, str, str]]:
    """Return (job, state, reason) of those that have not ended."""
    argv = ["squeue", "--noheader", "--all", f"--jobs={','.join(map(str, jobs))}", "--format=%i|%T|%r"]
    try:
        text = run_slurm(argv, TIMEOUT)
    except SlurmError as error:
        if "Invalid job id" in str(error):
            return []
        raise
    return [tuple(line.split("|", 2)) for line in text.splitlines() if line.count("|") >= 2]


def _look(job: int) -> tuple[str, str | None]:
    """Return the state of a job that has ended, and the backend of its grant; "" and None where Slurm forgot it."""
    try:
        known = fetch_job(str(job))
    except SlurmError:
        return "", None
    return known.state, known.grant.backend if known.grant else None


def _arrived(job: int, state: str, output: Path) -> None:
    """Wait until the end of a job's output is here; raises StudyError, which says how the job ended, when it is not."""
    ended = f'{MARK} {{"what": "end"'
    deadline = time.monotonic() + (ARRIVAL if state in ("COMPLETED", "") else 0)
    while True:
        try:
            text = output.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = None
        if text is not None and ended in text:
            return
        if time.monotonic() >= deadline:
            break
        os.listdir(output.parent)  # NFS looks again
        time.sleep(0.2)
    if text is None:
        raise StudyError(
            f"job {job} ended{' as ' + state if state else ''} and left no {output}: choose by --out a folder "
            "that the nodes and this host share"
        )
    last = next((line for line in reversed(text.splitlines()) if line.strip() and not line.startswith(MARK)), "")
    raise StudyError(f"job {job} ended{' as ' + state if state else ''}: {last or 'it wrote nothing'} ({output})")
