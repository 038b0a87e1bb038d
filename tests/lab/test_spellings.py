"""The table of spellings and commands, on real daemons; docs/requests.md shows it to users.

`python -m tests.lab.test_spellings` writes it there.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.cluster import Cluster

PAGE = Path(__file__).parents[2] / "docs" / "requests.md"
BEGIN, END = "<!-- table: tests/lab/test_spellings.py -->\n", "<!-- end of table -->\n"
PROBE = (Path(__file__).parent / "spelling_probe.py").read_text()
COMMANDS = ("sbatch", "#SBATCH", "array", "srun", "salloc")
INNER = "a step has the share of its job"


@dataclass(frozen=True)
class Row:
    """One request and what every command makes of it; slices on each node, None where it is refused."""

    words: str
    slices: int | None = None
    refusal: str = ""  # part of the line
    whole: str = ""  # the resources of a job that is left as it is
    inner: str | None = None  # part of the refusal of the same words in a step; None: the job's share
    srun: str = ""  # part of srun's own refusal
    partition: str = "shard"
    tasks: int = 1  # allocations on each node


POOL = "bitfusion"
ROWS = [
    Row("--gres=gpu:0.25", 25),
    Row("--gres=gpu:.25", 25),
    Row("--gres=gpu:25%", 25),
    Row("--gres=gpu:1/4", 25),
    Row("--gres=gpu=0.25", 25),
    Row("--gres=gpu:0.251", 26),
    Row("--gres=gpu:0.25", 25, partition=POOL),
    Row("--gres=gpu:8G", 51, partition=POOL),
    Row("--gpus=0.25", 25),
    Row("-G0.25", 25),
    Row("--gpus=25%", 25, partition=POOL),
    Row("--gpus-per-node=0.25", 25, srun="write --gres=gpu:0.25"),
    Row("--gpus-per-task=0.25", 25),
    Row("--ntasks=2 --gpus-per-task=0.25", 50),
    Row("--ntasks=2 --gpus-per-task=0.25", 50, partition=POOL, tasks=2),
    Row("--ntasks=1 --tres-per-task=gres/gpu:0.25", 25),
    Row("--gpu-share=0.25", 25),
    Row("--gpu-share=1/4 --gpu-mem=1G", 25),
    Row("--gpu-mem=8G", 51, partition=POOL),
    Row("--gres=gpu:0.25 --gpu-backend=shard", 25),
    Row("--gres=gpu:p100:0.25", 25),
    Row("--gpus=p100:0.25", 25),
    Row("--gpus-per-task=p100:0.25", 25),
    Row("--gres=gpu:p100:8G", 51),
    Row("--gres=gpu:0.25,nvme:1", 25, inner="Invalid generic resource"),
    Row("--gres=gpu:0.25 --licenses=matlab:1", 25, partition=POOL),
    Row("--gres=gpu:1", whole="gres/gpu:1", inner="Invalid generic resource"),
    Row("--gpus=1", whole="gres/gpu:1", inner="Invalid generic resource"),
    Row("--gres=gpu:1", 100, partition=POOL, inner="Invalid generic resource"),
    Row("--gres=gpu:8G", refusal="write a share, --gres=gpu:0.25"),
    Row("--gres=gpu:a100:0.25", refusal="no such type of GPU here"),
    Row("--gpus-per-task=a100:0.25", refusal="no such type of GPU here"),
    Row("--gres=gpu:0.5:2", refusal="lie on one GPU: write --gres=gpu:1"),
    Row("--gres=gpu:1.5", refusal="write gpu:2, or gpu:0.5"),
    Row("--gres=gpu:nan", refusal="nan is not a number", inner="Invalid generic resource"),
    Row("--gpus-per-task=nan", refusal="nan is not a number"),
    Row("--gpus-per-socket=0.25", refusal="--gpus-per-socket=0.25", inner="Invalid generic resource"),
    Row("--gpus=0.25 --gres=gpu:0.25", refusal="a job asks for GPUs once"),
    Row("--gres=shard:25", refusal="given by gpushare alone: write --gres=gpu:0.25", inner=""),
    Row("--gres=gpu:0.25 --gpu-backend=bitfusion", refusal="--gpu-backend=bitfusion"),
]


def table() -> str:
    """Return the table as Markdown."""
    lines = [
        "| request | partition | sbatch, #SBATCH, array, srun, salloc | in a step (srun inside a job with a share) |",
        "|---|---|---|---|",
    ]
    for row in ROWS:
        if row.slices is not None:
            share = f"{row.slices / row.tasks / 100:g} of a GPU"
            given = f"{share} on each node" if row.slices < 100 else "a whole GPU of the pool"
            given = f"{share} for each of the {row.tasks} tasks" if row.tasks > 1 else given
        else:
            given = f"untouched: `{row.whole}`" if row.whole else f"refused: “… {row.refusal} …”"
        if row.srun:
            given += f"; srun refuses: “… {row.srun} …”"
        inner = {None: "the job's share", "": "these slices of the job's"}.get(row.inner, f"refused: “… {row.inner} …”")
        lines.append(f"| `{row.words}` | {row.partition} | {given} | {inner} |")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module", params=["cluster", "new_cluster"], ids=["24.11", "26.05"])
def site(request: pytest.FixtureRequest) -> Cluster:
    """The lab, once for each version of Slurm."""
    return request.getfixturevalue(request.param)


def probe(site: Cluster, *words: str) -> dict:
    """Return what each command made of the words."""
    return json.loads(site.out("/opt/gpushare/bin/python3", "-I", "-", *words, user="alice", stdin=PROBE, timeout=180))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.partition}: {row.words}")
def test_every_command_gives_the_same(site: Cluster, row: Row) -> None:
    answers = probe(site, f"--partition={row.partition}", *row.words.split())
    explained, inner = answers.pop("explain"), answers.pop("inner srun")
    assert set(answers) == set(COMMANDS)
    if row.slices is not None:
        assert explained["outcome"] == "granted" and explained["grant"]["slices"] == row.slices
        assert explained["grant"].get("tasks", 1) == row.tasks
        # The clients refuse this one; cli_filter writes it with a colon.
        explained["grant"]["request"] = explained["grant"]["request"].replace("gpu=", "gpu:")
        steps = {"steps": [str(row.slices) if row.partition == "shard" else "none"]}
    for command, answer in answers.items():
        refusal = row.srun if row.srun and command == "srun" else row.refusal
        if refusal:
            assert answer["status"] != 0 and "grant" not in answer, command
            assert [refusal in line for line in answer["said"] if "gpushare:" in line] == [True], (command, answer)
        else:
            assert answer["status"] == 0 and answer["said"] == [], (command, answer)
            assert answer["grant"] == explained["grant"] and answer["extra"] is None, command
            assert not row.whole or answer["tres"] == row.whole
            assert row.slices is None or set(answer.get("steps", steps["steps"])) == set(steps["steps"]), command
    if row.refusal:
        assert explained["outcome"] == "refused", explained
    elif row.whole:
        assert explained["outcome"] == "untouched", explained
    if row.inner:
        assert inner["status"] != 0 and any(row.inner in line for line in inner["said"]), inner
    else:
        assert inner["status"] == 0 and inner["said"] == [], inner
        assert set(inner["steps"]) == {"25" if row.partition == "shard" else "none"}


# What makes two steps of a job with a share run side by side, and the shards that each has.
SIDE_BY_SIDE = [
    ("shard", "--overlap", "25"),
    ("shard", "--exact --gres=shard:12", "12"),
    ("shard", "--exact --gres=none", ""),
    ("bitfusion", "--overlap", ""),
    ("bitfusion", "--exact --gres=none", ""),
]
STEP = """\
#!/bin/sh
touch "$1.$2"; tries=0
while [ ! -e "$1.$3" ]; do tries=$((tries + 1)); [ $tries -lt 300 ] || exit 1; sleep 0.1; done
echo "together $SLURM_SHARDS_ON_NODE"
"""


@pytest.mark.parametrize(("partition", "options", "shards"), SIDE_BY_SIDE)
def test_two_steps_run_side_by_side(site: Cluster, partition: str, options: str, shards: str) -> None:
    lines = [
        "folder=$(mktemp -d -p $HOME)",
        f"cat >$folder/step <<'END'\n{STEP}END",
        "chmod +x $folder/step",
        f"srun -n1 {options} $folder/step $folder/mark a b & srun -n1 {options} $folder/step $folder/mark b a & wait",
    ]
    job = site.sbatch(
        "alice",
        "-n2",
        f"-p{partition}",
        "--gres=gpu:0.25",
        "-o/home/alice/side-%j.out",
        script=site.script("", *lines),
    )
    site.wait(job, 90)
    text = site.read(f"/home/alice/side-{job}.out")
    assert [line.strip() for line in text.splitlines() if line.startswith("together")] == [
        f"together {shards}".strip()
    ] * 2, text


POOL_PART = ["-pbitfusion", "-n1", "--gres=gpu:0.25", "sh", "-c", "echo pool $SLURM_JOB_LICENSES"]
SHARD_PART = ["-pshard", "-n1", "--gres=gpu:0.5", "sh", "-c", "echo shards $SLURM_SHARDS_ON_NODE"]


def test_each_part_of_a_heterogeneous_job_has_its_own_share(site: Cluster) -> None:
    done = site.run("srun", *POOL_PART, ":", *SHARD_PART, user="alice")
    assert sorted(done.stdout.splitlines()) == ["pool bitfusion:25", "shards 50"]
    # Slurm takes licences from the first part alone.
    done = site.run("srun", *SHARD_PART, ":", *POOL_PART, user="alice", check=False)
    assert done.returncode != 0 and "the part with the pool's GPUs comes first" in done.stderr


PLAIN = ["env", "SLURM_CONF=/tmp/plain.conf", "sbatch", "--parsable", "--hold", "--wrap=true"]


@pytest.fixture
def without_filter(site: Cluster) -> list[str]:
    """An sbatch whose slurm.conf, the user's own, leaves cli_filter out."""
    site.run("sh", "-c", "grep -v ^CliFilterPlugins /etc/slurm/slurm.conf >/tmp/plain.conf; chmod 644 /tmp/plain.conf")
    return PLAIN


