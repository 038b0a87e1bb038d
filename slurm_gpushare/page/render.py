"""A page as one file of HTML: its template, style and script, the data and the library of charts in it."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from slurm_gpushare.errors import GpushareError
from slurm_gpushare.page.figures import Figure
from slurm_gpushare.page.vega import bundle

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    heading: str
    number: bool = False  # it is set to the right


@dataclass(frozen=True)
class Row:
    """A row of a table: its texts, and by which names of the filters (such as ``account``) it is shown or not."""

    cells: Sequence[str]
    keys: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Table:
    """A table of a page."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    says: str = ""
    nothing: str = "Nothing to show here."

    @property
    def filtered(self) -> bool:
        """Tell whether the page's filters hide rows of it."""
        return any(row.keys for row in self.rows)


@dataclass(frozen=True)
class Card:
    """A total above the figures; the script keeps that with a ``key`` to what the filters let through."""

    name: str
    value: str
    key: str | None = None


@dataclass(frozen=True)
class Page:
    """All that is on a page; texts are plain, never markup."""

    title: str
    subtitle: str
    made: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    cards: Sequence[Card] = ()
    facts: Sequence[tuple[str, str]] = ()
    filters: Sequence[tuple[str, str]] = ()  # (name, label)
    notes: Sequence[str] = ()
    footer: Sequence[str] = ()
    data: dict = field(default_factory=dict)  # what the figures' rows are made of; page.js tells the names


def render(page: Page) -> str:
    """Return the page as a whole file of HTML that loads nothing.

    Raises
    ------
    GpushareError
        jinja2 or vl-convert-python is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise GpushareError(
            "--format html needs Python's jinja2 and vl-convert-python: pip install 'slurm-gpushare[html]'"
        ) from None
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    charts = bundle() if page.figures else ""
    script = (_FOLDER / "page.js").read_text(encoding="utf-8") if page.figures else ""
    data = {**page.data, "figures": [asdict(figure) for figure in page.figures]}
    return environment.get_template("template.html").render(
        page=page,
        css=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        # What is in a script element is no markup, so it is not escaped as that; in_script makes it safe there.
        data=Markup(in_script(data)),
        bundle=Markup(charts),
        script=Markup(script),
        scripts=Markup(f"{_hash(charts)} {_hash(script)} 'unsafe-eval'" if page.figures else "'none'"),
        version=_version(),
    )


def in_script(data: object) -> str:
    """Return ``data`` as JSON that can stand in a script element: no text in it ends the element or opens another."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _hash(script: str) -> str:
    """Return what allows this very script, and no other, in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _version() -> str:
    try:
        return metadata.version("slurm-gpushare")
    except metadata.PackageNotFoundError:
        return ""
