"""The configuration of the lab's daemons, as text. Pure functions of the lab's parameters."""

from slurm_gpushare.lab import local, lupine, pool
from slurm_gpushare.lab.params import ADDRESS, CONTROLLER, SHARDS_PER_GPU, SLICES_PER_GPU, LabParams

LOG = "/var/log/lab"
CPUS = 8
MEMORY_MIB = 16000
GPU_TYPE = "p100"
# A gres and a licence that are none of ours, for jobs that ask for both.
NVME = 4


def _range(prefix: str, count: int) -> str:
    return f"{prefix}[1-{count}]" if count > 1 else f"{prefix}1"


def slurm_conf(params: LabParams) -> str:
    """Return slurm.conf."""
    slices = sum(server.gpus for server in pool.servers(params)) * SLICES_PER_GPU
    flat = params.pool_placement == "flat"
    lines = [
        f"ClusterName={params.name}",
        f"SlurmctldHost={CONTROLLER}({ADDRESS})",
        "SlurmUser=slurm",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        "StateSaveLocation=/var/lib/slurm/slurmctld",
        "SlurmdSpoolDir=/var/spool/slurmd/%n",
        "SlurmctldPidFile=/run/slurmctld.pid",
        "SlurmdPidFile=/run/slurmd-%n.pid",
        f"SlurmctldLogFile={LOG}/slurmctld.log",
        f"SlurmdLogFile={LOG}/slurmd-%n.log",
        "SlurmctldDebug=verbose",
        "SlurmdDebug=verbose",
        "",
        "# Several nodes on one machine, which has fewer processors than they claim and may have no usable cgroup.",
        "SlurmdParameters=config_overrides",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/linux",
        "JobAcctGatherFrequency=task=5",
        "MpiDefault=none",
        "PropagateResourceLimits=NONE",
        "ReturnToService=2",
        "KillWait=5",
        "# A requeued job waits as long as its old credential lives, two minutes unless this says less.",
        "AuthInfo=cred_expire=30",
        "SlurmdTimeout=60",
        "MinJobAge=600",
        "",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "DefMemPerCPU=500",
        "SchedulerType=sched/backfill",
        "SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=100000,bf_interval=2,"
        "bf_min_age_reserve=0,bf_continue",
        "",
        "AccountingStorageType=accounting_storage/slurmdbd",
        f"AccountingStorageHost={CONTROLLER}",
        "AccountingStorageEnforce=associations,limits",
        "",
    ]
    if params.bare:
        # A site that gives whole GPUs. What docs/install.md changes of it, its test changes.
        lines += ["GresTypes=gpu", "AccountingStorageTRES=gres/gpu"]
    else:
        lines += [
            "GresTypes=gpu,shard,bitfusion,nvme" + (",lupine" if params.lupine else ""),
            "AccountingStorageTRES=gres/gpu,gres/shard,gres/bitfusion"
            + (",license/bitfusion" if flat else "")
            + (",gres/lupine" if params.lupine else "")
            + "".join(f",gres/gpu:{name}" for node in local.nodes(params) if not node.shared for name in node.types),
            "AccountingStoreFlags=job_comment,job_extra",
            "Licenses=matlab:4" + (f",bitfusion:{slices}" if flat else ""),
            "PrologFlags=Alloc",
            "JobSubmitPlugins=lua",
            "CliFilterPlugins=lua",
            "PlugStackConfig=/etc/slurm/plugstack.conf",
            "Prolog=/opt/gpushare/libexec/gpushare-prolog",
            "Epilog=/opt/gpushare/libexec/gpushare-epilog",
        ]
    lines.append("")
    locals_ = {node.name: node for node in local.nodes(params)}
    for number, node in enumerate(params.all_nodes, start=1):
        if params.bare:
            gres = f"gpu:{GPU_TYPE}:{params.gpus}" if node in params.gpu_nodes else ""
        elif node in params.gpu_nodes:
            gres = f"gpu:{GPU_TYPE}:{params.gpus},shard:{params.gpus * SHARDS_PER_GPU},nvme:{NVME}"
        elif node in params.lupine_nodes:
            gres = f"lupine:{lupine.SLICES}"
        elif node in locals_:
            gres = locals_[node].gres
        else:
            gres = f"bitfusion:{slices}"
        lines.append(
            f"NodeName={node} NodeHostname={node} NodeAddr={ADDRESS} Port={18000 + number} CPUs={CPUS} "
            f"RealMemory={MEMORY_MIB} " + (f"Gres={gres} " if gres else "") + "State=UNKNOWN"
        )
    lines.append("")
    if params.bare:
        lines += [
            f"PartitionName=gpu Nodes={_range('n', params.nodes)} Default=YES State=UP",
            f"PartitionName=cpu Nodes={_range('c', params.clients)} State=UP",
        ]
        return "\n".join(lines) + "\n"
    lines += [
        f"PartitionName=shard Nodes={_range('n', params.nodes)} Default=YES State=UP",
        f"PartitionName=bitfusion Nodes={_range('c', params.clients)} State=UP",
    ]
    lines += [f"PartitionName=lupine Nodes={','.join(params.lupine_nodes)} State=UP"] if params.lupine else []
    lines += [f"PartitionName={node.backend} Nodes={node.name} State=UP" for node in local.nodes(params)]
    return "\n".join(lines) + "\n"


