import os
import shutil

import pytest

from slurm_gpushare.container.workdir import working_folder
from slurm_gpushare.errors import RefusedError


@pytest.fixture
def site(monkeypatch):
    """Folders outside of what runtimes mount for everybody, and a way to start a task in one."""
    base = "/var/lib/gpushare-test-workdir"
    if os.geteuid() != 0:
        pytest.skip("needs root for folders outside of /tmp")
    shutil.rmtree(base, ignore_errors=True)
    for name in ("home/alice/sub", "home2", "scratch/a b,c", "scratch2", "secret"):
        os.makedirs(f"{base}/{name}")
    os.symlink(f"{base}/secret", f"{base}/scratch/link")

    def start(folder, workdir="", mount_home=True):
        os.chdir(folder if folder.startswith("/") else f"{base}/{folder}")
        return working_folder(workdir, mount_home, (f"{base}/scratch",), lambda: (f"{base}/home/alice",))

    start.base = base
    before = os.getcwd()
    yield start
    os.chdir(before)
    shutil.rmtree(base)


def word(path):
    found = os.stat(path)
    return [f"{found.st_dev}:{found.st_ino}:{path}"]


@pytest.mark.parametrize("folder", ["home/alice", "home/alice/sub", "scratch", "scratch/a b,c"])
def test_an_allowed_folder_is_where_the_command_starts_and_must_be_there(site, folder):
    path = f"{site.base}/{folder}"
    assert site(folder) == (path, (), word(path))


@pytest.mark.parametrize("folder", ["/", "/tmp", "/var/tmp"])
def test_what_every_container_has_needs_no_check(site, folder):
    assert site(folder) == (folder, (), [])
    assert site(folder, mount_home=False) == (folder, ("home",), [])


@pytest.mark.parametrize("folder", ["secret", "scratch/link", "scratch2", "home2", "home", "/etc", "/usr/share"])
def test_the_runtime_does_not_mount_what_the_policy_forbids_because_a_job_starts_there(site, folder):
    with pytest.raises(RefusedError, match=r"the job's working folder '.*' may not be mounted here") as caught:
        site(folder)
    assert "--container-workdir" in str(caught.value)
    assert site(folder, workdir="/") == ("/", ("cwd",), ["cd:/"])


def test_without_home_a_job_that_starts_there_starts_in_the_images_root(site):
    assert site("home/alice/sub", mount_home=False) == ("/", ("home", "cwd"), [])
    path = f"{site.base}/scratch"
    assert site("scratch", mount_home=False) == (path, ("home",), word(path))


def test_a_folder_of_the_users_choice(site):
    assert site("home/alice", "/opt/a b", False) == ("/", ("home", "cwd"), ["cd:/opt/a b"])


@pytest.mark.parametrize("workdir", ["x", "./x", "/a/../b", "..", "-x"])
def test_a_choice_that_is_no_place_is_refused(site, workdir):
    with pytest.raises(RefusedError, match="--container-workdir"):
        site("/", workdir)


def test_a_folder_that_is_gone_is_a_clear_error(site):
    os.mkdir(f"{site.base}/scratch/gone")
    os.chdir(f"{site.base}/scratch/gone")
    os.rmdir(f"{site.base}/scratch/gone")
    with pytest.raises(RefusedError, match="cannot be used on this node: No such file"):
        working_folder("", True, (), tuple)


def test_the_root_folder_as_a_home_opens_nothing(site, monkeypatch):
    import pwd

    monkeypatch.setattr(pwd, "getpwuid", lambda uid: type("Entry", (), {"pw_dir": "/"}))
    os.chdir(f"{site.base}/secret")
    with pytest.raises(RefusedError):
        working_folder("", True, ())
