"""Where things lie on a machine that has slurm-gpushare installed.

Standard library only: the job's path imports this file. Tests pass other roots as arguments;
nothing here is read from the environment, because prolog and epilog run as root.
"""

import os

PREFIX = "/opt/gpushare"
LAUNCHER = PREFIX + "/libexec/gpushare-launch"
PYTHON = PREFIX + "/bin/python3"

CONFIG_DIR = "/etc/gpushare"
POLICY_YAML = CONFIG_DIR + "/gpushare.yaml"
NODE_POLICY = CONFIG_DIR + "/node.json"

RUN_DIR = "/run/gpushare"
SPOOL_DIR = "/var/spool/gpushare"
STATE_DIR = "/var/lib/gpushare"
NODE_STATE_DIR = "/var/lib/gpushare-node"  # on disk: what jobs hold elsewhere must be given back after a reboot too


def node_dir(node: str, run_dir: str = RUN_DIR) -> str:
    """Return the runtime folder of one slurmd (several may share a machine, so its name is in the path)."""
    return os.path.join(run_dir, node)


def job_dir(node: str, job_id: int, run_dir: str = RUN_DIR) -> str:
    """Return the folder that exists from a job's prolog to its epilog on ``node``."""
    return os.path.join(run_dir, node, "jobs", str(int(job_id)))


def launch_record(node: str, job_id: int, run_dir: str = RUN_DIR) -> str:
    """Return the path of the launch record: root writes it, the job's user reads it."""
    return os.path.join(job_dir(node, job_id, run_dir), "launch.json")


def work_dir(node: str, job_id: int, state_dir: str | None = None) -> str:
    """Return the job's own folder (mode 0700, the user's), where a backend keeps its allocation files."""
    return os.path.join(state_dir or NODE_STATE_DIR, node, "jobs", str(int(job_id)), "work")


def ended_mark(node: str, job_id: int, run_dir: str = RUN_DIR) -> str:
    """Return the file by which the epilog's first act says that the job has ended, should the epilog be killed."""
    return os.path.join(job_dir(node, job_id, run_dir), "ended")


def agent_socket(node: str, run_dir: str = RUN_DIR) -> str:
    """Return the datagram-free stream socket on which the agent hears of a job's end."""
    return os.path.join(run_dir, node, "agent.sock")


def spool_dir(node: str, base: str = SPOOL_DIR) -> str:
    """Return where the agent of ``node`` keeps usage records until the service has them."""
    return os.path.join(base, node)
