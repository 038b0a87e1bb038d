"""What the pages tell people to type, on a real cluster: docs/quickstart.md word by word, and what only reads."""

import re
import shlex

import pytest

from slurm_gpushare.reference.slurm_options import slurm_options
from tests.documented import ROOT, SUBMIT, blocks, is_placeholder, typed
from tests.lab.cluster import Cluster

# Commands that change nothing, by the words that name them; all end with 0 for everybody.
READ_ONLY = (
    ("--version",),
    ("completion",),
    ("datasets",),
    ("explain",),
    ("gpu", "list"),
    *(("policy", name) for name in ("check", "profiles", "reference", "show", "slurm-limits")),
    *(("report", name) for name in ("advice", "chargeback", "efficiency", "job", "jobs", "usage")),
    ("status",),
)


def read_only() -> list[str]:
    """Return each command of the pages that changes nothing and leaves nothing to the reader, once."""
    found = set()
    for command in typed():
        words = [word.split("|")[0] for word in command.words]
        if command.page == "docs/install.md":  # of another site, on which test_install.py runs all of it
            continue
        if words and words[0].rpartition("/")[2] == "gpushare" and not any(map(is_placeholder, words)):
            rest = words[1:]
            if any(tuple(rest[: len(name)]) == name for name in READ_ONLY):
                found.add(shlex.join(["gpushare", *rest]))
    # Needs an argument, which the text leaves out.
    return sorted(found - {"gpushare report job", "gpushare explain", "gpushare completion"})


@pytest.mark.parametrize("user", ["root", "alice"])
def test_what_only_reads_ends_well(cluster: Cluster, user: str) -> None:
    # Files of the administrator's are the same for everybody.
    commands = [text for text in read_only() if user == "root" or not text.startswith("gpushare policy")]
    assert len(commands) > 12
    lines = [f"{text} >/dev/null 2>/tmp/said.{user}; echo $? $(head -n1 /tmp/said.{user})" for text in commands]
    ended = cluster.out("bash", "-s", user=user, stdin="\n".join(lines), timeout=300).splitlines()
    assert [f"{text}: {line}" for text, line in zip(commands, ended, strict=True) if not line.startswith("0")] == []


@pytest.fixture(params=["cluster", "new_cluster"], ids=["24.11", "26.05"])
def lab(request: pytest.FixtureRequest) -> Cluster:
    """A lab of each version."""
    return request.getfixturevalue(request.param)


def test_the_quick_start(lab: Cluster) -> None:
    script = "set -eux\ncd $(mktemp -d)\n" + "".join(blocks(ROOT / "docs/quickstart.md", "sh"))
    done = lab.run("bash", "-c", script, user="alice", timeout=120)
    assert re.search(r"^GPU [01]$", done.stdout, re.MULTILINE)
    assert "gpushare: gpu:0.25 is 0.25 of one GPU" in done.stderr
    refused = lab.run("sbatch", "--gres=gpu:1.5", "--wrap", "true", user="alice", check=False)
    (shown,) = (block for block in blocks(ROOT / "docs/quickstart.md", "") if "gpu:1.5" in block)
    assert refused.returncode == 1 and shown.splitlines()[1] in refused.stderr


def test_the_options_of_sbatch_exist(lab: Cluster) -> None:
    ours = {f"--{one.name}" for one in slurm_options()}
    ours |= {f"--gpushare-{one.name}" for one in slurm_options()}
    for program in SUBMIT:
        known = set(re.findall(r"--[a-z0-9-]+", lab.out(program, "--help"))) | {"--help"}
        used = {
            word.partition("=")[0]
            for command in typed()
            if command.words[:1] == [program]
            for word in command.words[1:]
            if word.startswith("--") and len(word) > 2
        }
        assert {f"--{one.name}" for one in slurm_options()} <= known
        assert used - known - ours == set()


def test_manuals_and_completions_are_installed(lab: Cluster) -> None:
    share = "/opt/gpushare/share"
    pages = lab.out("ls", f"{share}/man/man1", f"{share}/man/man5", f"{share}/man/man7").split()
    assert {"gpushare.1", "gpushare-report-jobs.1", "gpushare.yaml.5", "gpushare.7"} <= set(pages)
    complete = f"source {share}/bash-completion/completions/gpushare && COMP_WORDS=(gpushare rep) COMP_CWORD=1"
    assert lab.out("bash", "-c", f"{complete} && _gpushare_completion gpushare && echo ${{COMPREPLY[@]}}") == "report"
