"""The site that the machine is before the project comes: Slurm, MariaDB and munge under Debian's own units.

Unlike in the labs Slurm confines jobs by cgroups of version 2 here, also to their GPUs.
"""

from slurm_gpushare.lab import slurmconf
from slurm_gpushare.lab.params import ADDRESS, CONTROLLER
from tests.lab.cluster import until
from tests.vm.image import GPUS, NODE, inventory
from tests.vm.machine import Machine

SLURM_CONF = f"""\
ClusterName=machine
SlurmctldHost={NODE}({ADDRESS})
SlurmUser=slurm
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
SlurmctldPidFile=/run/slurmctld/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
AuthInfo=cred_expire=30
# An emulated processor takes its time.
SlurmdTimeout=120
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={ADDRESS}
AccountingStorageEnforce=associations,limits
GresTypes=gpu
AccountingStorageTRES=gres/gpu
NodeName={NODE} NodeAddr={ADDRESS} CPUs=8 RealMemory=2000 Gres=gpu:{slurmconf.GPU_TYPE}:{GPUS} State=UNKNOWN
PartitionName=gpu Nodes={NODE} Default=YES State=UP
"""
GRES_CONF = f"NodeName={NODE} Name=gpu Type={slurmconf.GPU_TYPE} File=/dev/nvidia[0-{GPUS - 1}]\n"
CGROUP_CONF = "CgroupPlugin=cgroup/v2\nConstrainDevices=yes\nConstrainRAMSpace=yes\n"
SLURMDBD_CONF = f"""\
AuthType=auth/munge
DbdHost={NODE}
DbdAddr={ADDRESS}
SlurmUser=slurm
LogFile=/var/log/slurm/slurmdbd.log
PidFile=/run/slurmdbd/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
"""
DATABASE = (
    "create database slurm_acct_db; create user slurm@localhost identified via unix_socket; "
    "grant all on slurm_acct_db.* to slurm@localhost"
)


def set_up(machine: Machine) -> None:
    """Configure and start the site; every daemon is a unit of Debian's packages, enabled for the next boot."""
    assert CONTROLLER == "login"  # /etc/hosts of the image names it
    machine.put(f"/etc/lab/gpu-{NODE}.json", inventory())
    machine.put("/etc/slurm/slurm.conf", SLURM_CONF)
    machine.put("/etc/slurm/gres.conf", GRES_CONF)
    machine.put("/etc/slurm/cgroup.conf", CGROUP_CONF)
    machine.put("/etc/slurm/slurmdbd.conf", SLURMDBD_CONF, mode="0600", owner="slurm")
    machine.put("/etc/mysql/mariadb.conf.d/90-site.cnf", slurmconf.mariadb_conf())
    # NVML's library and the program that uses a GPU, as the lab installs them.
    machine.run("make", "-C", "/usr/src/slurm-gpushare/slurm_gpushare/lab/standins/gpu", "install")
    machine.run("systemctl", "restart", "gpu-standin", "mariadb")
    machine.run("mariadb", "-e", DATABASE)
    machine.run("systemctl", "enable", "--now", "slurmdbd")
    until("slurmdbd", lambda: machine.run("sacctmgr", "-n", "show", "cluster", check=False).returncode == 0, 120)
    for words in ("cluster machine", "account physics cluster=machine", "user alice account=physics"):
        machine.run("sacctmgr", "-i", "add", *words.split())
    machine.run("systemctl", "enable", "--now", "slurmctld", "slurmd")
    ready(machine)


def ready(machine: Machine) -> None:
    """Wait until the node takes jobs."""
    idle = {"idle", "mix", "alloc"}
    until("the node", lambda: machine.out("sinfo", "-hN", "-o", "%t", check=False) in idle, 120)
