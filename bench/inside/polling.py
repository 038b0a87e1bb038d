"""In the lab, as root: what the agent of n1 costs there, and what Slurm's own look at the same GPUs costs beside it.

Arguments as JSON: jobs, seconds. Prints JSON: {"ours", "other": seconds of CPU time for each second}. Every job is a
process on a share of a GPU. Slurm looks once a second, each slurmstepd for itself; the other's figure is the CPU time
of all of them, less that of the same without the GPUs (DisableGPUAcct), since they look at processors and memory too.
"""

import json
import os
import pwd
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CONF, GRES = Path("/etc/slurm/slurm.conf"), Path("/etc/slurm/gres.conf")
ALICE = pwd.getpwnam("alice")
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": ALICE.pw_dir, "USER": "alice", "LOGNAME": "alice"}
SCRIPT = "#!/bin/sh\nexec gpu-workload --gpu 0 --sm 10 --memory 512M\n"
STEPD = re.compile(rb"slurmstepd: \[\d+\.batch\]")
AGENT = re.compile(rb"slurm_gpushare\.metrics\.agent\0--node\0n1\0")
SETTLE = 10.0
DEADLINE = 180.0


def wait(what: str, ready: Callable[[], bool]) -> None:
    """Wait until it is ready."""
    end = time.monotonic() + DEADLINE
    while not ready():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {DEADLINE:g} s")
        time.sleep(0.5)


def configure(gpus: bool, jobs: int) -> None:
    """Have Slurm look at processes once a second, and at GPUs too or not; room for ``jobs`` on n1."""
    GRES.write_text(
        re.sub(r"^NodeName=n1 Name=gpu", "NodeName=n1 AutoDetect=nvml Name=gpu", GRES.read_text(), flags=re.M)
    )
    text = re.sub(r"^JobAcctGatherFrequency=.*", "JobAcctGatherFrequency=task=1", CONF.read_text(), flags=re.M)
    text = re.sub(r"^(NodeName=n1 .*) CPUs=\d+", rf"\1 CPUs={jobs}", text, flags=re.M)
    text = text.replace("JobAcctGatherParams=DisableGPUAcct\n", "")
    CONF.write_text(text if gpus else "JobAcctGatherParams=DisableGPUAcct\n" + text)
    subprocess.run(["scontrol", "reconfigure"], check=True)
    asked = ["sinfo", "-hNn", "n1", "-o%c %t"]
    wait("n1", lambda: subprocess.check_output(asked, text=True).split() == [str(jobs), "idle"])


def submit(jobs: int) -> list[str]:
    """Submit the jobs of alice's; return their numbers once all run."""
    argv = ["sbatch", "--parsable", "-pshard", "-n1", "--mem=50", "--gres=gpu:0.16", "-o/dev/null", "-t30", "-D/"]
    alice = {"user": ALICE.pw_uid, "group": ALICE.pw_gid, "extra_groups": os.getgrouplist("alice", ALICE.pw_gid)}
    found = []
    for _ in range(jobs):
        done = subprocess.run(argv, input=SCRIPT, capture_output=True, text=True, check=False, env=ENVIRONMENT, **alice)
        if done.returncode:
            sys.exit(f"sbatch: {done.stderr.strip()}")
        found.append(done.stdout.strip().partition(";")[0])
    wait(f"{jobs} jobs", lambda: len(pids(STEPD)) == jobs and len(pids(re.compile(rb"gpu-workload\0"))) == jobs)
    return found


def cancel(jobs: list[str]) -> None:
    """End the jobs; return when nothing is left of them."""
    subprocess.run(["scancel", *jobs], check=True)
    wait("the jobs' end", lambda: not subprocess.check_output(["squeue", "-h"]))


def pids(pattern: re.Pattern) -> list[int]:
    """Return the processes whose command line matches."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if pattern.search((folder / "cmdline").read_bytes()):
                found.append(int(folder.name))
        except OSError:
            pass
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process with all the threads that it ever had."""
    return time.clock_gettime(~pid << 3 | 2)  # as in bench/agent.py


def measured(seconds: float) -> tuple[float, float]:
    """Return the CPU time that the agent and all slurmstepd take for each second."""
    agents, stepds = pids(AGENT), pids(STEPD)
    if len(agents) != 1:
        sys.exit(f"n1 has {len(agents)} agents")
    time.sleep(SETTLE)
    began, before = time.monotonic(), [sum(map(cpu_seconds, each)) for each in (agents, stepds)]
    time.sleep(seconds)
    for each, pattern, what in (agents, AGENT, "the agent"), (stepds, STEPD, "slurmstepd of a job"):
        if gone := set(each) - set(pids(pattern)):
            sys.exit(f"{what} ended in between (process {', '.join(map(str, gone))}): the figures say nothing")
    after, took = [sum(map(cpu_seconds, each)) for each in (agents, stepds)], time.monotonic() - began
    return tuple((late - early) / took for late, early in zip(after, before, strict=True))


def seen(job: str) -> bool:
    """Tell whether Slurm has measured the GPU of a running job."""
    argv = ["sstat", "-anPj", f"{job}.batch", "-oTRESUsageInMax"]
    return "gres/gpuutil" in subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def main(arguments: dict) -> dict:
    """Run it: with Slurm's look at the GPUs, and without."""
    count, figures = arguments["jobs"], []
    for gpus in True, False:
        configure(gpus, count)
        jobs = submit(count)
        figures.append(measured(arguments["seconds"]))
        if gpus:
            missing = [job for job in jobs if not seen(job)]
            if missing:
                sys.exit(f"Slurm has measured no GPU of {len(missing)} of {count} jobs: its figure says nothing")
        cancel(jobs)
    return {"ours": figures[0][0], "other": figures[0][1] - figures[1][1]}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
