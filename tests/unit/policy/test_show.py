"""What holds and where it comes from."""

from slurm_gpushare.policy.load import parse_policy
from slurm_gpushare.policy.show import effective_settings


def test_every_setting_has_a_value_a_source_and_a_meaning() -> None:
    text = "agent:\n  interval: 2\nbackends:\n  shard: {gpu_memory: 16 GiB}\ndatasets:\n  d: {path: /a, target: /b}\n"
    rows = {row["key"]: row for row in effective_settings(parse_policy(text))}
    assert all(row["meaning"] for row in rows.values())
    assert (rows["agent.interval"]["value"], rows["agent.interval"]["source"]) == (2.0, "line 2")
    assert rows["agent.interval"]["unit"] == "seconds"
    assert (rows["slices_per_gpu"]["value"], rows["slices_per_gpu"]["source"]) == (100, "default")
    assert rows["backends.shard.gpu_memory"]["value"] == "16384 MiB"
    assert rows["datasets.d.path"]["source"] == "line 6"
    assert (rows["datasets.d.mode"]["value"], rows["datasets.d.mode"]["source"]) == ("ro", "default")
    assert rows["backends.bitfusion"]["value"] is None
    assert rows["containers.images"]["value"] == []
