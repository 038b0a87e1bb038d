"""In the lab, as root: how long until a user's program runs, with gpushare and with the same words typed by hand.

Arguments as JSON: runs, image (a sandbox folder). Prints JSON: {case: {side: [milliseconds, …]}}; each side is measured
in turn, a few times in vain first. srun and slurmd read plugstack.conf for each step, so by hand there is no plugin.
"""

import json
import os
import subprocess
import sys
import time

from slurm_gpushare.paths import LAUNCHER, launch_record, work_dir

PLUGSTACK = "/etc/slurm/plugstack.conf"
NODE_POLICY = "/etc/gpushare/node.json"
CLIENT_ENV = "/opt/gpushare/libexec/client.env"
UID = 1001
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/alice", "USER": "alice", "LANG": "C.UTF-8"}
CLIENT = "/usr/bin/bitfusion"
CLOCK = ["/bin/date", "+%s%N"]  # the user's first instruction
NODE = "c1"  # has no GPU: works with the pool
SHARE = ["-n", "1", "-p", "0.25"]
RUN = ["run", *SHARE, "--"]
WARM = 3
DEADLINE = 60.0
POOL = ["--partition=bitfusion", f"--nodelist={NODE}"]


def call(argv: list[str], environment: dict[str, str] = ENVIRONMENT) -> str:
    """Run a command as alice and return what it prints."""
    alice = {"user": UID, "group": UID, "extra_groups": os.getgrouplist("alice", UID), "cwd": "/home/alice"}
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


def allocated(*options: str) -> int:
    """Return the number of a job of the pool's partition that has no batch script, once it runs."""
    call(["salloc", "--quiet", "--no-shell", "--immediate=60", "--job-name=bench", *POOL, *options])
    number = call(["squeue", "-h", "--me", "--name=bench", "--sort=-i", "-o", "%A"]).split()[0]
    end = time.monotonic() + DEADLINE
    # The prolog runs at the job's start, the launch record is its work.
    while call(["squeue", "-h", "-j", number, "-o", "%T"]).strip() != "RUNNING" or (
        options and not os.path.exists(launch_record(NODE, int(number)))
    ):
        if time.monotonic() > end:
            sys.exit(f"job {number} did not start within {DEADLINE:g} s")
        time.sleep(0.1)
    return int(number)


def plugin(present: bool) -> None:
    """Have the steps from now on with or without the plugin."""
    with open(PLUGSTACK, "w", encoding="utf-8") as stream:
        stream.write(PLUGSTACK_TEXT if present else "")


def set_order(order: str) -> None:
    """Have the pool's client inside or outside of containers from now on."""
    with open(NODE_POLICY, "w", encoding="utf-8") as stream:
        stream.write(NODE_POLICY_TEXT.replace('"client": "inside"', f'"client": "{order}"'))


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


def container(image: str, binds: list[str], words: list[str], options: tuple[str, ...] = ()) -> list[str]:
    """Return what a user would type for a program in a container."""
    mounts = [word for bind in binds for word in ("--mount", bind)]
    return ["/usr/bin/apptainer", "--quiet", "exec", "--pid", *options, "--pwd", "/home/alice", *mounts, image, *words]


def bind(path: str, mode: str = ",ro") -> str:
    """Return the value of Apptainer's --mount for a path at its own place."""
    return f"type=bind,source={path},destination={path}{mode}"


def client_binds() -> list[str]:
    """Return the mounts that the pool's client needs."""
    found = [CLIENT, "/opt/bitfusion", "/etc/bitfusion", "/usr/share/bitfusion", "/var/lib/bitfusion"]
    return [bind(path) for path in [*found, "/var/run/bitfusion"] if os.path.exists(path)]


def containers(runs: int, image: str) -> dict[str, list[float]]:
    """A step in a container, of a job without GPUs."""
    ours = allocated(f"--container-image={image}")
    plugin(False)
    hand = allocated()
    words = container(image, [], [])
    taken = in_turn(runs, {"ours": lambda: step(ours, [], True), "other": lambda: step(hand, words, False)})
    call(["scancel", str(ours), str(hand)])
    return taken


