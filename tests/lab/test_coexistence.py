"""Beside what a site has, as docs/coexistence.md says: its own scripts, another plugin, oci.conf, and configless."""

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import daemons
from tests.lab.cluster import Cluster, until

IMAGE = "/data/images/digits.sif"
CONF = "/etc/slurm/slurm.conf"
PLUGSTACK = "/etc/slurm/plugstack.conf"
OURS = {"Prolog": "/opt/gpushare/libexec/gpushare-prolog", "Epilog": "/opt/gpushare/libexec/gpushare-epilog"}
NUMBERS = itertools.count()
INSIDE = "test -d /.gpushare && echo inside || echo outside"


@pytest.fixture(scope="module", params=["cluster", "new_cluster"], ids=["24.11", "26.05"])
def site(request: pytest.FixtureRequest) -> Cluster:
    """The lab, on each version of Slurm."""
    return request.getfixturevalue(request.param)


def write(site: Cluster, path: str, text: str, mode: str = "644") -> None:
    site.run("sh", "-c", f"cat >{path}; chmod {mode} {path}", stdin=text)


@contextmanager
def holding(site: Cluster, path: str, text: str) -> Iterator[None]:
    """Let a file of the lab hold ``text`` for a while, within a while in which it holds something else, too."""
    kept = f"{path}.kept{next(NUMBERS)}"
    site.run("cp", "-p", path, kept)
    try:
        write(site, path, text)
        yield
    finally:
        site.run("mv", kept, path)


@contextmanager
def configured(site: Cluster, lines: dict[str, str]) -> Iterator[None]:
    """Let slurm.conf have other lines for some words, each of which may be several."""
    kept = [line for line in site.read(CONF).splitlines() if line.partition("=")[0] not in lines]
    try:
        with holding(site, CONF, "\n".join([*kept, *lines.values(), ""])):
            site.run("scontrol", "reconfigure")
            yield
    finally:
        site.run("scontrol", "reconfigure")
        until("all nodes", lambda: set(site.out("sinfo", "-hNo", "%T").split()) <= {"idle", "mixed", "allocated"})


def srun(site: Cluster, *words: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run srun in the partition shard as alice: its status, what it printed, and what it told without our notes."""
    variables = [f"{name}={value}" for name, value in (env or {}).items()]
    done = site.run("env", *variables, "srun", "-pshard", "-n1", *words, user="alice", check=False)
    told = [line for line in done.stderr.splitlines() if not line.startswith("srun: gpushare: gpu:")]
    return done.returncode, done.stdout.strip(), "\n".join(told)


SUBMIT = """
function slurm_job_submit(job_desc, part_list, submit_uid)
  local name = job_desc.name or ""
  if name == "refused" then slurm.log_user("site: not today"); return slurm.ERROR end
  if name == "told" then slurm.log_user("site: hello") end
  if name == "broken" then local nothing; job_desc.comment = "half"; nothing.field = 1 end
  if name == "changed" then
    slurm.log_user("site: gres %s, extra %s", job_desc.tres_per_node, job_desc.extra)
    job_desc.partition, job_desc.account, job_desc.comment = "bitfusion", "physics", "site"
    job_desc.licenses, job_desc.extra, job_desc.gres = "matlab:1", "site", "gpu:0.5"
  end
  return slurm.SUCCESS
end
function slurm_job_modify(job_desc)
  if job_desc.comment == "no" then slurm.log_user("site: no"); return slurm.ERROR end
  return slurm.SUCCESS
end
dofile("/etc/slurm/gpushare/job_submit.lua")
"""


@pytest.fixture(scope="module")
def own_submit(site: Cluster) -> Iterator[Cluster]:
    """The lab with a job_submit.lua of the site's, which Slurm has read since its stamp was set by `policy compile`."""
    with holding(site, "/etc/slurm/job_submit.lua", SUBMIT):
        site.run("gpushare", "policy", "compile")
        yield site
    site.run("gpushare", "policy", "compile")


def submit(site: Cluster, name: str, *words: str) -> tuple[int | None, list[str]]:
    """Submit a held job of this name: its number, None where it was refused, and what alice was told."""
    words = ("sbatch", "--parsable", "--hold", "--job-name", name, *words, "--wrap", "true")
    done = site.run(*words, user="alice", check=False)
    told = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in done.stderr.splitlines()]
    return int(done.stdout) if done.returncode == 0 else None, told


