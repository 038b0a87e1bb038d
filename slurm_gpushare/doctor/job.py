"""Where one job's way broke: request, grant, launch, usage, report."""

from dataclasses import dataclass

from slurm_gpushare.doctor.check import Finding, ok
from slurm_gpushare.errors import GrantError
from slurm_gpushare.grant import decode_grant, looks_like_grant
from slurm_gpushare.launch import LaunchRecord
from slurm_gpushare.slurm.sacct import JobRow

STAGES = ("request", "grant", "launch", "usage", "report")


@dataclass(frozen=True)
class Trace:
    """What was seen of one job. A text is why something could not be seen."""

    job: str
    live: dict | str  # state, reason, extra, nodes, by slurmctld
    row: JobRow | str | None  # by slurmdbd; None: it knows no such job
    record: LaunchRecord | str | None  # on this host; None: none
    here: str | None  # this node's name, None where it is none
    run: dict | str | None  # by the service
    prolog_alloc: bool | None = None


def follow(trace: Trace) -> list[tuple[str, Finding]]:
    """Return a finding for each stage; behind one that fails the rest is skipped."""
    found: list[tuple[str, Finding]] = []
    broken = None
    for stage, judge in zip(STAGES, (_request, _grant, _launch, _usage, _report), strict=True):
        finding = Finding("skip", f"not looked at: the {broken} explains it") if broken else judge(trace)
        if finding.status == "fail" or finding.found.startswith("waits"):
            broken = stage
        found.append((stage, finding))
    return found


def _request(trace: Trace) -> Finding:
    if isinstance(trace.live, str) and not isinstance(trace.row, JobRow):
        why = trace.row or "slurmdbd has no such job, or it is not yours to see"
        return Finding(
            "fail", f"{trace.live}; {why}", "a job refused at submission has no number: `gpushare explain` says why"
        )
    if isinstance(trace.row, JobRow) and trace.row.lost_request:
        return Finding("fail", f"Slurm's command lost {trace.row.lost_request}", "CliFilterPlugins=lua in slurm.conf")
    return ok(f"job {trace.job} is {_state(trace)}")


def _grant(trace: Trace) -> Finding:
    extra = trace.live["extra"] if isinstance(trace.live, dict) else trace.row.extra
    if not looks_like_grant(extra):
        if isinstance(trace.live, dict):
            return Finding("skip", "extra has no grant: no share was asked for, or JobSubmitPlugins=lua is not set")
        return Finding("skip", "sacct has no grant: no share was asked for, or AccountingStoreFlags lacks job_extra")
    try:
        grant = decode_grant(extra)
    except GrantError as error:
        return Finding("fail", str(error), "upgrade slurm-gpushare on this host")
    words = f"{grant.request}: {grant.gpus} x {grant.fraction:g} GPU by {grant.backend}"
    if _state(trace) == "PENDING":
        return Finding("ok", f"waits with {words}: {_reason(trace)}", f"gpushare why {trace.job}")
    return ok(words)


def _launch(trace: Trace) -> Finding:
    record, running = trace.record, _state(trace) in ("RUNNING", "COMPLETING")
    if isinstance(record, LaunchRecord):
        if record.refused:
            return Finding("fail", f"prolog on {record.node} refused it: {record.refused}", "see the words above")
        return ok(f"record on {record.node}, GPUs {', '.join(map(str, record.gpus)) or 'none of the node'}")
    if isinstance(record, str):
        return Finding("skip", record)
    if running and trace.here in _nodes(trace):
        if trace.prolog_alloc is False:
            return Finding(
                "fail",
                f"no record on {trace.here}: prolog did not run (PrologFlags)",
                "PrologFlags=Alloc in slurm.conf",
            )
        return Finding(
            "fail",
            f"no record on {trace.here}: prolog did not write one",
            f"slurmd's log on {trace.here}; gpushare doctor there",
        )
    if running:
        return Finding("skip", f"its record lies on {', '.join(_nodes(trace))}", "run this there")
    if isinstance(trace.row, JobRow) and trace.row.start is None:
        return Finding("fail", f"it never started: {_state(trace)}", "gpushare why, and slurmctld's log")
    code = trace.row.exit_code if isinstance(trace.row, JobRow) else None
    words = f"ended {_state(trace)}, exit {code}"
    if why := _ours(_state(trace), code or ""):
        return Finding("fail", f"{words}: {why}", "its stderr has the line; docs/troubleshooting.md says what to do")
    return ok(words + ("" if code in (None, "0:0") else ": the program's own, or Slurm's"))


def _ours(state: str, code: str) -> str | None:
    """Return what an end means that is not the program's own; 255 may be."""
    from slurm_gpushare.reference.statuses import STATUSES

    if state in ("NODE_FAIL", "BOOT_FAIL"):
        return "the node failed"
    status, _, signal = code.partition(":")
    if signal in ("53", "54"):
        return "Slurm could not start it: its folder, its output file, or the prolog"
    if status == "255":
        return "the container's runtime could not start the image, or the program's own"
    return STATUSES[int(status)][0] if status in ("69", "75", "77", "78", "126", "127") else None


def _usage(trace: Trace) -> Finding:
    if isinstance(trace.run, str):
        return Finding("skip", trace.run)
    if trace.run is None:
        return Finding("skip", "the service has no run of it that is yours to see")
    if trace.run.get("measured"):
        count = len(trace.run["measured"])
        return ok(f"measured on {count} GPU{'s' if count > 1 else ''}, quality {trace.run.get('quality')}")
    if _state(trace) in ("RUNNING", "COMPLETING"):
        return ok("runs: its record comes at its end")
    return Finding(
        "fail", "no agent sent a record of it", "systemctl status gpushare-agent on its nodes; gpushare doctor there"
    )


def _report(trace: Trace) -> Finding:
    if isinstance(trace.run, dict):
        return ok(f"gpushare report job {trace.job}")
    return Finding("skip", trace.run or "the service has no run of it that is yours to see")


def _state(trace: Trace) -> str:
    return trace.live["state"] if isinstance(trace.live, dict) else trace.row.state


def _reason(trace: Trace) -> str:
    return (trace.live["reason"] if isinstance(trace.live, dict) else trace.row.reason) or "no reason given yet"


def _nodes(trace: Trace) -> list[str]:
    return list(trace.live["nodes"]) if isinstance(trace.live, dict) else []
