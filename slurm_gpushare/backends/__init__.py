"""Backends: one module each, found by name, with the same few names in it.

ENFORCES      what holds a job to its share whatever the site: memory, compute, faults → enforced | advisory | none
MODES         every way of holding it that the backend has: its conditions in words → the same three; with the words of
              ENFORCES among them. docs/enforcement.md is made of these
REMOTE        whether the GPUs are elsewhere than in the node
SAMPLED       whether NVML, run as a task of the job, shows the job's own use and nobody else's
SEES          how much memory a program is shown: that of the whole "card", or of its "share"
agrees(grant, environment, settings)            why prolog must not believe the grant, None when it may
begin(record, settings, environment)            what must be done before the first task, as root in prolog; returns what
                                                goes into the launch record's options: {}, or "environment", variables
                                                of all tasks, "binds", paths for their containers, and "enforces", what
                                                holds this job in fact, as in ENFORCES; "devices", the UUIDs of
                                                record.gpus where numbers do not name them. GpushareError refuses the
                                                job. It may be called again for the same job
finish(job_id, node, settings)                  what of that must be undone, as root in epilog and sweep, without any
                                                record and as often as they like; GpushareError or OSError: tried again
task_argv(grant, settings, step, command, tmpdir)   what a task's command becomes
task_environment(work, settings, place)              what that command must find in its environment
binds(settings)                                 what a container must see of the node
prepare(grant, settings, step, work, environment, place, meanwhile)   what must be done before the task, as the user,
                                                while it may call meanwhile() once: what there is to do besides
epilog(settings, work, environment)             what must be given back when the job has ended, as the user

``settings`` is the policy's BackendPolicy; None for tasks of backends that are not REMOTE, which must not need it. To
add a backend: its module, its name below, its tests, one line of docs.
Standard library only: the job's path imports this package.
"""

import sys

from slurm_gpushare.errors import BrokenInstallation

NAMES = ("gpu", "shard", "mps", "hami", "mig", "vgpu", "bitfusion", "lupine")


def find(name: str):
    """Return the module of the backend ``name``; raises BrokenInstallation when there is none of that name."""
    if name not in NAMES:
        raise BrokenInstallation(f"backend {name!r} is not known here, only {', '.join(NAMES)}: upgrade slurm-gpushare")
    module = "slurm_gpushare.backends." + name
    __import__(module)  # importlib would be one more file to read for every task
    return sys.modules[module]
