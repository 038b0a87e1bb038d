"""The argv of sbatch; and the command line with its local engine, whose jobs run a program instead of the benchmark."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_gpushare.cli.main import main
from slurm_gpushare.study.plan import WHOLE, Round, Settings
from slurm_gpushare.study.slurm_engine import sbatch_argv

PROGRAM = """#!/usr/bin/env python3
import sys, time
model = sys.argv[1].removeprefix("--model=")
time.sleep(0.2)
if model == "broken":
    sys.exit("no such network")
print("Devices:  ['/cpu:0']")
print("total images/sec: 40.00")
"""


@pytest.mark.parametrize(
    ("settings", "case", "words"),
    [
        (Settings(), WHOLE, ["--gres=gpu:1"]),
        (Settings(), "shared", ["--gres=gpu:0.25"]),
        (Settings(jobs=3), "shared", ["--gres=gpu:0.33"]),
        (Settings(ways=("shard", "mps")), WHOLE, ["--gres=gpu:1", "--partition=shard"]),
        (Settings(ways=("shard", "mps")), "mps", ["--gres=gpu:0.25", "--partition=mps"]),
        (Settings(ways=("mps",), whole="gpu"), WHOLE, ["--gres=gpu:1", "--partition=gpu"]),
        (Settings(options=("--nodelist=n1",)), "shared", ["--gres=gpu:0.25", "--nodelist=n1"]),
    ],
)
def test_what_sbatch_is_given(settings: Settings, case: str, words: list[str]) -> None:
    argv = sbatch_argv(settings, Round(case, 2, ()), 1, Path("/shared/100%/1.py"))
    fixed = ["sbatch", "--parsable", f"--job-name=study-{case}-2", "--no-requeue", "--open-mode=truncate"]
    assert argv == [*fixed, "--output=/shared/100%%/1.out", *words, "/shared/100%/1.py"]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    return path


@pytest.fixture
def run(capfd: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Return what runs `gpushare study --engine=local …`: exit status, what it printed and what it said."""

    def study(*argv: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main(["study", "--engine=local", *argv])
        return int(left.value.code or 0), *capfd.readouterr()

    return study


def test_a_local_study_from_the_command_to_its_files(tmp_path: Path, program: Path, run: Callable) -> None:
    words = (f"--command={program}", "--models=one,two", "--jobs=2", "--burn-in=1", f"--out={tmp_path / 'out'}")
    status, table, said = run(*words, "--repeat=1", "--ways=time-slicing")
    assert status == 0, said
    assert said.count("round ") == 4 and "these are not numbers of a GPU" in table
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["comparisons"][0]["throughput_ratio"] == {"one": 2.0, "two": 2.0}
    # One round more is the same study: what is there is not run again.
    status, text, said = run(*words, "--repeat=2", "--ways=time-slicing", "--format=json")
    assert status == 0 and said.count("round ") == 2 and len(json.loads(text)["cases"][0]["rounds"]) == 2


def test_a_local_study_that_fails(tmp_path: Path, program: Path, run: Callable) -> None:
    words = (f"--command={program}", "--models=broken", "--repeat=1", "--burn-in=0", f"--out={tmp_path / 'out'}")
    status, _, said = run(*words, "--ways=time-slicing")
    assert status == 1 and "Traceback" not in said
    assert "gpushare: round whole-1: process 1 ended with status 1: broken: status 1" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--jobs=1",), "--jobs=1: write a number from 2 to 100"),
        (("--models=vgg16",), "no model vgg16: write some of alexnet, inception3, lenet, resnet50"),
        (("--models=lenet,lenet",), "write each name once"),
        (("--ways=mig",), "'mig' with --engine=local: write some of time-slicing, mps, mps-open"),
        (("--whole=gpu",), "--engine=local does not use Slurm"),
        (("--arguments='",), "close the quotes"),
        (("--", "--nodelist=n1"), "--engine=local does not use Slurm"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, run: Callable, words: tuple[str, ...], told: str) -> None:
    status, _, said = run("--ways=time-slicing", f"--out={tmp_path / 'out'}", *words)
    assert status in (1, 2) and told in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()