def forget(work: str) -> None:
    """Give back what the job holds in the pool, so that its next task is the first again."""
    for name in os.listdir(work):
        if name.startswith("bitfusion"):
            call([CLIENT, "release_gpus", "-f", f"{work}/{name}"], {**ENVIRONMENT, "TMPDIR": work})
        elif name == "lock":
            os.unlink(f"{work}/{name}")


def first(milliseconds: float, work: str) -> float:
    """Return ``milliseconds``, which a job's first task took, when all is as it was before it."""
    forget(work)
    return milliseconds


def pool_steps(runs: int, image: str) -> dict[str, dict[str, list[float]]]:
    """A step in a container in the pool: its job's first, which gets the share, and a later one, which finds it."""
    plugin(True)
    ours = allocated("--gres=gpu:0.25", f"--container-image={image}")
    plugin(False)
    hand = allocated()
    run = container(image, client_binds(), [CLIENT, *RUN])
    sides = {
        "ours": lambda: first(step(ours, [], True), work_dir(NODE, ours)),
        "other": lambda: step(hand, run, False),
    }
    taken = {"srun, first step": in_turn(runs, sides)}
    call([CLIENT, "request_gpus", *SHARE])
    client = container(image, client_binds(), [CLIENT, "client", "--"])
    sides = {"ours": lambda: step(ours, [], True), "other": lambda: step(hand, client, False)}
    taken["srun, later step"] = in_turn(runs, sides)
    call([CLIENT, "release_gpus"])
    call(["scancel", str(ours), str(hand)])
    return taken


def batch(runs: int, image: str, order: str) -> dict[str, list[float]]:
    """What stands before a batch script in a container in the pool, without Slurm around it, in one of both orders."""
    plugin(True)
    set_order(order)
    number = allocated("--gres=gpu:0.25", f"--container-image={image}")
    record = launch_record(NODE, number)
    launcher = [LAUNCHER, f"--record={record}", "--step=batch", "--"]
    if order == "inside":
        typed = container(image, [*client_binds(), bind(CLOCK[0])], [CLIENT, *RUN])
    else:
        typed = [CLIENT, *RUN, *container(image, [*client_binds(), bind(CLOCK[0])], [], ("--env-file", CLIENT_ENV))]
    sides = {
        "ours": lambda: first(until_first_instruction([*launcher, *CLOCK], ENVIRONMENT), work_dir(NODE, number)),
        "other": lambda: until_first_instruction([*typed, *CLOCK], ENVIRONMENT),
    }
    taken = in_turn(runs, sides)
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
                ours = until_end([f"/opt/gpushare/libexec/gpushare-{part}"], base | more)
                if turn >= 0:
                    taken[f"{part}, {kind} job"]["ours"].append(ours)
                    taken[f"{part}, {kind} job"]["other"].append(floor)
                if part == "prolog" and kind == "pool":
                    call([CLIENT, "request_gpus", *SHARE], {**ENVIRONMENT, "TMPDIR": work_dir(NODE, number)})
    return taken


def main(arguments: dict) -> dict:
    """Measure every case; leave the configuration as it was."""
    runs, image = arguments["runs"], arguments["image"]
    try:
        taken = {"srun": containers(runs, image)}
        taken |= {f"{case}, pool": sides for case, sides in pool_steps(runs, image).items()}
        taken["batch script, pool"] = batch(runs, image, "inside")
        taken["batch script, pool, client outside"] = batch(runs, image, "outside")
    finally:
        plugin(True)
        set_order("inside")
    return taken | prolog_and_epilog(runs)


with open(PLUGSTACK, encoding="utf-8") as stream:
    PLUGSTACK_TEXT = stream.read()
with open(NODE_POLICY, encoding="utf-8") as stream:
    NODE_POLICY_TEXT = stream.read()
print(json.dumps(main(json.loads(sys.argv[1]))))
