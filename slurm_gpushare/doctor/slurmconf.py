"""slurm.conf as it runs."""

import math
import re

from slurm_gpushare.doctor.check import Finding, check, ok
from slurm_gpushare.doctor.facts import Facts

OLDEST = (23, 11)
SHARED = ("shard", "mps", "hami")  # backends whose shares are Slurm's shards
_IN = "slurm.conf, then `scontrol reconfigure`"


def version_of(text: str) -> tuple[int, int]:
    """Return major and minor of a line such as ``slurm-wlm 24.11.5``; raises ValueError."""
    match = re.search(r"\b([0-9]{2})\.([0-9]{2})\b", text)
    if match is None:
        raise ValueError(f"no version in {text!r}")
    return int(match[1]), int(match[2])


@check("slurm.version", "Slurm is 23.11 or newer: older ones have no `extra`.", "upgrade Slurm to 23.11 or newer")
def version(facts: Facts) -> Finding:
    """The commands of this host."""
    text = facts.out("scontrol", "--version").strip()
    return ok(text) if version_of(text) >= OLDEST else Finding("fail", f"{text} is older than 23.11")


@check(
    "slurm.GresTypes",
    "GresTypes has `gpu` and what the policy's backends count by, and not `mps` beside `shard`.",
    f"GresTypes=gpu,shard in {_IN}",
)
def gres_types(facts: Facts) -> Finding:
    """Every gres of the policy's is one of Slurm's."""
    types, needed = facts.listed("GresTypes"), gres_of(facts.policy())
    if "mps" in types and "shard" in types:
        return Finding(
            "fail", "GresTypes has mps beside shard", f"GresTypes without mps in {_IN}: MPS shares are shards"
        )
    missing = [name for name in needed if name not in types]
    if missing:
        return Finding(
            "fail", f"GresTypes={','.join(types)} lacks {', '.join(missing)}", _line("GresTypes", types, missing)
        )
    return ok(f"GresTypes={','.join(types)}")


def gres_of(policy: dict) -> list[str]:
    """Return the gres that the backends of a compiled policy are counted by."""
    names = []
    for name, section in policy["backends"].items():
        names += ["gpu", "shard"] if name in SHARED else [section.get("gres") or "gpu"]
    return list(dict.fromkeys(names))


def _line(name: str, have: list[str], missing: list[str]) -> str:
    return f"{name}={','.join([*have, *missing])} in {_IN}"


@check(
    "slurm.AccountingStorageTRES",
    "Slurm accounts what shares are counted by: without it sacct and reports do not know what a job had.",
    f"AccountingStorageTRES=gres/gpu,gres/shard in {_IN}",
)
def accounting_tres(facts: Facts) -> Finding:
    """Every gres of the policy's is a TRES that is stored."""
    stored = facts.listed("AccountingStorageTRES")
    missing = [f"gres/{name}" for name in gres_of(facts.policy()) if f"gres/{name}" not in stored]
    if missing:
        return Finding("fail", f"lacks {', '.join(missing)}", _line("AccountingStorageTRES", stored, missing))
    return ok(",".join(stored))


def _has(name: str, word: str, breaks: str, status: str = "fail") -> None:
    """Make the check that the list ``name`` has ``word``."""

    def judge(facts: Facts) -> Finding:
        words = facts.listed(name)
        if word.lower() in (each.lower() for each in words):
            return ok(f"{name}={','.join(words)}")
        return Finding(
            status, f"{name}={','.join(words) or '(none)'} lacks {word}: {breaks}", _line(name, words, [word])
        )

    check(f"slurm.{name}", f"{name} has `{word}`: without it {breaks}.", f"{name}={word} in {_IN}")(judge)


_has("PrologFlags", "Alloc", "the prolog runs at a job's first step only, and not at all for salloc without one")
_has("JobSubmitPlugins", "lua", "no job gets a share")
_has("CliFilterPlugins", "lua", "typed shares and --gpus-per-task=F are refused or lost by Slurm's commands")
_has("AccountingStoreFlags", "job_extra", "reports know no grant of ended jobs")


