"""A lab as the tests see it: commands run in it as somebody, jobs waited for, Slurm's own words read back."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

GPUSHARE = str(Path(sys.executable).with_name("gpushare"))
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"}


def until(what: str, found: Callable[[], object], seconds: float = 30.0, every: float = 0.1) -> object:
    """Return the first true value of ``found()``; fail with ``what`` when there is none in ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        value = found()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(every)


@dataclass
class Cluster:
    """One lab, by name."""

    name: str

    def argv(self, *command: str, user: str = "root", node: str | None = None) -> list[str]:
        """Return the argv on the host that runs ``command`` in the lab."""
        where = ["--node", node] if node else []
        return [GPUSHARE, "lab", "exec", "--name", self.name, "--user", user, *where, "--", *command]

    def run(
        self,
        *command: str,
        user: str = "root",
        node: str | None = None,
        check: bool = True,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess:
        """Run one command in the lab and return it with its text."""
        done = subprocess.run(
            self.argv(*command, user=user, node=node),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def out(self, *command: str, **options: object) -> str:
        """Return what ``command`` prints, without blanks at its ends."""
        return self.run(*command, **options).stdout.strip(" \n")

    def script(self, user: str, *lines: str) -> str:
        """Return an sbatch script."""
        return "\n".join(["#!/bin/sh", *lines, ""])

    def sbatch(self, user: str, *options: str, script: str) -> int:
        """Submit ``script`` as ``user`` and return the job's id."""
        return int(self.out("sbatch", "--parsable", *options, user=user, stdin=script).split(";")[0])

    def job(self, job: int) -> dict[str, str]:
        """Return `scontrol show job` as a table."""
        text = self.out("scontrol", "-o", "show", "job", str(job))
        return dict(part.split("=", 1) for part in text.split() if "=" in part)

    def sacct(self, job: int, *fields: str) -> list[dict[str, str]]:
        """Return the allocation's rows of sacct, times in seconds since the epoch."""
        text = self.out(
            "env", "SLURM_TIME_FORMAT=%s", "sacct", "-XnPDj", str(job), "--delimiter=\x1f", "-o", ",".join(fields)
        )
        return [dict(zip(fields, line.split("\x1f"), strict=True)) for line in text.splitlines()]

    def state(self, job: int) -> str:
        """Return the job's state in sacct's first word."""
        rows = self.sacct(job, "State")
        return rows[-1]["State"].split()[0] if rows and rows[-1]["State"] else ""

    def wait(self, job: int, seconds: float = 60) -> str:
        """Wait until the job has ended, its epilog included, and return its state."""
        state = until(f"the end of job {job}", lambda: self.state(job) in OVER and self.state(job), seconds)
        until(f"the epilog of job {job}", lambda: not self.out("squeue", "-hj", str(job), check=False), seconds)
        return str(state)

    def wait_running(self, job: int, seconds: float = 30) -> None:
        """Wait until the job runs."""
        until(f"the start of job {job}", lambda: self.job(job)["JobState"] == "RUNNING", seconds)

    def read(self, path: str) -> str:
        """Return a file of the lab, "" where there is none."""
        return self.run("cat", path, check=False).stdout

    def report(self, *options: str, user: str = "root") -> list[dict]:
        """Return `gpushare report jobs --format json`."""
        return json.loads(self.out("gpushare", "report", "jobs", "--format", "json", *options, user=user))

    def processes(self, job: int) -> dict[int, tuple[str, str]]:
        """Return pid → (start time, argv) of all that descends from the job's slurmstepd or carries its id.

        Each slurmstepd comes before the others: who kills them in this order has none left that could still tell
        slurmctld of the end of a script.
        """
        listed = {}
        for line in self.out("ps", "-eo", "pid=,ppid=,lstart=,args=").splitlines():
            words = line.split(maxsplit=7)
            listed[int(words[0])] = (int(words[1]), " ".join(words[2:7]), words[7] if len(words) > 7 else "")
        marked = self.run("sh", "-c", f"grep -lsz '^SLURM_JOB_ID={job}$' /proc/[0-9]*/environ", check=False).stdout
        found = {int(path.split("/")[2]) for path in marked.split()} & set(listed)
        found |= {pid for pid, (_, _, argv) in listed.items() if argv.startswith(f"slurmstepd: [{job}.")}
        while True:
            more = {pid for pid, (parent, _, _) in listed.items() if parent in found} - found
            if not more:
                first = sorted(found, key=lambda pid: (not listed[pid][2].startswith("slurmstepd: "), pid))
                return {pid: listed[pid][1:] for pid in first}
            found |= more

    def pool(self, server: int = 1) -> dict:
        """Return a pool server's own state: its GPUs, allocations, and what it granted, refused and released so far."""
        return json.loads(self.inspect_pool("pool" if server == 1 else f"pool{server}", check=True).stdout)

    def inspect_pool(self, name: str, check: bool = False) -> subprocess.CompletedProcess:
        """Ask a pool server (pool, pool2) for its own state, as JSON."""
        judge = ["-m", "slurm_gpushare.lab.standins.bitfusion.inspect", "--config", f"/etc/lab/{name}.json"]
        return self.run("/opt/gpushare/bin/python3", *judge, check=check)

    def allocations(self) -> list[dict]:
        """Return the allocations that the pool holds now."""
        return self.pool()["allocations"]

    def granted(self) -> int:
        """Return how many allocations the pool has made so far."""
        return self.pool()["counts"]["granted"]
