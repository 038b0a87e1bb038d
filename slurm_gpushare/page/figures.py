"""The page's figures: a Vega-Lite specification each, as data, and what its text and its table say. Pure functions.

The page's script fills a figure's rows from the page's data by its ``rows`` (page.js has a function for each name), as
far as the filters let them through; ``table`` are the columns of the same figures as a table. Colours are Okabe and
Ito's that have a contrast of 3:1 on white and on black; what differs by colour differs by pattern too, whose
definitions are in the page (``url(#…)``). No text of users is ever in a specification, of which Vega makes expressions:
they are in the rows alone.
"""

from dataclasses import dataclass

USED, IDLE, UNMEASURED = "#0072B2", "url(#idle)", "url(#unmeasured)"
PARTS = ("Used", "Idle", "Not measured")
JOBS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "url(#job4)", "url(#job5)", "url(#job6)", "url(#job7)")

TEXT, HOURS, PERCENT, MEMORY = "text", "hours", "percent", "memory"


@dataclass(frozen=True)
class Figure:
    """One figure. ``table``: (key of a row, heading, one of TEXT, HOURS, PERCENT, MEMORY)."""

    id: str
    rows: str
    title: str
    says: str  # how it is to be read
    spec: dict
    table: tuple[tuple[str, str, str], ...]
    options: dict | None = None  # for the script's function of its rows


_LABEL = {"labelLimit": 140}


# Below 1, "~s" would write thousandths as "m", which reads as minutes.
_AMOUNT = "abs(datum.value) >= 1000 ? format(datum.value, '~s') : format(datum.value, '.3~g')"

_OF_POWERS = (
    f"indexof([1, 2, 5], round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))) >= 0 ? ({_AMOUNT}) : ''"
)


def _hours(title: str = "GPU-hours") -> dict:
    return {"title": title, "labelExpr": _AMOUNT, "tickCount": 5}


def _part(legend: bool = True) -> dict:
    return {
        "field": "part",
        "type": "nominal",
        "scale": {"domain": list(PARTS), "range": [USED, IDLE, UNMEASURED]},
        "legend": {"title": None, "orient": "top", "symbolSize": 180} if legend else None,
    }


def _tip(*fields: tuple[str, str, str]) -> list[dict]:
    return [
        {"field": field, "title": title, "type": "nominal" if form == "" else "quantitative", "format": form}
        if form
        else {"field": field, "title": title}
        for field, title, form in fields
    ]


_SUMS = (
    ("reserved", "Reserved h", HOURS),
    ("used", "Used h", HOURS),
    ("idle", "Idle h", HOURS),
    ("over", "Over h", HOURS),
    ("unmeasured", "Not measured h", HOURS),
    ("share", "Used %", PERCENT),
)


def by_account() -> Figure:
    """Return the bars of reserved GPU-hours by account."""
    spec = {
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "name", "type": "nominal", "sort": None, "axis": {"title": None, **_LABEL}},
            "x": {"field": "hours", "type": "quantitative", "axis": _hours("reserved GPU-hours")},
            "color": _part(),
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": _tip(("name", "Account", ""), ("part", "What became of it", ""), ("hours", "GPU-hours", ",.2f")),
        },
    }
    return Figure(
        "accounts",
        "parts",
        "Reserved GPU-hours by account",
        "What became of the time that each account reserved: used, held idle, or not measured.",
        spec,
        (("name", "Account", TEXT), *_SUMS),
        {"by": "account", "most": 15, "step": 26},
    )


def by_time(unit: str) -> Figure:
    """Return the bars of reserved GPU-hours by account and ``unit``, a small chart for each account."""
    spec = {
        "facet": {
            "field": "name",
            "type": "nominal",
            "sort": {"field": "place", "op": "min"},
            "title": None,
            "header": {"labelAnchor": "start", "labelFontWeight": "bold", "labelFontSize": 12},
        },
        "spec": {
            "height": 110,
            "mark": {"type": "bar"},
            "encoding": {
                "x": {
                    "field": "unit",
                    "type": "ordinal",
                    "axis": {"title": None, "labelOverlap": True, "labelAngle": 0, "labelExpr": _short(unit)},
                },
                "y": {"field": "hours", "type": "quantitative", "axis": {**_hours(), "tickCount": 3, "title": None}},
                "color": _part(),
                "order": {"field": "order", "type": "quantitative"},
                "tooltip": _tip(
                    ("name", "Account", ""),
                    ("unit", unit.capitalize(), ""),
                    ("part", "What became of it", ""),
                    ("hours", "GPU-hours", ",.2f"),
                ),
            },
        },
        "spacing": 18,
    }
    return Figure(
        "times",
        "facets",
        f"Reserved GPU-hours by account and {unit}",
        "The accounts with most reserved, and the others together; all on one scale.",
        spec,
        (("name", "Account", TEXT), ("unit", unit.capitalize(), TEXT), *_SUMS),
        {"most": 5},
    )


