import json
from dataclasses import replace

import pytest

from slurm_gpushare.errors import GrantError
from slurm_gpushare.metrics.live import LiveGpu, LiveJob, LiveSample, live_gpu, sample_from_json, sample_to_json
from slurm_gpushare.metrics.readings import GpuReading, ProcessReading

GPU = LiveGpu(1, "GPU-1", "Tesla P100", 16 << 30, 0.25, 1 << 30, 100.0)
HELD = {"memory": "enforced", "compute": "advisory", "faults": "none"}
JOBS = (LiveJob(7, 1001, 1, 0.2, None, HELD, 1e9, 7.5, 0.1), LiveJob(8, 1002, None, None, 0))
SAMPLE = LiveSample("node", "n1", 0.5, (GPU,), JOBS)


def test_a_sample_comes_back_as_it_was_sent():
    assert sample_from_json(sample_to_json(SAMPLE)) == SAMPLE


@pytest.mark.parametrize(
    "sample",
    [
        replace(SAMPLE, kind="pool"),
        replace(SAMPLE, name="a\nb"),
        replace(SAMPLE, name=""),
        replace(SAMPLE, age=-1.0),
        replace(SAMPLE, age=float("nan")),
        replace(SAMPLE, gpus=(replace(GPU, number=None),)),
        replace(SAMPLE, gpus=(replace(GPU, sm="much"),)),
        replace(SAMPLE, gpus=(replace(GPU, memory=True),)),
        replace(SAMPLE, jobs=(LiveJob(7, -1, 1, None, None),)),
        replace(SAMPLE, jobs=(LiveJob(7, 1, 1, None, None, {"memory": "enforced"}),)),
        replace(SAMPLE, jobs=(LiveJob(7, 1, 1, None, None, {**HELD, "faults": "perhaps"}),)),
        replace(SAMPLE, jobs=(LiveJob(7, 1, 1, None, None, ["memory"]),)),
        replace(SAMPLE, jobs=(LiveJob(7, 1, 1, None, None, None, -1.0),)),
        replace(SAMPLE, jobs=(LiveJob(7, 1, 1, None, None, None, 1e9, "long", 0.0),)),
        replace(SAMPLE, jobs=(LiveJob(7, 1, 1, None, None, None, 1e9, 1.0, True),)),
        replace(SAMPLE, jobs=(LiveJob(7, 1, 1, None, None, {**HELD, "faults": []}),)),
    ],
)
def test_what_no_sample_is_is_refused(sample):
    with pytest.raises(GrantError, match="live sample"):
        sample_from_json(sample_to_json(sample))


@pytest.mark.parametrize("text", [b"", b"7", b"[]", b"{}", b'{"v":1}', b'{"v":2,"gpus":[],"jobs":[]}', b"[" * 99999])
def test_what_is_no_json_of_ours_is_refused(text):
    with pytest.raises(GrantError, match="live sample"):
        sample_from_json(text)


def test_an_unknown_key_is_refused():
    data = {**json.loads(sample_to_json(SAMPLE)), "more": 1}
    with pytest.raises(GrantError, match="more"):
        sample_from_json(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("processes", "memory"),
    [
        ((ProcessReading(1, 0.1, 5), ProcessReading(2, None, 6)), 11),
        ((), 0),
        (None, None),
        ((ProcessReading(1, 0.1, 5), ProcessReading(2, 0.1, None)), None),
    ],
)
def test_memory_is_what_the_processes_have_where_all_of_it_is_known(processes, memory):
    reading = GpuReading(0, 3, "GPU-1", "Tesla P100", 16 << 30, 5.0, None, None, None, processes)
    assert live_gpu(3, reading) == LiveGpu(3, "GPU-1", "Tesla P100", 16 << 30, None, memory, None)


def test_the_memory_of_processes_that_are_gone_is_nobodys():
    there, gone = ProcessReading(1, 0.1, 5), ProcessReading(2, 0.1, 7, (1.0, 2.0))
    reading = GpuReading(0, 0, "GPU-1", None, None, 0.0, 0.2, None, None, (there, gone))
    assert live_gpu(0, reading).memory == 5