def test_both_scripts_tell_and_refuse(own_submit: Cluster) -> None:
    job, told = submit(own_submit, "refused", "--gres=gpu:0.25")
    assert job is None and told[0] == "site: not today" and not any("gpushare" in line for line in told)
    job, told = submit(own_submit, "told", "--gres=gpu:7.25")
    assert job is None and told[0] == "site: hello" and told[1].startswith("gpushare: gpu:7.25: above one GPU")
    job, told = submit(own_submit, "told", "--gres=gpu:0.25")
    assert job and told[0] == "site: hello" and told[1].startswith("gpushare: gpu:0.25 is 0.25 of one GPU")
    done = own_submit.run("scontrol", "update", f"job={job}", "comment=no", user="alice", check=False)
    assert done.returncode != 0 and "site: no" in done.stdout + done.stderr
    done = own_submit.run("scontrol", "update", f"job={job}", "extra=x", user="alice", check=False)
    assert done.returncode != 0 and "gpushare: extra belongs to the job's share" in done.stdout + done.stderr
    own_submit.run("scancel", str(job))


def test_ours_reads_what_the_sites_script_wrote(own_submit: Cluster) -> None:
    job, told = submit(own_submit, "changed", "--gres=gpu:0.25", "--partition=shard", "--comment=mine", "--extra=own")
    assert told[0] == "site: gres gres/gpu:0.25, extra gpushare.client=1,own"
    found = own_submit.job(job)
    assert (found["Partition"], found["Account"], found["Comment"]) == ("bitfusion", "physics", "site")
    assert sorted(found["Licenses"].split(",")) == ["bitfusion:50", "matlab:1"]
    grant = json.loads(re.search("Extra=(.*)", own_submit.out("scontrol", "show", "job", str(job)))[1])
    assert (grant["backend"], grant["fraction"], grant["extra"]) == ("bitfusion", 0.5, "site")
    own_submit.run("scancel", str(job))


def test_a_fault_of_the_sites_script_is_slurms_to_judge(own_submit: Cluster) -> None:
    """24.11 lets the job go on, 26.05 does not; ours has decided in any case."""
    new = "26.05" in own_submit.out("sinfo", "--version")
    for words, field, value in (
        (["--gres=gpu:0.25"], "TresPerNode", "gres/shard:25"),
        (["--partition=bitfusion"], "Comment", "half"),
    ):
        job, told = submit(own_submit, "broken", *words)
        assert (job is None) == new, told
        if job is not None:
            assert own_submit.job(job)[field] == value
            own_submit.run("scancel", str(job))
    job, told = submit(own_submit, "broken", "--gres=gpu:7.25")
    assert job is None and told[0].startswith("gpushare: gpu:7.25: above one GPU")
    log = own_submit.read("/var/log/lab/slurmctld.log")
    assert "job_submit.lua:6: attempt to index local 'nothing'" in log
    assert "gpushare: refused what the site's job_submit.lua failed on" in log


def test_a_file_that_cannot_be_read_leaves_the_last_one_in_force(own_submit: Cluster) -> None:
    ours = "/etc/slurm/gpushare/job_submit.lua"
    own_submit.run("mv", ours, ours + ".kept")
    try:
        own_submit.run("gpushare", "policy", "compile")
        job, told = submit(own_submit, "told", "--gres=gpu:0.25")
        assert job and told[0] == "site: hello" and told[1].startswith("gpushare: ")
        assert "using previous script" in own_submit.read("/var/log/lab/slurmctld.log")
        own_submit.run("scancel", str(job))
    finally:
        own_submit.run("mv", ours + ".kept", ours)
        own_submit.run("gpushare", "policy", "compile")


