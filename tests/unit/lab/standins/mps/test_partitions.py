"""Static SM partitions: made before there are clients, and theirs alone."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.mps.assumed import CHUNKS
from slurm_gpushare.lab.standins.mps.partitions import Partitions

GPU = "GPU-00000001-0000-0000-0000-000000000000"


@given(st.lists(st.integers(1, CHUNKS)))
def test_no_more_chunks_are_given_than_a_card_has(sizes: list[int]) -> None:
    partitions, made = Partitions([GPU]), []
    for size in sizes:
        try:
            made.append(partitions.add("GPU-00000001", str(size)))
        except LabError:
            assert size > partitions.free(GPU)
    assert sum(partition.chunks for partition in made) == CHUNKS - partitions.free(GPU) <= CHUNKS
    for partition in made:
        assert partitions.find(partition.name) is partition
        partitions.remove(partition)
    assert partitions.free(GPU) == CHUNKS


def test_it_needs_its_option_a_driver_and_a_card(make_control) -> None:
    control = make_control({"capability": "7.0"}, driver_version="580.95.05")
    assert "R590" in control.run("-d", "-S")[2]
    control.machine.config.write_text(control.machine.config.read_text().replace("580.95.05", "590.44.01"))
    control.machine.daemon.kill()
    control.machine.daemon.wait()
    control.machine.start()
    control.start("-S")
    assert "older than Ampere" in control.run(lines=f"sm_partition add {GPU} 2\n")[2]
    control.say("quit")
    control.start()
    assert "without -S" in control.run(lines="lspart\n")[2]


def test_a_client_computes_in_its_partition(make_control, until) -> None:
    control = make_control({}, driver_version="590.44.01")
    control.start("-S")
    machine = control.machine
    said = control.say("sm_partition add GPU-00000001 3")
    assert re.fullmatch(r"Partition \S+ created\n", said)
    name = said.split()[1]
    assert name.startswith(f"{GPU}/")
    number = name.partition("/")[2]
    assert control.run(lines="sm_partition add GPU-00000001 8\n")[0] == 1
    load = "--gpu", "0", "--sm", "1", "--memory", "1M"
    assert "CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION (915)" in machine.refused(*load)[1]
    assert "no SM partition" in machine.refused(*load, CUDA_MPS_SM_PARTITION=f"{GPU}/x")[1]
    client = machine.attached(0, 80, "1M", CUDA_MPS_SM_PARTITION=f"GPU-00000001/{number}")
    until(lambda: machine.snapshot()[0]["utilisation"] == 30, "it has its partition's SMs")
    header, card, row = control.say("lspart").splitlines()
    assert header.split() == [
        "GPU",
        "Partition",
        "free",
        "chunk",
        "used",
        "chunk",
        "free",
        "SM",
        "used",
        "SM",
        "clients",
    ]
    assert card.split() == ["GPU-00000001", "-", "7", "3", "56", "24", "-"]
    assert row.split() == ["GPU-00000001", number, "-", "3", "-", "24", "Yes"]
    assert control.run(lines=f"sm_partition rm {GPU} {number}\n")[0] == 1
    assert control.run(lines="sm_partition add GPU-00000001 1\n")[0] == 1
    client.kill()
    until(lambda: control.run(lines=f"sm_partition rm {GPU} {number}\n")[0] == 0, "it is removed")
    with pytest.raises(AssertionError):
        control.say(f"sm_partition rm {GPU} {number}")
