import os
import re
import signal
import threading
import time

import pytest

from slurm_gpushare.backends import bitfusion, requeue
from slurm_gpushare.backends.bitfusion_allocation import allocation_files
from slurm_gpushare.errors import BackendError, BrokenInstallation, RefusedError
from slurm_gpushare.launch import Place
from tests.unit.backends.conftest import ADDRESS

pytestmark = pytest.mark.usefixtures("fast")


@pytest.fixture
def prepare(grant, settings, work, environment):
    def call(step="0", folder=work, place=None, more=(), share=None, meanwhile=None, **policy):
        share, variables = share or grant(), {**environment, **dict(more)}
        bitfusion.prepare(share, settings(**policy), step, str(folder), variables, place, meanwhile)

    return call


def files(work):
    return allocation_files(str(work), os.getuid())


@pytest.mark.parametrize("step", ["batch", "interactive", "0"])
def test_a_step_makes_the_allocation(pool, work, prepare, grant, step):
    prepare(step, share=grant(0.07, slices=7))
    assert pool.calls() == ["request_gpus -n 1 -p 0.07"]
    assert len(files(work)) == 1


def test_the_next_step_uses_it_and_leaves_nothing_else(pool, work, prepare):
    for step in ("batch", "0", "0", "1"):
        prepare(step)
    assert len(pool.calls("request_gpus")) == len(pool.held()) == 1
    assert sorted(os.listdir(work)) == sorted(["lock", os.path.basename(files(work)[0])])


def test_a_pinned_allocation_is_asked_for_where_slurm_placed_it(pool, prepare):
    prepare(place=Place("s", ADDRESS, (1,)))
    assert pool.calls() == [f"request_gpus -n 1 -p 0.25 --server_list {ADDRESS} --filter device.id=1"]


def test_each_task_has_an_allocation_and_a_lock_of_its_own(pool, work, prepare):
    for number in ("0", "1", "0"):
        prepare(folder=work / number)
    assert len(pool.held()) == 2
    assert sorted(os.listdir(work)) == ["0", "1"] and (work / "0").stat().st_mode & 0o777 == 0o700


def test_of_tasks_that_start_at_once_one_makes_the_allocation(pool, prepare):
    errors = []

    def task():
        try:
            prepare()
        except Exception as error:
            errors.append(error)

    tasks = [threading.Thread(target=task) for _ in range(8)]
    for thread in tasks:
        thread.start()
    for thread in tasks:
        thread.join(30)
    assert errors == []
    assert pool.calls() == ["request_gpus -n 1 -p 0.25"]


def test_what_the_pool_released_by_itself_is_asked_for_again(pool, work, prepare):
    prepare()
    (old,) = files(work)
    pool.lose()
    prepare("1")
    assert len(pool.held()) == 1
    (new,) = files(work)
    assert new != old
    # It could not be released, so the epilog tries again.
    assert os.listdir(work / "dead") == [os.path.basename(old)]


def test_an_allocation_is_not_given_up_while_its_pool_is_away(pool, work, prepare):
    prepare()
    had = files(work), pool.held()
    pool.be("away")
    with pytest.raises(BackendError, match=r"cannot be reached .* the allocation that the job has") as caught:
        prepare("1")
    assert caught.value.exit_status == 69
    pool.no_longer("away")
    prepare("2")
    assert (files(work), pool.held()) == had
    assert len(pool.calls("request_gpus")) == 1


def test_a_pool_that_is_away_is_status_69(pool, prepare):
    pool.be("away")
    with pytest.raises(BackendError, match=r"cannot be reached .*Error: none of the servers responded") as caught:
        prepare()
    assert caught.value.exit_status == 69 and "\n" not in str(caught.value)


def test_a_server_of_the_policy_that_does_not_answer_is_status_69_though_others_do(pool, prepare):
    pool.be("says", "Error: no room\n")
    servers = {"a": ADDRESS, "b": "10.1.202.20:56001"}
    for name, status in (("a", 75), ("b", 69)):
        with pytest.raises(BackendError) as caught:
            prepare(name, place=Place(name, servers[name], (0,)), servers=servers)
        assert caught.value.exit_status == status


def test_a_server_that_the_client_knows_by_another_name_counts_as_there(pool, prepare):
    pool.be("says", "Error: no room\n")
    with pytest.raises(BackendError) as caught:
        prepare(place=Place("a", "gpu1:56001", (0,)), servers={"a": "gpu1:56001"})
    assert caught.value.exit_status == 75


