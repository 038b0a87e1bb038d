"""What is installed: the plugin, plugstack.conf, the site's Lua files, who may change what root runs, the policy."""

import re

from slurm_gpushare.doctor.check import Finding, check, ok
from slurm_gpushare.doctor.elf import read_number
from slurm_gpushare.doctor.facts import Facts, Missing, Unseen
from slurm_gpushare.doctor.slurmconf import version_of
from slurm_gpushare.paths import LAUNCHER, NODE_POLICY, POLICY_YAML, PREFIX
from slurm_gpushare.policy.included import include_fault

PLUGSTACK = "/etc/slurm/plugstack.conf"
PLUGIN = "gpushare.so"
PYXIS = "spank_pyxis.so"
SUBMIT = "/etc/slurm/job_submit.lua"
FILTER = "/etc/slurm/cli_filter.lua"
LUA_POLICY = "/etc/slurm/gpushare_policy.lua"
# What root or SlurmUser runs or believes.
TRUSTED = (
    *(PREFIX, LAUNCHER, f"{PREFIX}/libexec/gpushare-prolog", f"{PREFIX}/libexec/gpushare-epilog"),
    *("/etc/slurm", PLUGSTACK, SUBMIT, FILTER, LUA_POLICY, "/etc/slurm/gpushare", "/etc/slurm/gpushare.lua"),
    *("/etc/gpushare", NODE_POLICY, POLICY_YAML),
)
SLURM_CLIENTS = ("controller", "login", "node")


def plugin_lines(text: str, plugin: str = PLUGIN) -> list[tuple[str, str, list[str]]]:
    """Return (required or optional, path, arguments) of a plugin's lines in a plugstack.conf."""
    return [line for line in _lines(text) if line[1].rpartition("/")[2] == plugin]


def _lines(text: str) -> list[tuple[str, str, list[str]]]:
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    return [
        (words[0], words[1], words[2:]) for words in lines if len(words) > 1 and words[0] in ("required", "optional")
    ]


def plugstack_path(facts: Facts) -> str:
    """Return where plugstack.conf is, as slurm.conf says where slurmctld answers; raises Missing."""
    try:
        said = facts.config().get("PlugStackConfig") or [PLUGSTACK]
    except Unseen:
        said = [PLUGSTACK]
    return facts.place(said[0])


def includes(text: str) -> list[str]:
    """Return what a plugstack.conf includes."""
    return re.findall(r"^\s*include\s+(\S+)", text, re.MULTILINE)


def plugstack_texts(facts: Facts) -> list[str]:
    """Return the text of plugstack.conf and of what it includes; raises Unseen."""
    return [facts.text(plugstack_path(facts))] + [facts.text(path) for path in facts.value("plugstack_included")]


def our_lines(facts: Facts) -> list[tuple[str, str, list[str]]]:
    """Return our lines of plugstack.conf and what it includes; raises Unseen."""
    return [line for text in plugstack_texts(facts) for line in plugin_lines(text)]


@check(
    "install.plugstack",
    "plugstack.conf has our plugin as `required`: with `optional` a task whose container fails runs outside of it.",
    f"write `required {PLUGIN}` into {PLUGSTACK}",
    SLURM_CLIENTS,
)
def plugstack(facts: Facts) -> Finding:
    """There is one line, and it says required."""
    try:
        place, lines = plugstack_path(facts), our_lines(facts)
    except Missing as error:
        return Finding("fail", str(error))
    if len(lines) != 1:
        return Finding("fail", f"{place} names {PLUGIN} {len(lines)} times")
    kind, path, arguments = lines[0]
    if kind == "optional":
        return Finding("fail", f"{place} says `optional {path}`", f"write `required {path}` in its place")
    return ok(" ".join([kind, path, *arguments]))


@check(
    "install.pyxis",
    "Beside pyxis our options have a prefix, and our line comes after its own: Slurm gives an option to the first that "
    "has it.",
    f"write `required {PYXIS}` and, below it, `required {PLUGIN} prefix=gpushare-`: docs/coexistence.md",
    SLURM_CLIENTS,
)
def pyxis(facts: Facts) -> Finding:
    """By the lines of plugstack.conf; of lines in several files the order is not known."""
    texts = plugstack_texts(facts)
    if not any(plugin_lines(text, PYXIS) for text in texts):
        return ok("pyxis is not in plugstack.conf")
    if not all(any(word.startswith("prefix=") for word in line[2]) for line in our_lines(facts)):
        return Finding("fail", f"{PLUGIN} and {PYXIS} have options of the same names")
    for text in texts:
        names = [line[1].rpartition("/")[2] for line in _lines(text)]
        if PYXIS in names and PLUGIN in names and names.index(PLUGIN) < names.index(PYXIS):
            return Finding("fail", f"{PLUGIN} comes before {PYXIS}: our launcher would be started in its containers")
    return ok("after pyxis, with a prefix")


