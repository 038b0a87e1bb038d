"""From the service's answers to the data of a page's figures: hours instead of seconds, names, local times. Pure."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from slurm_gpushare.page import figures
from slurm_gpushare.page.figures import Figure
from slurm_gpushare.page.render import Card

FILTERS = (("account", "Account"), ("user", "User"), ("backend", "Backend"), ("from", "From"), ("to", "To"))
CARDS = (
    ("Reserved GPU-hours", "reserved"),
    ("Used", "used"),
    ("Held idle", "idle"),
    ("Not measured", "unmeasured"),
    ("Used of reserved", "share"),
)
_HOUR = 3600.0
_GIB = 1 << 30


def cards(lines: Sequence[dict]) -> list[Card]:
    """Return the totals of the sums' lines; the script brings them up to date as filters change."""

    def hours(name: str) -> float:
        return math.fsum(line[f"gpu_seconds_{name}"] for line in lines) / _HOUR

    sums = {name: hours(name) for name in ("reserved", "used", "idle", "unmeasured")}
    measured = sums["reserved"] - sums["unmeasured"]
    texts = {name: f"{value:.2g}" if 0 < value < 0.1 else f"{value:.2f}" for name, value in sums.items()}
    texts["share"] = f"{100 * sums['used'] / measured:.0f} %" if measured > 0 else "-"
    return [Card(title, texts[key], key) for title, key in CARDS]


def sums(answer: dict) -> dict:
    """Return the figures' sums: ``{"unit", "units", "rows"}``, in GPU-hours and kWh."""
    rows = [
        {
            **{name: line[name] for name in ("account", "user", "backend", "unit")},
            **{
                name: round(line[f"gpu_seconds_{name}"] / _HOUR, 4)
                for name in ("reserved", "used", "idle", "over", "unmeasured")
            },
            "energy": round(line["energy_joules"] / 3.6e6, 4),
            "histogram": [round(value / _HOUR, 4) for value in line["histogram"]],
        }
        for line in answer["lines"]
    ]
    return {"unit": answer["unit"], "units": sorted({row["unit"] for row in rows}), "rows": rows}


def heat(answer: dict, unit: str) -> dict:
    """Return the heat map's rows; times are local, in milliseconds as if they were UTC."""
    bucket, offset = answer["bucket"], answer["utc_offset"]
    rows = [
        {
            "gpu": f"{cell['node']} {gpu_name(cell['gpu'])}",
            "t0": round((cell["start"] + offset) * 1000),
            "t1": round((cell["start"] + bucket + offset) * 1000),
            "when": _local(cell["start"], offset),
            "unit": _local(cell["start"], offset)[: 7 if unit == "month" else 10],
            "unit_end": _local(cell["start"] + bucket - 1, offset)[: 7 if unit == "month" else 10],
            "use": round(cell["gpu_seconds_used"] / cell["sampled"], 4),
            "reserved": round(cell["gpu_seconds_reserved"] / cell["sampled"], 4),
        }
        for cell in answer["cells"]
        if cell["sampled"] > 0
    ]
    return {"rows": rows}


def timeline(answer: dict, own: str | None = None) -> dict:
    """Return the timeline's data; each job of a GPU has one of the figure's colours, its neighbours others.

    ``own`` is the job that the page is about.
    """
    offset = answer["utc_offset"]
    wide = (answer["end"] - answer["start"]) / answer["bins"]
    return {
        "start": round((answer["start"] + offset) * 1000),
        "wide": wide * 1000,
        "bins": answer["bins"],
        "gpus": [
            {
                "label": _gpu_label(gpu),
                "jobs": [
                    {
                        **{name: job[name] for name in ("job", "user", "account", "backend", "points")},
                        "share": job["fraction"],
                        "from": _local(job["start"], offset),
                        "to": _local(job["end"], offset),
                        "from_ms": round((job["start"] + offset) * 1000),
                        "to_ms": round((job["end"] + offset) * 1000),
                        "colour": number % len(figures.JOBS),
                        "own": job["job"] == own,
                    }
                    for number, job in enumerate(gpu["jobs"])
                ],
            }
            for gpu in answer["gpus"]
        ],
    }


