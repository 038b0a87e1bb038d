"""A node's GPUs, what divides them, and what runs containers."""

import re

from slurm_gpushare.doctor.check import Finding, check, ok
from slurm_gpushare.doctor.facts import Facts, Unseen
from slurm_gpushare.slurm.nodes import parse_gres

NODE = ("node",)
SHARED = ("shard", "hami", "mps")


def gres_of_node(facts: Facts) -> dict[str, int]:
    """Return what slurm.conf says that this node has; raises Unseen."""
    text = facts.out("scontrol", "show", "node", facts.value("node"), "-o")
    match = re.search(r"\bGres=(\S+)", text)
    found: dict[str, int] = {}
    for name, count, _ in parse_gres(match[1]) if match and match[1] != "(null)" else []:
        name = name.split(":")[0].removeprefix("gres/")
        found[name] = found.get(name, 0) + count
    return found


@check(
    "node.gres",
    "The node has as many NVIDIA devices as Slurm says, and a whole number of shards to each.",
    "NodeName=… Gres=gpu:N,shard:N*100 in slurm.conf, Name=gpu File=/dev/nvidia[0-N] and Name=shard in gres.conf",
    NODE,
)
def gres(facts: Facts) -> Finding:
    """slurm.conf's numbers and /dev."""
    have, devices = gres_of_node(facts), facts.value("devices")
    gpus, shards = have.get("gpu", 0), have.get("shard", 0)
    if not gpus:
        return ok("Slurm gives no GPU of this node's") if not shards else Finding("fail", "shards, but no gpu")
    size = facts.policy()["slices_per_gpu"]
    parts = {"mig", "vgpu"} & set(facts.policy()["backends"])
    if len(devices) < gpus and not parts:
        return Finding("fail", f"Slurm says {gpus} GPUs, /dev has {len(devices)}")
    if shards and shards != gpus * size:
        remedy = f"Gres=…,shard:{gpus * size} in slurm.conf and Count={gpus * size} in gres.conf"
        return Finding("fail", f"{shards} shards for {gpus} GPUs: the policy counts {size} to each", remedy)
    return ok(f"{gpus} GPUs, {shards} shards, {len(devices)} devices")


@check(
    "node.nvml",
    "NVML answers: without it no use is measured.",
    "install the NVIDIA driver's libnvidia-ml.so.1; `nvidia-smi` must work",
    NODE,
)
def nvml(facts: Facts) -> Finding:
    """As many GPUs as it tells."""
    if not gres_of_node(facts).get("gpu"):
        return Finding("skip", "Slurm gives no GPU of this node's")
    answer = facts.value("nvml")  # number of GPUs, or why not
    return ok(f"NVML tells of {answer} GPUs") if isinstance(answer, int) else Finding("fail", f"NVML: {answer}")


@check(
    "node.mps",
    "Where the policy shares GPUs by MPS, NVIDIA's control program is installed.",
    "install nvidia-cuda-mps-control (the driver's package)",
    NODE,
)
def mps(facts: Facts) -> Finding:
    """By PATH."""
    if "mps" not in facts.policy()["backends"]:
        return Finding("skip", "the policy has no backend mps")
    path = facts.value("programs").get("nvidia-cuda-mps-control")
    return ok(path) if path else Finding("warn", "nvidia-cuda-mps-control: not found")


@check(
    "container.runtime",
    "The policy's container runtime is here.",
    "install Apptainer, or name the runtime by containers.runtime in the policy",
    NODE,
)
def runtime(facts: Facts) -> Finding:
    """What prolog and launcher would find."""
    answer = facts.value("runtime")  # (path, version) or why not
    return ok(" ".join(answer)) if isinstance(answer, tuple) else Finding("warn", str(answer))


@check(
    "container.rights",
    "The runtime is setuid root, or users may have user namespaces.",
    "sysctl user.max_user_namespaces=15000 (on Debian kernel.unprivileged_userns_clone=1 too), or the setuid runtime",
    NODE,
)
def rights(facts: Facts) -> Finding:
    """The starter's mode, the kernel's settings."""
    if any(file.mode & 0o4000 for path, file in facts.files.items() if path.endswith("/starter-suid")):
        return ok("setuid runtime")
    for name, least in (("user/max_user_namespaces", 1), ("kernel/unprivileged_userns_clone", 1)):
        try:
            value = int(facts.text(f"/proc/sys/{name}"))
        except Unseen:
            continue
        if value < least:
            return Finding("fail", f"no setuid runtime, and /proc/sys/{name} is {value}")
    return ok("user namespaces")


@check(
    "container.fuse",
    "A runtime that is not setuid mounts images by /dev/fuse; without it each start unpacks the image.",
    "modprobe fuse; chmod 0666 /dev/fuse",
    NODE,
)
def fuse(facts: Facts) -> Finding:
    """There and open to all."""
    if "/dev/fuse" not in facts.files:
        return Finding("warn", "/dev/fuse: no such file")
    mode = facts.files["/dev/fuse"].mode & 0o777
    if mode & 0o006 != 0o006:
        return Finding("warn", f"/dev/fuse has mode {mode:04o}", "chmod 0666 /dev/fuse")
    return ok(f"/dev/fuse, mode {mode:04o}")


@check(
    "container.subuid",
    "/etc/subuid and /etc/subgid have ranges both, or neither: --fakeroot, which jobs do not use, needs both.",
    "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
    NODE,
)
def subuid(facts: Facts) -> Finding:
    """One without the other is a slip."""
    paths = ("/etc/subuid", "/etc/subgid")
    empty = [path for path in paths if path not in facts.files or not facts.text(path).strip()]
    if len(empty) == 1:
        return Finding("warn", f"{empty[0]}: no range")
    return ok("no ranges: none is needed" if empty else "both have ranges")


@check(
    "pool.client",
    "The pool's client program is here.",
    "install it, or write its path into the policy: backends.bitfusion.command",
    NODE,
)
def client(facts: Facts) -> Finding:
    """The policy's path, executable."""
    path = facts.policy()["backends"].get("bitfusion", {}).get("command")
    if path is None:
        return Finding("skip", "the policy has no backend bitfusion")
    gres = facts.policy()["backends"]["bitfusion"].get("gres")
    if gres and gres not in gres_of_node(facts):
        return Finding("skip", f"this node has no gres {gres}: it is no client of the pool")
    if path not in facts.files:
        return Finding("fail", f"{path}: no such file")
    return (
        ok(path) if facts.files[path].mode & 0o111 else Finding("fail", f"{path}: not executable", f"chmod 0755 {path}")
    )