def _short(unit: str) -> str:
    return "slice(datum.value, 5)" if unit == "day" else "datum.value"


def scatter() -> Figure:
    """Return the users by reserved GPU-hours and the part of them that they used."""
    x = {
        "field": "reserved",
        "type": "quantitative",
        "scale": {"type": "log", "nice": True},
        "axis": {**_hours("reserved GPU-hours (logarithmic)"), "labelExpr": _OF_POWERS},
    }
    y = {
        "field": "share",
        "type": "quantitative",
        "scale": {"domainMin": 0, "nice": True},
        "axis": {"title": "used of reserved", "format": ".0%", "tickCount": 5},
    }
    tip = _tip(("name", "User", ""), ("reserved", "Reserved h", ",.2f"), ("idle", "Idle h", ",.2f"))
    tip.append({"field": "share", "title": "Used of reserved", "type": "quantitative", "format": ".0%"})
    size = {
        "field": "idle",
        "type": "quantitative",
        "scale": {"rangeMin": 40, "rangeMax": 900},
        "legend": {"title": "idle GPU-hours", "orient": "top", "labelExpr": _AMOUNT, "tickCount": 3},
    }
    spec = {
        "height": 320,
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "mark": {
                    "type": "circle",
                    "color": USED,
                    "fillOpacity": 0.45,
                    "stroke": USED,
                    "strokeWidth": 1.5,
                    "opacity": 1,
                },
                "encoding": {"size": size, "tooltip": tip},
            },
            {
                "transform": [{"filter": "datum.named"}],
                "mark": {"type": "text", "dy": -12, "fontSize": 11},
                "encoding": {"text": {"field": "name"}},
            },
        ],
    }
    return Figure(
        "users",
        "scatter",
        "Who uses what they reserve",
        "Each user: how much was reserved, what part of it was used, and (the circle's size) what lay idle. "
        "Those with most idle are named.",
        spec,
        (("name", "User", TEXT), *_SUMS),
    )


def histogram() -> Figure:
    """Return how many GPU-hours were used how well."""
    spec = {
        "height": 220,
        "mark": {"type": "bar", "color": USED},
        "encoding": {
            "x": {
                "field": "from",
                "type": "quantitative",
                "scale": {"domain": [0, 1.05], "nice": False},
                "axis": {
                    "title": "use of the share, in each run's mean",
                    "format": ".0%",
                    "values": [0, 0.25, 0.5, 0.75, 1],
                },
            },
            "x2": {"field": "to"},
            "y": {"field": "hours", "type": "quantitative", "axis": _hours("reserved GPU-hours")},
            "y2": {"datum": 0},
            "tooltip": _tip(("range", "Use", ""), ("hours", "GPU-hours", ",.2f")),
        },
    }
    return Figure(
        "use",
        "histogram",
        "How well reserved time was used",
        "Reserved GPU-hours by the use that their run made of its share; the last bar is all of it, or more.",
        spec,
        (("range", "Use", TEXT), ("hours", "Reserved h", HOURS)),
    )


def heat(of: str, gpus: int) -> Figure:
    """Return the map of GPUs over time; ``of`` "gpus": what the devices did, "runs": what the runs used of them."""
    spec = {
        "mark": {"type": "rect"},
        "encoding": {
            "x": _moment("t0"),
            "x2": {"field": "t1"},
            "y": {"field": "gpu", "type": "nominal", "sort": None, "axis": {"title": None, **_LABEL, "grid": False}},
            "color": {
                "field": "use",
                "type": "quantitative",
                "scale": {"scheme": {"name": "cividis", "extent": [0.12, 1]}, "domain": [0, 1], "clamp": True},
                "legend": {"title": "use", "orient": "top", "format": ".0%", "gradientLength": 160, "tickCount": 3},
            },
            "tooltip": [
                *_tip(("gpu", "GPU", ""), ("when", "From", ""), ("use", "Use", ".0%"), ("reserved", "Reserved", ".0%"))
            ],
        },
    }
    whose = "its own reading, whoever used it" if of == "gpus" else "by the jobs that are shown to you"
    return Figure(
        "heat",
        "heat",
        "GPUs over time",
        f"The mean use of each GPU, {whose}. Where there is no cell nothing was measured.",
        spec,
        (("gpu", "GPU", TEXT), ("when", "From", TEXT), ("use", "Use", PERCENT), ("reserved", "Reserved", PERCENT)),
        {"step": 22 if gpus <= 24 else 14},
    )


