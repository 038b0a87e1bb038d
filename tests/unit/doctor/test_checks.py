"""Each check of `gpushare doctor`, where all is well and where it is not."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_gpushare.doctor import install, subjects
from slurm_gpushare.doctor.check import STATUSES, Check, Finding, exit_status, ok, run_check, run_checks
from slurm_gpushare.doctor.elf import read_number
from slurm_gpushare.doctor.facts import Facts, File, Unseen
from slurm_gpushare.doctor.host import roles_of
from slurm_gpushare.doctor.slurmconf import version_of
from slurm_gpushare.paths import NODE_POLICY, POLICY_YAML

CHECKS = {one.name: one for one in subjects.CHECKS}
CONFIG = {
    "GresTypes": "gpu,shard,bitfusion",
    "AccountingStorageTRES": "cpu,mem,gres/gpu,gres/shard,gres/bitfusion",
    "PrologFlags": "Alloc",
    "JobSubmitPlugins": "lua",
    "CliFilterPlugins": "lua",
    "AccountingStoreFlags": "job_comment,job_extra",
    "Prolog[0]": "/opt/gpushare/libexec/gpushare-prolog",
    "Epilog[0]": "/opt/gpushare/libexec/gpushare-epilog",
    "SchedulerParameters": "bf_continue",
}
POLICY = {
    "slices_per_gpu": 100,
    "backends": {
        "shard": {},
        "mps": {},
        "bitfusion": {
            "gres": "bitfusion",
            "licence": "bitfusion",
            "placement": "flat",
            "command": "/usr/bin/bitfusion",
        },
    },
    "agent": {"service": "http://login:6827"},
}
PYXIS = "required /usr/lib/slurm/spank_pyxis.so # of NVIDIA's\n"
PLUGIN = "/usr/lib/slurm/gpushare.so"
CONFIG_ARGV = ("scontrol", "show", "config")
NODE_ARGV = ("scontrol", "show", "node", "n1", "-o")
PARTITION_ARGV = ("scontrol", "show", "partition", "-o")
LICENCES_ARGV = ("scontrol", "show", "licenses")


def config(**changes: str) -> str:
    return "".join(f"{name:24}= {value}\n" for name, value in {**CONFIG, **changes}.items())


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A shared object with what SPANK_PLUGIN compiles in for Slurm 24.11.5."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not here")
    made = tmp_path_factory.mktemp("plugin") / "gpushare.so"
    code = 'const char plugin_name[] = "gpushare"; const unsigned int plugin_version = (24 << 16) + (11 << 8) + 5;'
    subprocess.run(["gcc", "-shared", "-x", "c", "-", "-o", made], input=code.encode(), check=True)
    return made.read_bytes()


@pytest.fixture
def facts(plugin: bytes) -> Facts:
    """A host on which all is well, of all roles."""

    def text(words: str) -> File:
        return File(words.encode(), mtime=2.0)

    return Facts(
        roles=frozenset({"controller", "login", "node", "accounting"}),
        files={
            install.PLUGSTACK: text("# ours\nrequired gpushare.so prefix=gpushare-\n"),
            install.SUBMIT: text('dofile("/etc/slurm/gpushare/job_submit.lua")\n'),
            install.FILTER: text('dofile("/etc/slurm/gpushare/cli_filter.lua")\n'),
            install.LUA_POLICY: text("lua"),
            NODE_POLICY: text(json.dumps(POLICY)),
            POLICY_YAML: File(b"", mtime=1.0),
            PLUGIN: File(plugin),
            "/dev/fuse": File(mode=0o666),
            "/etc/subuid": text("alice:1:2\n"),
            "/etc/subgid": text("alice:1:2\n"),
            "/proc/sys/user/max_user_namespaces": text("15000\n"),
            "/usr/bin/bitfusion": File(mode=0o755),
        },
        outputs={
            ("scontrol", "--version"): "slurm-wlm 24.11.5\n",
            CONFIG_ARGV: config(),
            NODE_ARGV: "NodeName=n1 Gres=gpu:p100:2(S:0),shard:p100:200(S:0),bitfusion:100 State=IDLE",
            PARTITION_ARGV: "PartitionName=gpu TRESBillingWeights=cpu=1.0,gres/gpu=100,gres/shard=1\nPartitionName=b\n",
            LICENCES_ARGV: "LicenseName=bitfusion\n    Total=100\n",
        },
        values={
            "node": "n1",
            "node_policy": POLICY,
            "plugstack_included": [],
            "plugin_path": PLUGIN,
            "compiled": {install.LUA_POLICY: "lua", NODE_POLICY: json.dumps(POLICY)},
            "policy_fault": "",
            "policy_mode": {"mode": "enforce", "enforce": {"partitions": ["gpu"], "accounts": []}},
            "silent_servers": [],
            "munge": "",
            "service": {"listening": 99.0, "agents": [{"name": "n1", "age": 2.0}]},
            "store": "",
            "clock_skew": -0.4,
            "devices": ["/dev/nvidia0", "/dev/nvidia1"],
            "nvml": 2,
            "programs": {"nvidia-cuda-mps-control": "/usr/bin/nvidia-cuda-mps-control"},
            "runtime": ("/usr/bin/apptainer", "apptainer version 1.4.5"),
            "agent": "",
            "spool": {"folder": "/var/spool/gpushare/n1", "waiting": 2, "age": 4.0, "refused": 0, "corrupt": 0},
        },
    )


def test_all_is_well(facts: Facts) -> None:
    findings = run_checks(subjects.CHECKS, facts)
    assert [(one.name, found) for one, found in findings if found.status != "ok"] == []
    assert exit_status(found for _, found in findings) == 0


def conf(facts: Facts, **changes: str) -> None:
    facts.outputs[CONFIG_ARGV] = config(**changes)


def put(facts: Facts, path: str, text: str) -> None:
    facts.files[path] = File(text.encode())


def owned(facts: Facts, path: str, **changes: int) -> None:
    facts.files[path] = replace(facts.files[path], **changes)


def say(facts: Facts, name: str, value: object) -> None:
    facts.values[name] = value


BAD = [
    ("slurm.version", "fail", "23.11", lambda f: f.outputs.update({("scontrol", "--version"): "slurm 22.05.8"})),
    ("slurm.GresTypes", "fail", "without mps", lambda f: conf(f, GresTypes="gpu,shard,mps,bitfusion")),
    ("slurm.GresTypes", "fail", "GresTypes=gpu,bitfusion,shard", lambda f: conf(f, GresTypes="gpu,bitfusion")),
    ("slurm.AccountingStorageTRES", "fail", "gres/gpu,gres/shard", lambda f: conf(f, AccountingStorageTRES="gres/gpu")),
    ("slurm.PrologFlags", "fail", "PrologFlags=X11,Alloc", lambda f: conf(f, PrologFlags="X11")),
    ("slurm.PrologFlags", "fail", "PrologFlags=Alloc", lambda f: conf(f, PrologFlags="(null)")),
    ("slurm.JobSubmitPlugins", "fail", "=throttle,lua", lambda f: conf(f, JobSubmitPlugins="throttle")),
    ("slurm.CliFilterPlugins", "fail", "CliFilterPlugins=lua", lambda f: conf(f, CliFilterPlugins="(null)")),
    (
        "slurm.AccountingStoreFlags",
        "fail",
        "job_comment,job_extra",
        lambda f: conf(f, AccountingStoreFlags="job_comment"),
    ),
    ("slurm.Prolog", "fail", "Epilog=/opt", lambda f: conf(f, **{"Epilog[0]": "(null)"})),
    ("slurm.Prolog", "warn", "coexistence", lambda f: conf(f, **{"Prolog[0]": "/etc/slurm/prolog.d/*"})),
    (
        "slurm.SchedulerParameters",
        "fail",
        "without extra_c",
        lambda f: conf(f, SchedulerParameters="a=1,extra_constraints"),
    ),
    (
        "slurm.TRESBillingWeights",
        "warn",
        "gres/shard=1",
        lambda f: f.outputs.update({PARTITION_ARGV: "PartitionName=gpu TRESBillingWeights=GRES/shard=0.25"}),
    ),
    ("slurm.Licenses", "fail", "Licenses=NAME", lambda f: f.outputs.update({LICENCES_ARGV: "No licenses configured"})),
    ("slurm.controller", "fail", "slurmctld", lambda f: f.outputs.update({CONFIG_ARGV: Unseen("no answer")})),
    ("install.plugstack", "fail", "required gpushare.so", lambda f: f.files.pop(install.PLUGSTACK)),
    ("install.plugstack", "fail", "required gpushare.so", lambda f: put(f, install.PLUGSTACK, "#required gpushare.so")),
    (
        "install.plugstack",
        "fail",
        "`required /x/gpushare.so`",
        lambda f: put(f, install.PLUGSTACK, "optional /x/gpushare.so"),
    ),
    ("install.plugin", "fail", "install the package", lambda f: f.files.pop(PLUGIN)),
    ("install.plugin", "fail", "install the package", lambda f: put(f, PLUGIN, "text")),
    ("install.plugin", "fail", "made for", lambda f: f.outputs.update({("scontrol", "--version"): "slurm 26.05.1"})),
    ("install.job_submit", "fail", "dofile", lambda f: put(f, install.SUBMIT, "-- nothing\n")),
    (
        "install.cli_filter",
        "fail",
        "dofile",
        lambda f: put(f, install.FILTER, '-- dofile("/etc/slurm/gpushare/cli_filter.lua")'),
    ),
    ("install.owners", "fail", "chmod go-w /etc/slurm/job", lambda f: owned(f, install.SUBMIT, mode=0o664)),
    ("install.owners", "fail", "chown root: /etc/gpushare/node", lambda f: owned(f, NODE_POLICY, uid=64030)),
    ("policy.compiled", "fail", "policy compile", lambda f: put(f, install.LUA_POLICY, "older")),
    ("policy.compiled", "fail", "policy compile", lambda f: f.files.pop(NODE_POLICY)),
    ("policy.valid", "fail", "policy check", lambda f: say(f, "policy_fault", "line 3: no")),
    ("policy.mode", "warn", "enforce", lambda f: say(f, "policy_mode", {"mode": "off", "enforce": {}})),
    ("munge", "fail", "restart munge", lambda f: say(f, "munge", "Failed to access socket (6)")),
    ("service", "fail", "gpushare-serve", lambda f: say(f, "service", "http://login:6827: refused")),
    ("service.store", "fail", "journalctl -u gpushare-serve", lambda f: say(f, "store", "the database is away")),
    ("service.agents", "warn", "gpushare-agent", lambda f: say(f, "service", {"agents": []})),
    ("service.agents", "warn", "gpushare-agent", lambda f: say(f, "service", {"agents": [{"name": "n1", "age": 99}]})),
    ("agent", "fail", "gpushare-agent", lambda f: say(f, "agent", "agent.sock: Connection refused")),
    ("agent.spool", "warn", "journal", lambda f: f.values["spool"].update(age=700.0)),
    ("agent.spool", "warn", "refused.jsonl", lambda f: f.values["spool"].update(refused=1)),
    ("install.pyxis", "fail", "prefix=", lambda f: put(f, install.PLUGSTACK, f"{PYXIS}required gpushare.so\n")),
    (
        "install.pyxis",
        "fail",
        "below it",
        lambda f: put(f, install.PLUGSTACK, f"required gpushare.so prefix=a-\n{PYXIS}"),
    ),
    ("pool.servers", "fail", "server", lambda f: say(f, "silent_servers", ["b1:56001 does not answer"])),
    ("clock", "warn", "chrony", lambda f: say(f, "clock_skew", -5.0)),
    ("clock", "fail", "chrony", lambda f: say(f, "clock_skew", 400.0)),
    ("node.gres", "fail", "Gres=gpu", lambda f: say(f, "devices", ["/dev/nvidia0"])),
    ("node.gres", "fail", "shard:200", lambda f: f.outputs.update({NODE_ARGV: "Gres=gpu:2,shard:20 "})),
    ("node.nvml", "fail", "libnvidia-ml", lambda f: say(f, "nvml", "Driver Not Loaded")),
    ("node.mps", "warn", "nvidia-cuda-mps-control", lambda f: say(f, "programs", {})),
    ("container.runtime", "warn", "Apptainer", lambda f: say(f, "runtime", "no container runtime")),
    ("container.rights", "fail", "max_user_namespaces", lambda f: put(f, "/proc/sys/user/max_user_namespaces", "0")),
    ("container.fuse", "warn", "chmod 0666", lambda f: owned(f, "/dev/fuse", mode=0o600)),
    ("container.fuse", "warn", "modprobe", lambda f: f.files.pop("/dev/fuse")),
    ("container.subuid", "warn", "usermod", lambda f: put(f, "/etc/subgid", "")),
    ("pool.client", "fail", "command", lambda f: f.files.pop("/usr/bin/bitfusion")),
    ("pool.client", "fail", "chmod 0755", lambda f: owned(f, "/usr/bin/bitfusion", mode=0o644)),
]


@pytest.mark.parametrize(
    ("name", "status", "remedy", "spoil"), BAD, ids=[f"{bad[0]}-{at}" for at, bad in enumerate(BAD)]
)
def test_a_fault_is_found(facts: Facts, name: str, status: str, remedy: str, spoil: object) -> None:
    spoil(facts)
    found = run_check(CHECKS[name], facts)
    assert (found.status, remedy in found.remedy) == (status, True), found


def test_every_check_has_a_fault_here() -> None:
    assert {bad[0] for bad in BAD} == set(CHECKS)


def test_a_host_of_which_nothing_is_seen_raises_nothing() -> None:
    blind = Facts(frozenset({"controller", "login", "node", "accounting"}), root=False)
    findings = run_checks(subjects.CHECKS, blind)
    assert len(findings) == len(CHECKS)
    assert all(found.status in STATUSES and found.found for _, found in findings)


def test_after_pyxis_with_a_prefix(facts: Facts) -> None:
    put(facts, install.PLUGSTACK, f"{PYXIS}required gpushare.so prefix=gpushare-\n")
    assert run_check(CHECKS["install.pyxis"], facts) == ok("after pyxis, with a prefix")


def test_plugstack_where_slurm_says_that_it_is(facts: Facts) -> None:
    put(facts, "/opt/slurm/etc/plugstack.conf", "optional gpushare.so\n")
    conf(facts, PlugStackConfig="/opt/slurm/etc/plugstack.conf")
    found = run_check(CHECKS["install.plugstack"], facts)
    assert found.found == "/opt/slurm/etc/plugstack.conf says `optional gpushare.so`"


def test_what_a_configless_host_has_fetched(facts: Facts) -> None:
    for path in (install.PLUGSTACK, install.FILTER):
        facts.files[f"/run/slurm/conf/{path.rpartition('/')[2]}"] = facts.files.pop(path)
    conf(facts, PlugStackConfig=install.PLUGSTACK)
    for name in ("install.plugstack", "install.cli_filter", "install.pyxis"):
        assert run_check(CHECKS[name], facts).status == "ok", name
    del facts.files["/run/slurm/conf/plugstack.conf"]
    assert run_check(CHECKS["install.plugstack"], facts).found == f"{install.PLUGSTACK}: no such file"


def test_a_file_that_is_not_ours_to_read_is_skipped(facts: Facts) -> None:
    facts.root, facts.files[install.SUBMIT] = False, File(denied="Permission denied")
    found = run_check(CHECKS["install.job_submit"], facts)
    assert found == Finding("skip", "/etc/slurm/job_submit.lua: Permission denied (not root)")


def test_a_check_that_fails_itself_is_skipped(facts: Facts) -> None:
    def broken(_: Facts) -> Finding:
        raise KeyError("x")

    found = run_check(Check("broken", ("node",), "", "", broken), facts)
    assert found == Finding("skip", "cannot be judged: KeyError: 'x'")


def test_exit_status() -> None:
    assert exit_status([ok(""), Finding("warn", ""), Finding("skip", "")]) == 0
    assert exit_status([ok(""), Finding("fail", "")]) == 1


def test_roles() -> None:
    assert roles_of({"bash", "slurmctld", "slurmdbd"}) == {"controller", "accounting"}
    assert roles_of({"bash"}) == {"login"}


def test_version() -> None:
    assert version_of("slurm 23.11.10-1") == (23, 11)
    with pytest.raises(ValueError, match="no version"):
        version_of("slurm")


def test_numbers_of_shared_objects(plugin: bytes) -> None:
    assert read_number(plugin, "plugin_version") >> 8 == (24 << 8) + 11
    with pytest.raises(ValueError, match="no symbol"):
        read_number(plugin, "another")
    with pytest.raises(ValueError, match=r"not an ELF|damaged"):
        read_number(plugin[:70], "plugin_version")


def test_the_page_has_the_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "doctor.md"
    assert subjects.table() in page.read_text(encoding="utf-8")
