"""Write the lab's configuration into its root file system, before its first process starts."""

import copy
import json
import os
import secrets
from pathlib import Path

from slurm_gpushare.lab import local, lupine, pool, slurmconf, state
from slurm_gpushare.lab.params import LabParams, gpu_list

POOL_GROUP = "bitfusion"  # whose members may read the pool's token, as the client's own packages have it
POOL_GROUP_ID = 980
POOL_USERS = ("alice", "bob")
# A lab has no network: pip finds what `make install` and `make deb` need in a folder.
PIP_CONF = f"[global]\nno-index = true\nfind-links = {state.WHEELS_INSIDE}\ndisable-pip-version-check = true\n"


def ids(root: Path, name: str) -> tuple[int, int]:
    """Return uid and gid of user ``name`` inside ``root``."""
    for line in (root / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return int(fields[2]), int(fields[3])
    raise FileNotFoundError(f"{root}/etc/passwd has no user {name}")


def put(
    root: Path, path: str, text: str | bytes, owner: str = "root", mode: int = 0o644, group: int | None = None
) -> None:
    """Write one file of the lab with its owner, group (None: the owner's) and mode, and the folders above it."""
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode), "wb") as stream:
        stream.write(data)
    uid, gid = ids(root, owner)
    os.chown(target, uid, gid if group is None else group)
    os.chmod(target, mode)


def write_files(root: Path, params: LabParams) -> None:
    """Write everything that is text: Slurm's, MariaDB's and munge's settings, the stand-ins' inventory."""
    put(root, "/etc/slurm/slurm.conf", slurmconf.slurm_conf(params))
    put(root, "/etc/slurm/gres.conf", slurmconf.gres_conf(params, autodetect=(root / state.NVML_PLUGIN).exists()))
    put(root, "/etc/slurm/cgroup.conf", slurmconf.cgroup_conf())
    put(root, "/etc/slurm/slurmdbd.conf", slurmconf.slurmdbd_conf(), owner="slurm", mode=0o600)
    put(root, "/etc/mysql/mariadb.conf.d/90-lab.cnf", slurmconf.mariadb_conf())
    put(root, "/etc/hosts", slurmconf.hosts(params))
    put(root, "/etc/munge/munge.key", secrets.token_bytes(128), owner="munge", mode=0o400)
    for node in params.gpu_nodes:
        inventory = {"gpus": gpu_list(params.name, node, params.gpus)}
        put(root, state.GPU_CONFIG.format(node=node), json.dumps(inventory, indent=1) + "\n")
    if params.bare:
        put(root, "/etc/pip.conf", PIP_CONF)
    else:
        for name in ("job_submit.lua", "cli_filter.lua", "plugstack.conf"):
            put(root, f"/etc/slurm/{name}", (root / state.SOURCE_INSIDE.lstrip("/") / "etc/slurm" / name).read_text())
        _write_pool(root, params)
        if params.lupine:
            inventory = {"gpus": gpu_list(params.name, "lupine", lupine.GPUS)}
            put(root, lupine.CONFIG, json.dumps(inventory, indent=1) + "\n")
        for node in local.nodes(params):
            inventory = {"gpus": node.inventory(params.name)}
            put(root, state.GPU_CONFIG.format(node=node.name), json.dumps(inventory, indent=1) + "\n")


def site_policy(shipped: dict, params: LabParams) -> dict | None:
    """Return the policy for another pool than the shipped file names; None when that one fits."""
    servers = pool.servers(params)
    placed = params.pool_placement != "flat"
    mine = copy.deepcopy(shipped)
    section = mine["backends"]["bitfusion"]
    section["servers"] = [server.policy(named=placed or len(servers) > 1) for server in servers]
    if placed:
        section["placement"] = params.pool_placement
    if params.lupine:
        mine["backends"]["lupine"] = lupine.backend()
        mine["partitions"]["lupine"] = "lupine"
    for node in local.nodes(params):
        mine["backends"][node.backend] = node.settings
        mine["partitions"][node.backend] = node.backend
    return None if mine == shipped else mine


def _write_pool(root: Path, params: LabParams) -> None:
    token = secrets.token_hex(16)
    servers = pool.servers(params)
    for server in servers:
        settings = {
            "listen": server.ip,
            "port": pool.PORT,
            "dispatcher_port": 55001,
            "data_port": 45201,
            "version": "4.0.1-7a9ad936",
            "token": token,
            "leader": server is servers[0],
            "hostname": server.name,
            "on_disconnect": params.pool_on_disconnect,
            "auto_release_timeout": params.pool_auto_release,
            "wait_seconds": params.pool_wait,
            "nvml": f"{server.devices}/socket",
            "gpus": gpu_list(params.name, server.daemon, server.gpus),
        }
        put(root, server.config, json.dumps(settings, indent=1) + "\n", mode=0o600)
    listed = "".join(f"- addresses:\n  - {server.address}\n" for server in servers)
    put(root, "/etc/bitfusion/servers.conf", f"servers:\n{listed}")
    put(root, "/etc/group", with_pool_group((root / "etc/group").read_text()))
    put(
        root,
        "/etc/bitfusion/client.yaml",
        client_yaml(token, params.pool_auto_release),
        mode=0o640,
        group=POOL_GROUP_ID,
    )
    put(root, "/etc/bitfusion/tls/ca.crt", CERTIFICATE)


def with_pool_group(groups: str) -> str:
    """Return the text of /etc/group with the group that may use the pool."""
    lines = [line for line in groups.splitlines() if not line.startswith(POOL_GROUP + ":")]
    return "\n".join([*lines, f"{POOL_GROUP}:x:{POOL_GROUP_ID}:{','.join(POOL_USERS)}", ""])


def client_yaml(token: str, auto_release: float = 600) -> str:
    """Return the pool client's settings, in the form that a token's download has; ``auto_release`` in seconds."""
    duration = f"{auto_release:g}s" if auto_release % 60 else f"{auto_release / 60:g}m"
    return (
        'version: ""\n'
        "ssl: true\n"
        "cacertpath: /etc/bitfusion/tls/ca.crt\n"
        "keypath: /etc/bitfusion/tls/bitfusion.key\n"
        "certpath: /etc/bitfusion/tls/bitfusion.crt\n"
        "dbcertpath: /etc/bitfusion/tls/ca.crt\n"
        'min-tls-version: ""\n'
        "timeout: 3s\n"
        "authconfig:\n"
        "  enabled: true\n"
        '  username: ""\n'
        '  password: ""\n'
        '  dbusername: ""\n'
        '  dbpassword: ""\n'
        f"  token: {token}\n"
        "network: {}\n"
        "dispatcher:\n"
        "  enabled: true\n"
        "  rdma:\n"
        "    rsocket: true\n"
        "    hops: 2\n"
        "  srs:\n"
        f"    auto_release_timeout: {duration}\n"
    )


CERTIFICATE = "-----BEGIN CERTIFICATE-----\n(the lab's pool speaks without TLS)\n-----END CERTIFICATE-----\n"


def log_folder(folder: Path, root: Path) -> Path:
    """Make the folder of all logs and its mount point in the lab."""
    log = folder / "log"
    log.mkdir(exist_ok=True)
    os.chmod(log, 0o755)
    (root / state.LOG_INSIDE.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for name in ("slurmctld.log", "slurmdbd.log"):
        (log / name).touch()
        os.chown(log / name, *ids(root, "slurm"))
    return log
