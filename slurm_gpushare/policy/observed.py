"""What the policy would have done while its mode is ``observe``: job_submit.lua's lines in slurmctld's log."""

import re
from collections.abc import Iterable

# Written by tell_observed in etc/slurm/gpushare/job_submit.lua. Before it stands slurmctld's time stamp, in one of the
# forms of LogTimeFormat; all begin with the time itself.
_LINE = re.compile(
    r"^(?:\[?(?P<when>[^\]\s]+)\]?.*?)?gpushare: observed: user=(?P<user>\S+) account=(?P<account>\S+)"
    r" partition=(?P<partition>\S+) would (?P<what>refuse|grant|change|fail) by (?P<rule>[^:]*): (?P<detail>.*)$"
)

COLUMNS = ("jobs", "what", "rule", "detail", "users", "accounts", "partitions", "last")


def summarise(lines: Iterable[str]) -> list[dict[str, object]]:
    """Return what would have become of how many jobs, the most frequent first, as rows of COLUMNS.

    ``users``, ``accounts`` and ``partitions`` are lists of names; ``last`` is slurmctld's time stamp of the last job,
    as it writes it. Lines that are not of the policy are passed over.
    """
    rows: dict[tuple[str, str, str], dict] = {}
    for line in lines:
        match = _LINE.match(line.rstrip("\n"))
        if match is None:
            continue
        key = (match["what"], match["rule"], match["detail"])
        row = rows.setdefault(
            key, {"jobs": 0, **dict(zip(COLUMNS[1:4], key, strict=True)), **{name: {} for name in COLUMNS[4:7]}}
        )
        row["jobs"] += 1
        row["last"] = match["when"]
        for name, field in (("users", "user"), ("accounts", "account"), ("partitions", "partition")):
            row[name][match[field]] = True
    ordered = sorted(rows.values(), key=lambda row: -row["jobs"])
    return [row | {name: sorted(row[name]) for name in COLUMNS[4:7]} for row in ordered]
