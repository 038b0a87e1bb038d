import os
import socket
import subprocess
import threading

import pytest

from slurm_gpushare import paths
from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.node import epilog as module
from slurm_gpushare.node.epilog import epilog, tell_agent
from slurm_gpushare.node.folder import lock_job_folder
from slurm_gpushare.node.prolog import prolog


@pytest.fixture
def job(node, pool_job):
    """A job of the pool after its prolog, with one allocation."""
    prolog(pool_job, 1.0, node.run_dir, node.policy)
    work = node.work
    allocate(work / "bitfusion123456789")
    return work


def allocate(path, uid=1001):
    path.write_text("lease\n")
    os.chown(path, uid, uid)


def calls(node):
    path = node.bin / "bitfusion.calls"
    return path.read_text().splitlines() if path.exists() else []


def end(node, environment):
    epilog(environment, node.run_dir, node.policy)


def kept(node):
    """The path of the one folder that was put aside, of a job whose record is gone."""
    assert os.listdir(node.jobs) == []
    (name,) = os.listdir(node.held)
    assert name.startswith("7.left.")
    return str(node.held / name)


def test_what_cannot_be_removed_is_put_aside(node, job, slurm, monkeypatch, capsys):
    monkeypatch.setattr("slurm_gpushare.node.folder.empty", lambda descriptor: False)
    (job / "other").touch()
    end(node, slurm)
    assert kept(node) in capsys.readouterr().err


def test_while_another_gives_back_it_waits(node, job, slurm):
    folder = lock_job_folder(paths.NODE_STATE_DIR, "n1", 7)
    thread = threading.Thread(target=end, args=(node, slurm))
    thread.start()
    assert node.job.exists()
    os.close(folder)
    thread.join(30)
    assert os.listdir(node.jobs) == os.listdir(node.held) == [] and len(calls(node)) == 1


def test_the_allocation_is_released_as_the_user_and_the_folder_removed(node, job, slurm):
    end(node, slurm)
    assert calls(node) == [f"1001 release_gpus -f {job}/bitfusion123456789"]
    assert os.listdir(node.jobs) == os.listdir(node.held) == []


def test_it_can_be_run_again(node, job, slurm):
    end(node, slurm)
    end(node, slurm)
    assert len(calls(node)) == 1


def test_it_believes_the_record_and_not_the_jobs_extra(node, job, slurm, grant_text):
    end(node, {**slurm, "SLURM_JOB_EXTRA": grant_text(backend="shard"), "SLURM_JOB_UID": "1002"})
    assert calls(node) == [f"1001 release_gpus -f {job}/bitfusion123456789"]


def test_without_a_record_the_allocation_is_released_all_the_same(node, job, slurm):
    (node.job / "launch.json").unlink()
    end(node, slurm)
    assert calls(node) == [f"1001 release_gpus -f {job}/bitfusion123456789"]
    assert os.listdir(node.jobs) == os.listdir(node.held) == []


def test_a_record_that_is_none_is_told_and_borne(node, job, slurm, capsys):
    (node.job / "launch.json").unlink()
    (node.job / "launch.json").write_text("{")
    end(node, slurm)
    assert "not readable" in capsys.readouterr().err
    assert len(calls(node)) == 1
    assert os.listdir(node.jobs) == os.listdir(node.held) == []


def test_a_node_where_no_prolog_ran_is_left_as_it_is(node, slurm):
    end(node, slurm)
    assert calls(node) == []
    assert not os.path.exists(node.run_dir)


def test_killed_after_the_record_was_removed_it_goes_on(node, job, slurm):
    (node.job / "launch.json").unlink()
    (job / "bitfusion123456789").unlink()
    end(node, slurm)
    assert os.listdir(node.jobs) == os.listdir(node.held) == []


def test_links_and_files_of_others_are_not_released(node, job, slurm):
    allocate(node.base / "data/bitfusion5")
    (job / "bitfusion-link").symlink_to(node.base / "data/bitfusion5")
    allocate(job / "bitfusion-other", 1002)
    os.mkfifo(job / "bitfusion-pipe")
    end(node, slurm)
    assert calls(node) == [f"1001 release_gpus -f {job}/bitfusion123456789"]
    assert (node.base / "data/bitfusion5").read_text() == "lease\n"
    assert os.listdir(node.jobs) == os.listdir(node.held) == []


