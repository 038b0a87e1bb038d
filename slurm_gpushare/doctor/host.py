"""The door: what is seen of this host. Nothing here raises; what cannot be seen is an Unseen in its place."""

import email.utils
import glob
import json
import os
import re
import shutil
import socket
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from slurm_gpushare.doctor import install
from slurm_gpushare.doctor.check import ROLES
from slurm_gpushare.doctor.facts import FETCHED, Facts, File, Unseen
from slurm_gpushare.paths import NODE_POLICY, POLICY_YAML, agent_socket, spool_dir

TIMEOUT = 10.0  # seconds for a command of Slurm's
CONNECT = 2.0  # seconds for a connection
MOST = 16 << 20  # bytes that are read of a file
PLUGIN_DIRS = (
    *("/usr/lib/*-linux-gnu/slurm-wlm", "/usr/lib/*-linux-gnu/slurm", "/usr/lib64/slurm", "/usr/lib/slurm"),
    *("/opt/slurm/lib/slurm", "/usr/local/lib/slurm"),
)
READ = (
    *(install.PLUGSTACK, install.SUBMIT, install.FILTER, install.LUA_POLICY, NODE_POLICY, "/etc/subuid", "/etc/subgid"),
    *(f"{FETCHED}/plugstack.conf", f"{FETCHED}/cli_filter.lua"),
    *("/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/unprivileged_userns_clone"),
)
SUID = (
    "/usr/libexec/apptainer/bin/starter-suid",
    "/usr/lib/*/apptainer/bin/starter-suid",
    "/usr/libexec/singularity*/bin/starter-suid",
)
DAEMONS = {"slurmctld": "controller", "slurmd": "node", "slurmdbd": "accounting"}


def gather(role: str | None) -> Facts:
    """Return what is seen of this host, whose role is found from what runs unless it is given."""
    facts = Facts(frozenset({role}) if role else frozenset(), os.geteuid() == 0)
    files, values = facts.files, facts.values
    for argv in (
        ("scontrol", "--version"),
        ("scontrol", "show", "config"),
        ("scontrol", "show", "partition", "-o"),
        ("scontrol", "show", "licenses"),
    ):
        facts.outputs[argv] = _seen(_command, argv)
    for path in READ:
        _add(files, path, read=True)
    for path in (*install.TRUSTED, "/dev/fuse", *(found for each in SUID for found in glob.glob(each))):
        if path not in files:
            _add(files, path, read=False)
    running = _seen(_running)
    facts.roles = facts.roles or roles_of(running if isinstance(running, set) else set())
    included = [one for pattern in _includes(facts) for one in sorted(glob.glob(pattern))]
    for path in included:
        _add(files, path, read=True)
    values["plugstack_included"] = included
    values["plugin_path"] = _seen(_plugin_path, facts)
    if isinstance(values["plugin_path"], str):
        _add(files, values["plugin_path"], read=True)
    values["node_policy"] = policy = _seen(_node_policy, facts)
    values.update(_policy())
    values["munge"] = _seen(_munge)
    url = policy["agent"]["service"] if isinstance(policy, dict) else None
    if url:
        values["service"], values["clock_skew"] = _seen(_service, url), _seen(_skew, url)
        values["store"] = _store(url) if isinstance(values["service"], dict) else Unseen("the service does not answer")
    else:
        values["clock_skew"] = Unseen("the policy names no service to compare with")
    if "node" in facts.roles:
        _node(facts)
    return facts


def roles_of(running: set[str]) -> frozenset[str]:
    """Return the roles of a host by the names of the programs that run; where none is a daemon it is a login node."""
    return frozenset(DAEMONS[name] for name in running if name in DAEMONS) or frozenset({ROLES[1]})


def node_names(host: str) -> list[str]:
    """Return the nodes of the slurmd that run here, by their -N, else the host's short name; none where none runs."""
    argvs = [argv for argv in _argvs() if os.path.basename(argv[0]) == "slurmd"]
    return sorted({argv[argv.index("-N") + 1] if "-N" in argv[:-1] else host.split(".")[0] for argv in argvs})


