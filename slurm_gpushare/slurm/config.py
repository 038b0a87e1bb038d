"""Slurm's running configuration, as `scontrol show config` prints it."""

import re

from slurm_gpushare.slurm.command import SlurmError, run_slurm

TIMEOUT = 10.0  # seconds

_SLURM_USER = re.compile(r"^SlurmUser\s*=\s*[^\s(]*\(([0-9]+)\)\s*$", re.MULTILINE)
_LOG = re.compile(r"^SlurmctldLogFile\s*=\s*(/.*\S)\s*$", re.MULTILINE)
_CLUSTER = re.compile(r"^ClusterName\s*=\s*(\S+)\s*$", re.MULTILINE)


def parse_slurm_user(text: str) -> int:
    """Return the uid of SlurmUser in ``text``; raises SlurmError when it is not there."""
    match = _SLURM_USER.search(text)
    if match is None:
        raise SlurmError("scontrol show config: names no SlurmUser")
    return int(match[1])


def slurm_user() -> int:
    """Ask slurmctld for the uid that Slurm runs as; raises SlurmError."""
    return parse_slurm_user(run_slurm(["scontrol", "show", "config"], TIMEOUT))


def parse_cluster_name(text: str) -> str:
    """Return ClusterName in ``text``; raises SlurmError when it is not there."""
    match = _CLUSTER.search(text)
    if match is None:
        raise SlurmError("scontrol show config: names no ClusterName")
    return match[1]


def cluster_name() -> str:
    """Ask slurmctld for the cluster's name; raises SlurmError."""
    return parse_cluster_name(run_slurm(["scontrol", "show", "config"], TIMEOUT))


def parse_slurmctld_log(text: str) -> str:
    """Return SlurmctldLogFile in ``text``; raises SlurmError when slurmctld logs to syslog."""
    match = _LOG.search(text)
    if match is None:
        raise SlurmError("scontrol show config: names no SlurmctldLogFile: slurmctld logs to syslog, name that file")
    return match[1]


def slurmctld_log() -> str:
    """Ask slurmctld where it logs; raises SlurmError."""
    return parse_slurmctld_log(run_slurm(["scontrol", "show", "config"], TIMEOUT))
