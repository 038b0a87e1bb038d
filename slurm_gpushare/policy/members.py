"""The one door to the system's database of groups."""

import grp
import pwd

from slurm_gpushare.errors import PolicyError


def group_members(name: str) -> list[str]:
    """Return the users of a group by name, sorted: its listed members, and those whose first group it is.

    Raises
    ------
    PolicyError
        The system has no such group. A policy with it is not put in force, so that nobody loses or gains what a
        directory that is away for a moment says.
    """
    try:
        group = grp.getgrnam(name)
    except KeyError:
        raise PolicyError(f"group {name}: this host has no such group: correct the name, or create it") from None
    return sorted({*group.gr_mem, *(user.pw_name for user in pwd.getpwall() if user.pw_gid == group.gr_gid)})
