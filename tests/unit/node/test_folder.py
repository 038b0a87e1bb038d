import os
import threading

import pytest

from slurm_gpushare import paths
from slurm_gpushare.node.folder import (
    empty,
    lock_job_folder,
    make_work,
    open_job_folder,
    put_aside,
    remove_record,
    remove_work,
    write_file,
)


@pytest.fixture
def folder(node):
    descriptor = open_job_folder(paths.NODE_STATE_DIR, "n1", 7, create=True)
    make_work(descriptor, 1001, 1001)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def record(node):
    descriptor = open_job_folder(node.run_dir, "n1", 7, create=True)
    yield descriptor
    os.close(descriptor)


def lock(wait=True, name=7):
    return lock_job_folder(paths.NODE_STATE_DIR, "n1", name, wait)


def as_user(uid, action):
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_everything_of_the_users_goes(node, folder):
    (node.work / "a/b/c").mkdir(parents=True)
    (node.work / "a/b/c/file").write_text("")
    os.mkfifo(node.work / "a/pipe")
    remove_work(folder)
    assert not node.work.exists()
    remove_work(folder)


def test_the_record_goes_with_its_folder_and_need_not_be_there(node, record):
    write_file(record, "launch.json", "{}", 1001)
    (node.job / "launch.json.partial").write_text("half")
    (node.job / "ended").touch()
    remove_record(node.run_dir, "n1", 7)
    assert os.listdir(node.jobs) == []
    remove_record(node.run_dir, "n1", 7)


def test_a_folder_is_locked_by_one_at_a_time_and_found_gone_after(node, folder):
    assert lock(name=8) is None
    first = lock()
    assert lock(wait=False) is None
    started = threading.Event()
    found = []
    waiting = threading.Thread(target=lambda: (started.set(), found.append(lock())))
    waiting.start()
    started.wait()
    aside = put_aside(str(node.work.parent))
    assert put_aside(aside) == aside and os.path.isdir(aside)
    os.close(first)
    waiting.join(30)
    assert found == [None]
    second = lock(wait=False, name=os.path.basename(aside))
    assert second is not None
    os.close(second)


def test_folders_that_the_user_locked_go_too(node, folder):
    def lock():
        os.makedirs(node.work / "locked/inner")
        (node.work / "locked/inner/file").write_text("")
        os.chmod(node.work / "locked/inner", 0)
        os.chmod(node.work / "locked", 0)

    as_user(1001, lock)
    remove_work(folder)
    assert not node.work.exists()


def test_what_others_put_there_goes_too(node, folder):
    as_user(1001, lambda: os.chmod(node.work, 0o777))

    def intrude():
        os.makedirs(node.work / "theirs/inner")
        (node.work / "theirs/inner/file").write_text("")

    as_user(1002, intrude)
    remove_work(folder)
    assert not node.work.exists()


def test_names_of_all_kinds_and_a_deep_tree_go(node, folder):
    work = node.work
    for name in ("a\nb", "-rf", "..x", " ", "\udcff", ".1", "é"):
        (work / name).mkdir()
        (work / name / ".2").write_text("")
    descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=descriptor)
        deeper = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)
    remove_work(folder)
    assert not node.work.exists()


def test_links_are_removed_and_not_followed(node, folder):
    (node.base / "data/keep").write_text("precious")
    (node.work / "link").symlink_to(node.base / "data")
    (node.work / "dangling").symlink_to("/nosuch")
    remove_work(folder)
    assert not node.work.exists()
    assert (node.base / "data/keep").read_text() == "precious"


def test_a_work_folder_that_was_replaced_by_a_link_is_not_followed(node, folder):
    os.rmdir(node.work)
    (node.base / "data/keep").write_text("precious")
    os.symlink(node.base / "data", node.work)
    with pytest.raises(OSError):
        remove_work(folder)
    assert (node.base / "data/keep").read_text() == "precious"


def test_what_cannot_be_removed_is_told(node, folder, monkeypatch):
    (node.work / "file").write_text("")
    monkeypatch.setattr("slurm_gpushare.node.folder.empty", lambda descriptor: False)
    with pytest.raises(OSError, match="work folder"):
        remove_work(folder)


def test_empty_tells_what_is_stuck(node, folder, monkeypatch, capfd):
    (node.work / "stuck").write_text("")
    (node.work / "loose").write_text("")
    unlink = os.unlink

    def stubborn(name, **where):
        if name == "stuck":
            raise PermissionError(1, "Operation not permitted")
        unlink(name, **where)

    monkeypatch.setattr(os, "unlink", stubborn)
    descriptor = os.open(node.work, os.O_RDONLY | os.O_DIRECTORY)
    assert empty(descriptor) is False
    monkeypatch.undo()
    assert os.listdir(descriptor) == ["stuck"]
    os.close(descriptor)
    assert "'stuck': Operation not permitted" in capfd.readouterr().err


def test_a_record_is_replaced_whole(node, record):
    (node.job / "launch.json.partial").symlink_to(node.base / "data/keep")
    for text in ("first", "second"):
        write_file(record, "launch.json", text, 1001)
    assert (node.job / "launch.json").read_text() == "second"
    assert not (node.base / "data/keep").exists()
    assert os.listdir(node.job) == ["launch.json"]


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_folder_that_others_may_write_is_not_trusted(node, folder, record, mode):
    for jobs in (node.jobs, node.held):
        jobs.chmod(mode)
    with pytest.raises(PermissionError, match="not root's alone"):
        lock()
    with pytest.raises(PermissionError, match="not root's alone"):
        remove_record(node.run_dir, "n1", 7)
