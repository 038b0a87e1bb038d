"""In the lab, as root: submit short jobs of alice's to the pool, wait for their end, tell what became of them.

Arguments as JSON: jobs ([{"at": s, "seconds": s, "ask": "gpu:0.25"}, ...] in order of `at`, counted from the start),
servers ({name: the configuration of its stand-in}), deadline (seconds for everything).
Prints JSON: {"began", "ended": Unix seconds, "jobs": [{"state", "licences", "wanted", "output"}, ...] in that order,
"servers": {name: the pool's own state}}. `licences` is what Slurm says that it gave, None where its version does not.
"""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import time

from slurm_gpushare.lab.standins.bitfusion.config import load_config
from slurm_gpushare.lab.standins.bitfusion.inspect import state

FOLDER = "/home/alice/load"
# The client tells its command of the allocation by this variable, which is how a job and an allocation find together.
SCRIPT = '#!/bin/sh\nprintf "%s" "$NVML_STANDIN_ENDPOINT"\nexec sleep {seconds}\n'
ALICE = pwd.getpwnam("alice")
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": ALICE.pw_dir, "USER": "alice", "LOGNAME": "alice"}


def submit(job: dict) -> str:
    """Submit one job as alice; return its id."""
    argv = ["sbatch", "--parsable", "-pbitfusion", "-n1", "--mem=100", f"--gres={job['ask']}", f"-o{FOLDER}/%j.out"]
    done = subprocess.run(
        [*argv, "-D/home/alice", "-t2"],
        input=SCRIPT.format(seconds=job["seconds"]),
        capture_output=True,
        text=True,
        user=ALICE.pw_uid,
        group=ALICE.pw_gid,
        extra_groups=os.getgrouplist("alice", ALICE.pw_gid),
        env=ENVIRONMENT,
    )
    if done.returncode:
        sys.exit(f"sbatch {job['ask']}: {done.stderr.strip()}")
    return done.stdout.strip().partition(";")[0]


def shown() -> dict[str, dict[str, str]]:
    """Return what slurmctld knows of all jobs, by their ids."""
    text = subprocess.run(["scontrol", "-o", "show", "job"], check=True, capture_output=True, text=True).stdout
    found = (dict(re.findall(r"(\w+)=(\S*)", line)) for line in text.splitlines())
    return {job["JobId"]: job for job in found if "JobId" in job}


def read(path: str) -> str:
    """Return a file's text, "" where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def known(value: str | None) -> str | None:
    """Return one of scontrol's values, None where it has none."""
    return None if value in (None, "", "(null)") else value


def main(arguments: dict) -> dict:
    """Run the load."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.mkdir(FOLDER)
    os.chown(FOLDER, ALICE.pw_uid, ALICE.pw_gid)
    began, start = time.time(), time.monotonic()
    ids = []
    for job in arguments["jobs"]:
        time.sleep(max(0.0, start + job["at"] - time.monotonic()))
        ids.append(submit(job))
    while subprocess.run(["squeue", "-h", "-pbitfusion"], check=True, capture_output=True).stdout:
        if time.monotonic() > start + arguments["deadline"]:
            print(f"jobs are left after {arguments['deadline']} s", file=sys.stderr)
            break
        time.sleep(0.25)
    ended = time.time()
    jobs = shown()
    servers = {name: load_config(path) for name, path in arguments["servers"].items()}
    return {
        "began": began,
        "ended": ended,
        "jobs": [
            {
                "state": jobs[number]["JobState"],
                "licences": known(jobs[number].get("LicensesAlloc")),
                "wanted": known(jobs[number].get("Licenses")),
                "output": read(f"{FOLDER}/{number}.out"),
            }
            for number in ids
        ],
        "servers": {name: state(f"{of.listen}:{of.port}", of.token) for name, of in servers.items()},
    }


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