@check(
    "install.plugin",
    "The plugin is there and was compiled for this Slurm's major.minor: Slurm loads no other.",
    "install the package that was made for this Slurm: docs/install.md, step 1",
    SLURM_CLIENTS,
)
def plugin(facts: Facts) -> Finding:
    """What SPANK_PLUGIN compiled in (plugin_version, SLURM_VERSION_NUM of slurm_version.h) is this Slurm's."""
    path = facts.value("plugin_path")
    try:
        data = facts.file(path).data
    except Missing as error:
        return Finding("fail", str(error))
    if data is None:
        return Finding("skip", f"{path}: not readable")
    try:
        number = read_number(data, "plugin_version")
    except ValueError as error:
        return Finding("fail", f"{path}: {error}")
    built, runs = (number >> 16, number >> 8 & 0xFF), version_of(facts.out("scontrol", "--version"))
    words = f"{path} is for Slurm {built[0]}.{built[1]:02}"
    return ok(words) if built == runs else Finding("fail", f"{words}, here runs {runs[0]}.{runs[1]:02}")


@check(
    "install.job_submit",
    "The site's job_submit.lua includes ours as its last line.",
    f'write as the last line of {SUBMIT}: dofile("/etc/slurm/gpushare/job_submit.lua")',
    ("controller",),
)
def job_submit(facts: Facts) -> Finding:
    """By its text."""
    try:
        fault = include_fault(facts.text(SUBMIT))
    except Missing as error:
        return Finding("fail", str(error))
    return Finding("fail", f"{SUBMIT}: {fault}") if fault else ok(f"{SUBMIT} includes ours")


@check(
    "install.cli_filter",
    "cli_filter.lua includes ours, wherever jobs are submitted.",
    f'write as the last line of {FILTER}: dofile("/etc/slurm/gpushare/cli_filter.lua")',
    ("controller", "login"),
)
def cli_filter(facts: Facts) -> Finding:
    """By its text, comments left out."""
    try:
        path = facts.place(FILTER)
    except Missing as error:
        return Finding("fail", str(error))
    if any("gpushare/cli_filter.lua" in line.split("--", 1)[0] for line in facts.text(path).splitlines()):
        return ok(f"{path} includes ours")
    return Finding("fail", f"{path} includes nothing of slurm-gpushare")


@check(
    "install.owners",
    "What root or SlurmUser runs and believes is root's, and nobody else may write it.",
    "chown root: PATH; chmod go-w PATH",
)
def owners(facts: Facts) -> Finding:
    """Owner and mode of each that is there."""
    seen = {path: facts.files[path] for path in TRUSTED if path in facts.files}
    bad = [
        f"{path} (uid {file.uid}, mode {file.mode & 0o7777:04o})"
        for path, file in seen.items()
        if file.uid != 0 or file.mode & 0o022
    ]
    if bad:
        names = " ".join(entry.split(" (")[0] for entry in bad)
        return Finding(
            "fail", "may be changed by others: " + ", ".join(bad), f"chown root: {names}; chmod go-w {names}"
        )
    return ok(f"{len(seen)} paths are root's alone")


@check(
    "policy.compiled",
    f"{LUA_POLICY} (slurmctld's) and {NODE_POLICY} are what {POLICY_YAML} would compile to now.",
    "gpushare policy compile",
)
def compiled(facts: Facts) -> Finding:
    """Compared as text with what the YAML makes; groups may have changed as well."""
    if POLICY_YAML not in facts.files:
        return Finding("skip", f"{POLICY_YAML}: no such file: the policy is compiled elsewhere")
    fresh = facts.value("compiled")  # path -> text
    stale = []
    for path, text in fresh.items():
        if path == LUA_POLICY and "controller" not in facts.roles:
            continue
        if path not in facts.files:
            stale.append(f"{path} is missing")
        elif facts.text(path) != text:
            newer = facts.file(POLICY_YAML).mtime > facts.file(path).mtime
            stale.append(f"{path} is not what the policy says" + (": the policy is newer" if newer else ""))
    return Finding("fail", "; ".join(stale)) if stale else ok("compiled as written")


@check("policy.valid", "The policy is valid.", "gpushare policy check", ("controller",))
def valid(facts: Facts) -> Finding:
    """By the same reader as `gpushare policy check`."""
    fault = facts.value("policy_fault")
    return Finding("fail", fault) if fault else ok(f"{POLICY_YAML} is valid")


@check(
    "policy.mode",
    "The policy is carried out on all jobs.",
    "mode: enforce in the policy, then gpushare policy compile",
    ("controller",),
)
def mode(facts: Facts) -> Finding:
    """A site may want it otherwise; whose shares are refused looks here."""
    found = facts.value("policy_mode")  # {"mode": …, "enforce": {"partitions": […], "accounts": […]}}
    if found["mode"] == "enforce":
        return ok("mode: enforce")
    if found["mode"] == "off":
        return Finding("warn", "mode: off: no new shares are given")
    where = [f"{name} {', '.join(names)}" for name, names in found["enforce"].items() if names]
    return Finding("warn", f"mode: observe: carried out for {' and '.join(where) or 'no job'}")
