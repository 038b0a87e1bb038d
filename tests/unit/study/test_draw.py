"""The figures are drawn by Vega-Lite itself, and show the numbers of the results."""

import re
from pathlib import Path

import pytest

from slurm_gpushare.study import draw
from tests.unit.study.test_figures import study


def test_both_figures_as_svg_and_png(tmp_path: Path) -> None:
    made = draw.write(study(100, 117, 200, 150), tmp_path)
    assert sorted(path.name for path in made) == [
        "completion.png",
        "completion.svg",
        "throughput.png",
        "throughput.svg",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made if path.suffix == ".png")
    words = {path.stem: re.findall(r">([^<>]+)</text>", path.read_text()) for path in made if path.suffix == ".svg"}
    assert {"200", "600", "1 job, whole GPU", "4 jobs, 0.25 each: shard", "a", "b"} <= set(words["throughput"])
    assert {"100 s", "117 s (1.17 times)"} <= set(words["completion"])
    for said in words.values():
        assert any("NVIDIA Tesla P100, driver 535.1" in word for word in said)


def test_a_case_without_figures_is_left_out() -> None:
    results = study(100, 117, 200, 150)
    results["cases"][1]["seconds"] = None
    results["cases"][1]["throughput"] = dict.fromkeys("ab")
    made = draw.specifications(results)
    assert {row["case"] for row in made["throughput"]["data"]["values"]} == {"1 job, whole GPU"}
    assert len(made["completion"]["layer"][0]["data"]["values"]) == 1


def test_a_spread_ends_at_nothing() -> None:
    results = study(100, 117, 200, 150)
    results["cases"][0]["seconds"] = {"mean": 10.0, "sd": 25.0, "rounds": 2}
    rows = draw.specifications(results)["completion"]["layer"][0]["data"]["values"]
    assert (rows[0]["from"], rows[0]["to"]) == (0, 35.0)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(draw.GpushareError, match=r"pip install 'slurm-gpushare\[html\]'"):
        draw.write(study(100, 117, 200, 150), tmp_path)
