"""In the lab, as root: how long until a user's program runs, with gpushare and with the same words typed by hand.

Arguments as JSON: runs, image (a sandbox folder). Prints JSON: {case: {side: [milliseconds, …]}}; each side is measured
in turn, a few times in vain first. srun and slurmd read plugstack.conf for each step, so by hand there is no plugin.
"""

import json
import os
import subprocess
import sys
import time

PLUGSTACK = "/etc/slurm/plugstack.conf"
UID = 1001
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/alice", "USER": "alice", "LANG": "C.UTF-8"}
CLIENT = "/usr/bin/bitfusion"
CLOCK = ["/bin/date", "+%s%N"]  # the user's first instruction
NODE = "c1"  # has no GPU: works with the pool
RUN = f"/run/gpushare/{NODE}/jobs"
WARM = 3
DEADLINE = 60.0
POOL = ["--partition=bitfusion", f"--nodelist={NODE}"]


def call(argv: list[str], environment: dict[str, str] = ENVIRONMENT) -> str:
    """Run a command as alice and return what it prints."""
    alice = {"user": UID, "group": UID, "extra_groups": [], "cwd": "/home/alice"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, **alice)
    if done.returncode:
        sys.exit(f"{' '.join(argv)}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def until_first_instruction(argv: list[str], environment: dict[str, str]) -> float:
    """Return the milliseconds from starting ``argv``, which ends in CLOCK, to the time that it prints."""
    began = time.time_ns()
    return (int(call(argv, environment).split()[-1]) - began) / 1e6


def until_end(argv: list[str], environment: dict[str, str]) -> float:
    """Return the milliseconds that a command of root's takes."""
    began = time.perf_counter_ns()
    child = os.posix_spawn(argv[0], argv, environment)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{' '.join(argv)} failed")
    return (time.perf_counter_ns() - began) / 1e6


def job(*options: str) -> int:
    """Submit a job that only waits, and return its number once it runs."""
    text = call(["sbatch", "--parsable", "--output=/dev/null", *options, "--wrap=exec sleep 3600"])
    number = int(text.split(";")[0])
    end = time.monotonic() + DEADLINE
    while call(["squeue", "-h", "-j", str(number), "-o", "%T"]).strip() != "RUNNING":
        if time.monotonic() > end:
            sys.exit(f"job {number} did not start within {DEADLINE:g} s")
        time.sleep(0.1)
    return number


def plugin(present: bool) -> None:
    """Have the steps from now on with or without the plugin."""
    with open(PLUGSTACK, "w", encoding="utf-8") as stream:
        stream.write(PLUGSTACK_TEXT if present else "")


def in_turn(runs: int, sides: dict) -> dict[str, list[float]]:
    """Measure each side once in each of ``runs`` turns; a side is a function that returns milliseconds."""
    taken = {side: [] for side in sides}
    order = list(sides)
    for turn in range(-WARM, runs):
        for side in order:
            milliseconds = sides[side]()
            if turn >= 0:
                taken[side].append(milliseconds)
        order.reverse()
    return taken


def step(number: int, words: list[str], gpushare: bool) -> float:
    """Run a step of job ``number``, and return the milliseconds to its first instruction."""
    plugin(gpushare)
    return until_first_instruction(["srun", f"--jobid={number}", "--overlap", "-n1", *words, *CLOCK], ENVIRONMENT)


def container(image: str, binds: list[str], words: list[str]) -> list[str]:
    """Return what a user would type for a program in a container."""
    mounts = [word for bind in binds for word in ("--mount", bind)]
    return ["apptainer", "--quiet", "exec", "--pid", "--pwd", "/home/alice", *mounts, image, *words]


def bind(path: str, mode: str = ",ro") -> str:
    """Return the value of Apptainer's --mount for a path at its own place."""
    return f"type=bind,source={path},destination={path}{mode}"


def client_binds() -> list[str]:
    """Return the mounts that the pool's client needs."""
    found = [CLIENT, "/opt/bitfusion", "/etc/bitfusion", "/usr/share/bitfusion", "/var/lib/bitfusion"]
    return [bind(path) for path in [*found, "/var/run/bitfusion"] if os.path.exists(path)]


def containers(runs: int, image: str) -> dict[str, list[float]]:
    """A step in a container, of a job without GPUs."""
    ours = job(*POOL, f"--container-image={image}", "--container-scope=tasks")
    plugin(False)
    hand = job(*POOL)
    words = container(image, [], [])
    taken = in_turn(runs, {"ours": lambda: step(ours, [], True), "other": lambda: step(hand, words, False)})
    call(["scancel", str(ours), str(hand)])
    return taken


def pool_steps(runs: int, image: str) -> dict[str, list[float]]:
    """A step in a container that uses the allocation which its job holds in the pool."""
    plugin(True)
    ours = job(*POOL, "--gres=gpu:0.25", f"--container-image={image}", "--container-scope=tasks")
    plugin(False)
    hand = job(*POOL)
    work = "/home/alice/.bench"
    os.makedirs(work, exist_ok=True)
    os.chown(work, UID, UID)
    client = {**ENVIRONMENT, "TMPDIR": work}
    call(["bitfusion", "request_gpus", "-n", "1", "-p", "0.25"], client)
    typed = ["env", f"APPTAINERENV_TMPDIR={work}"]
    typed += container(image, [*client_binds(), bind(work, "")], [CLIENT, "client", "--", "env", "-u", "TMPDIR"])
    taken = in_turn(runs, {"ours": lambda: step(ours, [], True), "other": lambda: step(hand, typed, False)})
    call(["bitfusion", "release_gpus"], client)
    call(["scancel", str(ours), str(hand)])
    return taken


def batch(runs: int, image: str) -> dict[str, list[float]]:
    """What stands before a batch script that runs in a container and in the pool, without Slurm around it."""
    plugin(True)
    number = job(*POOL, "--gres=gpu:0.25", f"--container-image={image}", "--container-scope=tasks")
    work = f"{RUN}/{number}/work"
    launcher = ["/opt/gpushare/libexec/gpushare-launch", f"--record={RUN}/{number}/launch.json", "--step=batch"]
    launcher += ["--container-scope=job", "--"]
    share = [CLIENT, "run", "-n", "1", "-p", "0.25", "--", "env", "-u", "TMPDIR"]
    binds = [*client_binds(), bind(work, ""), bind(CLOCK[0])]
    typed = container(image, binds, share)
    program = {**ENVIRONMENT, "APPTAINERENV_TMPDIR": work}
    typed[0] = "/usr/bin/apptainer"
    taken = in_turn(
        runs,
        {
            "ours": lambda: until_first_instruction([*launcher, *CLOCK], ENVIRONMENT),
            "other": lambda: until_first_instruction([*typed, *CLOCK], program),
        },
    )
    call(["scancel", str(number)])
    return taken


def prolog_and_epilog(runs: int) -> dict[str, dict[str, list[float]]]:
    """Prolog and epilog of a job without GPUs, with one GPU, and with a share of the pool that it still holds."""
    grant = {"v": 1, "backend": "bitfusion", "gpus": 1, "fraction": 0.25, "slices": 25, "memory": None, "nodes": 1}
    grant |= {"rule": "partition bitfusion", "request": "gpu:0.25", "extra": ""}
    kinds = {
        "CPU": {},
        "GPU": {"SLURM_JOB_GPUS": "0"},
        "pool": {"SLURM_JOB_EXTRA": json.dumps(grant, separators=(",", ":")), "SLURM_JOB_LICENSES": "bitfusion:25"},
    }
    number = 4000000000  # no job of this lab has it
    base = {"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": str(number), "SLURM_JOB_UID": str(UID), "SLURM_JOB_GID": str(UID)}
    base |= {"SLURM_JOB_USER": "alice", "SLURMD_NODENAME": NODE, "SLURM_CLUSTER_NAME": "bench"}
    taken = {f"{part}, {kind} job": {"ours": [], "other": []} for kind in kinds for part in ("prolog", "epilog")}
    for turn in range(-WARM, runs):
        for kind, more in kinds.items():
            for part in ("prolog", "epilog"):
                floor = until_end(["/bin/sh", "-c", ":"], base)
                ours = until_end([f"/etc/slurm/{part}"], base | more)
                if turn >= 0:
                    taken[f"{part}, {kind} job"]["ours"].append(ours)
                    taken[f"{part}, {kind} job"]["other"].append(floor)
                if part == "prolog" and kind == "pool":
                    request = ["bitfusion", "request_gpus", "-n", "1", "-p", "0.25"]
                    call(request, {**ENVIRONMENT, "TMPDIR": f"{RUN}/{number}/work"})
    return taken


def main(arguments: dict) -> dict:
    """Measure every case; leave the configuration as it was."""
    runs, image = arguments["runs"], arguments["image"]
    try:
        taken = {
            "srun in a container": containers(runs, image),
            "srun in a container, pool": pool_steps(runs, image),
            "batch in a container, pool": batch(runs, image),
        }
    finally:
        plugin(True)
    return taken | prolog_and_epilog(runs)


with open(PLUGSTACK, encoding="utf-8") as stream:
    PLUGSTACK_TEXT = stream.read()
print(json.dumps(main(json.loads(sys.argv[1]))))
