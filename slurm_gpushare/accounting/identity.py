"""Who asks: munge's credentials, the identity that every Slurm host has."""

import re
import subprocess
from dataclasses import dataclass

UNMUNGE = "/usr/bin/unmunge"

_TIMEOUT = 5.0  # seconds
_HEADER = re.compile(rb"^([A-Z_]+): +(.*)$")
_NUMBER = re.compile(r".*\(([0-9]+)\)$")


class IdentityError(Exception):
    """The credential is missing, forged, replayed, too old or of another host's munge key."""


@dataclass(frozen=True)
class Identity:
    """Whose credential it is, and what it was made over."""

    uid: int
    payload: bytes


def parse_unmunge(output: bytes) -> Identity:
    """Read what `unmunge` prints: metadata, an empty line, LENGTH bytes of payload.

    Raises
    ------
    IdentityError
        The status is not Success, or the output is not of that form.
    """
    head, _, payload = output.partition(b"\n\n")
    found = {}
    for line in head.split(b"\n"):
        if match := _HEADER.match(line):
            found[match[1].decode()] = match[2].decode("utf-8", "replace").strip()
    status = found.get("STATUS", "no status")
    if status != "Success (0)":
        raise IdentityError(status)
    uid, length = _NUMBER.fullmatch(found.get("UID", "")), found.get("LENGTH", "")
    if uid is None or not (length.isascii() and length.isdigit()) or len(payload) != int(length):
        raise IdentityError("what unmunge printed is not readable")
    return Identity(int(uid[1]), payload)


def identify(credential: str, unmunge: str = UNMUNGE) -> Identity:
    """Decode ``credential``; munged takes each one only once.

    Raises
    ------
    IdentityError
        munged does not vouch for it, or cannot be asked.
    """
    try:
        sent = credential.encode("utf-8", "surrogateescape")
        done = subprocess.run([unmunge], input=sent, capture_output=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise IdentityError(f"{unmunge}: {error}") from None
    if done.returncode != 0 and not done.stdout:
        raise IdentityError(done.stderr.decode("utf-8", "replace").strip() or f"unmunge: status {done.returncode}")
    identity = parse_unmunge(done.stdout)
    if done.returncode != 0:
        raise IdentityError(f"unmunge: status {done.returncode}")
    return identity