def test_a_cli_filter_of_the_sites(site: Cluster) -> None:
    own = 'function slurm_cli_pre_submit(options) options["comment"] = "asked " .. options["gpus"]; return 0 end\n'
    own += 'function slurm_cli_post_submit(_, job) io.stderr:write("site: job ", tostring(job), "\\n") return 0 end\n'
    with holding(site, "/etc/slurm/cli_filter.lua", own + site.read("/etc/slurm/cli_filter.lua")):
        job, told = submit(site, "filtered", "--gpus=p100:0.25")
    assert job is not None, told
    assert f"site: job {job}" in told
    found = site.out("scontrol", "show", "job", str(job))
    assert "TresPerNode=gres/shard:25" in found and "Comment=asked p100:0.25" in found
    site.run("scancel", str(job))


SCRIPT = """#!/bin/sh
[ -e /run/gpushare/$SLURMD_NODENAME/jobs/$SLURM_JOB_ID/launch.json ] && now=there || now=none
echo $SLURM_SCRIPT_CONTEXT $0 $now >>/tmp/order
"""


def order(site: Cluster) -> list[str]:
    """Return in which order scripts ran for one job with a share, and whether its launch record was there.

    slurmd reads slurm.conf anew in its own time: a job before ran none of them, or not all.
    """
    lines: list[str] = []

    def ran() -> bool:
        site.run("rm", "-f", "/tmp/order")
        status, said, _ = srun(site, "--gres=gpu:0.25", "sh", "-c", "echo $SLURM_SHARDS_ON_NODE $SLURM_JOB_ID")
        shards, job = said.split()
        assert (status, shards) == (0, "25")
        until("its epilog", lambda: not site.out("squeue", "-hj", job, check=False))
        lines[:] = [line.replace("_slurmd", "") for line in site.read("/tmp/order").splitlines()]
        return len(lines) > 1 and lines[0].startswith("prolog") and lines[-1].startswith("epilog")

    until("a job by the site's scripts", ran)
    return lines


OCI = """RunTimeQuery="/usr/local/bin/oci query"
RunTimeRun="/usr/local/bin/oci run %b"
RunTimeKill="/usr/local/bin/oci kill"
RunTimeDelete="/usr/local/bin/oci delete"
"""
RUNTIME = '#!/bin/sh\n[ "$1" != run ] || grep -A2 \'"args"\' $2/config.json\n'
BUNDLE = '{"ociVersion":"1.0.0","process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"},"root":{"path":"root"}}'
HOOKS = "/etc/slurm/hooks.d"
LINES = {
    "Prolog": f"Prolog={HOOKS}/prolog.d/*\nProlog={HOOKS}/last",
    "Epilog": f"Epilog={HOOKS}/epilog\nEpilog={HOOKS}/epilog.d/*",
}


@pytest.fixture(scope="module")
def own_config(site: Cluster) -> Iterator[Cluster]:
    """The lab with prologs and epilogs of the site's, and a runtime in oci.conf that shows what it is told to run."""
    site.run("mkdir", "-p", f"{HOOKS}/prolog.d", f"{HOOKS}/epilog.d", "/tmp/bundle/root")
    try:
        for script in ("prolog.d/05-a", "prolog.d/50-b", "prolog.d/95-c", "epilog.d/05-a", "epilog.d/95-c", "last"):
            write(site, f"{HOOKS}/{script}", SCRIPT, "755")
        site.run("ln", "-s", OURS["Prolog"], f"{HOOKS}/prolog.d/10-gpushare")
        include = f"\n{OURS['Epilog']} || exit $?\n"
        write(site, f"{HOOKS}/epilog", SCRIPT.replace("\n", include, 1), "755")
        write(site, "/tmp/bundle/config.json", BUNDLE)
        write(site, "/usr/local/bin/oci", RUNTIME, "755")
        write(site, "/etc/slurm/oci.conf", OCI)
        with configured(site, LINES):
            yield site
    finally:
        site.run("rm", "-rf", HOOKS, "/tmp/order", "/etc/slurm/oci.conf", "/usr/local/bin/oci", "/tmp/bundle")


