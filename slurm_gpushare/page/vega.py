"""Vega-Embed with Vega and Vega-Lite as one text of JavaScript, which each page carries along; kept in the cache."""

import os
import stat
import tempfile
from importlib import metadata
from pathlib import Path

from slurm_gpushare.errors import GpushareError

_SNIPPET = "window.vegaEmbed = vegaEmbed;"


def bundle() -> str:
    """Return the JavaScript that defines ``vegaEmbed``, which draws a specification of Vega-Lite.

    It is kept in the user's cache folder (``$XDG_CACHE_HOME/gpushare``), as making it takes two seconds.

    Raises
    ------
    GpushareError
        vl-convert-python is not installed.
    """
    try:
        version = metadata.version("vl-convert-python")
    except metadata.PackageNotFoundError:
        raise GpushareError(
            "--format html needs Python's vl-convert-python and jinja2: pip install 'slurm-gpushare[html]'"
        ) from None
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    kept = Path(home) / "gpushare" / f"vega-{version}.js"
    text = _own(kept)
    if text is None:
        import vl_convert

        text = vl_convert.javascript_bundle(_SNIPPET)
        _keep(kept, text)
    return text


def _own(path: Path) -> str | None:
    """Return the file's text where it is a file of who asks: another's script has no place in this one's page."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, encoding="utf-8") as file:
        facts = os.fstat(descriptor)
        own = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o022
        return file.read() if own else None


def _keep(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError:
        pass  # without a cache it is made each time
