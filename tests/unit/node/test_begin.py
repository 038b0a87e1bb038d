"""What a backend does for a job on the node: begun in prolog, given to every task, finished by epilog and sweep."""

import json
import os
import time

import pytest

from slurm_gpushare.backends import shard
from slurm_gpushare.errors import BackendError
from slurm_gpushare.launch import read_record
from slurm_gpushare.node import sweep as sweep_module
from slurm_gpushare.node.epilog import epilog
from slurm_gpushare.node.prolog import OPTION, prolog
from slurm_gpushare.node.sweep import sweep


class Backend:
    """What stands for a backend's part on a node, and keeps what it was told."""

    def __init__(self, node):
        self.node = node
        self.gives = {}
        self.fails = None
        self.done = []

    def begin(self, record, settings, environment):
        self.done.append(("begin", record.job_id, os.path.isdir(self.node.job)))
        if self.fails:
            raise self.fails
        return self.gives

    def finish(self, job_id, node, settings):
        self.done.append(("finish", job_id, node))
        if self.fails:
            raise self.fails

    def calls(self, name):
        return [call for call in self.done if call[0] == name]


@pytest.fixture
def backend(node, monkeypatch):
    fake = Backend(node)
    monkeypatch.setattr(shard, "begin", fake.begin)
    monkeypatch.setattr(shard, "finish", fake.finish)
    return fake


@pytest.fixture
def job(slurm, grant_text):
    return {**slurm, "SLURM_JOB_EXTRA": grant_text(backend="shard"), "SLURM_JOB_GPUS": "0"}


def start(node, job, now=1.0, **options):
    prolog({**job, **{OPTION + name: text for name, text in options.items()}}, now, node.run_dir, node.policy)


def record(node):
    return read_record(f"{node.job}/launch.json")


def shown(node, launch, *names, environment=()):
    """What a task finds in these variables, "" for none."""
    status, output = launch.run(
        "0", "sh", "-c", "; ".join(f'echo "${name}"' for name in names), environment=environment
    )
    assert status == 0, output
    return dict(zip(names, output.split("\n"), strict=False))


def test_what_it_found_stands_in_the_record_and_reaches_every_task(node, backend, job, launch):
    enforces = {"memory": "enforced", "compute": "advisory", "faults": "none"}
    backend.gives = {"environment": {"PIPES": "/run/p"}, "binds": ["/run/p"], "enforces": enforces}
    start(node, job)
    # Whoever finds the folder knows that there may be something to undo.
    assert backend.done == [("begin", 7, True)]
    assert record(node).options["enforces"] == enforces
    assert shown(node, launch, "PIPES", environment={"PIPES": "the user's"}) == {"PIPES": "/run/p"}


def test_a_library_goes_before_the_users_own_and_once(node, backend, job, launch):
    backend.gives = {"environment": {"LD_PRELOAD": "libm.so.6"}}
    start(node, job)
    for users, found in (
        ("", "libm.so.6"),
        ("libdl.so.2", "libm.so.6:libdl.so.2"),
        ("libm.so.6:libdl.so.2", "libm.so.6:libdl.so.2"),
    ):
        environment = {"LD_PRELOAD": users} if users else {}
        assert shown(node, launch, "LD_PRELOAD", environment=environment)["LD_PRELOAD"] == found


def test_in_a_container_its_paths_are_bound_and_its_variables_set_inside(node, backend, job, launch):
    folder = node.base / "pipes"
    folder.mkdir()
    backend.gives = {"environment": {"PIPES": str(folder)}, "binds": [str(folder)]}
    start(node, job, container_image=node.image)
    assert launch.run("0", "true", environment={"APPTAINERENV_PIPES": "/elsewhere"})[0] == 0
    argv = (node.bin / "apptainer.argv").read_text().splitlines()
    assert f"type=bind,source={folder},destination={folder}" in argv
    assert "--nv" in argv and not {"--ipc", "--containall", "--cleanenv"} & set(argv)
    assert f"APPTAINERENV_PIPES={folder}" in (node.bin / "apptainer.env").read_text().splitlines()


FRAMEWORKS = ("TF_FORCE_GPU_ALLOW_GROWTH", "XLA_PYTHON_CLIENT_MEM_FRACTION", "GPUSHARE_MEMORY_FRACTION")


