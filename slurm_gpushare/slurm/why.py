"""Why a pending job waits, in the user's words, and what would start sooner. Pure: told from what Slurm knows now."""

import time

from slurm_gpushare.slurm.limits import Limit, parse_limit
from slurm_gpushare.slurm.room import for_room, request_text, slices_per_gpu
from slurm_gpushare.slurm.view import Answer, View

JOBS_SHOWN = 8

# Slurm's reason → (kind, what to tell, what helps).
PLAIN = {
    "JobHeldUser": ("held", "its owner put it on hold", "`scontrol release {job}`"),
    "JobHeldAdmin": ("held", "an administrator put it on hold", "ask the administrator"),
    "JobHoldMaxRequeue": ("held", "it was requeued too often and is on hold", "ask the administrator"),
    "launch_failed_requeued_held": (
        "held",
        "its start failed on a node, and it is on hold since",
        "ask the administrator, then `scontrol release {job}`",
    ),
    "job_requeued_in_held_state": ("held", "it was requeued and is on hold", "`scontrol release {job}`"),
    "Dependency": ("dependency", "it waits for other jobs: {dependency}", None),
    "DependencyNeverSatisfied": (
        "dependency",
        "it will never start: what it waits for can no longer happen ({dependency})",
        "`scancel {job}`, or `scontrol update jobid={job} dependency=` to start it all the same",
    ),
    "BeginTime": ("begin_time", "it may not start before {begin}", "`scontrol update jobid={job} starttime=now`"),
    "JobArrayTaskLimit": ("array_limit", "the {limit} tasks of its array that may run at one time do", None),
    "PartitionDown": ("partition", "partition {partition} starts no jobs now", "ask the administrator"),
    "PartitionInactive": ("partition", "partition {partition} is inactive", "ask the administrator"),
    "PartitionTimeLimit": ("partition", "its time limit is above that of partition {partition}", "a smaller -t"),
    "PartitionNodeLimit": ("partition", "partition {partition} does not allow its number of nodes", "another -N"),
    "AccountNotAllowed": ("partition", "account {account} may not use partition {partition}", "another -A or -p"),
    "QOSNotAllowed": ("partition", "QOS {qos} may not use partition {partition}", "another --qos or -p"),
    "InvalidAccount": ("partition", "account {account} is not valid any more", "ask the administrator"),
    "InvalidQOS": ("partition", "QOS {qos} is not valid any more", "ask the administrator"),
    "BadConstraints": ("never", "it cannot start: no node has all that it asks for", "other options: -C, -c, --mem"),
    "Reservation": ("reservation", "the reservation that it asked for is not active yet", None),
    "Cleaning": ("requeued", "its last run is still being cleaned up", None),
    "Prolog": ("starting", "its nodes are being prepared", None),
}


def explain_wait(view: View) -> Answer:
    """Return why the job waits; a job that does not is told so."""
    job = view.job
    if job.state != "PENDING":
        return Answer("not_pending", [f"it does not wait: it is {job.state}"])
    if job.reason in PLAIN:
        answer = _plain(view)
    elif (limit := parse_limit(job.reason)) is not None:
        answer = _over_limit(view, limit)
    else:
        answer = for_room(view)
    if job.expected_start and job.expected_start > view.now + 1 and answer.kind != "begin_time":
        answer.expected_start = job.expected_start
    return answer


def _plain(view: View) -> Answer:
    job = view.job
    kind, why, sooner = PLAIN[job.reason]
    words = {
        "job": job.job_id,
        "dependency": job.dependency or "its dependency",
        "begin": clock(job.eligible or job.expected_start, view.now),
        "limit": job.array_limit,
        "partition": ",".join(job.partitions),
        "account": job.account,
        "qos": job.qos,
    }
    return Answer(kind, [why.format(**words)], sooner=[sooner.format(**words)] if sooner else [])


def _over_limit(view: View, limit: Limit) -> Answer:
    job = view.job
    whose = f"QOS {job.qos}" if limit.of == "qos" else f"account {job.account}"
    counted = {
        "user": f"all running jobs of {job.user} together",
        "account": f"all running jobs of account {job.account} together",
        "group": "all its running jobs together",
        "job": "one job",
        "node": "one job on one node",
    }[limit.per]
    what = f"time on {limit.what}" if limit.per_minute else limit.what
    answer = Answer("limit", [f"{whose} limits the {what} of {counted}"], [f"Slurm's reason: {job.reason}"])
    if view.limit:
        answer.details.append("the limit: " + ", ".join(f"{name}={count}" for name, count in view.limit.items()))
    if limit.of_one_job:
        answer.why.append("it will not start as it is: no other job's end helps")
        kind = "least" if limit.least else "most"
        answer.sooner.append(f"ask for the {kind} that the limit allows, or ask the administrator")
        return answer
    if limit.per_minute:
        answer.sooner.append("a shorter time limit (-t), or a smaller share; or ask the administrator")
        return answer
    if view.in_use:
        answer.details.append(_in_use(view))
    answer.sooner.append("it starts when these jobs have given back enough")
    if (fits := _under_limit(view)) is not None:
        answer.sooner.append(f"{fits} is within the limit now")
    return answer


def _sums(view: View) -> dict[str, int]:
    names = dict.fromkeys(name for tres in view.in_use.values() for name in tres)
    wanted = [name for name in names if not view.limit or name in view.limit]
    return {name: sum(int(tres.get(name, 0)) for tres in view.in_use.values()) for name in wanted}


def _in_use(view: View) -> str:
    """Return the sum of what the jobs hold, and which jobs."""
    sums = _sums(view)
    jobs = [str(job) for job, tres in sorted(view.in_use.items()) if not sums.keys().isdisjoint(tres)]
    more = f" and {len(jobs) - JOBS_SHOWN} more" if len(jobs) > JOBS_SHOWN else ""
    held = ", ".join(f"{name}={count}" for name, count in sums.items())
    return f"in use: {held or 'nothing'}" + (f" (job {', '.join(jobs[:JOBS_SHOWN])}{more})" if jobs else "")


def _under_limit(view: View) -> str | None:
    """Return the largest share below the job's own that the limit leaves, None where that is none or not known."""
    grant = view.job.grant
    if grant is None or grant.tasks > 1:
        return None
    sums = _sums(view)
    paid = {f"gres/{grant.backend}", *(f"license/{name}" for name in view.job.licences)}
    left = [count - sums.get(name, 0) for name, count in view.limit.items() if name in paid]
    each = min(left, default=0) // (view.job.nodes * grant.gpus)
    if not 0 < each < grant.slices // grant.gpus:
        return None
    return request_text(each, slices_per_gpu(view.job), grant.gpus)


def clock(moment: int | None, now: float) -> str:
    """Return a time as people read it, without the day where that is today's."""
    if moment is None:
        return "a time that Slurm does not tell"
    form = "%H:%M:%S" if time.localtime(moment)[:3] == time.localtime(now)[:3] else "%Y-%m-%d %H:%M:%S"
    return time.strftime(form, time.localtime(moment))
