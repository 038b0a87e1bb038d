"""Prolog: what the job was given becomes its launch record on this node.

Run by slurmd as root before the first task (etc/slurm/prolog, installed as gpushare-prolog). It fails, and so drains
the node, for the node's own faults only; what is wrong with a job stands in its record, and its tasks fail by it.
Standard library only.
"""

import os
import time

from slurm_gpushare import backends, paths
from slurm_gpushare.backends.gpu import gpu_numbers
from slurm_gpushare.errors import EXIT_BROKEN, BrokenInstallation, GpushareError, RefusedError
from slurm_gpushare.grant import Grant, decode_grant, looks_like_grant
from slurm_gpushare.launch import ContainerRequest, LaunchRecord, Place, record_to_json
from slurm_gpushare.node.folder import lock_job_folder, make_work, open_job_folder, remove_record, write_file
from slurm_gpushare.node.job import Job, read_job
from slurm_gpushare.node.log import reason, tell
from slurm_gpushare.node_policy import NodePolicy, read_node_policy

OPTION = "SPANK__SLURM_SPANK_OPTION_gpushare_"

IMAGE_WAIT = 5.0  # seconds, for a file system that does not answer

# One slice too few could come from decimals; a grant that costs less than its share was not made by the policy.
ROUNDING = 1e-6


def container_request(environment: dict[str, str]) -> ContainerRequest | None:
    """Return what the job's SPANK options ask for, None for nothing; raises RefusedError for an unknown word."""

    def text(name: str) -> str:
        return environment.get(OPTION + name, "")

    def items(name: str) -> tuple[str, ...]:
        return tuple(item for item in text(name).split(",") if item)

    def flag(name: str) -> str:
        if (value := environment.get(OPTION + name)) is None:
            return ""
        if value in ("", "(null)", "yes"):  # the first two are Slurm's for an option without its value
            return "yes"
        if value != "no":
            raise RefusedError(f"--{name.replace('_', '-')}: {value!r} is neither yes nor no")
        return value

    if text("container_scope") not in ("", "job", "tasks"):
        raise RefusedError(f"--container-scope: {text('container_scope')!r} is neither job nor tasks")
    request = ContainerRequest(
        image=text("container_image"),
        mounts=items("container_mounts"),
        datasets=items("dataset"),
        scope=text("container_scope"),
        workdir=text("container_workdir"),
        mount_home="no" if OPTION + "no_container_mount_home" in environment else flag("container_mount_home"),
        env=items("container_env"),
        writable=flag("container_writable"),
    )
    return request if request.image or request.mounts or request.datasets else None


def disagreement(grant: Grant, environment: dict[str, str], policy: NodePolicy) -> str | None:
    """Return why ``grant`` is not believed, None when it agrees with what Slurm allocated.

    Raises
    ------
    BrokenInstallation
        Its backend is not known on this node.
    """
    backend = backends.find(grant.backend)
    settings = policy.backends.get(grant.backend)
    if settings is None:
        raise BrokenInstallation(f"backend {grant.backend!r} is not in this node's policy: compile it again")
    gpus = grant.gpus * grant.tasks
    if grant.slices < gpus * grant.fraction * policy.slices_per_gpu - ROUNDING:
        return f"{grant.slices} slices are less than {gpus} x {grant.fraction:g} of a GPU"
    # Where each GPU of a pool has licences of its own, places_of tells.
    return backend.agrees(grant, environment, settings) if settings.placement == "flat" else None


def places_of(job: Job, grant: Grant, environment: dict[str, str], policy: NodePolicy) -> tuple[Place, ...]:
    """Return where the job's allocations on this node lie, nothing where the pool's client finds a server.

    Raises
    ------
    GpushareError
        The job's licences do not agree with the grant (status 77), or Slurm does not tell them (75).
    """
    settings = policy.backends[grant.backend]
    if settings.placement == "flat":
        return ()
    from slurm_gpushare.backends.places import find_places  # only a pool's jobs need these
    from slurm_gpushare.node.allocated import given_licences, node_number

    number = node_number(job, environment, grant.nodes)
    return find_places(given_licences(job, environment), grant, settings, policy.slices_per_gpu, number)


