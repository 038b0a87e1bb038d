"""How `gpushare report job` tells of a run in a terminal: facts, a table of its GPUs, and its course over time."""

import textwrap
from collections.abc import Callable, Iterator
from datetime import datetime

from slurm_gpushare.accounting.timeline import ASCII, UNICODE, Glyphs, axis, chart, columns
from slurm_gpushare.cli.output import local_time, print_rows
from slurm_gpushare.cli.report.jobs import elapsed_text
from slurm_gpushare.units import MIB, format_fraction, format_memory

_INDENT = 12  # columns to the left of a fact
_MARGIN = 12  # columns to the left of a chart
_LEAST = 20  # columns of a chart
_NAMED = 8  # jobs on a GPU that are named
RUN_HEADINGS = {
    "job": "JobID",
    "restart": "Restart",
    "state": "State",
    "start": "Start",
    "elapsed_seconds": "Elapsed",
    "nodelist": "Nodes",
    "gpu_seconds_reserved": "Reserved",
    "gpu_seconds_used": "Used",
    "memory_peak_bytes": "Peak MiB",
    "quality": "Quality",
}


def runs_text(runs: list[dict]) -> None:
    """Print one line for each run."""
    print_rows(runs, tuple(RUN_HEADINGS), "table", headings=RUN_HEADINGS, cells=run_cell)


def run_cell(column: str, value: object) -> str:
    """Return a value as the table of runs shows it."""
    if column == "start":
        return local_time(value)
    if column == "elapsed_seconds":
        return elapsed_text(value)
    if column == "memory_peak_bytes":
        return f"{value / MIB:.0f}"
    return gpu_time(value) if column.startswith("gpu_seconds") else str(value)


def gpu_time(seconds: float) -> str:
    """Return GPU-seconds as they are read best: in hours from an hour on."""
    return f"{seconds / 3600:.2f} GPU-h" if seconds >= 3600 else f"{seconds:.1f} GPU-s"


def run_text(run: dict, runs: int, width: int, unicode: bool) -> list[str]:
    """Return the lines that tell of one of ``runs`` runs, ``width`` columns wide."""
    glyphs = UNICODE if unicode else ASCII
    restarted = f", restart {run['restart']}" if runs > 1 and run["restart"] else ""
    lines = [f"Job {run['job']}{restarted}: {run['state'] or 'not known to Slurm'}"]
    lines += [line for name, told in facts(run) if told for line in _fact(name, told, width)]
    parts = run["measured"] or []
    for part in parts:
        lines += ["", *_part_text(part, width)]
    return lines + list(_courses(run, parts, width, glyphs))


def facts(run: dict) -> Iterator[tuple[str, str | None]]:
    """Yield what is told of a run, by name; None is not known, and not told."""
    names = (("account", run["account"]), ("partition", run["partition"]), ("QOS", run["qos"]))
    yield "User", ", ".join([run["user"] or "-", *(f"{word} {name}" for word, name in names if name)])
    end = "still running" if run["end"] is None else f"to {local_time(run['end'])}"
    elapsed = f", {elapsed_text(run['elapsed_seconds'])}" if run["elapsed_seconds"] is not None else ""
    waited = f", after {elapsed_text(run['wait_seconds'])} in the queue" if run["wait_seconds"] is not None else ""
    yield "Time", f"{local_time(run['start'])} {end}{elapsed}{waited}"
    yield "Exit", run["exit_code"] if run["end"] is not None else None
    yield "Request", run["request"]
    yield "Given", _given(run)
    yield "Slurm", run["alloc_tres"]
    yield "Held by", None if run["enforces"] is None else run["enforces"].replace("=", " ").replace(",", ", ")
    yield "Image", run.get("image")  # a service before an upgrade does not tell it
    yield "GPU time", _sums(run)
    yield "Memory", None if run["memory_peak_bytes"] is None else f"{format_memory(run['memory_peak_bytes'])} at most"
    yield "Energy", None if run["energy_joules"] is None else energy(run["energy_joules"])
    coverage = "" if run["coverage"] is None else f", {100 * run['coverage']:.0f} % of the time"
    yield "Quality", f"{run['quality']}{coverage}"
    yield "Reason", run["reason"]
    for one in run.get("now") or ():
        yield "Now", _now(one)


def _given(run: dict) -> str | None:
    if run["gpus"] == 0:
        return "nothing: a client without cli_filter lost what it asked for"
    if run["backend"] is None or not run["gpus"]:
        return None
    each = "" if run["fraction"] is None else f"{format_fraction(run['fraction'])} of "
    gpus, nodes = run["gpus"], run["nodes"]
    where = f" ({run['nodelist']})" if run["nodelist"] else ""
    amount = f"{each}{format_fraction(gpus)} GPU{'s' * (gpus != 1)} on {'each of ' * (nodes > 1)}{nodes} node"
    grant = run["grant"]
    rule = f", rule {grant['rule']}" if grant and grant["rule"] else ""
    memory = f", {format_memory(grant['memory'])} of its memory" if grant and grant["memory"] else ""
    return f"{amount}{'s' * (nodes > 1)}{where} by {run['backend']}{memory}{rule}"


def _sums(run: dict) -> str:
    reserved, used = run["gpu_seconds_reserved"], run["gpu_seconds_used"]
    told = ["reserved not known" if reserved is None else f"{gpu_time(reserved)} reserved"]
    if used is None:
        return ", ".join([*told, "use not known"])
    share = f" ({100 * used / reserved:.0f} %)" if reserved else ""
    told.append(f"{gpu_time(used)} used{share}")
    told += [
        f"{gpu_time(run[f'gpu_seconds_{name}'])} {name}" for name in ("idle", "over") if run[f"gpu_seconds_{name}"]
    ]
    return ", ".join(told)