@check(
    "slurm.Prolog",
    "Prolog and Epilog run ours, by a line, a folder or a script of the site's.",
    f"Prolog=/opt/gpushare/libexec/gpushare-prolog and Epilog=/opt/gpushare/libexec/gpushare-epilog in {_IN}",
)
def prolog(facts: Facts) -> Finding:
    """Both name ours; what a script of the site's starts is not seen."""
    config = facts.config()
    for name in ("Prolog", "Epilog"):
        paths = config.get(name, [])
        if not paths:
            return Finding(
                "fail", f"{name} is not set", f"{name}=/opt/gpushare/libexec/gpushare-{name.lower()} in {_IN}"
            )
        if not any("gpushare-" + name.lower() in path for path in paths):
            remedy = "see that it starts ours: docs/coexistence.md, prolog and epilog"
            return Finding("warn", f"{name}={','.join(paths)} does not name gpushare-{name.lower()}", remedy)
    return ok(f"{config['Prolog'][-1]}, {config['Epilog'][0]}")


@check(
    "slurm.TRESBillingWeights",
    "The smallest share bills something: Slurm truncates a job's sum of weights to a whole number.",
    "raise the weight to at least 1 a slice (gres/shard=1, gres/gpu=100), and all others by the same factor, in "
    "PartitionName=… TRESBillingWeights=…",
    ("controller",),
)
def billing(facts: Facts) -> Finding:
    """One slice times its weight is at least 1."""
    names = "|".join(re.escape(name) for name in gres_of(facts.policy()) if name != "gpu") or "shard"
    low = []
    for line in facts.out("scontrol", "show", "partition", "-o").splitlines():
        weights = re.search(r"TRESBillingWeights=(\S+)", line)
        for name, text in re.findall(rf"gres/({names})=([0-9.]+)", weights[1] if weights else "", re.IGNORECASE):
            if 0 < float(text) < 1:
                partition = re.search(r"PartitionName=(\S+)", line)
                low.append(f"{partition[1] if partition else '?'}: gres/{name}={text}: {_under(float(text))} add 0")
    return Finding("warn", "; ".join(low)) if low else ok("no weight truncates a share to 0")


def _under(weight: float) -> str:
    slices = math.ceil(1 / weight) - 1
    return "1 slice" if slices == 1 else f"{slices} slices or fewer"


@check(
    "slurm.Licenses",
    "Slurm has a licence for each pool that the policy places by licences, as many as the policy says.",
    "`gpushare pool sync`, or Licenses=NAME:COUNT in slurm.conf",
    ("controller",),
)
def licences(facts: Facts) -> Finding:
    """Licences of the policy's pools are known to Slurm."""
    wanted = {
        section["licence"]
        for section in facts.policy()["backends"].values()
        if section.get("licence") and section.get("placement") == "flat"
    }
    if not wanted:
        return ok("the policy needs none")
    known = set(re.findall(r"LicenseName=(\S+)", facts.out("scontrol", "show", "licenses")))
    missing = sorted(wanted - known)
    return Finding("fail", f"Slurm has no licence {', '.join(missing)}") if missing else ok(", ".join(sorted(wanted)))


@check(
    "slurm.SchedulerParameters",
    "Without `extra_constraints` Slurm does not read `extra` as a constraint of nodes, which a grant is not.",
    f"SchedulerParameters without extra_constraints in {_IN}",
)
def extra_constraints(facts: Facts) -> Finding:
    """Slurm leaves ``extra`` alone."""
    if "extra_constraints" in facts.listed("SchedulerParameters"):
        return Finding(
            "fail", "SchedulerParameters has extra_constraints: Slurm takes each grant for a constraint of nodes"
        )
    return ok("no extra_constraints")