def test_a_client_without_the_filter_keeps_to_gres(site: Cluster, without_filter: list[str]) -> None:
    job = site.out(*without_filter, "--gres=gpu:0.25", user="alice")
    assert '"slices":25' in site.job(int(job))["Extra"]
    site.run("scancel", job)
    done = site.run(*without_filter, "--gres=gpu:a100:0.25", user="alice", check=False)
    assert done.returncode != 0 and "gpushare:" not in done.stderr


def test_the_report_finds_what_a_client_without_the_filter_lost(site: Cluster) -> None:
    site.run("sh", "-c", "grep -v ^CliFilterPlugins /etc/slurm/slurm.conf >/tmp/plain.conf; chmod 644 /tmp/plain.conf")
    done = site.run(
        *["env", "SLURM_CONF=/tmp/plain.conf", "srun", "-n1", "--gpus-per-task=0.25"],
        *["sh", "-c", "echo $SLURM_JOB_ID ${SLURM_SHARDS_ON_NODE:-none}"],
        user="alice",
    )
    job, shards = done.stdout.split()
    assert shards == "none"
    told = site.run("gpushare", "report", "jobs", "--job", job, "--format", "json", user="alice")
    (run,) = json.loads(told.stdout)
    assert (run["request"], run["backend"], run["gpus"]) == ("--gpus-per-task=0.25", None, 0)
    assert f"job {job} asked for --gpus-per-task=0.25 by a client without cli_filter" in told.stderr


