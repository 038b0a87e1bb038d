import os

import pytest

from slurm_gpushare.container.mounts import Mount
from slurm_gpushare.container.pmix import pmix_mount


@pytest.fixture
def spool(tmp_path, monkeypatch):
    """A spool folder of root's with the step's folder in it, which is of the user's."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give folders away")
    monkeypatch.setattr(os, "getuid", lambda: 1001)
    (tmp_path / "spool/pmix.7.0").mkdir(parents=True)
    os.chown(tmp_path / "spool/pmix.7.0", 1001, 0)
    return tmp_path / "spool"


def ask(path, step="0"):
    return pmix_mount({"PMIX_SERVER_TMPDIR": str(path), "SLURM_JOB_ID": "7"}, step)


def test_the_folder_that_slurmstepd_made_is_shown(spool):
    path = str(spool / "pmix.7.0")
    assert ask(path + "/") == Mount(path, path, False)


def test_of_another_step_or_without_pmix_there_is_none(spool):
    assert ask(spool / "pmix.7.0", "1") is None
    assert pmix_mount({"SLURM_JOB_ID": "7"}, "0") is None
    assert pmix_mount({"PMIX_SERVER_TMPDIR": "/pmix.None.0"}, "0") is None


@pytest.mark.parametrize("deed", ["elsewhere", "link", "not hers", "her own folder", "anybodys folder", "file", "gone"])
def test_what_a_user_says_of_other_folders_is_not_believed(spool, deed):
    path = spool / "pmix.7.0"
    if deed == "elsewhere":
        path = "/etc"
    elif deed == "link":
        path.rename(spool / "real")
        path.symlink_to("real")
    elif deed == "not hers":
        os.chown(path, 0, 0)
    elif deed == "her own folder":
        os.chown(spool, 1001, 0)
    elif deed == "anybodys folder":
        spool.chmod(0o1777)
    elif deed in ("file", "gone"):
        path.rmdir()
        if deed == "file":
            path.touch()
            os.chown(path, 1001, 0)
    assert ask(path) is None