def course(part: dict) -> list[dict]:
    """Return the points of one GPU of a run (an object of job_report.gpu_part); [] where its course is not known."""
    known = part["course"]
    if known is None:
        return []
    offset = datetime.fromtimestamp(part["started"]).astimezone().utcoffset().total_seconds()
    limit = part["memory_share_bytes"]
    points = []
    for number, (use, memory) in enumerate(zip(known["sm"], known["memory"], strict=True)):
        at = part["started"] + number * known["every"]
        points.append(
            {
                "t": round((at + offset) * 1000),
                "when": _local(at, offset, seconds=True),
                "sm": use,
                "sm_text": "not measured" if use is None else f"{100 * use:.0f} %",
                "sm_limit": part["fraction"],
                "memory": None if memory is None else round(memory / _GIB, 4),
                "memory_text": "not measured" if memory is None else f"{memory / _GIB:.2f} GiB",
                "memory_limit": None if limit is None else round(limit / _GIB, 4),
            }
        )
    if points:
        # A point is a stretch of time: the last one reaches to the end.
        points.append({**points[-1], "t": round((part["ended"] + offset) * 1000)})
    return points


def overview(answer: dict, parts: Sequence[str]) -> tuple[list[Figure], dict]:
    """Return the figures and the data of a page from the service's ``page`` report."""
    found: list[Figure] = []
    data: dict = {"sums": sums(answer["sums"])}
    unit = data["sums"]["unit"]
    if data["sums"]["rows"]:
        if "accounts" in parts:
            found += [figures.by_account(), figures.by_time(unit)]
        found += [figures.scatter(), figures.histogram()]
    if answer.get("heat") and answer["heat"]["cells"]:
        data["heat"] = heat(answer["heat"], unit)
        found.append(figures.heat(answer["heat"]["of"], len({row["gpu"] for row in data["heat"]["rows"]})))
    if answer.get("timeline"):
        data["timeline"] = timeline(answer["timeline"])
        drawn = answer["timeline"]
        is_short = drawn["end"] - drawn["start"] < 600
        start, end = (_local(drawn[name], drawn["utc_offset"], is_short) for name in ("start", "end"))
        found.append(figures.timeline(f"GPU by job, {start} to {end}"))
    return found, data


def left_out(answer: dict) -> list[str]:
    """Return what the figures do not show, for the reader."""
    notes = []
    of_heat, of_timeline = answer.get("heat"), answer.get("timeline")
    if of_heat and of_heat["gpus_left_out"]:
        notes.append(f"{of_heat['gpus_left_out']} GPUs with less reserved are not in the map of GPUs over time.")
    if of_timeline and of_timeline["gpus_left_out"]:
        notes.append(f"{of_timeline['gpus_left_out']} GPUs with less use are not in the chart of a GPU by job.")
    if of_timeline and of_timeline["runs_left_out"]:
        notes.append(f"{of_timeline['runs_left_out']} runs with least use are not in the chart of a GPU by job.")
    return notes


def gpu_name(uuid: str) -> str:
    """Return a GPU's UUID as short as it can be told from others of its node."""
    return uuid if len(uuid) <= 14 else f"{uuid[:12]}…"


def _gpu_label(gpu: dict) -> str:
    index = "" if gpu["index"] is None else f" GPU {gpu['index']}"
    model = f", {gpu['model']}" if gpu["model"] else ""
    return f"{gpu['node']}{index}{model} ({gpu_name(gpu['gpu'])})"


def _local(moment: float, offset: float, seconds: bool = False) -> str:
    form = "%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M"
    return f"{datetime.fromtimestamp(moment + offset, UTC):{form}}"