def test_prologs_and_epilogs_of_a_site(own_config: Cluster) -> None:
    """A folder, from the last name to the first; several lines, in their order; ours within a script of the site's."""
    assert order(own_config) == [
        f"prolog {HOOKS}/prolog.d/95-c none",
        f"prolog {HOOKS}/prolog.d/50-b none",
        f"prolog {HOOKS}/prolog.d/05-a there",
        f"prolog {HOOKS}/last there",
        f"epilog {HOOKS}/epilog none",
        f"epilog {HOOKS}/epilog.d/95-c none",
        f"epilog {HOOKS}/epilog.d/05-a none",
    ]


def test_a_container_of_slurms_own(own_config: Cluster) -> None:
    site, bundle = own_config, "--container=/tmp/bundle"
    until("oci.conf is in force", lambda: "args" in srun(site, bundle, "true")[1])
    _, said, _ = srun(site, "--gres=gpu:1", bundle, "/bin/echo", "hello")
    assert "echo" in said and "gpushare" not in said
    status, _, told = srun(site, "--gres=gpu:0.25", bundle, "true")
    assert status == 1 and "gpu:0.25: no share of a GPU is given into Slurm's own --container=" in told
    status, _, told = srun(site, f"--container-image={IMAGE}", bundle, "true")
    assert status == 1 and "a job runs in one container: write one of them" in told
    words = ["-W", "-pshard", "--gres=gpu:0.25", "-o/tmp/oci.out"]
    site.run("sbatch", *words, user="alice", stdin=site.script("alice", f"srun {bundle} true"), check=False)
    assert "gpushare: --container: Slurm's own containers get no share of a GPU" in site.read("/tmp/oci.out")
    # A variable that was left over from such a container says nothing.
    left_over = {"SLURM_CONTAINER": "/tmp/bundle"}
    assert srun(site, f"--container-image={IMAGE}", "sh", "-c", INSIDE, env=left_over) == (0, "inside", "")


@pytest.fixture(scope="module")
def foreign(site: Cluster) -> Cluster:
    """The lab with a plugin that has pyxis's options, in no plugstack.conf yet."""
    write(site, "/tmp/foreign.c", Path(__file__).with_name("foreign.c").read_text())
    target = site.out("sh", "-c", "ls -d /usr/lib/*/slurm-wlm") + "/foreign.so"
    site.run("gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", target, "/tmp/foreign.c")
    return site


def test_of_two_plugins_the_first_has_the_option(foreign: Cluster) -> None:
    for first, second, out, told in (
        ("gpushare", "foreign", "inside", ""),
        ("foreign", "gpushare", "outside", f"foreign: image {IMAGE}"),
    ):
        with holding(foreign, PLUGSTACK, f"required {first}.so\nrequired {second}.so\n"):
            status, said, errors = srun(foreign, f"--container-image={IMAGE}", "sh", "-c", INSIDE)
        assert (status, said) == (0, out)
        assert f'spank: option "container-image" provided by both {second}.so and {first}.so' in errors
        assert told in errors


