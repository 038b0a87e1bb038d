"""GPM, which from Hopper on tells the use of parts that MIG made: by the library, and as the agent reads it."""

PARTS = [
    {"uuid": "MIG-a", "profile": "3g.40gb", "gpu_instance": 2, "memory_mib": 20096},
    {"uuid": "MIG-b", "profile": "1g.10gb", "gpu_instance": 9, "memory_mib": 9728},
]
HOPPER = {"capability": "9.0", "mig": PARTS}

BETWEEN = """
import time
def between(device, instance, ids):
    first, second = n.nvmlGpmSampleAlloc(), n.nvmlGpmSampleAlloc()
    def take(sample):
        if instance is None: n.nvmlGpmSampleGet(device, sample)
        else: n.nvmlGpmMigSampleGet(device, instance, sample)
    take(first)
    time.sleep(0.5)
    take(second)
    asked = n.c_nvmlGpmMetricsGet_t(version=1, numMetrics=len(ids), sample1=first, sample2=second)
    for place, number in enumerate(ids): asked.metrics[place].metricId = number
    n.nvmlGpmMetricsGet(asked)
    n.nvmlGpmSampleFree(first); n.nvmlGpmSampleFree(second)
    return [[asked.metrics[place].nvmlReturn, round(asked.metrics[place].value, 1)] for place in range(len(ids))]
"""


def test_a_part_is_as_busy_as_its_processes_make_it(make_machine) -> None:
    machine = make_machine(HOPPER)
    machine.attached(0, 50, "1G", CUDA_VISIBLE_DEVICES="MIG-a")
    machine.attached(0, 20, "1G", CUDA_VISIBLE_DEVICES="MIG-b")
    script = BETWEEN + "say([n.nvmlGpmQueryDeviceSupport(g).isSupportedDevice, between(g, 2, [1, 2]),"
    script += " between(g, 9, [2, 5]), between(g, None, [2]), error(between, g, 3, [2])])"
    supported, first, second, card, wrong = machine.nvml(script)
    assert supported == 1
    assert first == [[0, 50.0], [0, 50.0]]
    assert second == [[0, 20.0], [3, 0.0]]
    assert card == [[0, round(50 * 3 / 7 + 20 / 7, 1)]]
    assert wrong == ["NVMLError_InvalidArgument", 2]


def test_before_hopper_there_is_none(make_machine) -> None:
    script = "say([n.nvmlGpmQueryDeviceSupport(g).isSupportedDevice,"
    script += " error(n.nvmlGpmSampleGet, g, n.nvmlGpmSampleAlloc())[0]])"
    assert make_machine(HOPPER | {"capability": "8.0"}).nvml(script) == [0, "NVMLError_NotSupported"]


def test_the_agents_door_reads_the_parts(make_machine) -> None:
    machine = make_machine(HOPPER)
    machine.attached(0, 40, "1G", CUDA_VISIBLE_DEVICES="MIG-a")
    script = """
import time
from slurm_gpushare.metrics.nvml import Nvml
door = Nvml()
first = [each.sm for each in door.read()]
time.sleep(0.5)
say([first, [[each.uuid, each.sm] for each in door.read()]])
"""
    first, found = machine.nvml(script)
    assert first == [None, None]
    assert [(uuid, round(sm, 2)) for uuid, sm in found] == [("MIG-a", 0.4), ("MIG-b", 0.0)]
