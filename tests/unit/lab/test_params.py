"""What a lab may be asked to be."""

import pytest

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.params import LabParams, gpu_list


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../x"},
        {"name": "Lab"},
        {"name": ""},
        {"name": "a" * 17},
        {"nodes": 0},
        {"nodes": 65},
        {"gpus": 0},
        {"clients": 0},
        {"pool_gpus": 17},
        {"pool_servers": 65},
        {"pool_placement": "best_fit"},
        {"pool_placement": "first_fit"},  # with the default Slurm
        {"pool_auto_release": -1},
        {"pool_wait": -2},
        {"pool_on_disconnect": "keep"},
        {"slurm": "23.02"},
    ],
)
def test_what_cannot_be_is_refused_by_value(wrong: dict) -> None:
    with pytest.raises(LabError) as caught:
        LabParams(**wrong)
    assert str(next(iter(wrong.values()))) in str(caught.value)


def test_parameters_survive_json() -> None:
    params = LabParams(name="big", nodes=4, gpus=8, bare=True, slurm="26.05")
    assert LabParams(**params.to_dict()) == params


def test_gpus_are_told_apart_and_stay_the_same() -> None:
    first = gpu_list("lab", "n1", 2)
    assert first == gpu_list("lab", "n1", 2)
    uuids = {gpu["uuid"] for gpu in first + gpu_list("lab", "n2", 2) + gpu_list("other", "n1", 2)}
    assert len(uuids) == 6
    assert [gpu["minor"] for gpu in first] == [0, 1]


@pytest.mark.parametrize("backend", ["lupine", "mps", "mig", "vgpu", "hami"])
def test_a_bare_lab_has_no_backend_of_ours(backend: str) -> None:
    with pytest.raises(LabError, match="bare"):
        LabParams(bare=True, **{backend: True})
