"""In the lab, as root: submit held jobs to one slurmctld with and without the plugin in turn; ask sdiag what each cost.

Arguments as JSON: runs (submissions of each side), batch (submissions between two turns), policy (YAML for the turns
with the plugin). Prints JSON: {side: {"count": N, "microseconds": sum of the RPC's time, "seconds": of submitting}}.
The sides are "with", "empty" (Slurm's own plugin with a script that does nothing) and "without".
"""

import json
import os
import re
import subprocess
import sys
import time

CONF, PLUGSTACK, SCRIPT = "/etc/slurm/slurm.conf", "/etc/slurm/plugstack.conf", "/etc/slurm/job_submit.lua"
POLICY = "/etc/gpushare/gpushare.yaml"
EMPTY = "function slurm_job_submit() return slurm.SUCCESS end\nslurm_job_modify = slurm_job_submit\n"
ALICE = 1001
SUBMIT = [
    "/usr/bin/sbatch",
    "--parsable",
    "--hold",
    "--partition=shard",
    "--output=/dev/null",
    "--wrap=true",
]
# What the plugin makes of the first stands in the second, so that slurmctld's own work is the same.
REQUEST = {"with": "--gres=gpu:0.{:02}", "empty": "--gres=shard:{}", "without": "--gres=shard:{}"}
SLICES = range(5, 100, 5)  # jobs ask for these in turn
RPC = re.compile(r"REQUEST_SUBMIT_BATCH_JOB\s*\(\s*\d+\)\s*count:(\d+)\s+ave_time:\d+\s+total_time:(\d+)")
DEADLINE = 30.0


def read(path: str) -> str:
    """Return a file's text."""
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def write(path: str, text: str) -> None:
    """Replace a file's text."""
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


def command(*argv: str) -> str:
    """Run a command, return what it prints."""
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def configure(files: dict[str, str]) -> None:
    """Have slurmctld begin anew with these files."""
    for path, text in files.items():
        write(path, text)
    command("scontrol", "reconfigure")
    wanted = "lua" if re.search("^JobSubmitPlugins=", files[CONF], re.M) else "(null)"
    end = time.monotonic() + DEADLINE
    while not re.search(rf"^JobSubmitPlugins\s*=\s*{re.escape(wanted)}$", command("scontrol", "show", "config"), re.M):
        if time.monotonic() > end:
            sys.exit(f"slurmctld did not take up JobSubmitPlugins={wanted} within {DEADLINE:g} s")
        time.sleep(0.1)


def sides(files: dict[str, str]) -> dict[str, dict[str, str]]:
    """Return the files of each side, made of the lab's own.

    The jobs that a turn leaves behind go after seconds, not ten minutes: once a second Slurm's plugin lists for Lua all
    jobs in slurmctld's table, and so the side with it would pay for the other's jobs.
    """
    conf = re.sub(r"^MinJobAge=.*$", "MinJobAge=2", files[CONF], flags=re.M)
    bare = re.sub(r"^JobSubmitPlugins=.*\n", "", conf, flags=re.M)
    return {
        "with": {**files, CONF: conf},
        "empty": {CONF: conf, SCRIPT: EMPTY, PLUGSTACK: ""},
        "without": {CONF: bare, PLUGSTACK: ""},
    }


def submit(side: str, count: int) -> tuple[int, int, float]:
    """Submit ``count`` jobs as alice and cancel them.

    Returns the RPC's count and microseconds by sdiag, and the seconds of submitting.
    """
    reader, writer = os.pipe()
    command("sdiag", "--reset")
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(ALICE)
        os.setuid(ALICE)
        os.chdir("/home/alice")
        argvs = [[*SUBMIT, REQUEST[side].format(SLICES[job % len(SLICES)])] for job in range(count)]
        null = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in (0, 1, 2)]
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/home/alice", "USER": "alice"}
        began = time.monotonic()
        failed = sum(
            os.waitpid(os.posix_spawn(argv[0], argv, environment, file_actions=null), 0)[1] != 0 for argv in argvs
        )
        os.write(writer, json.dumps([failed, time.monotonic() - began]).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as stream:
        failed, seconds = json.loads(stream.read())
    os.waitpid(child, 0)
    if failed:
        sys.exit(f"{failed} of {count} submissions {side} the plugin failed")
    found = RPC.search(command("sdiag"))
    command("scancel", "--user=alice", "--state=PENDING")
    return int(found[1]), int(found[2]), seconds


def main(arguments: dict) -> dict:
    """Take turns until each side has had ``runs`` submissions; leave the configuration as it was."""
    files, policy = {path: read(path) for path in (CONF, PLUGSTACK, SCRIPT)}, read(POLICY)
    sums = {side: {"count": 0, "microseconds": 0, "seconds": 0.0} for side in REQUEST}
    try:
        write(POLICY, arguments["policy"])
        command("gpushare", "policy", "compile")
        order = list(REQUEST)
        while sums[order[0]]["count"] < arguments["runs"]:
            for side in order:
                configure(sides(files)[side])
                submit(side, 5)  # the first ones after a start find caches cold
                count, microseconds, seconds = submit(side, arguments["batch"])
                for key, value in (("count", count), ("microseconds", microseconds), ("seconds", seconds)):
                    sums[side][key] += value
            order.reverse()  # no side is always the one that finds more jobs in slurmctld's table
    finally:
        write(POLICY, policy)
        command("gpushare", "policy", "compile")
        configure(files)
    return sums


print(json.dumps(main(json.loads(sys.argv[1]))))
