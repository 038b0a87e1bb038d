"""In the lab, as root: how long after a job's last instruction its usage is in the store, and its end in slurmdbd.

Arguments as JSON: runs, store (the service's SQLite file). Prints JSON: {"ours": [seconds, ...], "other": [seconds,
...]}; the two are measured of different jobs in turn, so that waiting for one does not hold up the other.
"""

import json
import os
import pwd
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

ALICE = pwd.getpwnam("alice")
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": ALICE.pw_dir, "USER": "alice", "LOGNAME": "alice"}
SCRIPT = "#!/bin/sh\nsleep 2\ndate +%s.%N\n"
DEADLINE = 60.0
PAUSE = 0.02


def submit(output: str) -> int:
    """Submit a job of alice's that has a share of a GPU and prints the time as its last instruction."""
    argv = ["sbatch", "--parsable", "-pshard", "-n1", "--mem=100", "--gres=gpu:0.1", f"-o{output}", "-t2", "-D/"]
    alice = {"user": ALICE.pw_uid, "group": ALICE.pw_gid, "extra_groups": os.getgrouplist("alice", ALICE.pw_gid)}
    done = subprocess.run(argv, input=SCRIPT, capture_output=True, text=True, check=False, env=ENVIRONMENT, **alice)
    if done.returncode:
        sys.exit(f"sbatch: {done.stderr.strip()}")
    return int(done.stdout.strip().partition(";")[0])


def wait(what: str, ready: Callable[[], bool]) -> float:
    """Return when it was ready, seconds since the epoch."""
    end = time.monotonic() + DEADLINE
    while not ready():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {DEADLINE:g} s")
        time.sleep(PAUSE)
    return time.time()


def printed(output: str) -> float | None:
    """Return the time that the job printed, None while it has not."""
    try:
        with open(output, encoding="ascii") as stream:
            text = stream.read()
    except FileNotFoundError:
        return None
    return float(text) if text.endswith("\n") else None


def stored(connection: sqlite3.Connection, job: int) -> bool:
    """Tell whether the store has the job's usage."""
    query = "select 1 from gpushare_usage where job_id = ? and gpu_seconds_used is not null"
    return connection.execute(query, (job,)).fetchone() is not None


def completed(job: int) -> bool:
    """Tell whether slurmdbd has the job's end."""
    return subprocess.check_output(["sacct", "-nXPj", str(job), "-oState"], text=True).strip() == "COMPLETED"


def gone(job: int) -> bool:
    """Tell whether the job's epilog is over too."""
    return not subprocess.check_output(["squeue", "-hj", str(job)])


def main(arguments: dict) -> dict:
    """Run the jobs, one after the other; the first of each side in vain."""
    taken = {"ours": [], "other": []}
    connection = sqlite3.connect(f"file:{arguments['store']}?mode=ro", uri=True, timeout=30)
    there = {"ours": partial(stored, connection), "other": completed}
    for run in range(2 * arguments["runs"] + 2):
        side = ("ours", "other")[run % 2]
        output = f"/tmp/latency-{run}.out"
        job = submit(output)
        wait(f"the end of job {job}", lambda output=output: printed(output) is not None)
        seconds = wait(f"what is kept of job {job}", partial(there[side], job)) - printed(output)
        if run >= 2:
            taken[side].append(seconds)
        wait(f"the epilog of job {job}", partial(gone, job))
        os.unlink(output)
    return taken


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
