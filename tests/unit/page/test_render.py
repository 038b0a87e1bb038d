"""A page as a file: what users wrote is never markup or script, and it loads nothing."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser

from slurm_gpushare.errors import GpushareError
from slurm_gpushare.page import compose, figures, vega
from slurm_gpushare.page.render import Column, Page, Row, Table, in_script, render

HOSTILE = [
    "</script><script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<!--<script>",
    "\"'><svg onload=window.hit=1>",
    "{{ 7 * 7 }}{% raw %}",
    "line\u2028end",
    "javascript:window.hit=1",
]


def sums_of(name: str) -> dict:
    """Return the service's sums of one account, user and backend of that name."""
    line = {"account": name, "user": name, "backend": name, "unit": "2026-11-01", "energy_joules": 1.0}
    amounts = {f"gpu_seconds_{kind}": 3600.0 for kind in ("reserved", "used", "idle", "over", "unmeasured")}
    return {"unit": "day", "lines": [{**line, **amounts, "histogram": [0.0] * 20 + [3600.0]}]}


def page_of(name: str) -> Page:
    """Return a page with ``name`` wherever a user's text can stand."""
    series = {"every": 60.0, "sm": [0.5], "memory": [1]}
    job = {"job": name, "user": name, "account": name, "backend": name, "fraction": 0.5, "start": 0.0, "end": 60.0}
    gpu = {
        "node": name,
        "gpu": name,
        "index": 0,
        "model": name,
        "jobs": [{**job, "points": [[n, 0.5, 1, 1.0] for n in range(240)]}],
    }
    answer = {
        "sums": sums_of(name),
        "timeline": {"start": 0.0, "end": 60.0, "bins": 240, "utc_offset": 0.0, "gpus": [gpu]},
        "heat": {
            "of": "gpus",
            "bucket": 3600.0,
            "utc_offset": 0.0,
            "start": 0.0,
            "end": 3600.0,
            "gpus_left_out": 0,
            "cells": [
                {
                    "node": name,
                    "gpu": name,
                    "model": name,
                    "start": 0.0,
                    "sampled": 1.0,
                    "gpu_seconds_used": 1.0,
                    "gpu_seconds_reserved": 1.0,
                }
            ],
        },
    }
    found, data = compose.overview(answer, ("accounts",))
    data["courses"] = [
        compose.course({"course": series, "started": 0.0, "ended": 60.0, "memory_share_bytes": 2, "fraction": 0.5})
    ]
    return Page(
        title=name,
        subtitle=name,
        made=name,
        notes=[name],
        facts=[(name, name)],
        footer=[name],
        data=data,
        figures=[*found, figures.course(0, name)],
        filters=compose.FILTERS,
        cards=compose.cards(answer["sums"]["lines"]),
        tables=[Table(name, [Column(name)], [Row([name], [("account", name), ("unit", name)])], says=name)],
    )


@given(st.recursive(st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)))
def test_data_in_a_script_element_is_the_same_and_cannot_end_it(data: object) -> None:
    text = in_script(data)
    assert json.loads(text) == data
    assert not re.search("[<>&\u2028\u2029]", text)


def test_what_is_not_a_number_of_json_is_refused() -> None:
    with pytest.raises(ValueError):
        in_script({"value": float("nan")})


@pytest.mark.parametrize("name", HOSTILE)
def test_texts_of_users_are_neither_markup_nor_script(browser: tuple[Browser, Path], name: str) -> None:
    running, folder = browser
    file = folder / "hostile.html"
    file.write_text(render(page_of(name)), encoding="utf-8")
    context = running.new_context()
    page = context.new_page()
    complaints = []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: None if asked.url == file.as_uri() else complaints.append(asked.url))
    page.goto(file.as_uri())
    page.wait_for_function("document.documentElement.dataset.drawn")
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.querySelectorAll('script').length") == 3
    assert page.locator("h1").text_content() == name
    assert page.locator("details[data-of=accounts] tbody th").text_content() == name
    page.locator("#accounts .mark-rect path").nth(1).hover(force=True)
    page.locator(".tip").wait_for(state="visible")
    assert page.evaluate("document.querySelectorAll('img, iframe, a:not(.skip)').length") == 0
    # The file's own policy lets no other script run, whoever brought it in.
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.hit=1'; document.body.append(s); }"
    )
    assert page.evaluate("window.hit") is None
    assert [text for text in complaints if "Content Security Policy" not in text] == []
    context.close()


def test_the_policy_allows_the_two_scripts_and_no_network() -> None:
    text = render(page_of("physics"))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    assert len(scripts) == 2 and all(f"'sha256-{one}'" in policy for one in hashes)
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert not re.search(r"<(link|img|iframe|object|embed|base)\b|url\((?!#)", text[: text.index("<script>")])


def test_a_page_without_figures_has_no_script() -> None:
    text = render(Page("Title", "", "now", tables=[Table("Lines", [Column("A")], [])]))
    assert "<script" not in text and "script-src 'none'" in text and "Nothing to show here." in text


def test_the_library_is_kept_and_anothers_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vl_convert

    made = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda snippet: made.append(snippet) or "var library;")
    assert vega.bundle() == vega.bundle() == "var library;"
    assert len(made) == 1
    kept = next((tmp_path / "gpushare").iterdir())
    kept.chmod(0o666)
    kept.write_text("var another;")
    assert vega.bundle() == "var library;" and len(made) == 2
    kept.unlink()
    os.symlink("/etc/hostname", kept)
    assert vega.bundle() == "var library;" and len(made) == 3


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vl_convert

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda snippet: "var library;")
    assert vega.bundle() == "var library;"


def test_without_the_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise vega.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(vega.metadata, "version", missing)
    with pytest.raises(GpushareError, match=r"slurm-gpushare\[html\]"):
        vega.bundle()


def test_make_gives_a_whole_file(make: Callable) -> None:
    text = make("usage", "-S", "2020-01-01", "-E", "2020-02-01")
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
