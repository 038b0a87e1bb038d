import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.node.job import Job, number, plain_name, read_job


def test_read_job(slurm):
    assert read_job(slurm) == Job(7, 1001, 1001, "alice", "n1", "lab")


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", "SLURM_JOB_UID", "SLURM_JOB_GID", "SLURMD_NODENAME"])
def test_what_slurmd_always_says_must_be_there(slurm, name):
    del slurm[name]
    with pytest.raises(BrokenInstallation, match=name):
        read_job(slurm)


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "0x1", " 1", "1\n", "٣", "4294967296", "../1"])
def test_numbers_are_strict(text):
    with pytest.raises(BrokenInstallation, match="X is "):
        number({"X": text}, "X")


@given(st.integers(0, 2**32 - 1))
def test_numbers(value):
    assert number({"X": str(value)}, "X") == value


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "/", "a\nb", "a\0b"])
def test_a_name_must_be_part_of_a_path(text):
    with pytest.raises(BrokenInstallation, match="X is "):
        plain_name({"X": text}, "X")
