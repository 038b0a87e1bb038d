"""The pages in a real browser: they draw, filter, stand alone and can be read by everybody."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.unit.page.conftest import iso
from tests.unit.page.history import END, START

PERIOD = ("-S", iso(START), "-E", iso(END))
REPORTS = {
    "usage": ("usage", "--by", "account,user,day", *PERIOD),
    "months": ("usage", "--by", "account,month", "-S", iso(END - 300 * 86400), "-E", iso(END)),
    "jobs": ("jobs", "-S", iso(END - 3 * 86400), "-E", iso(END)),
    "job": ("job", "1021"),
    "efficiency": ("efficiency", *PERIOD),
    "advice": ("advice", *PERIOD),
    "chargeback": ("chargeback", *PERIOD),
    "nothing": ("usage", "-S", "2020-01-01", "-E", "2020-02-01"),
}
# Text and its ground, of everything that is seen: what has less than WCAG's AA.
FAINT = """() => {
  const part = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const colour = (text) => (text.match(/[0-9.]+/g) || []).map(Number);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = colour(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > 0.99) return found;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || element.closest("script,style,noscript,.skip") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const own = colour(element.closest("svg") ? style.fill : style.color).slice(0, 3), behind = ground(element);
    const [high, low] = [light(own), light(behind)].sort((a, b) => b - a);
    if ((high + 0.05) / (low + 0.05) < 4.5) faint.push([walk.currentNode.data.trim(), own, behind]);
  }
  return faint;
}"""  # noqa: E501


@pytest.fixture
def opened(browser: tuple[Browser, Path], make: Callable) -> Iterator[Callable]:
    """Return what opens a report's page; in the end nothing may have been logged, and nothing asked of the network."""
    running, folder = browser
    contexts, complaints = [], []

    def open_page(argv: tuple[str, ...], *, uid: int = 0, text: str | None = None, **how: object) -> Page:
        file = folder / f"{len(contexts)}.html"
        file.write_text(make(*argv, uid=uid) if text is None else text, encoding="utf-8")
        how = {"viewport": {"width": 1200, "height": 900}, **how}
        contexts.append(running.new_context(**how))
        page = contexts[-1].new_page()
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: None if asked.url == file.as_uri() else complaints.append(asked.url))
        page.goto(file.as_uri())
        page.wait_for_function("document.documentElement.dataset.drawn || !document.getElementById('data')")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def drawn(page: Page, work: Callable[[], object]) -> None:
    """Do ``work``, and wait until the page has drawn anew after it."""
    before = page.evaluate("Number(document.documentElement.dataset.drawn)")
    work()
    page.wait_for_function(f"Number(document.documentElement.dataset.drawn) > {before}")


def shown(page: Page, figure: str) -> list[str]:
    """Return the first column of the figure's table."""
    return page.locator(f"details[data-of={figure}] tbody th").all_text_contents()


@pytest.mark.parametrize("name", REPORTS)
def test_every_page_draws_and_can_be_read(opened: Callable, name: str) -> None:
    page = opened(REPORTS[name])
    for chart in page.locator(".chart").all():
        assert chart.locator("svg path").count() > 0, chart.get_attribute("id")
        assert len(chart.get_attribute("aria-label")) > 40
    for scheme, ground in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 26)")):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
        assert page.evaluate(FAINT) == []
    # Turned into a phone: what was drawn wide is drawn anew.
    if page.locator(".chart").count():
        drawn(page, lambda: page.set_viewport_size({"width": 360, "height": 740}))
    else:
        page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for chart in page.locator(".chart svg").all():
        assert chart.bounding_box()["width"] <= 360


def test_all_figures_of_usage_are_there_and_agree(opened: Callable) -> None:
    page = opened(REPORTS["usage"])
    assert page.locator(".chart").evaluate_all("all => all.map((one) => one.id)") == [
        *("accounts", "times", "users", "use", "heat", "timeline"),
    ]
    # Every bar's hours, as the table beside it has them, are the card's.
    reserved = page.locator("details[data-of=accounts] tbody td:nth-child(2)").all_text_contents()
    card = float(page.locator("[data-sum=reserved]").text_content())
    assert sum(map(float, reserved)) == pytest.approx(card, abs=0.05)
    assert len(page.locator("#heat .mark-rect.role-mark path").all()) > 100