def make_record(job: Job, environment: dict[str, str], policy: NodePolicy | None, now: float) -> LaunchRecord | None:
    """Return the launch record of a job, None for one that asks for nothing of ours.

    ``policy`` may be None where the job's extra is no grant. A grant that is not believed is not recorded.
    """
    record = LaunchRecord(
        job_id=job.job_id,
        uid=job.uid,
        gid=job.gid,
        user=job.user,
        node=job.node,
        cluster=job.cluster,
        started=now,
        grant=None,
        sluid=environment.get("SLURM_JOB_SLUID") or None,
    )
    try:
        gpus = gpu_numbers(environment.get("SLURM_JOB_GPUS", ""))
        record = record._replace(gpus=gpus, container=container_request(environment))
        extra = environment.get("SLURM_JOB_EXTRA", "")
        if looks_like_grant(extra):
            grant = decode_grant(extra)
            reason = disagreement(grant, environment, policy)
            if reason is not None:
                raise RefusedError(f"the job's grant does not agree with what Slurm allocated: {reason}")
            record = record._replace(grant=grant, places=places_of(job, grant, environment, policy))
        record_to_json(record).encode()
    except UnicodeEncodeError:
        record = record._replace(grant=None, container=None, refused="the job's options are not UTF-8")
    except (GpushareError, ValueError) as error:
        record = record._replace(refused=str(error), options={"status": getattr(error, "exit_status", EXIT_BROKEN)})
    return record if record.grant or record.container or record.gpus or record.refused else None


def prolog(
    environment: dict[str, str], now: float, run_dir: str = paths.RUN_DIR, node_policy: str = paths.NODE_POLICY
) -> str | None:
    """Write the record of the job in place of what an earlier run of it left.

    Returns what is to be logged, None for nothing; raises GpushareError or OSError for the node's own faults.
    """
    job = read_job(environment)
    granted = looks_like_grant(environment.get("SLURM_JOB_EXTRA"))
    policy = read_node_policy(node_policy) if granted else None
    record = make_record(job, environment, policy, now)
    left = clear(job, run_dir, node_policy)
    if record is not None:
        # Before the backend begins: by this folder epilog and sweep know of a job whose prolog was killed.
        folder = open_job_folder(run_dir, job.node, job.job_id, create=True)
        try:
            if record.grant is not None:
                record = begin(record, policy, environment)
            if record.container is not None and record.container.image.startswith("/"):
                record = look_at_image(record)
            write_file(folder, "launch.json", record_to_json(record), job.gid)
        finally:
            os.close(folder)
        # After the record: without one it would be taken for what an ended job left.
        folder = open_job_folder(paths.NODE_STATE_DIR, job.node, job.job_id, create=True)
        try:
            make_work(folder, job.uid, job.gid)
        finally:
            os.close(folder)
    return left


def begin(record: LaunchRecord, policy: NodePolicy, environment: dict[str, str]) -> LaunchRecord:
    """Have the backend of a believed grant do its part; return the record with what tasks must know of it.

    Where it cannot, the job is refused, and the grant stays in the record: the epilog undoes what was done.
    """
    grant = record.grant
    backend = backends.find(grant.backend)
    try:
        options = dict(backend.begin(record, policy.backends[grant.backend], environment))
    except GpushareError as error:
        return record._replace(refused=str(error), options={"status": error.exit_status})
    if policy.framework_memory and backend.SEES == "card" and grant.fraction < 1:
        options["card_share"] = grant.fraction
    return record._replace(options=options)


def look_at_image(record: LaunchRecord) -> LaunchRecord:
    """Return the record with what the job's image is now, unchanged where its user cannot open it: tasks say why."""
    from slurm_gpushare import quickjson  # only jobs with a container need these
    from slurm_gpushare.container.image import OPTION as option
    from slurm_gpushare.container.image import identity
    from slurm_gpushare.container.mounts import open_source
    from slurm_gpushare.node.user import run_as

    def look() -> bool:
        text = quickjson.dumps(identity(open_source(asked, option), asked))
        return os.write(1, text.encode()) > 0

    asked = record.container.image
    done, output = run_as(record.uid, record.gid, look, IMAGE_WAIT)
    return record._replace(options={**record.options, "image": quickjson.loads(output)}) if done else record


def clear(job: Job, run_dir: str, node_policy: str) -> str | None:
    """Remove what an earlier run of this job left, and give back what it held; return what was not, None for nothing.

    Raises OSError or BrokenInstallation.
    """
    remove_record(run_dir, job.node, job.job_id)
    folder = lock_job_folder(paths.NODE_STATE_DIR, job.node, job.job_id)
    if folder is None:
        return None
    from slurm_gpushare.node.epilog import settle  # hardly any job needs it

    try:
        path = os.path.dirname(paths.work_dir(job.node, job.job_id))
        left = settle(folder, path, None, node_policy, job)
        return None if left is None else f"an earlier run of job {job.job_id}: {left}"
    finally:
        os.close(folder)


def main() -> int:
    """Run as slurmd's prolog; return the exit status, of which any but 0 drains the node."""
    try:
        left = prolog(dict(os.environ), time.time())
        if left is not None:
            tell(f"prolog: {left}")
        return 0
    except (GpushareError, OSError) as error:
        tell(f"prolog: {reason(error)}")
        return 1
