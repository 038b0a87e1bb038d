"""The Debian mirror, read from the host's own apt configuration.

No host name of a mirror is written in this project: a site's mirror, proxy and keys are the site's.
Formats: sources.list(5), one-line style and deb822.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from slurm_gpushare.errors import LabError

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Source:
    """One binary archive: where it is, what it carries, and how it is trusted."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str | None = None  # a keyring file
    trusted: bool = False


def parse_one_line(text: str) -> list[Source]:
    """Read a sources.list in one-line style: ``deb [option=value …] URI SUITE COMPONENT…``."""
    sources = []
    for raw in text.splitlines():
        match = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)((?:\s+\S+)*)$", raw.split("#", 1)[0].strip())
        if not match:
            continue
        options = dict(pair.split("=", 1) for pair in (match[1] or "").split() if "=" in pair)
        sources.append(
            Source(
                uri=match[2].rstrip("/"),
                suites=(match[3],),
                components=tuple(match[4].split()),
                signed_by=_keyring(options.get("signed-by")),
                trusted=options.get("trusted") == "yes",
            )
        )
    return sources


def parse_deb822(text: str) -> list[Source]:
    """Read a ``*.sources`` file: paragraphs of ``Field: value``, values may go on in indented lines."""
    sources = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                fields[name] = fields.get(name, "") + "\n" + line.strip()
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        for uri in fields.get("uris", "").split():
            sources.append(
                Source(
                    uri=uri.rstrip("/"),
                    suites=tuple(fields.get("suites", "").split()),
                    components=tuple(fields.get("components", "").split()),
                    signed_by=_keyring(fields.get("signed-by")),
                    trusted=fields.get("trusted", "no").lower() == "yes",
                )
            )
    return sources


def _keyring(value: str | None) -> str | None:
    # Signed-By may also hold a fingerprint or the key itself; only a file can be handed on.
    return value if value and value.startswith("/") and "\n" not in value else None


def choose(sources: list[Source], codename: str) -> Source:
    """Return the source that carries Debian's own ``codename`` main; raises LabError when there is none."""
    for source in sources:
        if codename in source.suites and "main" in source.components and not source.uri.startswith("cdrom:"):
            return source
    raise LabError(
        f"no apt source of this host carries '{codename} main': add Debian's archive to /etc/apt/sources.list.d"
    )


def read_host(apt: Path = Path("/etc/apt"), os_release: Path = Path("/etc/os-release")) -> Source:
    """Return the host's Debian archive; raises LabError when the host is not Debian or has none."""
    release = dict(line.split("=", 1) for line in os_release.read_text().splitlines() if "=" in line)
    if release.get("ID", "").strip('"') != "debian":
        raise LabError(f"the lab is built on Debian 12 or 13, this is {release.get('PRETTY_NAME', 'another system')}")
    sources = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
        sources += parse(path.read_text())
    return choose(sources, release.get("VERSION_CODENAME", "").strip('"'))


def deb_line(source: Source, suite: str, *, stale: bool = False, contrib: bool = False) -> str:
    """Return the one-line entry for another ``suite`` of the archive; ``stale`` accepts an expired Release file."""
    options = ["trusted=yes"] if source.trusted else [f"signed-by={source.signed_by or KEYRING}"]
    if stale:
        options.append("check-valid-until=no")
    return f"deb [{' '.join(options)}] {source.uri} {suite} main{' contrib' if contrib else ''}"


def transport_options(dump: str) -> list[str]:
    """Pick proxy, TLS and retry settings out of ``apt-config dump``: how this host reaches its mirror."""
    wanted = re.compile(r'(Acquire::(https?(::[^ ]+)?|Retries|ForceIPv[46])) "[^"]+";$')
    return [line for line in dump.splitlines() if wanted.match(line)]


def host_transport_options() -> list[str]:
    """Return :func:`transport_options` of this host."""
    return transport_options(subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout)
