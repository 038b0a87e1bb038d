"""What docs/*.md and README.md tell people to type, and to write into the policy.

In a fenced block of ``sh`` every line is a command, but for those that begin with ``#`` and what lies between
``<<'END'`` and ``END``. In one of ``console`` or of no language these are the lines that begin with a prompt (``$``,
``alice$``, ``root#``) or with one of PROGRAMS; the others are output. In the text it is what stands in backquotes and
begins with one of PROGRAMS and a blank. Words in capitals and in brackets are the reader's to fill in.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SUBMIT = ("sbatch", "srun", "salloc")
PROGRAMS = ("gpushare", ".venv/bin/gpushare", "make", *SUBMIT)

_PROMPT = re.compile(r"^(?:[a-z]+[$#]|\$) (?=\S)")
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*(\[,…\])?|.*….*|\[.*|\{.*|.*[)\]]\.*|<.*>")


@dataclass(frozen=True)
class Typed:
    """One command as it stands on a page."""

    page: str
    text: str
    is_whole: bool  # of a fenced block: what it needs is there

    @property
    def words(self) -> list[str]:
        """The command's words up to what the shell does with its output, without what is left out by an ellipsis."""
        lexer = shlex.shlex(self.text, posix=True, punctuation_chars="<>&;|" if self.is_whole else "<>&;")
        lexer.whitespace_split, lexer.commenters = True, ("#" if self.is_whole else "")
        found = []
        for word in lexer:
            if word[0] in "<>&;|":
                break
            found.append(word)
        return [word for word in found if word != "…"]

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def is_placeholder(word: str) -> bool:
    """Tell whether a word stands for one that the reader chooses: capitals, brackets, an ellipsis."""
    return _PLACEHOLDER.fullmatch(word) is not None


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, without the indentation of their fences."""
    return [
        re.sub(f"^{indent}", "", text, flags=re.MULTILINE)
        for indent, named, text in _FENCE.findall(page.read_text())
        if named == language
    ]


def typed() -> list[Typed]:
    """Return every command of every page."""
    return [command for page in PAGES for command in _of(page)]


def _of(page: Path) -> Iterator[Typed]:
    name = str(page.relative_to(ROOT))
    for language in ("sh", "console", "bash", ""):
        for block in blocks(page, language):
            yield from (Typed(name, line, True) for line in _lines(block, language == "sh"))
    for span in _SPAN.findall(_FENCE.sub("", page.read_text())):
        if span.startswith(tuple(f"{program} " for program in PROGRAMS)):
            yield Typed(name, span, False)


def _lines(block: str, is_all: bool) -> Iterator[str]:
    """Yield the block's commands, each on one line."""
    end = None
    for line in block.replace("\\\n", " ").splitlines():
        if end is not None:
            end = None if line == end else end
            continue
        prompt = _PROMPT.match(line)
        text = line[prompt.end() :] if prompt else line
        if (is_all and text.strip() and not text.startswith("#")) or prompt or text.split(" ")[0] in PROGRAMS:
            yield text
            if (here := re.search(r"<<'?(\w+)'?", text)) is not None:
                end = here[1]
