"""The sacctmgr commands of the policy's running limits."""

import pytest
from click.testing import CliRunner

from slurm_gpushare.cli.policy import policy as command
from slurm_gpushare.errors import PolicyError
from slurm_gpushare.policy.load import load_policy

POLICY = """
backends:
  shard: {}
  bitfusion:
    servers: [{address: "pool:56001", gpus: 2, gpu_memory: 16 GiB}]
running_limits:
  - accounts: [physics, biology]
    per_user: 1
    together: 4.5
  - qos: [normal]
    per_user: 0.29
  - users: [alice]
    per_user: 0
"""


def _print(tmp_path, text: str) -> list[str]:
    path = tmp_path / "gpushare.yaml"
    path.write_text(text)
    done = CliRunner().invoke(command, ["slurm-limits", str(path)], catch_exceptions=False)
    return done.output.splitlines()


def test_each_limit_becomes_commands(tmp_path) -> None:
    half = "gres/gpu=4,gres/shard=450,gres/bitfusion=450"
    one = "gres/gpu=1,gres/shard=100,gres/bitfusion=100"
    assert _print(tmp_path, POLICY) == [
        f"sacctmgr -i modify account where name=physics set GrpTRES={half}",
        f"sacctmgr -i modify account where name=biology set GrpTRES={half}",
        f"sacctmgr -i modify user where account=physics set GrpTRES={one}",
        f"sacctmgr -i modify user where account=biology set GrpTRES={one}",
        "sacctmgr -i modify qos where name=normal set MaxTRESPerUser=gres/gpu=0,gres/shard=29,gres/bitfusion=29",
        "sacctmgr -i modify user where name=alice set GrpTRES=gres/gpu=0,gres/shard=0,gres/bitfusion=0",
    ]


def test_without_limits_nothing_is_printed(tmp_path) -> None:
    assert _print(tmp_path, "backends: {shard: {}}\n") == []


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("{qos: [normal]}", "limits nothing"),
        ("{per_user: 1}", "holds for nobody"),
        ("{users: [alice], together: 1}", "write per_user"),
        ("{qos: [normal], per_user: 0.255}", "no multiple of 1/100"),
        ("{qos: [normal], per_user: -1}", "per_user"),
        ("{qos: [normal], per_user: .nan}", "per_user"),
        ("{qos: [], per_user: 1}", "qos"),
        ("{qos: [a b], per_user: 1}", "name"),
    ],
)
def test_what_is_no_limit(tmp_path, limit: str, said: str) -> None:
    path = tmp_path / "gpushare.yaml"
    path.write_text(f"backends: {{shard: {{}}}}\nrunning_limits: [{limit}]\n")
    with pytest.raises(PolicyError) as refused:
        load_policy(str(path))
    assert said in str(refused.value) and "running_limits[0]" in str(refused.value)
