"""A unit's file as this stand-in understands it: parsed strictly. Pure functions. See systemd.unit(5)."""

import re
import shlex
from dataclasses import dataclass

# Settings that change nothing here: what a service may reach, when it is started at boot, by what it is started again.
WITHOUT_EFFECT = re.compile(
    r"(Protect|Private|Restrict|Lock|NoNew|Capability|OOM|Limit|Restart|StartLimit|Timeout|Accuracy)\w*"
    r"|Description|Documentation|Wants|After|Before|WantedBy"
)
SETTINGS = {
    "ExecStart", "User", "Type", "UMask", "RuntimeDirectory", "StateDirectory", "StateDirectoryMode",
    "ConditionPathExists", "OnActiveSec", "OnBootSec", "OnUnitActiveSec", "OnUnitInactiveSec",
}  # fmt: skip
SECONDS = {"s": 1, "min": 60, "h": 3600}


class Refused(Exception):
    """What this stand-in does not know."""


@dataclass(frozen=True)
class Unit:
    """The settings of one unit that mean something here, of all its sections together."""

    settings: dict[str, str]

    @property
    def argv(self) -> list[str]:
        """Return the command of a service."""
        return shlex.split(self.settings["ExecStart"])

    @property
    def oneshot(self) -> bool:
        """Whether the service is over when its command is."""
        return self.settings.get("Type") == "oneshot"

    def get(self, name: str, default: str = "") -> str:
        """Return a setting's text."""
        return self.settings.get(name, default)

    @property
    def period(self) -> float:
        """Return the seconds between two runs of a timer's service."""
        return seconds(self.get("OnUnitActiveSec") or self.get("OnUnitInactiveSec"))


def parse(texts: list[str]) -> Unit:
    """Read a unit's file and its drop-ins, the later ones winning; raises Refused."""
    settings: dict[str, str] = {}
    for text in texts:
        for line in text.splitlines():
            line = line.strip()
            if not line or line[0] in "#;" or re.fullmatch(r"\[(Unit|Service|Timer|Install)\]", line):
                continue
            name, equals, value = line.partition("=")
            if not equals or (name not in SETTINGS and not WITHOUT_EFFECT.fullmatch(name)):
                raise Refused(f"unit's line {line!r} is not known here")
            if name in SETTINGS:
                settings[name] = value
    return Unit(settings)


def seconds(text: str) -> float:
    """Return a span such as 20s, 2min or 30; raises Refused."""
    match = re.fullmatch(r"(\d+)(s|min|h)?", text)
    if not match:
        raise Refused(f"span of time {text!r}: write as 20s, 2min or 1h")
    return int(match[1]) * SECONDS[match[2] or "s"]
