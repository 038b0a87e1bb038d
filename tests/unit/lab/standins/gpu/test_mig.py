"""The parts that MIG made of a card, as NVML and CUDA programs see them."""

import pytest

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.gpu import answers
from slurm_gpushare.lab.standins.gpu.engine import MIB, Gpus, NoSuchGpu, OutOfMemory, parse_specs

CARD = {
    "uuid": "GPU-a",
    "name": "NVIDIA A100-PCIE-40GB",
    "memory_mib": 40960,
    "idle_watts": 35,
    "max_watts": 250,
    "capability": "8.0",
    "minor": 0,
}
PARTS = [
    {"uuid": "MIG-a", "profile": "3g.20gb", "gpu_instance": 2, "memory_mib": 20096},
    {"uuid": "MIG-b", "profile": "1g.5gb", "gpu_instance": 9, "memory_mib": 4864},
]


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gpus(clock: Clock) -> Gpus:
    return Gpus(parse_specs({"gpus": [{**CARD, "mig": PARTS}, {**CARD, "uuid": "GPU-b", "minor": 1}]}), clock)


def call(gpus: Gpus, function: str, *words: str) -> str:
    gpu, arguments = answers.resolve(gpus, function, words)
    return answers.answer(gpus, function, gpu, arguments)


def code(gpus: Gpus, function: str, *words: str) -> int:
    with pytest.raises(answers.NvmlError) as caught:
        call(gpus, function, *words)
    return caught.value.code


def test_nvml_counts_cards_alone(gpus: Gpus) -> None:
    assert len(gpus) == 2 and call(gpus, "nvmlDeviceGetCount") == "2"
    assert code(gpus, "nvmlDeviceGetHandleByIndex", "2") == answers.INVALID_ARGUMENT


def test_the_mode_and_what_is_asked_for_parts(gpus: Gpus) -> None:
    assert call(gpus, "nvmlDeviceGetMigMode", "0") == "1 1"
    assert call(gpus, "nvmlDeviceGetMigMode", "1") == "0 0"
    assert call(gpus, "nvmlDeviceGetMaxMigDeviceCount", "1") == "7"
    part = call(gpus, "nvmlDeviceGetMigDeviceHandleByIndex", "0", "1")
    assert call(gpus, "nvmlDeviceGetUUID", part) == "MIG-b"
    assert call(gpus, "nvmlDeviceGetName", part) == "NVIDIA A100-PCIE-40GB MIG 1g.5gb"
    assert call(gpus, "nvmlDeviceGetGpuInstanceId", part) == "9"
    assert call(gpus, "nvmlDeviceGetComputeInstanceId", part) == "0"
    assert call(gpus, "nvmlDeviceGetAttributes", part) == "1 4864"
    assert call(gpus, "nvmlDeviceIsMigDeviceHandle", part) == "1"
    assert call(gpus, "nvmlDeviceIsMigDeviceHandle", "0") == "0"
    assert call(gpus, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", part) == "0"
    assert code(gpus, "nvmlDeviceGetMigDeviceHandleByIndex", "0", "2") == answers.NOT_FOUND
    assert code(gpus, "nvmlDeviceGetMigDeviceHandleByIndex", "1", "0") == answers.NOT_FOUND
    assert code(gpus, "nvmlDeviceGetGpuInstanceId", "1") == answers.NOT_SUPPORTED


def test_cards_before_ampere_have_no_mig() -> None:
    old = Gpus(parse_specs({"gpus": [{**CARD, "capability": "7.0"}]}))
    assert code(old, "nvmlDeviceGetMigMode", "0") == answers.NOT_SUPPORTED
    assert call(old, "nvmlDeviceGetMaxMigDeviceCount", "0") == "0"
    with pytest.raises(LabError, match="with mig"):
        parse_specs({"gpus": [{**CARD, "capability": "7.0", "mig": PARTS}]})


def test_there_is_no_utilisation_in_mig_mode(gpus: Gpus) -> None:
    for gpu in ("0", "MIG-a"):
        assert code(gpus, "nvmlDeviceGetUtilizationRates", gpu) == answers.NOT_SUPPORTED
        assert code(gpus, "nvmlDeviceGetProcessUtilization", gpu, "0") == answers.NOT_SUPPORTED
    assert code(gpus, "nvmlDeviceGetPowerUsage", "MIG-a") == answers.NOT_SUPPORTED
    assert code(gpus, "nvmlDeviceGetMinorNumber", "MIG-a") == answers.NOT_SUPPORTED
    assert call(gpus, "nvmlDeviceGetUtilizationRates", "1") == "0 0"


def test_memory_is_the_parts_own(gpus: Gpus) -> None:
    small = gpus.find("MIG-b")
    with pytest.raises(OutOfMemory):
        gpus.attach(7, small, 100, 4865 * MIB)
    gpus.attach(7, small, 100, 1000 * MIB)
    gpus.attach(8, gpus.find("MIG-a"), 100, 2000 * MIB)
    assert gpus.memory(small) == (4864 * MIB, 1000 * MIB, 3864 * MIB)
    assert gpus.memory(0)[1] == 3000 * MIB and gpus.memory(1)[1] == 0
    assert gpus.processes(small) == [(7, 1000 * MIB)]
    assert sorted(gpus.processes(0)) == [(7, 1000 * MIB), (8, 2000 * MIB)]


def test_a_part_draws_power_by_its_slices(gpus: Gpus, clock: Clock) -> None:
    handle = gpus.attach(7, gpus.find("MIG-a"), 100, 0)
    assert gpus.power_mw(0) == round((35 + 215 * 3 / 7) * 1000)
    clock.now = 2_000_000
    gpus.detach(handle)
    clock.now = 3_000_000
    assert gpus.energy_mj(0) == pytest.approx((35 * 3 + 215 * 3 / 7 * 2) * 1000, abs=2)
    assert gpus.snapshot()[0]["sm_us"] == pytest.approx(2_000_000 * 3 / 7, abs=1)


def test_a_program_that_names_the_card_gets_its_first_part(gpus: Gpus) -> None:
    gpus.attach(7, 0, 10, 1 * MIB)
    assert gpus.processes(gpus.find("MIG-a")) == [(7, 1 * MIB)]


def test_names_of_parts(gpus: Gpus) -> None:
    assert gpus.find("MIG-GPU-a/9/0") == gpus.find("MIG-b")
    for wrong in ("MIG-c", "MIG-", "MIG-GPU-b/9/0"):
        with pytest.raises(NoSuchGpu):
            gpus.find(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"uuid": "GPU-x"},
        {"profile": "8g.40gb"},
        {"profile": "half"},
        {"gpu_instance": 15},
        {"memory_mib": 0},
        {"memory_mib": "4864"},
    ],
)
def test_what_no_part_could_be_is_refused_by_value(wrong: dict) -> None:
    with pytest.raises(LabError) as caught:
        parse_specs({"gpus": [{**CARD, "mig": [{**PARTS[0], **wrong}]}]})
    assert repr(next(iter(wrong.values()))).strip("'") in str(caught.value)


def test_two_parts_of_one_id_are_refused() -> None:
    with pytest.raises(LabError, match="gpu_instance"):
        parse_specs({"gpus": [{**CARD, "mig": [PARTS[0], PARTS[0]]}]})
