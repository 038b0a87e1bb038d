"""The configuration of the cards: what is read, and what is refused by name."""

import pytest

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.gpu.spec import GpuSpec, parse_driver_version, parse_specs

CARD = {
    "uuid": "GPU-1",
    "name": "Tesla P100-PCIE-16GB",
    "memory_mib": 16280,
    "idle_watts": 30,
    "max_watts": 250,
    "capability": "6.0",
    "minor": 0,
}


def test_cards_are_read_in_order() -> None:
    second = {**CARD, "uuid": "GPU-2", "minor": 1}
    assert parse_specs({"gpus": [CARD, second]}) == [GpuSpec(**CARD), GpuSpec(**second)]
    assert parse_specs({"gpus": []}) == []


def test_pci_bus_ids_are_unique_and_of_nvml_s_form() -> None:
    assert GpuSpec(**CARD).pci_bus_id == "00000000:01:00.0"
    assert GpuSpec(**{**CARD, "minor": 254}).pci_bus_id == "00000000:FF:00.0"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("uuid", "11111111"),
        ("uuid", "GPU-a b"),
        ("uuid", 1),
        ("name", ""),
        ("name", "two\nlines"),
        ("memory_mib", 0),
        ("memory_mib", "16280"),
        ("memory_mib", True),
        ("idle_watts", 251),
        ("idle_watts", -1),
        ("capability", "6"),
        ("minor", 255),
        ("minor", -1),
        ("compute_mode", "EXCLUSIVE_THREAD"),
    ],
)
def test_an_impossible_value_is_refused_with_its_key_and_value(key: str, value: object) -> None:
    with pytest.raises(LabError) as refusal:
        parse_specs({"gpus": [{**CARD, key: value}]})
    assert key in str(refusal.value)
    assert str(value) in str(refusal.value) or repr(value) in str(refusal.value)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"gpus": CARD},
        {"gpus": [], "more": 1},
        {"gpus": ["P100"]},
        {"gpus": [{**CARD, "colour": "green"}]},
        {"gpus": [{key: CARD[key] for key in CARD if key != "minor"}]},
        {"gpus": [CARD, {**CARD, "uuid": "GPU-2"}]},
        {"gpus": [CARD, {**CARD, "minor": 1}]},
    ],
)
def test_unknown_missing_and_doubled_is_refused(document: object) -> None:
    with pytest.raises(LabError):
        parse_specs(document)


def test_a_driver_version_may_be_told() -> None:
    document = {"gpus": [{**CARD, "compute_mode": "EXCLUSIVE_PROCESS"}], "driver_version": "615.10.01"}
    assert parse_specs(document)[0].compute_mode == "EXCLUSIVE_PROCESS"
    assert parse_driver_version(document) == "615.10.01"
    assert parse_driver_version({"gpus": []}) == "580.95.05"
    with pytest.raises(LabError, match="R615"):
        parse_driver_version({"gpus": [], "driver_version": "R615"})
