"""From the runs of a study to its figures: means, spreads and the two ratios. Pure functions.

**Throughput ratio**: images per second of all jobs that share the GPU, added up by model, over those of the one job
that has it alone. It is of the batches that the benchmark times, not of starting and warming up; in all it is the
geometric mean of the models, as their images differ in cost.

**Completion-time ratio**: how long it takes from the first job's begin to the last one's end, over how long the one job
takes. The jobs have done their number of times its work by then: ``work_ratio`` is that number over this ratio.
"""

import math
import statistics
from collections.abc import Iterable, Mapping

from slurm_gpushare.study.plan import WHOLE, Round, Settings
from slurm_gpushare.study.read import Run


def summary(values: Iterable[float]) -> dict | None:
    """Return mean, standard deviation (null of one value), lowest and highest of ``values``; None of none."""
    values = list(values)
    if not values:
        return None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": spread, "low": min(values), "high": max(values), "n": len(values)}


def seconds(runs: Iterable[Run]) -> float:
    """Return the time from the first run's begin to the last one's end."""
    runs = list(runs)
    return max(run.ended for run in runs) - min(run.began for run in runs)


def throughput(runs: Iterable[Run], models: Iterable[str]) -> dict[str, float]:
    """Return the images per second by model, of all runs together."""
    runs = list(runs)
    return {model: math.fsum(run.images_per_second[model] for run in runs) for model in models}


def objection(runs: list[Run], remote: bool) -> str | None:
    """Return why runs of one round cannot be compared as jobs that share one GPU; None when they can.

    ``remote``: the GPU is not on the node, whose name and numbers then say nothing of it.
    """
    known = [run.card["uuid"] if run.card else None if remote else run.place for run in runs]
    found = sorted({one for one in known if one is not None})
    if len(found) > 1:
        return f"its jobs were on {len(found)} GPUs ({', '.join(found)}): name one node by `-- --nodelist=NODE`"
    if max(run.began for run in runs) >= min(run.ended for run in runs):
        return "its jobs did not run at one time: the GPU was not free"
    return None


def results(
    settings: Settings, done: Mapping[Round, tuple[list[Run], dict]], failed: Mapping[Round, str], about: Mapping
) -> dict:
    """Return the results of a study as its file has them.

    ``done`` has of each round its runs and what the engine knows of them: ``backend``, ``remote``, ``jobs`` (Slurm's
    numbers). ``failed`` says of rounds why they are missing. ``about`` is put before: date, version.
    """
    cases = []
    for name in settings.cases:
        held = [_round(settings, one, *done[one]) for one in done if one.case == name and one.counts]
        counted = [one for one in held if one["objection"] is None]
        cases.append(
            {
                "case": name,
                "backend": next((facts.get("backend") for one, (_, facts) in done.items() if one.case == name), None),
                "jobs": 1 if name == WHOLE else settings.jobs,
                "fraction": 1 if name == WHOLE else settings.fraction,
                "throughput": {
                    model: summary(one["throughput"][model] for one in counted) for model in settings.models
                },
                "seconds": summary(one["seconds"] for one in counted),
                "rounds": held,
            }
        )
    runs = [run for runs, _ in done.values() for run in runs]
    return {
        **about,
        "settings": settings.to_dict(),
        **_device(runs),
        "cases": cases,
        "comparisons": [_comparison(settings, cases[0], case) for case in cases[1:]],
        "missing": [{"round": one.name, "why": why} for one, why in failed.items()],
    }


def _round(settings: Settings, one: Round, runs: list[Run], facts: Mapping) -> dict:
    jobs = facts.get("jobs") or [None] * len(runs)
    return {
        "round": one.number,
        "objection": objection(runs, bool(facts.get("remote"))),
        "seconds": seconds(runs),
        "throughput": throughput(runs, settings.models),
        "started_within": max(run.began for run in runs) - min(run.began for run in runs),
        "runs": [
            {
                "job": job,
                "order": list(order),
                "began": run.began,
                "ended": run.ended,
                "images_per_second": run.images_per_second,
                "gpu": run.card["uuid"] if run.card else run.place,
            }
            for job, order, run in zip(jobs, one.orders, runs, strict=True)
        ],
    }


