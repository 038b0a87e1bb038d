"""The server's door to assumed.h, the one table of what is not publicly known."""

import re
from pathlib import Path

_TEXT = (Path(__file__).parent / "assumed.h").read_text(encoding="utf-8")


def _value(name: str) -> str:
    found = re.search(rf"^#define {name} (.+)$", _TEXT, re.MULTILINE)
    assert found, f"assumed.h does not define {name}"
    return found[1].strip('"')


WAIT_SECONDS = int(_value("ASSUMED_WAIT_SECONDS"))
ON_DISCONNECT = _value("ASSUMED_ON_DISCONNECT")