def gres_conf(params: LabParams, autodetect: bool = False) -> str:
    """Return gres.conf; with ``autodetect`` Slurm has the plugin that asks NVML for the parts of a GPU."""
    slices = sum(server.gpus for server in pool.servers(params)) * SLICES_PER_GPU
    devices = f"/dev/nvidia[0-{params.gpus - 1}]" if params.gpus > 1 else "/dev/nvidia0"
    gpu_nodes = _range("n", params.nodes)
    lines = [f"NodeName={gpu_nodes} Name=gpu Type={GPU_TYPE} File={devices}"]
    if params.bare:
        return lines[0] + "\n"
    lines += [
        f"NodeName={gpu_nodes} Name=shard Count={params.gpus * SHARDS_PER_GPU}",
        f"NodeName={gpu_nodes} Name=nvme Count={NVME} Flags=CountOnly",
        f"NodeName={_range('c', params.clients)} Name=bitfusion Count={slices} Flags=CountOnly",
    ]
    lines += [f"NodeName={node} Name=lupine Count={lupine.SLICES} Flags=CountOnly" for node in params.lupine_nodes]
    lines += [line for node in local.nodes(params) for line in node.gres_conf(autodetect)]
    return "\n".join(lines) + "\n"


def cgroup_conf() -> str:
    """Return cgroup.conf."""
    return "CgroupPlugin=disabled\n"


def slurmdbd_conf() -> str:
    """Return slurmdbd.conf: MariaDB on its socket, as the database user that has the system user's name."""
    return (
        "AuthType=auth/munge\n"
        f"DbdHost={CONTROLLER}\n"
        "SlurmUser=slurm\n"
        f"LogFile={LOG}/slurmdbd.log\n"
        "DebugLevel=verbose\n"
        "PidFile=/run/slurmdbd.pid\n"
        "StorageType=accounting_storage/mysql\n"
        "StorageHost=localhost\n"
        "StorageUser=slurm\n"
        "StorageLoc=slurm_acct_db\n"
    )


def mariadb_conf() -> str:
    """Return MariaDB's settings: no network, small, and nothing kept safe from a power cut."""
    return (
        "[mysqld]\n"
        "skip-networking\n"
        "innodb_buffer_pool_size=64M\n"
        # What a benchmark over a year of jobs may raise it to; 11.8 keeps it at its first size otherwise.
        "loose_innodb_buffer_pool_size_max=4G\n"
        "innodb_lock_wait_timeout=900\n"
        "innodb_flush_log_at_trx_commit=0\n"
        "innodb_doublewrite=0\n"
        "performance_schema=OFF\n"
        # slurmdbd ends when a write conflicts under it, which MariaDB sets by default from 11.6 on.
        "innodb_snapshot_isolation=OFF\n"
    )


def hosts(params: LabParams) -> str:
    """Return /etc/hosts."""
    servers = [(server.ip, server.name) for server in pool.servers(params)]
    return (
        "127.0.0.1 localhost\n"
        "::1 localhost\n"
        f"{ADDRESS} {CONTROLLER} {' '.join(params.all_nodes)}\n"
        f"{servers[0][0]} pool\n"
    ) + "".join(f"{ip} {name}\n" for ip, name in servers)
