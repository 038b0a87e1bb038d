"""Whether a site's job_submit.lua includes ours, by its text: docs/coexistence.md."""

import re

LINE = 'dofile("/etc/slurm/gpushare/job_submit.lua")'

_INCLUDES = re.compile(r"gpushare/job_submit\.lua")
_DEFINES = re.compile(r"\bfunction\s+slurm_job_(submit|modify)\b|\bslurm_job_(submit|modify)\s*=(?!=)")


def include_fault(text: str) -> str | None:
    """Return why slurmctld would not run our decision by this job_submit.lua, None where it does; `text` is that file.

    Comments of one line are left out; what another file defines is not seen.
    """
    lines = [line.split("--", 1)[0] for line in text.splitlines()]
    places = [number for number, line in enumerate(lines, start=1) if _INCLUDES.search(line)]
    if not places:
        return f"includes nothing of slurm-gpushare, so no job gets a share of a GPU: write as its last line {LINE}"
    for number in range(places[-1], len(lines)):
        if found := _DEFINES.search(lines[number]):
            return (
                f"line {number + 1} defines slurm_job_{found[1] or found[2]} below line {places[-1]}, which includes "
                f"ours: ours would not run: make {LINE} the last line"
            )
    return None
