"""What each job of a study is: it trains its models one after the other, and writes down when and how fast.

The study puts a line ``TASK = {...}`` before this text and submits both as one batch script, which carries the
benchmark along: nothing needs to be installed where it runs but Python. Lines that begin with MARK are for the study
(study/read.py). Standard library only, any Python from 3.8 on.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

MARK = "gpushare-study:"
TASK = globals().get("TASK", {})


def say(what, **facts):
    """Write one line for the study."""
    print(MARK, json.dumps({"what": what, **facts}), flush=True)


def card():
    """Return name, driver and UUID of the GPU that this job has, as nvidia-smi tells them; None without one."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,uuid", "--format=csv,noheader"]
    try:
        text = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [[part.strip() for part in line.split(",")] for line in text.decode("utf-8", "replace").splitlines()]
    rows = [row for row in rows if len(row) == 3]
    if not rows:
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    row = next((row for row in rows if visible and row[2].startswith(visible)), None)
    if row is None:
        row = rows[int(visible)] if visible.isdigit() and int(visible) < len(rows) else rows[0]
    return {"name": row[0], "driver": row[1], "uuid": row[2]}


def train(model, benchmark):
    """Train one model; return its exit status, its images per second and the device that it named, None for unknown."""
    argv = [*(TASK["command"] or [sys.executable, benchmark]), "--model=" + model, *TASK["arguments"]]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    rate = device = None
    for line in process.stdout:
        text = line.decode("utf-8", "replace")
        if not text.startswith(MARK):
            sys.stdout.write(text)
        found = re.match(r"total images/sec:\s*([0-9.]+)\s*$", text)
        rate = float(found.group(1)) if found else rate
        found = re.match(r"Devices:.*/(gpu|cpu)", text)
        device = found.group(1) if found else device
    sys.stdout.flush()
    return process.wait(), rate, device


def main():
    """Train all models; 1 when one of them fails."""
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    numbers = os.environ.get("SLURM_JOB_GPUS") or os.environ.get("CUDA_VISIBLE_DEVICES")
    say("begin", time=time.time(), card=card(), place=node + "/" + numbers if numbers else None)
    with tempfile.TemporaryDirectory() as folder:
        benchmark = os.path.join(folder, "cnn_benchmark.py")
        with open(benchmark, "w", encoding="utf-8") as file:
            file.write(TASK["benchmark"])
        for model in TASK["models"]:
            began = time.time()
            try:
                status, rate, device = train(model, benchmark)
            except OSError as error:
                sys.exit(f"{TASK['command'][0]}: {error.strerror}")
            if status or not rate:
                sys.exit(f"{model}: status {status}, images/sec {rate or 'not told'}")
            say("model", model=model, began=began, ended=time.time(), images_per_second=rate, device=device)
    say("end", time=time.time())


if __name__ == "__main__":
    main()
