import os

import pytest

from slurm_gpushare.node.folder import (
    empty,
    make_work,
    open_job_folder,
    remove_job_folder,
    write_file,
)


@pytest.fixture
def folder(node):
    descriptor = open_job_folder(node.run_dir, "n1", 7, create=True)
    make_work(descriptor, 1001, 1001)
    yield descriptor
    os.close(descriptor)


def remove(node):
    return remove_job_folder(node.run_dir, "n1", 7, 1001, 1001)


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


def test_without_a_folder_there_is_nothing_to_remove(node):
    assert remove(node) is None


def test_everything_goes(node, folder):
    write_file(folder, "launch.json", "{}", 1001)
    (node.job / "launch.json.partial").write_text("half")
    (node.job / "work/a/b/c").mkdir(parents=True)
    (node.job / "work/a/b/c/file").write_text("")
    os.mkfifo(node.job / "work/a/pipe")
    assert remove(node) is None
    assert os.listdir(node.jobs) == []
    assert remove(node) is None


def test_folders_that_the_user_locked_go_too(node, folder):
    def lock():
        os.makedirs(node.job / "work/locked/inner")
        (node.job / "work/locked/inner/file").write_text("")
        os.chmod(node.job / "work/locked/inner", 0)
        os.chmod(node.job / "work/locked", 0)

    as_user(1001, lock)
    assert remove(node) is None


def test_what_others_put_there_goes_too(node, folder):
    as_user(1001, lambda: os.chmod(node.job / "work", 0o777))

    def intrude():
        os.makedirs(node.job / "work/theirs/inner")
        (node.job / "work/theirs/inner/file").write_text("")

    as_user(1002, intrude)
    assert remove(node) is None


def test_names_of_all_kinds_and_a_deep_tree_go(node, folder):
    work = node.job / "work"
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
    assert remove(node) is None


def test_links_are_removed_and_not_followed(node, folder):
    (node.base / "data/keep").write_text("precious")
    (node.job / "work/link").symlink_to(node.base / "data")
    (node.job / "work/dangling").symlink_to("/nosuch")
    assert remove(node) is None
    assert (node.base / "data/keep").read_text() == "precious"


def test_a_work_folder_that_was_replaced_by_a_link_is_put_aside(node, folder):
    os.rmdir(node.job / "work")
    (node.base / "data/keep").write_text("precious")
    os.symlink(node.base / "data", node.job / "work")
    assert "is left" in remove(node)
    assert not node.job.exists()
    assert (node.base / "data/keep").read_text() == "precious"


def test_what_cannot_be_removed_is_put_aside_without_its_record(node, folder, monkeypatch):
    write_file(folder, "launch.json", "{}", 1001)
    (node.job / "work/file").write_text("")
    monkeypatch.setattr("slurm_gpushare.node.folder.empty", lambda descriptor: False)
    left = remove(node)
    (name,) = os.listdir(node.jobs)
    assert name.startswith("7.left.") and name in left
    assert os.listdir(node.jobs / name) == ["work"]
    assert remove(node) is None


def test_empty_tells_what_is_stuck(node, folder, monkeypatch, capfd):
    (node.job / "work/stuck").write_text("")
    (node.job / "work/loose").write_text("")
    unlink = os.unlink

    def stubborn(name, **where):
        if name == "stuck":
            raise PermissionError(1, "Operation not permitted")
        unlink(name, **where)

    monkeypatch.setattr(os, "unlink", stubborn)
    descriptor = os.open(node.job / "work", os.O_RDONLY | os.O_DIRECTORY)
    assert empty(descriptor) is False
    monkeypatch.undo()
    assert os.listdir(descriptor) == ["stuck"]
    os.close(descriptor)
    assert "'stuck': Operation not permitted" in capfd.readouterr().err


def test_a_record_is_replaced_whole(node, folder):
    (node.job / "launch.json.partial").symlink_to(node.base / "data/keep")
    for text in ("first", "second"):
        write_file(folder, "launch.json", text, 1001)
    assert (node.job / "launch.json").read_text() == "second"
    assert not (node.base / "data/keep").exists()
    assert sorted(os.listdir(node.job)) == ["launch.json", "work"]


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_folder_that_others_may_write_is_not_trusted(node, folder, mode):
    node.jobs.chmod(mode)
    with pytest.raises(PermissionError, match="not root's alone"):
        remove(node)