def test_with_a_prefix_both_have_their_own(foreign: Cluster) -> None:
    script = [
        f"#SBATCH --gpushare-container-image={IMAGE} --gpushare-container-scope=tasks",
        INSIDE,
        f"srun sh -c '{INSIDE}'",
        "srun --gpushare-container-workdir=/nosuch true",
    ]
    with holding(foreign, PLUGSTACK, "required foreign.so\nrequired gpushare.so prefix=gpushare-\n"):
        inside = ("sh", "-c", INSIDE)
        assert srun(foreign, "--container-image=/theirs", *inside) == (0, "outside", "foreign: image /theirs")
        assert srun(foreign, "--gres=gpu:0.25", f"--gpushare-container-image={IMAGE}", *inside) == (0, "inside", "")
        assert srun(foreign, *inside, env={"GPUSHARE_CONTAINER_IMAGE": IMAGE}) == (0, "inside", "")
        status, _, told = srun(foreign, "--gpushare-container-image=/etc/passwd", "true")
        assert status == 1
        assert "srun: error: gpushare: --gpushare-container-image=/etc/passwd: images are absolute paths" in told
        status, _, told = srun(foreign, "--gpushare-dataset=digits", "true")
        assert "gpushare: --gpushare-dataset=digits needs --gpushare-container-image=PATH beside it" in told
        options = ["-W", "-pshard", "-o", "/tmp/prefix.out"]
        foreign.run("sbatch", *options, user="alice", stdin=foreign.script("alice", *script), check=False)
    said = foreign.read("/tmp/prefix.out").splitlines()
    assert said[:2] == ["outside", "inside"]
    assert any(line.startswith("gpushare: --gpushare-container-workdir: '/nosuch' in the container") for line in said)


def test_slurmd_of_one_machine_keep_their_jobs_apart(site: Cluster) -> None:
    """n1 and n2 share /run, and a task finds the record of its own."""
    job = "jobs/$SLURM_JOB_ID"
    look = f"cat /run/gpushare/$SLURMD_NODENAME/{job}/launch.json; echo; ls -d /run/gpushare/*/{job}"
    done = site.run("srun", "-pshard", "-N2", "--gres=gpu:0.25", "sh", "-c", look, user="alice")
    found = [json.loads(line)["node"] for line in done.stdout.splitlines() if line.startswith("{")]
    assert sorted(found) == ["n1", "n2"]
    assert {line.split("/")[3] for line in done.stdout.splitlines() if line.startswith("/")} == {"n1", "n2"}


FETCHING = """mount -t tmpfs none /etc/slurm
exec slurmd -D --conf-server 127.0.0.1:6817 -N n1"""


def test_configless(site: Cluster) -> None:
    """A node without /etc/slurm, which fetches plugstack.conf, prolog and epilog from slurmctld."""
    for name, path in OURS.items():
        site.run("cp", path, f"/etc/slurm/gpushare-{name.lower()}")
    lines = {name: f"{name}=gpushare-{name.lower()}" for name in OURS}
    lines |= {"PlugStackConfig": "", "SlurmctldParameters": "SlurmctldParameters=enable_configless"}
    try:
        with configured(site, lines):
            daemons.kill(site, "slurmd n1")
            log = "/var/log/lab/configless.log"
            site.run("sh", "-c", f"setsid unshare -m sh -c '{FETCHING}' </dev/null >>{log} 2>&1 &", node="n1")
            try:
                until("slurmd n1", lambda: daemons.pids(site, "slurmd n1"))
                words = ["--gres=gpu:0.25", f"--container-image={IMAGE}", "sh", "-c", f"{INSIDE}; echo $SLURM_CONF"]
                status, said, told = srun(site, "-wn1", *words)
                assert status == 0, told
                inside, conf = said.split()
                assert inside == "inside" and "/conf-cache/" in conf
                fetched = set(site.out("ls", conf.rpartition("/")[0]).split())
                assert fetched >= {
                    "plugstack.conf",
                    "cli_filter.lua",
                    "gres.conf",
                    "gpushare-prolog",
                    "gpushare-epilog",
                }
                assert "job_submit.lua" not in fetched
            finally:
                daemons.kill(site, "slurmd n1")
                daemons.start(site, "slurmd n1")
    finally:
        site.run("rm", "-f", *(f"/etc/slurm/gpushare-{name.lower()}" for name in OURS))