def test_a_client_that_hangs_does_not_hold_up_the_node(node, job, slurm, monkeypatch, capsys):
    (node.bin / "hang").touch()
    monkeypatch.setattr(module, "RELEASE_TIMEOUT", 0.3)
    end(node, slurm)
    assert "no end within" in capsys.readouterr().err
    kept(node)


def test_a_client_that_fails_is_logged(node, job, slurm, capsys):
    (node.bin / "bitfusion").write_text("#!/bin/sh\necho 'Error: gone already' >&2\nexit 1\n")
    end(node, slurm)
    assert "job 7" in (said := capsys.readouterr().err) and "gone already" in said
    assert kept(node) in said


def test_the_client_sees_nothing_of_roots_environment(node, job, slurm, monkeypatch):
    monkeypatch.setenv("SECRET_OF_ROOT", "1")
    client = node.bin / "bitfusion"
    client.write_text(f'#!/bin/sh\nenv >{node.bin}/env; rm "$3"\n')
    end(node, {**slurm, "LD_PRELOAD": "/nosuch.so"})
    seen = dict(line.split("=", 1) for line in (node.bin / "env").read_text().splitlines())
    assert seen["TMPDIR"] == str(job)
    assert set(seen) <= {"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "PWD", "SHLVL", "_", "OLDPWD"}


def test_without_a_policy_the_node_is_broken_and_the_sweep_has_what_it_needs(node, job, slurm):
    with pytest.raises(BrokenInstallation):
        epilog(slurm, node.run_dir, "/nosuch/node.json")
    assert os.listdir(node.jobs) == []
    assert os.listdir(job) == ["bitfusion123456789"]


def test_whole_gpus_need_no_policy(node, slurm):
    prolog({**slurm, "SLURM_JOB_GPUS": "0"}, 1.0, node.run_dir, node.policy)
    epilog(slurm, node.run_dir, "/nosuch/node.json")
    assert os.listdir(node.jobs) == os.listdir(node.held) == []


def test_processes_that_outlived_the_job_are_killed_before_its_allocation_is_released(node, job, slurm):
    process = subprocess.Popen(
        ["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"],
        env={name: slurm[name] for name in ("SLURM_JOB_ID", "SLURMD_NODENAME", "SLURM_CLUSTER_NAME")},
        user=1001,
        group=1001,
        extra_groups=[],
        cwd="/",
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"up\n"
    (node.bin / "bitfusion").write_text(
        f'#!/bin/sh\ngrep -h State /proc/{process.pid}/status >{node.bin}/state; rm "$3"\n'
    )
    end(node, slurm)
    assert "Z" in (node.bin / "state").read_text()  # dead, and not yet waited for by this test
    assert process.wait() == -9
    process.stdout.close()


class Agent:
    """What listens where the agent does, and answers once."""

    def __init__(self, path, *answers, probe=lambda: None):
        self.heard = b""
        self.probe = probe
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, args=(answers,))
        self.thread.start()

    def serve(self, answers):
        connection, _ = self.listener.accept()
        with connection:
            while not self.heard.endswith(b"\n"):
                self.heard += connection.recv(64)
            self.probe()
            for answer in answers:
                connection.sendall(answer)
            if not answers:
                connection.recv(1)

    def close(self):
        self.thread.join(30)
        self.listener.close()


@pytest.mark.parametrize(
    "answers, said", [((b"ok\n",), True), ((b"o", b"k\n"), True), ((b"no\n",), False), ((b"",), False)]
)
def test_the_agent_is_told(tmp_path, answers, said):
    agent = Agent(tmp_path / "agent.sock", *answers)
    assert tell_agent(7, str(tmp_path / "agent.sock"), 30) is said
    agent.close()
    assert agent.heard == b"end 7\n"


def test_an_agent_that_does_not_answer_is_not_waited_for(tmp_path):
    agent = Agent(tmp_path / "agent.sock")
    assert tell_agent(7, str(tmp_path / "agent.sock"), 0.1) is False
    agent.close()


def test_without_an_agent_nothing_fails(tmp_path):
    assert tell_agent(7, str(tmp_path / "nosuch.sock")) is False
    (tmp_path / "file").write_text("")
    assert tell_agent(7, str(tmp_path / "file")) is False


def test_the_agent_hears_while_the_record_is_still_there(node, job, slurm):
    seen = []
    agent = Agent(node.base / "run/n1/agent.sock", b"ok\n", probe=lambda: seen.extend(os.listdir(node.job)))
    end(node, slurm)
    agent.close()
    assert agent.heard == b"end 7\n"
    assert "launch.json" in seen
