"""What prolog and epilog have to say to the administrator.

slurmd logs the output of a script that failed and drops that of one that did not, so a line goes to syslog too.
Standard library only.
"""

import os
import sys
import syslog

LONGEST = 1000  # characters


def tell(line: str) -> None:
    """Write ``line`` to stderr and, where one listens, to syslog: one line, whose words may be a user's."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(line.split()))[:LONGEST]
    print(f"gpushare: {line}", file=sys.stderr)
    if _in_journal():
        return  # systemd's: it would have the line twice
    syslog.openlog("gpushare", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING, line)


def _in_journal() -> bool:
    """Tell whether stderr goes to systemd's journal, as of a unit's own process; JOURNAL_STREAM in systemd.exec(5)."""
    try:
        stream = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"


def reason(error: Exception) -> str:
    """Return the words of ``error`` without the system's number for them."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
