import os
import time

import pytest

from slurm_gpushare import paths
from slurm_gpushare.node import sweep as module
from slurm_gpushare.node.epilog import epilog
from slurm_gpushare.node.folder import lock_job_folder
from slurm_gpushare.node.prolog import prolog
from slurm_gpushare.node.sweep import sweep


@pytest.fixture
def job(node, pool_job):
    """A job of the pool after its prolog, with one allocation."""
    prolog(pool_job, 1.0, node.run_dir, node.policy)
    path = node.work / "bitfusion123456789"
    path.write_text("lease\n")
    os.chown(path, 1001, 1001)
    return path


def calls(node):
    path = node.bin / "bitfusion.calls"
    return path.read_text().splitlines() if path.exists() else []


def run(node, *nodes):
    return sweep(list(nodes), node.run_dir, node.policy)


def reboot(node):
    """What it leaves of /run."""
    for name in os.listdir(node.job):
        (node.job / name).unlink()
    node.job.rmdir()


def test_a_running_job_is_left_alone(node, job):
    assert run(node) and run(node, "n1", "n2")
    assert job.exists() and calls(node) == []


def test_after_a_reboot_what_a_job_held_is_given_back_as_its_owner(node, job, capsys):
    reboot(node)
    assert run(node)
    assert calls(node) == [f"1001 release_gpus -f {job}"]
    assert os.listdir(node.held) == []
    assert "sweep: job 7: what it had left is given back" in capsys.readouterr().err
    assert run(node) and len(calls(node)) == 1


def test_only_the_named_nodes_are_swept(node, job):
    reboot(node)
    assert run(node, "n2")
    assert job.exists()


def test_what_another_gives_back_is_left_to_it(node, job):
    reboot(node)
    folder = lock_job_folder(paths.NODE_STATE_DIR, "n1", 7)
    assert run(node) and job.exists()
    os.close(folder)
    assert run(node) and not job.exists()


def test_a_job_whose_epilog_was_killed_is_ended(node, job, capsys):
    mark = node.job / "ended"
    mark.touch()
    assert run(node) and job.exists()  # an epilog may just have begun
    old = time.time() - module.STARTED - 1
    os.utime(mark, (old, old))
    assert run(node)
    assert calls(node) == [f"1001 release_gpus -f {job}"]
    assert os.listdir(node.jobs) == os.listdir(node.held) == []
    assert "its epilog was killed" in capsys.readouterr().err


def test_a_pool_that_did_not_answer_is_tried_again(node, job, slurm, capsys):
    client = (node.bin / "bitfusion").read_text()
    (node.bin / "bitfusion").write_text("#!/bin/sh\necho 'Error: no server' >&2\nexit 1\n")
    epilog(slurm, node.run_dir, node.policy)
    (aside,) = os.listdir(node.held)
    capsys.readouterr()
    assert run(node) and os.listdir(node.held) == [aside]
    assert capsys.readouterr().err == ""  # the epilog has said it
    (node.bin / "bitfusion").write_text(client)
    assert run(node)
    assert calls(node) == [f"1001 release_gpus -f {node.held}/{aside}/work/{job.name}"]
    assert os.listdir(node.held) == []


def test_it_gives_up_in_the_end(node, job, monkeypatch):
    reboot(node)
    os.rename(node.work.parent, node.held / f"7.left.{int(time.time() - module.GIVE_UP - 1)}")
    assert run(node)
    assert calls(node) == [] and os.listdir(node.held) == []


def test_a_later_run_of_the_same_job_is_not_touched(node, job, pool_job):
    os.rename(node.work.parent, node.held / f"7.left.{int(time.time())}")
    prolog(pool_job, 2.0, node.run_dir, node.policy)
    (node.work / "bitfusion5").write_text("lease\n")
    os.chown(node.work / "bitfusion5", 1001, 1001)
    assert run(node)
    assert len(calls(node)) == 1 and job.name in calls(node)[0]
    assert (node.work / "bitfusion5").exists()


def test_what_else_lies_there_is_left_alone(node, job):
    (node.held / "notes").mkdir()
    (node.held / "8").symlink_to(node.base / "data")
    assert not run(node)
    assert (node.held / "notes").is_dir() and (node.held / "8").is_symlink()


def test_without_a_policy_it_says_so_and_keeps_all(node, job, capsys):
    reboot(node)
    assert not sweep([], node.run_dir, "/nosuch/node.json")
    assert job.exists() and "gpushare policy compile" in capsys.readouterr().err