def test_frameworks_are_told_of_the_share_unless_the_user_has(node, job, launch):
    start(node, job)
    assert list(shown(node, launch, *FRAMEWORKS).values()) == ["true", "0.1875", "0.2500"]
    users = {"TF_FORCE_GPU_ALLOW_GROWTH": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": ".1"}
    assert list(shown(node, launch, *FRAMEWORKS, environment=users).values()) == ["false", ".1", "0.2500"]
    two = {"SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": "2"}
    assert shown(node, launch, *FRAMEWORKS, environment=two)["GPUSHARE_MEMORY_FRACTION"] == "0.1250"


def test_in_a_container_too(node, job, launch):
    start(node, job, container_image=node.image)
    users = {"APPTAINERENV_TF_FORCE_GPU_ALLOW_GROWTH": "false", "XLA_CLIENT_MEM_FRACTION": "0.1"}
    assert launch.run("0", "true", environment=users)[0] == 0
    seen = (node.bin / "apptainer.env").read_text().splitlines()
    assert "APPTAINERENV_TF_FORCE_GPU_ALLOW_GROWTH=false" in seen
    assert "APPTAINERENV_GPUSHARE_MEMORY_FRACTION=0.2500" in seen
    assert not [line for line in seen if "XLA_PYTHON_CLIENT_MEM_FRACTION" in line]


@pytest.mark.parametrize("case", ["off", "whole"])
def test_frameworks_are_left_alone_where_the_policy_or_the_grant_says_so(node, job, launch, grant_text, case):
    if case == "off":
        policy = json.loads((node.base / "node.json").read_text())
        (node.base / "node.json").write_text(json.dumps({**policy, "framework_memory": False}))
    else:
        job["SLURM_JOB_EXTRA"] = grant_text(backend="shard", fraction=1, slices=100)
    start(node, job)
    assert set(shown(node, launch, *FRAMEWORKS).values()) == {""}


def test_a_backend_that_cannot_begin_refuses_the_job_and_not_the_node(node, backend, job, launch, slurm):
    backend.fails = BackendError("no control daemon on this node")
    start(node, job)
    assert launch.run("batch", "true") == (69, "gpushare: no control daemon on this node\n")
    backend.fails = None
    epilog(slurm, node.run_dir, node.policy)
    assert backend.calls("finish") == [("finish", 7, "n1")]  # what it had begun by then


def test_the_epilog_finishes_once_and_may_be_run_again(node, backend, job, slurm):
    start(node, job)
    epilog(slurm, node.run_dir, node.policy)
    assert backend.calls("finish") == [("finish", 7, "n1")]
    assert os.listdir(node.jobs) == os.listdir(node.held) == []


def test_of_a_pools_job_nothing_is_finished_on_the_node(node, backend, pool_job, slurm):
    start(node, pool_job)
    epilog(slurm, node.run_dir, node.policy)
    assert backend.done == []


def test_a_prolog_that_was_killed_is_finished_by_the_epilog(node, backend, job, slurm, monkeypatch):
    monkeypatch.setattr(backend, "fails", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        start(node, job)
    backend.fails = None
    assert not (node.job / "launch.json").exists() and not node.held.exists()
    epilog(slurm, node.run_dir, node.policy)
    assert backend.calls("finish") == [("finish", 7, "n1")] and os.listdir(node.jobs) == []


def test_what_could_not_be_finished_is_tried_again(node, backend, job, slurm, capsys):
    start(node, job)
    backend.fails = BackendError("the daemon does not answer")
    epilog(slurm, node.run_dir, node.policy)
    assert "the daemon does not answer" in capsys.readouterr().err
    (aside,) = os.listdir(node.held)
    assert aside.startswith("7.left.")
    backend.fails = None
    assert sweep([], node.run_dir, node.policy)
    assert len(backend.calls("finish")) == 2 and os.listdir(node.held) == []


def test_while_a_later_run_of_the_job_is_here_nothing_is_finished(node, backend, job, slurm):
    start(node, job)
    os.rename(node.work.parent, node.held / f"7.left.{int(time.time())}")
    start(node, job, 2.0)
    backend.done.clear()
    assert sweep([], node.run_dir, node.policy)
    assert backend.done == []


def test_a_run_that_no_epilog_ended_is_finished_before_the_next_begins(node, backend, job):
    start(node, job)
    start(node, job, 2.0)
    assert [call[0] for call in backend.done] == ["begin", "finish", "begin"]


@pytest.mark.parametrize("disk", [True, False])
def test_the_sweep_finishes_what_a_killed_epilog_did_not(node, backend, job, disk):
    start(node, job)
    if not disk:  # both prolog and epilog were killed
        node.work.rmdir()
        node.work.parent.rmdir()
    (node.job / "ended").touch()
    old = time.time() - sweep_module.STARTED - 1
    os.utime(node.job / "ended", (old, old))
    assert sweep(["n1"], node.run_dir, node.policy)
    assert backend.calls("finish") == [("finish", 7, "n1")]
    assert os.listdir(node.jobs) == [] and (not node.held.exists() or os.listdir(node.held) == [])


def test_tasks_with_a_share_each_are_told_of_all_of_it(node, slurm, grant_text, launch):
    policy = json.loads((node.base / "node.json").read_text())
    policy["backends"]["lupine"] = {
        "libraries": f"{node.base}/bin",
        "placement": "pinned",
        "servers": {"s1": "10.0.0.1:14833"},
    }
    (node.base / "node.json").write_text(json.dumps(policy))
    (node.base / "bin/libcuda.so.1").touch()
    extra = grant_text(backend="lupine", tasks=2, slices=50)
    start(node, {**slurm, "SLURM_JOB_EXTRA": extra, "SLURM_JOB_LICENSES": "gpu0@s1:50"})
    task = {"SLURM_NODEID": "0", "SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2"}
    assert shown(node, launch, *FRAMEWORKS, environment=task)["GPUSHARE_MEMORY_FRACTION"] == "0.2500"