def test_filters_narrow_charts_tables_and_totals(opened: Callable) -> None:
    page = opened(REPORTS["usage"])
    whole = float(page.locator("[data-sum=reserved]").text_content())
    of_physics = page.locator("details[data-of=accounts] tbody tr", has_text="physics").locator("td").first
    physics = float(of_physics.text_content())
    drawn(page, lambda: page.select_option("#filter-account", label="physics"))
    assert shown(page, "accounts") == ["physics"]
    assert set(shown(page, "users")) == {"alice", "user02", "user03", "user04"}
    assert float(page.locator("[data-sum=reserved]").text_content()) == physics < whole
    lines = page.locator("table[data-filtered] tbody tr:visible")
    assert set(lines.evaluate_all("all => all.map((one) => one.dataset.account)")) == {"physics"}
    assert "account physics" in page.locator("#state").text_content()
    drawn(page, lambda: page.select_option("#filter-user", label="bob"))
    assert page.locator("#accounts-empty").is_visible() and not page.locator("#accounts").is_visible()
    drawn(page, lambda: page.locator("button[type=reset]").click())
    assert float(page.locator("[data-sum=reserved]").text_content()) == whole


def test_filters_of_time_and_backend(opened: Callable) -> None:
    page = opened(REPORTS["usage"])
    day = iso(END)[:10]
    drawn(page, lambda: page.select_option("#filter-from", label=day))
    lines = page.locator("table[data-filtered] tbody tr:visible")
    assert set(lines.evaluate_all("all => all.map((one) => one.dataset.unit)")) == {day}
    assert len(page.locator("details[data-of=times] tbody tr").all()) <= 6
    drawn(page, lambda: page.select_option("#filter-backend", label="gpu"))
    assert page.locator(".unfiltered").text_content() == "Not filtered by backend."


def test_a_table_by_day_is_filtered_by_months_and_one_by_month_not_by_days(opened: Callable) -> None:
    long = ("-S", iso(END - 300 * 86400), "-E", iso(END))
    page = opened(("usage", "--by", "day", *long))
    month = iso(END)[:7]
    drawn(page, lambda: page.select_option("#filter-to", label=iso(START)[:7]))
    units = page.locator("table[data-filtered] tbody tr:visible").evaluate_all(
        "all => all.map((one) => one.dataset.unit)"
    )
    assert units and not [unit for unit in units if unit.startswith(month)]
    page = opened(("usage", "--by", "month", *PERIOD))
    whole = page.locator("table[data-filtered] tbody tr").count()
    drawn(page, lambda: page.select_option("#filter-from", label=iso(END)[:10]))
    assert page.locator("table[data-filtered] tbody tr:visible").count() == whole
    assert page.locator(".unfiltered").text_content() == "Not filtered by time."


def test_filters_work_by_keyboard_alone(opened: Callable) -> None:
    page = opened(REPORTS["usage"])
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        if reached[-1] == "filter-account":
            break
    assert reached[0] == "skip" and reached[-1] == "filter-account"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    drawn(page, lambda: page.keyboard.type("geo"))
    assert shown(page, "accounts") == ["geology"]
    assert page.locator("[tabindex]:not(.scroll):not(main)").count() == 0


def test_the_tables_of_figures_open_by_keyboard(opened: Callable) -> None:
    page = opened(REPORTS["usage"])
    summary = page.locator("details[data-of=use] summary")
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[data-of=use] table").is_visible()
    heads = page.locator("details[data-of=use] th[scope=col]").all_text_contents()
    assert heads == ["Use", "Reserved h"]


def test_one_gpu_by_job(opened: Callable) -> None:
    page = opened(REPORTS["usage"])
    first = shown(page, "timeline")
    assert first
    page.select_option("#choose-gpu", index=3)
    page.wait_for_function(f"document.querySelector('details[data-of=timeline] tbody th').textContent != '{first[0]}'")
    page.select_option("#choose-what", "memory")
    page.wait_for_function("document.querySelector('#timeline').textContent.includes('GiB')")


def test_print_is_light_and_without_controls(opened: Callable) -> None:
    page = opened(REPORTS["usage"], color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#filter-account").is_visible() and not page.locator("summary").first.is_visible()
    assert page.evaluate(FAINT) == []
    assert page.locator("#state").is_visible()


def test_who_sees_only_their_own_has_nothing_of_others_in_the_file(opened: Callable, make: Callable) -> None:
    text = make(*REPORTS["usage"], uid=1001)
    data = text[text.index('id="data"') : text.index("</script>")]
    assert "alice" in data and not re.search(r"bob|user\d\d|biology|geology", data)
    page = opened((), text=text)
    assert shown(page, "accounts") == ["physics"] and shown(page, "users") == ["alice"]
    job = make("job", str(_first_job_of_alice(page)), uid=1001)
    assert "alice" in job and not re.search(r"\bbob\b|user\d\d|biology|geology", job[: job.index("<script>")])


def _first_job_of_alice(page: Page) -> str:
    return shown(page, "timeline")[0]


def test_figures_stand_without_the_script_as_tables(browser: tuple[Browser, Path], make: Callable) -> None:
    running, folder = browser
    file = folder / "noscript.html"
    file.write_text(make(*REPORTS["usage"]), encoding="utf-8")
    context = running.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("noscript p").is_visible()
    assert page.locator("main table tbody tr").count() > 20
    context.close()
