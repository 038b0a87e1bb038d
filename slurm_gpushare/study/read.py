"""What a job of a study wrote: lines of the benchmark, and those of runner.py, which are read here. Pure functions."""

import json
from dataclasses import dataclass

from slurm_gpushare.errors import GpushareError
from slurm_gpushare.study.runner import MARK


class StudyError(GpushareError):
    """A run of a study failed, or its output is not of the form that runner.py writes."""


@dataclass(frozen=True)
class Run:
    """One job of a round that trained all its models. Times are seconds since the epoch, by the node's clock."""

    began: float
    ended: float
    images_per_second: dict[str, float]  # by model
    card: dict[str, str] | None  # name, driver, uuid; None where the job saw no GPU by nvidia-smi
    place: str | None  # node and number of the GPU, None where the job was told none
    device: str | None  # gpu, cpu or, where the benchmark does not say, None


def read_run(text: str, models: tuple[str, ...]) -> Run:
    """Read the output of a job that was to train ``models``.

    Raises
    ------
    StudyError
        It did not come to its end: the message is its last line, what the benchmark or Slurm said of it.
    """
    facts, last = [], None
    for line in text.splitlines():
        if line.startswith(MARK):
            facts.append(_fact(line))
        elif line.strip():
            last = line.strip()
    names = [fact["what"] for fact in facts]
    if names != ["begin", *["model"] * (len(names) - 2), "end"]:
        raise StudyError(last or ("it ended without a word" if facts else "it wrote nothing"))
    trained = facts[1:-1]
    if tuple(fact["model"] for fact in trained) != tuple(models):
        raise StudyError(f"it trained {', '.join(fact['model'] for fact in trained)}, not {', '.join(models)}")
    devices = {fact["device"] for fact in trained}
    return Run(
        began=facts[0]["time"],
        ended=facts[-1]["time"],
        images_per_second={fact["model"]: fact["images_per_second"] for fact in trained},
        card=facts[0]["card"],
        place=facts[0]["place"],
        device="cpu" if "cpu" in devices else devices.pop() if len(devices) == 1 else None,
    )


def _fact(line: str) -> dict:
    try:
        fact = json.loads(line[len(MARK) :])
        needed = {
            "begin": {"time": float, "card": (dict, type(None)), "place": (str, type(None))},
            "model": {"model": str, "images_per_second": float, "device": (str, type(None))},
            "end": {"time": float},
        }[fact["what"]]
        if all(isinstance(fact[name], kind) for name, kind in needed.items()):
            return fact
    except (ValueError, TypeError, KeyError):
        pass
    raise StudyError(f"a line that no job of a study writes: {line[:200]!r}")