def _device(runs: list[Run]) -> dict:
    """Say what the runs computed on, and in one sentence what their numbers are worth."""
    cards = sorted({f"{run.card['name']}, driver {run.card['driver']}" for run in runs if run.card})
    if not runs:
        return {"device": None, "gpu": None, "remark": "No round was completed."}
    if any(run.device == "cpu" for run in runs):
        where = f" (the jobs saw {' and '.join(cards)}, but the benchmark does not use it)" if cards else ""
        return {"device": None, "gpu": False, "remark": f"Computed on CPUs{where}: these are not numbers of a GPU."}
    if not cards:
        if all(run.device == "gpu" for run in runs):
            return {"device": None, "gpu": True, "remark": "Computed on a GPU that nvidia-smi did not tell of."}
        return {"device": None, "gpu": False, "remark": "The jobs saw no GPU: these are not numbers of a GPU."}
    device = "; ".join(cards)
    return {"device": device, "gpu": True, "remark": f"Computed on {device}."}


def _comparison(settings: Settings, whole: dict, shared: dict) -> dict:
    ratios = {model: _ratio(shared["throughput"][model], whole["throughput"][model]) for model in settings.models}
    known = [ratio for ratio in ratios.values() if ratio]
    longer = _ratio(shared["seconds"], whole["seconds"])
    return {
        "case": shared["case"],
        "throughput_ratio": ratios,
        "throughput_ratio_in_all": statistics.geometric_mean(known) if len(known) == len(ratios) else None,
        "completion_ratio": longer,
        "work_ratio": settings.jobs / longer if longer else None,
    }


def _ratio(one: dict | None, other: dict | None) -> float | None:
    return one["mean"] / other["mean"] if one and other and other["mean"] else None


COLUMNS = ("figure", "model", "case", "jobs", "fraction", "mean", "sd", "low", "high", "rounds", "ratio")


def rows(results: Mapping) -> list[dict]:
    """Return the figures of ``results`` as rows of COLUMNS: images/sec by model, then seconds, each with its ratio."""
    ratios = {one["case"]: one for one in results["comparisons"]}
    made = []
    for model in results["settings"]["models"]:
        for case in results["cases"]:
            ratio = ratios[case["case"]]["throughput_ratio"][model] if case["case"] in ratios else None
            made.append(_row("images/sec", model, case, case["throughput"][model], ratio))
    for case in results["cases"]:
        ratio = ratios[case["case"]]["completion_ratio"] if case["case"] in ratios else None
        made.append(_row("seconds", None, case, case["seconds"], ratio))
    return made


def _row(figure: str, model: str | None, case: dict, values: dict | None, ratio: float | None) -> dict:
    values = values or {"mean": None, "sd": None, "low": None, "high": None, "n": 0}
    fixed = {name: values[name] for name in ("mean", "sd", "low", "high")}
    shown = {"figure": figure, "model": model, "case": case["case"], "jobs": case["jobs"], "fraction": case["fraction"]}
    return {**shown, **fixed, "rounds": values["n"], "ratio": ratio}


def sentences(results: Mapping) -> list[str]:
    """Return what the figures say, a line each."""
    jobs = results["settings"]["jobs"]
    said = []
    for one in results["comparisons"]:
        if one["completion_ratio"] is None:
            said.append(f"{one['case']}: not enough rounds to compare.")
            continue
        more = 100 * (one["completion_ratio"] - 1)
        said.append(
            f"{one['case']}: {jobs} jobs at one time took {abs(more):.0f} % {'longer' if more >= 0 else 'less'} "
            f"than one alone (ratio {one['completion_ratio']:.2f}), which is {one['work_ratio']:.2f} times its work in "
            f"the same time; their images/sec together are {one['throughput_ratio_in_all']:.2f} times its own."
        )
    for case in results["cases"]:
        for one in case["rounds"]:
            if one["objection"]:
                said.append(f"Round {case['case']}-{one['round']} is not counted: {one['objection']}.")
    said += [f"Round {one['round']} is missing: {one['why']}" for one in results["missing"]]
    return [*said, results["remark"]]
