"""Usage records and GPU hours on the node's own disk until the service has them.

``usage.jsonl``: a line each, appended and synced before the epilog is answered. ``corrupt.jsonl``: lines that are
not records (a torn write). ``refused.jsonl``: records that the service refuses, with its answer. Nothing is deleted
unsent.
"""

import itertools
import json
import os
import threading
from collections.abc import Callable, Sequence

from slurm_gpushare.errors import GrantError
from slurm_gpushare.gpu_hour import GpuHour, hour_from_dict, hour_to_json, is_hour
from slurm_gpushare.usage import UsageRecord, usage_from_dict, usage_to_json

USAGE = "usage.jsonl"
CORRUPT = "corrupt.jsonl"
REFUSED = "refused.jsonl"
RUNNING = "running.jsonl"  # of the jobs that still run (checkpoint.py)

_READ_AT_ONCE = 4 << 20  # bytes: more than a batch of records takes


class Spool:
    """The spool folder of one node; safe for one appending and one sending thread."""

    def __init__(self, folder: str):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.folder = folder
        self._lock = threading.Lock()

    def append(self, records: list[UsageRecord | GpuHour]) -> None:
        """Write ``records`` and return when they are on disk; raises OSError when they cannot be."""
        with self._lock:
            self._append(USAGE, "".join(to_line(record) + "\n" for record in records).encode())

    def batch(self, most: int) -> tuple[list[bytes], int]:
        """Return up to ``most`` of the oldest records as lines of JSON, and how many bytes of the spool they stand for.

        A line that is not a record ends the batch; at its beginning it is moved to corrupt.jsonl.
        """
        with self._lock:
            while True:
                lines = self._oldest(most)
                good = list(itertools.takewhile(_is_record, lines))
                if good or not lines:
                    return good, sum(len(line) + 1 for line in good)
                if lines[0]:
                    self._append(CORRUPT, lines[0] + b"\n")
                self._drop(len(lines[0]) + 1)

    def sent(self, length: int) -> None:
        """Forget the oldest ``length`` bytes, which the service has."""
        with self._lock:
            self._drop(length)

    def unsent(self) -> int | None:
        """Return the bytes of records that wait to be sent, None where that cannot be told."""
        try:
            return os.stat(self._path(USAGE)).st_size
        except FileNotFoundError:
            return 0
        except OSError:
            return None

    def refused(self, line: bytes, answer: str) -> None:
        """Keep a record that the service will never take, with its ``answer``, in refused.jsonl."""
        with self._lock:
            note = {"answer": answer, "record": json.loads(line)}
            self._append(REFUSED, json.dumps(note, separators=(",", ":")).encode() + b"\n")

    def _oldest(self, most: int) -> list[bytes]:
        try:
            with open(self._path(USAGE), "rb") as stream:
                data = stream.read(_READ_AT_ONCE)
        except FileNotFoundError:
            return []
        lines = data.split(b"\n")
        # What follows the last line end is a torn write (the writer holds the lock, so nobody is about to finish it),
        # or the rest of a line that was not read whole.
        if not lines[-1] or (len(data) == _READ_AT_ONCE and len(lines) > 1):
            lines.pop()
        return lines[:most]

    def _append(self, name: str, data: bytes) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path(name), flags, 0o600)
        with open(descriptor, "r+b", buffering=0) as stream:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data
            try:
                while data:
                    data = data[stream.write(data) :]
                os.fsync(descriptor)
            except OSError:
                # A full disk must not leave half a record, nor the whole of one that its writer will write again.
                os.ftruncate(descriptor, size)
                raise
        if not size:
            self._sync_folder()

    def _drop(self, length: int) -> None:
        path = self._path(USAGE)
        with open(path, "rb") as stream:
            stream.seek(length)  # beyond the end after a torn last line, which has no line end
            rest = stream.read()
        if not rest:
            os.unlink(path)
        else:
            temporary = path + ".new"
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(temporary, flags, 0o600), "wb") as stream:
                stream.write(rest)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        self._sync_folder()

    def _sync_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)


class Outbox:
    """Records on their way into a spool: what cannot be written now is kept, and tried again at the next ``write``."""

    def __init__(self, spool: Spool, say: Callable[[str], None], spooled: Callable[[], None]):
        self._spool = spool
        self._say = say
        self._spooled = spooled
        self.waiting: list[UsageRecord | GpuHour] = []

    def write(self, records: Sequence[UsageRecord | GpuHour] = ()) -> bool:
        """Write ``records`` and what was kept; return whether nothing is left unwritten."""
        self.waiting += records
        if not self.waiting:
            return True
        try:
            self._spool.append(self.waiting)
        except OSError as error:
            self._say(f"{len(self.waiting)} usage record(s) cannot be written and are kept in memory: {error}")
            return False
        self.waiting = []
        self._spooled()
        return True


def to_line(record: UsageRecord | GpuHour) -> str:
    """Return a record as one line of JSON."""
    return hour_to_json(record) if isinstance(record, GpuHour) else usage_to_json(record)


def of_line(line: str | bytes) -> UsageRecord | GpuHour:
    """Read a line of JSON; raises GrantError or ValueError where it is no record."""
    try:
        data = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return hour_from_dict(data) if is_hour(data) else usage_from_dict(data)


def _is_record(line: bytes) -> bool:
    try:
        of_line(line)
    except (GrantError, ValueError):
        return False
    return True
