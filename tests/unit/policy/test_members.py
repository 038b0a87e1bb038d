"""The system's groups."""

import grp
import os
import pwd

import pytest

from slurm_gpushare.errors import PolicyError
from slurm_gpushare.policy.members import group_members


def test_listed_members_and_those_whose_first_group_it_is() -> None:
    me = pwd.getpwuid(os.getuid())
    assert me.pw_name in group_members(grp.getgrgid(me.pw_gid).gr_name)
    for group in grp.getgrall():
        assert set(group.gr_mem) <= set(group_members(group.gr_name))


def test_a_group_that_is_not_there() -> None:
    with pytest.raises(PolicyError, match="no such group"):
        group_members("no-such-group-here")