def _node(facts: Facts) -> None:
    values = facts.values
    host = socket.gethostname()
    names = node_names(host)
    node = values["node"] = os.environ.get("SLURMD_NODENAME") or (host if host in names or not names else names[0])
    show = ("scontrol", "show", "node", node, "-o")
    facts.outputs[show] = _seen(_command, show)
    values["devices"] = [path for path in glob.glob("/dev/nvidia*") if re.fullmatch(r"/dev/nvidia\d+", path)]
    values["nvml"] = _seen(_nvml)
    values["programs"] = {name: shutil.which(name) for name in ("nvidia-cuda-mps-control",)}
    values["agent"] = _seen(_agent, node)
    values["spool"] = _seen(_spool, node)
    policy = values["node_policy"]
    if isinstance(policy, dict):
        values["runtime"] = _seen(_runtime, policy["container"]["runtime"])
        if command := policy["backends"].get("bitfusion", {}).get("command"):
            _add(facts.files, command, read=False)


def _seen(door: Callable, *arguments: object) -> object:
    try:
        return door(*arguments)
    except Unseen as error:
        return error
    except Exception as error:
        return Unseen(f"{type(error).__name__}: {error}")


def _add(files: dict[str, File], path: str, read: bool) -> None:
    data, denied = None, ""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        files[path] = File(denied=error.strerror or str(error))
        return
    if read and stat.S_ISREG(found.st_mode):
        try:
            with open(path, "rb") as stream:
                data = stream.read(MOST)
        except OSError as error:
            denied = error.strerror or str(error)
    files[path] = File(data, found.st_uid, stat.S_IMODE(found.st_mode), found.st_mtime, denied)


def _command(argv: tuple[str, ...]) -> str:
    from slurm_gpushare.slurm.command import SlurmError, run_slurm

    try:
        return run_slurm(list(argv), TIMEOUT)
    except SlurmError as error:
        words = str(error)
        raise Unseen(f"{argv[0]}: not found" if ": not found in " in words else words) from None


def _argvs() -> list[list[str]]:
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as stream:
                words = stream.read().decode("utf-8", "replace").rstrip("\0").split("\0")
        except OSError:
            continue
        found.append(words)
    return found


def _running() -> set[str]:
    names = {os.path.basename(argv[0]) for argv in _argvs()}
    return names | (
        {"slurmdbd"} if any("serve" in argv[1:4] and "gpushare" in " ".join(argv[:3]) for argv in _argvs()) else set()
    )


def _includes(facts: Facts) -> list[str]:
    """Return what plugstack.conf, wherever it is, includes; it is read here where it has a place of its own."""
    try:
        for path in facts.config().get("PlugStackConfig", []):
            if path not in facts.files:
                _add(facts.files, path, read=True)
    except Unseen:
        pass
    try:
        return install.includes(facts.text(install.plugstack_path(facts)))
    except Unseen:
        return []


def _plugin_path(facts: Facts) -> str:
    lines = install.our_lines(facts)
    path = lines[0][1] if lines else install.PLUGIN
    if path.startswith("/"):
        return path
    dirs = [folder for value in facts.config().get("PluginDir", []) for folder in value.split(":")]
    folders = [*dirs, *(found for pattern in PLUGIN_DIRS for found in glob.glob(pattern))]
    candidates = [os.path.join(folder, path) for folder in folders]
    return next((each for each in candidates if os.path.exists(each)), candidates[0] if candidates else path)


def _node_policy(facts: Facts) -> dict:
    from slurm_gpushare.node_policy import node_policy_from_json

    text = facts.text(NODE_POLICY)
    node_policy_from_json(text)
    return json.loads(text)


