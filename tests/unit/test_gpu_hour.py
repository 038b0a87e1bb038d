import json

import pytest

from slurm_gpushare.errors import GrantError
from slurm_gpushare.gpu_hour import GpuHour, hour_from_dict, hour_to_json, is_hour

HOUR = GpuHour(
    "lab", "n1", "GPU-1", "node", 7200.0, None, 60.0, "measured", 15.0, 20.0, 12.0, 1.0, 7.0, 900.0, 500.0, 9.0, 391.0
)


def test_an_hour_survives_its_line():
    line = hour_to_json(HOUR)
    assert "\n" not in line and is_hour(json.loads(line)) and hour_from_dict(json.loads(line)) == HOUR


def test_the_one_who_measured_is_part_of_the_key():
    data = json.loads(hour_to_json(HOUR))
    assert hour_from_dict(data | {"source": "server"}).key != HOUR.key
    assert hour_from_dict(data | {"seconds_sampled": 3600.0}).key == HOUR.key


@pytest.mark.parametrize("change", [{"v": 2}, {"surprise": 1}])
def test_another_version_or_key_is_refused(change):
    with pytest.raises(GrantError, match=r"version|surprise"):
        hour_from_dict(json.loads(hour_to_json(HOUR)) | change)


@pytest.mark.parametrize("data", [None, [], "gpu_hour", {"v": 2, "job_id": 1}])
def test_what_is_no_hour(data):
    assert not is_hour(data)