def test_a_policy_can_refuse_clients_without_the_filter(site: Cluster, without_filter: list[str]) -> None:
    policy = "/etc/gpushare/gpushare.yaml"
    site.run("cp", "-a", policy, "/tmp/kept.yaml")
    try:
        site.run("sh", "-c", f"sed -i /^require_client/d {policy}; echo 'require_client: true' >>{policy}")
        site.run("gpushare", "policy", "compile")
        for words in ([], ["--gpus-per-task=0.25"]):
            done = site.run(*without_filter, "-n1", *words, user="alice", check=False)
            assert done.returncode != 0 and "gpushare: this cluster takes jobs" in done.stderr
            job = site.out("sbatch", "--parsable", "--hold", "--wrap=true", "-n1", *words, user="alice")
            assert ("Extra" in site.job(int(job))) == bool(words)
            site.run("scancel", job)
    finally:
        site.run("cp", "-a", "/tmp/kept.yaml", policy)
        site.run("gpushare", "policy", "compile")


def test_the_page_shows_this_table() -> None:
    text = PAGE.read_text()
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == table(), "python -m tests.lab.test_spellings"


if __name__ == "__main__":
    page = PAGE.read_text()
    PAGE.write_text(page[: page.index(BEGIN) + len(BEGIN)] + table() + page[page.index(END) :])
