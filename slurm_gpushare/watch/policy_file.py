"""The compiled policy for what runs all the time and takes a change of it up by itself."""

import os
from collections.abc import Callable

from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.node_policy import NodePolicy, read_node_policy


class PolicyFile:
    """The compiled policy, read again when it changes; while it cannot be read, the last one holds."""

    def __init__(self, path: str, say: Callable[[str], None]):
        self._path = path
        self._say = say
        self._mark = self._stat()
        self._policy = read_node_policy(path)

    def read(self) -> NodePolicy:
        """Return the policy as it is now."""
        mark = self._stat()
        if mark != self._mark:
            self._mark = mark
            try:
                self._policy = read_node_policy(self._path)
            except BrokenInstallation as error:
                self._say(f"{error}; the policy of before holds on")
        return self._policy

    def _stat(self) -> tuple | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
