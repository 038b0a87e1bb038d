"""docs/troubleshooting.md quotes lines that the code really prints; the changelog knows the version."""

import ast
import re
import tomllib

import pytest

from tests.documented import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
# Lines of Slurm's own.
OF_SLURM = {"Invalid generic resource (gres) specification", "unrecognized option '--gpu-share=0.25'", "-"}


def quoted() -> list[str]:
    """Return the messages in the first columns of the tables."""
    rows = re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)
    return [match[1] for row in rows if (match := re.match(r"`([^`]+)`", row)) and match[1] not in OF_SLURM]


@pytest.fixture(scope="module")
def printed() -> str:
    """All texts of the code, one a line, as one text; what is put into them left out."""
    texts = []
    for file in (ROOT / "slurm_gpushare").rglob("*.py"):
        if "standins" not in file.parts:
            tree = ast.parse(file.read_text())
            texts += [
                node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
    for pattern, between in (("etc/slurm/**/*.lua", r'"\s*\.\.\s*"'), ("spank/*.c", r'"\s*"')):
        for file in ROOT.glob(pattern):
            code = re.sub(between, "", file.read_text())
            texts += re.findall(r'"((?:[^"\\\n]|\\.)*)"', code)
    return "\n".join(texts)


def test_quotes_are_found() -> None:
    assert len(quoted()) > 20


@pytest.mark.parametrize("message", quoted())
def test_every_quoted_message_is_in_the_code(message: str, printed: str) -> None:
    parts = [part.strip() for part in message.split("…") if len(part.strip(" :")) > 2]
    assert parts or message == "--dataset=…: …"
    assert [part for part in parts if part not in printed] == []


def test_a_message_that_nothing_prints_is_missed(printed: str) -> None:
    assert "no such line anywhere in it" not in printed


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
