"""The two figures of a study as specifications of Vega-Lite, and their files: SVG and PNG.

They show what Figures 6 and 7 of the study showed that this one repeats: throughput by model, and the time to
completion with and without sharing. Colours are Okabe and Ito's.
"""

from collections.abc import Mapping
from pathlib import Path

from slurm_gpushare.errors import GpushareError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
NAMES = ("throughput", "completion")


def label(case: Mapping) -> str:
    """Return a case as the figures name it."""
    if case["jobs"] == 1:
        return "1 job, whole GPU"
    return f"{case['jobs']} jobs, {case['fraction']:g} each: {case['case']}"


def specifications(results: Mapping) -> dict[str, dict]:
    """Return the specification of each of NAMES; pure."""
    cases = [label(case) for case in results["cases"]]
    by_model = [
        {"model": model, "case": label(case), **_bar(case["throughput"][model], "{:.3g}")}
        for model in results["settings"]["models"]
        for case in results["cases"]
        if case["throughput"][model]
    ]
    whole = results["cases"][0]["seconds"]
    by_case = []
    for case in results["cases"]:
        if case["seconds"]:
            ratio = case["seconds"]["mean"] / whole["mean"] if whole else None
            more = f" ({ratio:.2f} times)" if ratio and case["jobs"] > 1 else ""
            by_case.append({"case": label(case), **_bar(case["seconds"], "{:.3g} s" + more)})
    points = [
        {"case": label(case), "value": one["seconds"]}
        for case in results["cases"]
        for one in case["rounds"]
        if one["objection"] is None
    ]
    colour = {
        "field": "case",
        "type": "nominal",
        "scale": {"domain": cases, "range": list(COLOURS)},
        "legend": {"title": None, "orient": "bottom", "columns": 1, "labelLimit": 400},
    }
    remark = [f"Mean of the rounds; the line is one standard deviation either way. {results['remark']}"]
    return {
        "throughput": {
            **_frame("Throughput by model", remark),
            "data": {"values": by_model},
            "facet": {
                "column": {"field": "model", "type": "nominal", "sort": results["settings"]["models"], "title": None}
            },
            "spec": {"width": 40 * len(cases) + 60, "height": 240, "layer": _bars("images/sec", colour, cases)},
            "resolve": {"scale": {"y": "independent"}},
        },
        "completion": {
            **_frame("Time until all jobs have ended, with and without sharing", remark),
            "width": 90 * len(cases) + 60,
            "height": 260,
            "layer": [
                {"data": {"values": by_case}, "layer": _bars("seconds", colour, cases)},
                {
                    "data": {"values": points},
                    "mark": {"type": "tick", "color": "black", "thickness": 1, "width": 24, "opacity": 0.5},
                    "encoding": {
                        "x": {"field": "case", "type": "nominal", "sort": cases},
                        "y": {"field": "value", "type": "quantitative"},
                    },
                },
            ],
        },
    }


def write(results: Mapping, folder: Path) -> list[Path]:
    """Write each figure into ``folder`` as SVG and PNG and return the files.

    Raises
    ------
    GpushareError
        vl-convert-python is not installed.
    """
    try:
        import vl_convert
    except ImportError:
        raise GpushareError(
            "the figures are not drawn: that needs Python's vl-convert-python: pip install 'slurm-gpushare[html]'"
        ) from None
    made = []
    for name, specification in specifications(results).items():
        svg, png = folder / f"{name}.svg", folder / f"{name}.png"
        svg.write_text(vl_convert.vegalite_to_svg(specification), encoding="utf-8")
        png.write_bytes(vl_convert.vegalite_to_png(specification, scale=2))
        made += [svg, png]
    return made


def _frame(title: str, remark: list[str]) -> dict:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "padding": 12,
        "config": {"font": "sans-serif", "view": {"stroke": None}},
        "title": {"text": title, "subtitle": remark, "anchor": "start"},
    }


def _bar(values: Mapping, text: str) -> dict:
    spread = values["sd"] or 0
    mean = values["mean"]
    # Neither speed nor time is below nothing, however far apart few rounds are.
    return {"value": mean, "from": max(0, mean - spread), "to": mean + spread, "text": text.format(mean)}


def _bars(title: str, colour: dict, cases: list[str]) -> list[dict]:
    x = {"field": "case", "type": "nominal", "sort": cases, "axis": {"labels": False, "title": None, "ticks": False}}
    y = {"field": "value", "type": "quantitative", "title": title, "scale": {"domainMin": 0}}
    return [
        {"mark": {"type": "bar"}, "encoding": {"x": x, "y": y, "color": colour}},
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"x": x, "y": {"field": "from", "type": "quantitative", "title": title}, "y2": {"field": "to"}},
        },
        {
            "mark": {"type": "text", "dy": -8, "fontWeight": "bold"},
            "encoding": {"x": x, "y": {"field": "to", "type": "quantitative"}, "text": {"field": "text"}},
        },
    ]
