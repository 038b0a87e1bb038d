"""Write the lab's configuration into its root file system, before its first process starts."""

import copy
import json
import os
import secrets
from pathlib import Path

from slurm_gpushare.lab import slurmconf, state
from slurm_gpushare.lab.params import GPU_MODEL, POOL_ADDRESS, LabParams, gpu_list

POOL_PORT = 56001


def ids(root: Path, name: str) -> tuple[int, int]:
    """Return uid and gid of user ``name`` inside ``root``."""
    for line in (root / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return int(fields[2]), int(fields[3])
    raise FileNotFoundError(f"{root}/etc/passwd has no user {name}")


def put(root: Path, path: str, text: str | bytes, owner: str = "root", mode: int = 0o644) -> None:
    """Write one file of the lab with its owner and mode, and the folders above it."""
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode), "wb") as stream:
        stream.write(data)
    os.chown(target, *ids(root, owner))
    os.chmod(target, mode)


def write_files(root: Path, params: LabParams) -> None:
    """Write everything that is text: Slurm's, MariaDB's and munge's settings, the stand-ins' inventory."""
    put(root, "/etc/slurm/slurm.conf", slurmconf.slurm_conf(params))
    put(root, "/etc/slurm/gres.conf", slurmconf.gres_conf(params))
    put(root, "/etc/slurm/cgroup.conf", slurmconf.cgroup_conf())
    put(root, "/etc/slurm/slurmdbd.conf", slurmconf.slurmdbd_conf(), owner="slurm", mode=0o600)
    put(root, "/etc/mysql/mariadb.conf.d/90-lab.cnf", slurmconf.mariadb_conf())
    put(root, "/etc/hosts", slurmconf.hosts(params, POOL_ADDRESS))
    put(root, "/etc/munge/munge.key", secrets.token_bytes(128), owner="munge", mode=0o400)
    if not params.bare:
        for node in params.gpu_nodes:
            inventory = {"gpus": gpu_list(params.name, node, params.gpus)}
            put(root, state.GPU_CONFIG.format(node=node), json.dumps(inventory, indent=1) + "\n")
        _write_pool(root, params)


def site_policy(shipped: dict, params: LabParams) -> dict | None:
    """Return the policy for a pool of another size than the shipped file names; None when that one fits."""
    server = {
        "address": f"{POOL_ADDRESS}:{POOL_PORT}",
        "gpus": params.pool_gpus,
        "gpu_memory": f"{GPU_MODEL['memory_mib']} MiB",
    }
    mine = copy.deepcopy(shipped)
    mine["backends"]["bitfusion"]["servers"] = [server]
    return None if mine == shipped else mine


def _write_pool(root: Path, params: LabParams) -> None:
    token = secrets.token_hex(16)
    server = {
        "listen": POOL_ADDRESS,
        "port": POOL_PORT,
        "dispatcher_port": 55001,
        "data_port": 45201,
        "version": "4.0.1-7a9ad936",
        "token": token,
        "on_disconnect": params.pool_on_disconnect,
        "auto_release_timeout": 600,
        "gpus": gpu_list(params.name, "pool", params.pool_gpus),
    }
    put(root, state.POOL_CONFIG, json.dumps(server, indent=1) + "\n", mode=0o600)
    put(root, "/etc/bitfusion/servers.conf", f"servers:\n- addresses:\n  - {POOL_ADDRESS}:{POOL_PORT}\n")
    put(root, "/etc/bitfusion/client.yaml", client_yaml(token))
    put(root, "/etc/bitfusion/tls/ca.crt", CERTIFICATE)


def client_yaml(token: str) -> str:
    """Return the pool client's settings, in the form that a token's download has."""
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
        "    auto_release_timeout: 10m\n"
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
