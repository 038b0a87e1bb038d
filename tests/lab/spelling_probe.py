"""Runs in the lab, as a user: one request through every command of Slurm's; prints what each gave as one JSON object.

Arguments: the options of the request. Each job prints its number and, where it has shards, those of its step.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

STEP = 'echo "job $SLURM_JOB_ID"; echo "step ${SLURM_SHARDS_ON_NODE:-none}"'
SHOW = f"srun -Q sh -c '{STEP}'"
OPTIONS = sys.argv[1:]
# An inner srun is tried in a job with this share, on the partition of the request.
PARTITION = [word for word in OPTIONS if word.startswith("--partition=")]
HOST = [*PARTITION, "--gres=gpu:0.25", "--ntasks=2"]


def run(*argv: str, text: str | None = None) -> subprocess.CompletedProcess:
    """Run one command with its streams as text."""
    return subprocess.run(argv, input=text or "", capture_output=True, text=True, timeout=60, check=False)


def said(done: subprocess.CompletedProcess) -> list[str]:
    """Return what the user was told of errors."""
    return [line for line in done.stderr.splitlines() if re.match(r"\w+: (error|fatal): ", line)]


def job(number: str) -> dict:
    """Return the grant and the resources of a job."""
    text = run("scontrol", "show", "job", number).stdout
    extra = re.search(r"^ +Extra=(.*)$", text, re.M)
    tres = re.search(r"^ +TresPer(?:Node|Job)=(.*)$", text, re.M)
    grant = json.loads(extra[1]) if extra and extra[1].startswith('{"v":') else None
    return {"grant": grant, "extra": None if grant or not extra else extra[1], "tres": tres and tres[1]}


def result(done: subprocess.CompletedProcess) -> dict:
    """Return what became of a command that prints its job and its steps."""
    found = re.search(r"^job (\d+)$", done.stdout, re.M)
    steps = re.findall(r"^step (\w+)$", done.stdout, re.M)
    return {"status": done.returncode, "said": said(done), "steps": steps} | (job(found[1]) if found else {})


def held(*argv: str, text: str) -> dict:
    """Return what became of a submission that is taken back."""
    done = run("sbatch", "--parsable", "--hold", *argv, text=text)
    number = done.stdout.strip()
    answer = {"status": done.returncode, "said": said(done)} | (job(number) if number else {})
    if number:
        run("scancel", number)
    return answer


def batch(folder: Path, name: str, options: list[str], line: str) -> tuple[subprocess.CompletedProcess, Path]:
    """Submit a script of one line; its output and errors go to files of ``name``."""
    out = folder / name
    script = f"#!/bin/sh\n({line}) >{out}.out 2>{out}.err\necho $? >{out}.tmp\nmv {out}.tmp {out}.done\n"
    return run("sbatch", "--parsable", "--output=/dev/null", *options, text=script), out


def ended(submitted: subprocess.CompletedProcess, out: Path) -> subprocess.CompletedProcess:
    """Wait for such a script."""
    if submitted.returncode:
        return submitted
    done, deadline = Path(f"{out}.done"), time.monotonic() + 60
    while not done.exists():
        if time.monotonic() > deadline:
            run("scancel", submitted.stdout.strip())
            return subprocess.CompletedProcess([], 124, "", "sbatch: error: the job has not ended")
        time.sleep(0.05)
    texts = [Path(f"{out}{end}").read_text() for end in (".out", ".err")]
    return subprocess.CompletedProcess([], int(done.read_text()), *texts)


def explain() -> dict:
    """Return what `gpushare explain` says of the same words."""
    done = run("gpushare", "explain", "--format=json", *OPTIONS)
    return json.loads(done.stdout) if done.stdout else {"outcome": "error", "grant": None, "message": done.stderr}


def main() -> None:
    """Try all commands; the two batch jobs run while the others are tried."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as name:
        folder = Path(name)
        inner_options = [word for word in OPTIONS if word not in PARTITION]
        inner = f"srun {' '.join(inner_options)} sh -c '{STEP}'"
        jobs = [batch(folder, "sbatch", OPTIONS, SHOW), batch(folder, "inner", HOST, inner)]
        lines = "".join(f"#SBATCH {word}\n" for word in OPTIONS)
        with ThreadPoolExecutor() as pool:
            started = {
                "#SBATCH": pool.submit(held, text=f"#!/bin/sh\n{lines}true\n"),
                "array": pool.submit(held, "--array=0-1", *OPTIONS, text="#!/bin/sh\ntrue\n"),
                "srun": pool.submit(lambda: result(run("srun", *OPTIONS, "sh", "-c", STEP))),
                "salloc": pool.submit(lambda: result(run("salloc", *OPTIONS, "sh", "-c", SHOW))),
                "explain": pool.submit(explain),
            }
            answers = {name: answer.result() for name, answer in started.items()}
        answers["sbatch"], answers["inner srun"] = (result(ended(*submitted)) for submitted in jobs)
        print(json.dumps(answers))


main()