def energy(joules: float) -> str:
    """Return joules as they are read best."""
    return f"{joules / 3.6e6:.3f} kWh" if joules >= 3.6e5 else f"{joules / 1000:.2f} kJ"


def _now(one: dict) -> str:
    where = f"{one['name']}" + ("" if one["gpu"] is None else f" GPU {one['gpu']}")
    sm = "use not known" if one["sm"] is None else f"{_percent(one['sm'])} of the GPU"
    memory = "memory not known" if one["memory"] is None else format_memory(one["memory"])
    so_far = ""
    if one["used"] is not None and one["measured"]:
        so_far = f"; so far {gpu_time(one['used'])} in {elapsed_text(one['measured'])}"
    return f"{where}: {sm}, {memory}{so_far}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _fact(name: str, told: str, width: int) -> list[str]:
    """Return a fact as lines of ``width`` columns; words are never cut."""
    return textwrap.wrap(
        told,
        max(_INDENT + _LEAST, width),
        initial_indent=f"  {name:<{_INDENT - 3}} ",
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _part_text(part: dict, width: int) -> Iterator[str]:
    index = "" if part["gpu_index"] is None else f" GPU {part['gpu_index']}"
    yield f"{part['node']}{index}: {part['gpu_name'] or 'model not known'} ({part['gpu']})"
    shares = [f"{word} {_percent(part[f'sm_{name}'])}" for name, word in _SM if part[f"sm_{name}"] is not None]
    given = f"share {_percent(part['fraction'])}"
    yield from _fact("Use", ", ".join([*(shares or ["not known"]), given]), width)
    sizes = [
        f"{word} {format_memory(part[f'memory_{name}_bytes'])}"
        for name, word in _MEMORY
        if part[f"memory_{name}_bytes"] is not None
    ]
    yield from _fact("Memory", ", ".join(sizes or ["not known"]), width)
    without = part["gpu_seconds_without_process"]
    idle = part["gpu_seconds_idle"]
    if idle:
        of_it = "" if without is None else f", {gpu_time(without)} of it without a process"
        yield from _fact("Idle", f"{gpu_time(idle)}{of_it}", width)
    if part["energy_joules"] is not None:
        yield from _fact("Energy", energy(part["energy_joules"]), width)
    for offset, seconds, why in part["gaps"] or ():
        yield from _fact("Gap", f"{seconds:.0f} s from {local_time(part['started'] + offset)}: {why}", width)
    if shared := _shared(part):
        yield from _fact("Shared", shared, width)


_SM = (("mean", "mean"), ("p50", "median"), ("p95", "p95"), ("max", "most"))
_MEMORY = (("mean", "mean"), ("p50", "median"), ("p95", "p95"), ("peak", "peak"), ("share", "share"))


def _shared(part: dict) -> str | None:
    count = len(part["others"]) + part["others_unnamed"]
    if not count:
        return None
    named = [
        f"{one['job']} ({one['user'] or '-'}, {_percent(one['fraction'])}, {elapsed_text(one['seconds'])})"
        for one in part["others"][:_NAMED]
    ]
    rest = count - len(named)
    if rest:
        named.append(f"{rest} {'more' if named else 'other'} job{'s' * (rest != 1)}")
    return f"{elapsed_text(part['shared_seconds'])} of the time, with " + ", ".join(named)


def _courses(run: dict, parts: list[dict], width: int, glyphs: Glyphs) -> Iterator[str]:
    drawn = [part for part in parts if part["course"]]
    if not drawn:
        if run["end"] is None:
            yield "  Course    known when the run has ended"
        return
    start, end = min(part["started"] for part in drawn), max(part["ended"] for part in drawn)
    if end <= start:
        return
    room = max(_LEAST, width - _MARGIN)
    height = 4 if len(drawn) <= 2 else 2 if len(drawn) <= 8 else 1
    for part in drawn:
        name = part["node"] + ("" if part["gpu_index"] is None else f" GPU {part['gpu_index']}")
        yield ""
        for title, key, limit, label, largest in (
            ("use", "sm", part["fraction"], _percent, False),
            ("memory", "memory", part["memory_share_bytes"], _size, True),
        ):
            course = part["course"]
            values = columns(course[key], course["every"], part["started"], start, end, room, largest)
            if all(value is None for value in values):
                continue
            marked = f"; {glyphs.limit} the share, {label(limit)}" if limit else ""
            yield f"{name}: {title}{marked}"
            yield from chart(values, limit, height, label, glyphs, _MARGIN)
    yield from axis(start, end, room, _clock(end - start), glyphs, _MARGIN)
    if any(value is None for part in drawn for value in part["course"]["sm"]) or any(part["gaps"] for part in drawn):
        yield f"{glyphs.unknown} not measured"


def _size(size: float) -> str:
    return f"{size / 1024**3:.1f} GiB" if size >= 1024**3 else f"{size / MIB:.0f} MiB"


def _clock(seconds: float) -> Callable[[float], str]:
    """Return how moments are written below a chart of so many seconds."""
    form = "%H:%M:%S" if seconds < 3600 else "%H:%M" if seconds < 86400 else "%m-%d %H:%M"
    return lambda moment: f"{datetime.fromtimestamp(moment):{form}}"
