"""The output of a job: what runner.py really writes is read, and anything else is refused by what it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.study.plan import Settings
from slurm_gpushare.study.read import StudyError, read_run
from slurm_gpushare.study.runner import MARK
from slurm_gpushare.study.script import make_script, read_benchmark

BENCHMARK = """
import sys
print("Devices:     ['/gpu:0']")
print("gpushare-study: {\\"what\\": \\"end\\", \\"time\\": 1.0}")
print(sys.argv[1:])
print("total images/sec: 12.50")
"""


def run(folder: Path, text: str) -> subprocess.CompletedProcess:
    """Run a script as Slurm would: a file of its own, executable."""
    script = folder / "job"
    script.write_text(text)
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)


def test_a_script_carries_its_benchmark(tmp_path: Path) -> None:
    script = make_script(Settings(arguments=("--batch_size=8", "it's")), ("resnet50", "alexnet"), BENCHMARK)
    assert script.startswith("#!/usr/bin/env python3\n")
    done = run(tmp_path, script)
    read = read_run(done.stdout + done.stderr, ("resnet50", "alexnet"))
    assert read.images_per_second == {"resnet50": 12.5, "alexnet": 12.5}
    assert read.device == "gpu" and read.began <= read.ended
    assert """['--model=resnet50', '--batch_size=8', "it's"]""" in done.stdout


def test_the_benchmark_that_comes_along_is_found() -> None:
    assert "total images/sec" in read_benchmark()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("sh", "-c", "echo out of memory; exit 3"), "a: status 3, images/sec not told"),
        (("sh", "-c", "echo nothing"), "a: status 0, images/sec not told"),
        (("/no/such/program",), "/no/such/program: No such file or directory"),
    ],
)
def test_a_benchmark_that_fails(tmp_path: Path, command: tuple[str, ...], said: str) -> None:
    done = run(tmp_path, make_script(Settings(models=("a",), command=command), ("a",), ""))
    assert done.returncode == 1
    with pytest.raises(StudyError) as error:
        read_run(done.stdout + done.stderr, ("a",))
    assert str(error.value) == said


def lines(*facts: dict) -> str:
    """Return facts as runner.py writes them."""
    return "".join(f"{MARK} {json.dumps(fact)}\n" for fact in facts)


BEGIN = {"what": "begin", "time": 1.5, "card": None, "place": None}
MODEL = {"what": "model", "model": "a", "images_per_second": 2.0, "device": None}
END = {"what": "end", "time": 9.5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it wrote nothing"),
        (lines(BEGIN, MODEL), "it ended without a word"),
        (lines(BEGIN) + "slurmstepd: error: *** JOB 7 CANCELLED ***\n", "slurmstepd: error: *** JOB 7 CANCELLED ***"),
        (lines(BEGIN, {**MODEL, "model": "b"}, END), "it trained b, not a"),
        (lines(BEGIN, MODEL, MODEL, END), "it trained a, a, not a"),
        (lines(BEGIN, {**MODEL, "images_per_second": "2"}, END), "a line that no job of a study writes"),
        (lines({"what": "other"}), "a line that no job of a study writes"),
        (f"{MARK} [1]\n", "a line that no job of a study writes"),
    ],
)
def test_what_is_no_run(text: str, said: str) -> None:
    with pytest.raises(StudyError, match="^" + said.replace("*", r"\*")):
        read_run(text, ("a",))


def test_one_model_on_the_cpu_makes_a_run_of_the_cpu() -> None:
    text = lines(BEGIN, {**MODEL, "device": "gpu"}, {**MODEL, "model": "b", "device": "cpu"}, END)
    assert read_run(text, ("a", "b")).device == "cpu"


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_run(MARK + text, ("a",))
    except StudyError:
        pass
