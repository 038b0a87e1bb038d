"""The policy as nodes read it."""

import json
import subprocess
import sys

import pytest

from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.node_policy import (
    BackendPolicy,
    ContainerPolicy,
    Dataset,
    NodePolicy,
    node_policy_from_json,
    read_node_policy,
)

DATA = {
    "v": 1,
    "slices_per_gpu": 100,
    "container": {"runtime": "auto", "images": ["/data/images"], "mounts": ["/data"], "pid_namespace": True},
    "datasets": {"digits": {"path": "/data/digits", "target": "/datasets/digits", "mode": "ro"}},
    "backends": {
        "bitfusion": {"command": "/usr/bin/bitfusion", "licence": "bitfusion", "gres": "bitfusion", "gpu_memory": 5},
        "shard": {"gpu_memory": None},
    },
    "agent": {"interval": 1.0, "service": None},
}


def test_every_value_is_read() -> None:
    assert node_policy_from_json(json.dumps(DATA)) == NodePolicy(
        slices_per_gpu=100,
        container=ContainerPolicy("auto", ("/data/images",), ("/data",), True),
        datasets={"digits": Dataset("/data/digits", "/datasets/digits", "ro")},
        backends={
            "bitfusion": BackendPolicy(5, "/usr/bin/bitfusion", "bitfusion", "bitfusion"),
            "shard": BackendPolicy(),
        },
        agent_interval=1.0,
        service=None,
    )


def test_what_containers_and_datasets_have_of_newer_versions() -> None:
    box = DATA["container"] | {
        "owners": ["root", "self"],
        "writable": False,
        "defaults": {"scope": "tasks", "workdir": "/w", "mount_home": False, "env": ["A"], "writable": True},
    }
    digits = DATA["datasets"]["digits"] | {"mount_point": "/data"}
    read = node_policy_from_json(json.dumps(DATA | {"container": box, "datasets": {"digits": digits}}))
    assert read.container == ContainerPolicy(
        *("auto", ("/data/images",), ("/data",), True, ("root", "self"), False),
        *("tasks", "/w", False, ("A",), True),
    )
    assert read.datasets["digits"] == Dataset("/data/digits", "/datasets/digits", "ro", "/data")


@pytest.mark.parametrize(
    "change", [{"v": 2}, {"agent": None}, {"backends": {"shard": {"what": 1}}}, {"datasets": {"a": {}}}, {"idle": {}}]
)
def test_what_is_not_ours_is_refused(change: dict) -> None:
    with pytest.raises(BrokenInstallation, match="policy compile"):
        node_policy_from_json(json.dumps(DATA | change))


@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff"])
def test_files_that_cannot_be_read(tmp_path, content: bytes | None) -> None:
    path = tmp_path / "node.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BrokenInstallation, match=r"node\.json.*gpushare policy compile"):
        read_node_policy(str(path))


def test_it_imports_the_standard_library_alone() -> None:
    code = (
        "import sys, slurm_gpushare.node_policy; print([m for m in ('yaml', 'pydantic', 'click') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
