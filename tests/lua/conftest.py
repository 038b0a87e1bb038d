"""slurmctld's side of the Lua files: job_submit.lua over a compiled policy and a strict stand-in for slurm.*"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lupa.lua51 import LuaRuntime

from slurm_gpushare.policy.compile import to_lua
from slurm_gpushare.policy.load import load_policy, parse_policy
from slurm_gpushare.policy.lua import from_lua, shipped_etc

ROOT = 0
ALICE = 1001
NO_VAL = 4294967294
UNSET = dict.fromkeys(("min_nodes", "max_nodes", "num_tasks", "het_job_offset"), NO_VAL) | {"ntasks_per_tres": 65534}

# A pool of two servers with two GPUs and one, so that what fits one server and what fits the pool differ.
POOL = """
minimum_fraction: 0.02
partitions: {bitfusion: bitfusion, pool2: bitfusion, shard: shard}
backends:
  bitfusion:
    servers:
      - {address: "10.0.0.1:56001", gpus: 2, gpu_memory: 16280 MiB}
      - {address: "10.0.0.2:56001", gpus: 1, gpu_memory: 16280 MiB}
  shard: {gpu_memory: 40 GiB}
containers:
  images: [/data/images, /home]
  mounts: [/data, /scratch]
datasets:
  digits: {path: /data/datasets/digits, target: /datasets/digits}
"""


GROUPS = {"staff": ["alice", "bob"], "guests": ["carol"]}


@dataclass
class Answer:
    """What slurmctld saw of one call."""

    status: int
    job: dict
    told: list[str] = field(default_factory=list)  # to the user
    logged: list[str] = field(default_factory=list)


class Controller:
    """Loads job_submit.lua from a folder as slurmctld does, and calls its two functions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.load()

    def load(self) -> None:
        """Read job_submit.lua anew, as slurmctld does when its time stamp changes."""
        self.runtime = LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
        fake = (Path(__file__).parent / "fake_slurm.lua").read_bytes()
        self.runtime.execute(fake)
        loaded = self.runtime.globals()[b"loadfile"](os.fsencode(self.folder / "job_submit.lua"))
        assert not isinstance(loaded, tuple), loaded
        loaded()

    def submit(self, uid: int = ALICE, **fields: object) -> Answer:
        """Submit a job with these fields of job_desc as ``uid``; the cluster's default partition is shard."""
        fields = UNSET | fields
        parts = {name: {"flag_default": int(name == "shard")} for name in ("bitfusion", "pool2", "shard", "mig", "cpu")}
        return self._call(b"slurm_job_submit", fields, self._parts(parts), uid)

    def modify(self, record: dict, uid: int = ALICE, **fields: object) -> Answer:
        """Change the job ``record`` by these fields."""
        stands = self._globals(b"new_record")(self._table(record))
        return self._call(b"slurm_job_modify", UNSET | fields, stands, self._parts({}), uid)

    def _call(self, name: bytes, fields: dict, *rest: object) -> Answer:
        table = self._table(fields)
        for store in (b"told", b"logged"):
            entries = self.runtime.globals()[store]
            for index in range(len(entries), 0, -1):
                entries[index] = None
        status = self._globals(name)(self._globals(b"new_job_desc")(table), *rest)
        texts = [list(from_lua(self.runtime.globals()[store]).values()) for store in (b"told", b"logged")]
        return Answer(int(status), from_lua(table), *texts)

    def _globals(self, name: bytes) -> Callable:
        return self.runtime.globals()[name]

    def _parts(self, parts: dict) -> object:
        make = self._globals(b"new_record")
        return self.runtime.table_from({name.encode(): make(self._table(record)) for name, record in parts.items()})

    def _table(self, value: object) -> object:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        if isinstance(value, dict):
            return self.runtime.table_from({self._table(key): self._table(item) for key, item in value.items()})
        if isinstance(value, list):
            # Slurm counts spank_job_env from 0.
            return self.runtime.table_from({index: self._table(item) for index, item in enumerate(value)})
        return value


def install(folder: Path, policy: str) -> Controller:
    """Put the shipped Lua files and the compiled policy into ``folder``."""
    shipped = Path(shipped_etc(), "slurm")
    shutil.copy(shipped / "gpushare.lua", folder)
    shutil.copytree(shipped / "gpushare", folder / "gpushare")
    include = (shipped / "job_submit.lua").read_text().replace("/etc/slurm/", f"{folder}/")
    (folder / "job_submit.lua").write_text(include)
    (folder / "gpushare_policy.lua").write_text(to_lua(parse_policy(policy).policy, GROUPS.__getitem__))
    return Controller(folder)


@pytest.fixture(scope="session")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Controller:
    """A controller with a pool of two servers."""
    return install(tmp_path_factory.mktemp("slurm"), POOL)


@pytest.fixture
def own_controller(tmp_path: Path) -> Controller:
    """A controller whose folder the test may spoil."""
    return install(tmp_path, POOL)


@pytest.fixture(scope="session")
def lab_controller(tmp_path_factory: pytest.TempPathFactory) -> Controller:
    """A controller with the shipped policy."""
    folder = tmp_path_factory.mktemp("shipped")
    controller = install(folder, POOL)
    policy = load_policy(os.path.join(shipped_etc(), "gpushare.yaml")).policy
    (folder / "gpushare_policy.lua").write_text(to_lua(policy))
    controller.load()
    return controller
