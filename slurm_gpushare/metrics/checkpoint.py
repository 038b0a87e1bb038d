"""What the agent has summed up so far, on disk: a killed agent loses nothing that it had measured.

One file. Its first line is all that there is to know (the snapshot), each further line what came since, one a sample:
a line of a few kilobytes costs less each second than all of it. A new one takes the file's place, in one step, once a
minute and at each start. The file is synced to disk then, and at each end of a job; until then its lines are the
kernel's, which the end of the agent does not touch.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable

_EVERY = 60.0  # seconds between two snapshots
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Checkpoint:
    """The file at ``path``; its folder is the agent's own."""

    def __init__(
        self, path: str, say: Callable[[str], None] = lambda line: None, clock: Callable[[], float] = time.monotonic
    ):
        self._path = path
        self._say = say
        self._clock = clock
        self._file: int | None = None
        self._due = clock()
        self._told = ""

    def load(self) -> list[dict]:
        """Return the snapshot and what came after it, as far as it is whole; an empty list where there is nothing."""
        try:
            with open(self._path, "rb") as stream:
                lines = stream.read().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            self._say(f"{self._path}: {error.strerror}: what was measured of running jobs is not taken up")
            return []
        found = []
        for line in lines[:-1]:  # what follows the last line end was torn when the agent died
            try:
                found.append(dict(json.loads(line)))
            except (ValueError, TypeError, RecursionError):
                self._say(f"{self._path}: line {len(found) + 1} is not readable; it is read up to there")
                break
        return found

    @property
    def due(self) -> bool:
        """Tell whether it is time for a new snapshot."""
        return self._file is None or self._clock() >= self._due

    def replace(self, snapshot: dict) -> None:
        """Write a new snapshot; where that is not possible the file stays as it is, and is tried again next time."""
        temporary = self._path + ".new"
        try:
            with open(os.open(temporary, _FLAGS | os.O_TRUNC, 0o600), "wb") as stream:
                stream.write(_line(snapshot))
                stream.flush()
                os.fsync(stream.fileno())
                os.replace(temporary, self._path)
                self.close()
                self._file = os.dup(stream.fileno())
            folder = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self._failed(error)
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            return
        self._due = self._clock() + _EVERY
        self._told = ""

    def append(self, entry: dict, sync: bool = False) -> None:
        """Add one line; ``sync``: it is on the disk when this returns. Where it fails, a snapshot is due."""
        if self._file is None:
            return
        data = _line(entry)
        try:
            size = os.fstat(self._file).st_size
            if os.pwrite(self._file, data, size) != len(data):
                os.ftruncate(self._file, size)
                raise OSError("the disk is full")
            if sync:
                os.fsync(self._file)
        except OSError as error:
            self._failed(error)
            self.close()

    def close(self) -> None:
        """Close the file; the next word is a snapshot's."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _failed(self, error: OSError) -> None:
        if str(error) != self._told:
            self._told = str(error)
            self._say(f"what was measured of running jobs is in memory alone: {self._path}: {error}")


def _line(data: dict) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"