@pytest.mark.parametrize(
    "says, text",
    [
        ("[WARN] one\nError: no room\nend\n", r"gave no GPUs \(tried for \d+ s\): Error: no room \(\[WARN\] one\)$"),
        ("", "no word from"),
    ],
)
def test_a_full_pool_is_one_line_and_status_75(pool, prepare, says, text):
    pool.be("says", says)
    with pytest.raises(BackendError, match=text) as caught:
        prepare()
    assert caught.value.exit_status == 75 and "\n" not in str(caught.value)
    assert len(pool.calls("request_gpus")) == 1


def test_the_other_tasks_of_a_step_fail_alike_and_the_next_step_asks_again(pool, prepare):
    pool.be("says", "Error: no GPUs in time\n")
    failures = []
    for _ in range(3):
        with pytest.raises(BackendError) as caught:
            prepare()
        failures.append((caught.value.exit_status, str(caught.value)))
    assert len(set(failures)) == 1 and failures[0][0] == 75
    assert len(pool.calls("request_gpus")) == 1
    pool.no_longer("says")
    prepare("1")
    assert len(pool.held()) == 1


def test_it_is_asked_again_while_there_is_time_and_the_user_is_told(pool, prepare, capfd):
    pool.be("says", "Error: no room\n")

    def room():
        while len(pool.calls("request_gpus")) < 4:
            time.sleep(0.01)
        pool.no_longer("says")

    other = threading.Thread(target=room)
    other.start()
    prepare(wait=30.0)
    other.join()
    first, second = capfd.readouterr().err.splitlines()
    assert first == "gpushare: the Bitfusion pool gave no GPUs yet (Error: no room): waiting up to 30 s"
    assert re.fullmatch(r"gpushare: the Bitfusion pool gave the GPUs after \d+ s", second)


def test_a_client_that_waits_by_itself_is_ended_in_time(pool, prepare, capfd):
    pool.be("spin")
    with pytest.raises(BackendError, match=r"\[INFO\] waiting") as caught:
        prepare(wait=0.5)
    assert caught.value.exit_status == 75
    assert capfd.readouterr().err == "gpushare: the Bitfusion pool gave no GPUs yet: waiting up to 0.5 s\n"
    assert len(pool.calls("request_gpus")) == 1


def test_a_client_that_bears_sigterm_is_killed(pool, prepare, monkeypatch):
    monkeypatch.setattr("slurm_gpushare.backends.client.GRACE", 0.2)
    pool.be("spin")
    pool.be("stubborn")
    with pytest.raises(BackendError):
        prepare()


def test_an_allocation_that_came_at_the_last_moment_is_taken(pool, work, prepare):
    pool.be("late")
    prepare()
    assert len(files(work)) == len(pool.held()) == 1


def test_what_an_ended_client_left_and_nobody_holds_is_put_aside(pool, work, prepare):
    pool.be("late")
    pool.be("client", "")
    path = pool.path
    path.write_text(path.read_text().replace('touch "$here/pool/$$"; ', ""))
    with pytest.raises(BackendError) as caught:
        prepare()
    assert caught.value.exit_status == 75
    assert files(work) == [] and len(os.listdir(work / "dead")) == 1


def test_a_client_that_leaves_no_allocation_file_is_broken(pool, prepare):
    pool.be("silent")
    with pytest.raises(BrokenInstallation, match="TMPDIR"):
        prepare(wait=60.0)


def test_a_client_that_is_missing_is_a_broken_installation(grant, settings, work, environment, tmp_path):
    missing = settings()._replace(command=str(tmp_path / "nosuch"))
    with pytest.raises(BrokenInstallation, match="install it on this node"):
        bitfusion.prepare(grant(), missing, "0", str(work), environment)