def _policy() -> dict[str, object]:
    """Return what is wrong with the policy (""), its mode, what it compiles to by path, and pools' silent servers."""
    from slurm_gpushare.cli.why import pool_servers, silent_servers
    from slurm_gpushare.errors import GpushareError
    from slurm_gpushare.policy.compile import to_lua, to_node_json
    from slurm_gpushare.policy.load import load_policy

    names = ("policy_fault", "policy_mode", "compiled", "silent_servers")
    if not os.path.exists(POLICY_YAML):
        return dict.fromkeys(names, Unseen(f"{POLICY_YAML}: not here: the policy is written elsewhere"))
    try:
        policy = load_policy(POLICY_YAML).policy
        compiled = {install.LUA_POLICY: to_lua(policy), NODE_POLICY: to_node_json(policy)}
    except GpushareError as error:
        return dict.fromkeys(names, Unseen("the policy is not valid")) | {
            "policy_fault": " ".join(str(error).split("\n"))
        }
    except OSError as error:
        return dict.fromkeys(names, Unseen(f"{POLICY_YAML}: {error.strerror}"))
    mode = policy.model_dump(include={"mode", "enforce"})
    return dict(zip(names, ("", mode, compiled, _seen(lambda: silent_servers(pool_servers()))), strict=True))


def _munge() -> str:
    from slurm_gpushare.munge import MungeError, decode, encode

    try:
        uid, payload = decode(encode(b"gpushare doctor"))
    except MungeError as error:
        return str(error)
    return "" if (uid, payload) == (os.geteuid(), b"gpushare doctor") else f"gave back uid {uid}, {payload!r}"


def _service(url: str) -> object:
    from slurm_gpushare.accounting.client import live
    from slurm_gpushare.errors import StoreError

    try:
        return live(url)
    except StoreError as error:
        return str(error)


def _store(url: str) -> str:
    """Return "" where the service answers out of its database, else what it says."""
    from slurm_gpushare.accounting.client import ask
    from slurm_gpushare.accounting.selection import Selection
    from slurm_gpushare.errors import StoreError

    try:
        ask(url, "jobs", Selection(time.time() - 1, time.time()))
    except StoreError as error:
        return str(error)
    return ""


def _skew(url: str) -> float:
    """Return seconds that our clock is ahead of the service's, whose Date is in whole seconds."""
    try:
        headers = urllib.request.urlopen(url, timeout=CONNECT).headers
    except urllib.error.HTTPError as error:
        headers = error.headers
    except OSError as error:
        raise Unseen(f"{url} does not answer: {error}") from None
    return time.time() - email.utils.parsedate_to_datetime(headers["Date"]).timestamp()


def _nvml() -> object:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return str(error)
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()


def _agent(node: str) -> str:
    path = agent_socket(node)
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(CONNECT)
        try:
            door.connect(path)
        except PermissionError as error:
            raise Unseen(f"{path}: {error.strerror} (not root)") from None
        except OSError as error:
            return f"{path}: {error.strerror or error}"
    return ""


def _spool(node: str) -> dict[str, object]:
    """Return how many records wait, were refused or are none, and since how many seconds the first waits."""
    folder, found = spool_dir(node), {}
    for name, file in (("waiting", "usage"), ("refused", "refused"), ("corrupt", "corrupt")):
        path = os.path.join(folder, f"{file}.jsonl")
        try:
            with open(path, "rb") as stream:
                lines = stream.readlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise Unseen(f"{path}: {error.strerror} (not root)") from None
        found[name] = len(lines)
        if name == "waiting":
            found["age"] = _age(lines[0]) if lines else None
    return {"folder": folder, **found}


def _age(line: bytes) -> float | None:
    """Return seconds since what a line of the spool tells of ended; None for a line that is no record."""
    try:
        data = json.loads(line)
        return time.time() - (data["ended"] if "ended" in data else data["hour"] + 3600)
    except (ValueError, KeyError, TypeError):
        return None


def _runtime(wanted: str) -> object:
    from slurm_gpushare.container.runtime import find_runtime, version_of
    from slurm_gpushare.errors import BrokenInstallation

    try:
        program = find_runtime(wanted).program
    except BrokenInstallation as error:
        return str(error)
    return program, version_of(program)
