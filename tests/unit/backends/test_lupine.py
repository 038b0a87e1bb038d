import pytest

from slurm_gpushare.backends import lupine
from slurm_gpushare.container.runtime import Apptainer
from slurm_gpushare.errors import BrokenInstallation
from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import Place
from slurm_gpushare.node.launcher import Task, on_host
from slurm_gpushare.node_policy import BackendPolicy

GRANT = Grant("lupine", 1, 0.25, 25, None, 1, "rule", "gpu:0.25", "")
PLACE = Place("lupine1", "10.77.0.1:14833", (1,))
SETTINGS = BackendPolicy(libraries="/opt/lupine/lib", servers={"lupine1": "10.77.0.1:14833"}, placement="pinned")
WANTED = {
    "LUPINE_SERVER": "10.77.0.1:14833",
    "LUPINE_DISABLE_LOCAL": "1",
    "CUDA_VISIBLE_DEVICES": "1",
    "LD_LIBRARY_PATH": "/opt/lupine/lib",
}


def task(place=PLACE, settings=SETTINGS):
    return Task("0", ["train", "a b"], "/work", GRANT, lupine, settings, False, "/work", place)


@pytest.mark.parametrize(
    "before, after",
    [
        ({}, WANTED),
        ({"PATH": "/bin", "TMPDIR": "/t"}, {"PATH": "/bin", "TMPDIR": "/t", **WANTED}),
        ({"LD_LIBRARY_PATH": "/own:/two"}, {**WANTED, "LD_LIBRARY_PATH": "/opt/lupine/lib:/own:/two"}),
        # What a user asks of LUPINE stays, but for where the GPUs are.
        (
            {"LUPINE_SERVER": "other:1", "LUPINE_DISABLE_LOCAL": "0", "CUDA_VISIBLE_DEVICES": "0,1,2"},
            WANTED,
        ),
        ({"LUPINE_SESSION": "mine", "LUPINE_TRACE": "2"}, {"LUPINE_SESSION": "mine", "LUPINE_TRACE": "2", **WANTED}),
    ],
)
def test_what_a_task_on_the_host_finds(before, after):
    assert on_host(task(), before) == (["train", "a b"], after)


def test_several_gpus_of_one_server():
    place = Place("lupine2", "gpu2.example.org:14833", (0, 3))
    found = lupine.task_environment("/work", BackendPolicy(libraries="/sw/lupine"), place)
    assert found == {
        "LUPINE_SERVER": "gpu2.example.org:14833",
        "LUPINE_DISABLE_LOCAL": "1",
        "CUDA_VISIBLE_DEVICES": "0,3",
        "LD_LIBRARY_PATH": "/sw/lupine",
    }


def test_what_a_container_is_given():
    given = lupine.task_environment("/work", SETTINGS, PLACE)
    before = {"PATH": "/bin", "APPTAINERENV_CUDA_VISIBLE_DEVICES": "7", "SINGULARITYENV_LUPINE_SERVER": "other:1"}
    assert Apptainer("rt").environment(before, given, None) == {
        "PATH": "/bin",
        "APPTAINERENV_LUPINE_SERVER": "10.77.0.1:14833",
        "APPTAINERENV_LUPINE_DISABLE_LOCAL": "1",
        "APPTAINERENV_CUDA_VISIBLE_DEVICES": "1",
        "APPTAINERENV_LD_LIBRARY_PATH": "/opt/lupine/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}",
    }
    assert lupine.binds(SETTINGS) == ["/opt/lupine/lib"]
    assert lupine.binds(BackendPolicy(libraries="/sw/lupine")) == ["/sw/lupine"]


def test_a_node_without_the_shims_is_a_broken_installation(tmp_path):
    settings = BackendPolicy(libraries=str(tmp_path))
    with pytest.raises(BrokenInstallation, match=r"libcuda\.so\.1 is not on this node: install"):
        lupine.prepare(GRANT, settings, "0", "/work", {}, PLACE)
    (tmp_path / "libcuda.so.1").touch()
    assert lupine.prepare(GRANT, settings, "0", "/work", {}, PLACE) is None


def test_nothing_is_released(tmp_path):
    (tmp_path / "bitfusion1").touch()
    assert lupine.epilog(SETTINGS, str(tmp_path), {}) is True
    assert (tmp_path / "bitfusion1").exists()


def test_nothing_holds_a_job_to_its_share():
    assert lupine.ENFORCES["memory"] == lupine.ENFORCES["compute"] == "none"