def timeline(title: str) -> Figure:
    """Return one GPU over time, by job."""
    base = {"x": _moment("t0")}
    spec = {
        "height": 260,
        "layer": [
            {
                "name": "job",
                "transform": [{"filter": "datum.kind == 'job'"}],
                "mark": {"type": "rect", "clip": True},
                "encoding": {
                    **base,
                    "x2": {"field": "t1"},
                    "y": {"field": "low", "type": "quantitative", "axis": {"title": None, "tickCount": 5}},
                    "y2": {"field": "high"},
                    "color": {
                        "field": "colour",
                        "type": "nominal",
                        "scale": {"domain": list(range(len(JOBS))), "range": list(JOBS)},
                        "legend": None,
                    },
                    "tooltip": _tip(
                        ("job", "Job", ""), ("user", "User", ""), ("when", "At", ""), ("text", "Of the GPU", "")
                    ),
                },
            },
            {
                "name": "gap",
                "transform": [{"filter": "datum.kind == 'gap'"}],
                "mark": {"type": "rect", "color": UNMEASURED, "height": 8, "yOffset": -4},
                "encoding": {**base, "x2": {"field": "t1"}, "y": {"value": 260}, "tooltip": _tip(("text", "Here", ""))},
            },
            {
                "name": "limit",
                "transform": [{"filter": "datum.kind == 'limit'"}],
                "mark": {"type": "rule", "strokeDash": [5, 4], "color": "#8a8a8a", "strokeWidth": 1.5},
                "encoding": {"y": {"field": "high", "type": "quantitative"}},
            },
            {
                "name": "name",
                "transform": [{"filter": "datum.kind == 'name'"}],
                "mark": {"type": "text", "fontSize": 11, "fontWeight": "bold", "clip": True},
                "encoding": {**base, "y": {"field": "low", "type": "quantitative"}, "text": {"field": "text"}},
            },
        ],
    }
    return Figure(
        "timeline",
        "timeline",
        title,
        "What each job used of one GPU, stacked: the height is what all of them used together. Dotted below: a job ran "
        "and its use was not measured.",
        spec,
        (
            *(("job", "Job", TEXT), ("user", "User", TEXT), ("account", "Account", TEXT), ("share", "Share", PERCENT)),
            *(
                ("from", "From", TEXT),
                ("to", "To", TEXT),
                ("mean", "Mean use", PERCENT),
                ("memory", "Most memory", MEMORY),
            ),
        ),
    )


def course(number: int, where: str) -> Figure:
    """Return what one run used of one GPU over time, with its share."""

    def half(field: str, title: str, form: str, colour: str) -> dict:
        axis = {"title": title, "tickCount": 4} | ({"format": form} if form else {})
        return {
            "height": 130,
            "layer": [
                {
                    "mark": {
                        "type": "area",
                        "color": colour,
                        "interpolate": "step-after",
                        "fillOpacity": 0.55,
                        "line": {"color": colour, "interpolate": "step-after"},
                    },
                    "encoding": {
                        "x": _moment("t"),
                        "y": {"field": field, "type": "quantitative", "axis": axis},
                        "tooltip": _tip(("when", "At", ""), (f"{field}_text", title.capitalize(), "")),
                    },
                },
                {
                    "transform": [{"filter": f"isValid(datum.{field}_limit)"}],
                    "mark": {"type": "rule", "strokeDash": [5, 4], "color": "#8a8a8a", "strokeWidth": 1.5},
                    "encoding": {"y": {"aggregate": "max", "field": f"{field}_limit", "type": "quantitative"}},
                },
            ],
        }

    spec = {"vconcat": [half("sm", "use of the GPU", ".0%", USED), half("memory", "memory, GiB", "", "#009E73")]}
    return Figure(
        f"course{number}",
        "course",
        f"Use over time: {where}",
        "Above the use of the GPU, below the memory; dashed: the share that the run was given. Gaps were not measured.",
        spec,
        (("when", "From", TEXT), ("sm", "Use", PERCENT), ("memory_text", "Memory", TEXT)),
        {"number": number},
    )


_CLOCK = (
    "utcFormat(datum.value, utcseconds(datum.value) != 0 ? '%H:%M:%S' : "
    "utchours(datum.value) + utcminutes(datum.value) == 0 ? '%m-%d' : '%H:%M')"
)


def _moment(field: str) -> dict:
    # Local times are given as if they were UTC: the reader's browser may be in another time zone than the cluster.
    return {
        "field": field,
        "type": "temporal",
        "scale": {"type": "utc"},
        "axis": {
            "title": None,
            "labelOverlap": True,
            "tickCount": {"signal": "max(2, min(8, floor(width / 90)))"},
            "labelExpr": _CLOCK,
        },
    }
