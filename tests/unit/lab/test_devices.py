"""What stands in a lab's /dev."""

from slurm_gpushare.lab.devices import device_names


def test_gpus_are_null_devices_and_only_where_there_are_gpus() -> None:
    assert not [name for name in device_names(0) if name.startswith("nvidia")]
    names = device_names(2)
    assert {name for name in names if name.startswith("nvidia")} == {"nvidiactl", "nvidia0", "nvidia1"}
    assert names["nvidia1"] == names["null"] == (1, 3)
    assert names["fuse"] == (10, 229)