def test_the_lock_is_not_made_through_a_link(work, prepare, tmp_path):
    (work / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        prepare()
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_task_that_is_ended_while_it_waits_ends_at_once_and_holds_nothing(pool, work, prepare, number):
    pool.be("spin")
    child = os.fork()
    if child == 0:
        try:
            signal.signal(number, signal.SIG_DFL)
            prepare(wait=600.0)
        finally:
            os._exit(99)
    while not pool.calls("request_gpus"):
        time.sleep(0.01)
    began = time.monotonic()
    os.kill(child, number)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == -number and time.monotonic() - began < 20
    assert pool.held() == files(work) == []
    # Another task of the step is not told that it has an allocation.
    pool.no_longer("spin")
    prepare()
    assert len(files(work)) == 1


def test_allocation_files_are_regular_and_the_users(work, tmp_path):
    (work / "bitfusion000000001").write_text("")
    (work / "lock").write_text("")
    (work / "xbitfusion").write_text("")
    (work / "bitfusion-folder").mkdir()
    (work / "bitfusion-link").symlink_to(tmp_path)
    os.mkfifo(work / "bitfusion-pipe")
    assert files(work) == [str(work / "bitfusion000000001")]
    assert allocation_files(str(work), os.getuid() + 1) == []


def test_epilog_releases_every_allocation_of_every_task(pool, work, prepare, settings, environment):
    for folder in (work, work / "0", work / "1"):
        prepare(folder=folder)
    dead = work / "1/dead"
    dead.mkdir()
    (dead / "bitfusion9").write_text("9")
    (pool.folder / "pool/9").touch()
    assert len(pool.held()) == 4
    assert bitfusion.epilog(settings(), str(work), environment) is True
    assert pool.held() == files(work) == files(dead) == []


def test_epilog_goes_on_after_an_allocation_that_is_gone(pool, work, prepare, settings, environment, capfd):
    (work / "bitfusion1").write_text("gone")
    prepare(folder=work / "0")
    assert bitfusion.epilog(settings(), str(work), environment) is False
    assert pool.held() == []
    assert (
        capfd.readouterr().err
        == f"{pool.path} release_gpus -f {work}/bitfusion1: status 1: Error: no such allocation\n"
    )


def test_epilog_finds_what_a_user_moved_and_locked_up(pool, work, prepare, settings, environment):
    prepare()
    (path,) = files(work)
    deep = work / "x/y"
    deep.mkdir(parents=True)
    os.rename(path, deep / "bitfusion7")
    os.link(deep / "bitfusion7", work / "bitfusion8")
    (work / "bitfusion9").touch()
    (work / "x").chmod(0)
    work.chmod(0)
    assert bitfusion.left_files(str(work), os.getuid()) in ([f"{deep}/bitfusion7"], [f"{work}/bitfusion8"])
    assert bitfusion.epilog(settings(), str(work), environment) is True
    assert pool.held() == [] and len(pool.calls("release_gpus")) == 1


def test_epilog_releases_the_real_one_among_many(pool, work, prepare, settings, environment):
    prepare()
    (path,) = files(work)
    os.utime(path, (1, 1))
    for number in range(40):
        (work / f"bitfusion-{number}").write_text("fake")
    assert bitfusion.epilog(settings(), str(work), environment) is False
    assert pool.held() == [] and len(pool.calls("release_gpus")) == 41


def test_epilog_follows_no_link(pool, work, settings, environment, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/bitfusion1").write_text("1")
    (work / "0").symlink_to(tmp_path / "other")
    assert bitfusion.epilog(settings(), str(work), environment) is True
    assert pool.calls() == []


def test_a_refused_batch_script_is_requeued_and_its_steps_are_not(pool, prepare, monkeypatch):
    asked = []
    monkeypatch.setattr(requeue, "ask", lambda *words: asked.append(words[-1]) or "requeued")
    pool.be("says", "Error: no room\n")
    with pytest.raises(BackendError, match=r"no room$") as caught:
        prepare("0", requeue_limit=3)
    assert asked == []
    with pytest.raises(BackendError, match=r"no room; requeued$") as caught:
        prepare("batch", requeue_limit=3)
    assert caught.value.exit_status == 75 and len(asked) == 1
    pool.no_longer("says")
    pool.be("silent")
    with pytest.raises(BrokenInstallation):
        prepare("batch", folder=os.path.dirname(pool.path) + "/w", requeue_limit=3)
    assert len(asked) == 1


@pytest.mark.parametrize("held", [False, True])
def test_other_work_is_done_once_while_the_client_works(pool, prepare, held):
    calls = []
    if held:
        prepare()
    prepare("1", meanwhile=lambda: calls.append(pool.calls("client" if held else "request_gpus")))
    assert len(calls) == 1 and len(pool.held()) == 1


def test_where_the_other_work_fails_nothing_is_held(pool, work, prepare):
    def refuse():
        raise RefusedError("no such image")

    with pytest.raises(RefusedError):
        prepare(meanwhile=refuse)
    assert (pool.held(), files(work)) == ([], [])
    prepare("1")
    with pytest.raises(RefusedError):
        prepare("2", meanwhile=refuse)
    assert len(pool.held()) == len(files(work)) == 1
