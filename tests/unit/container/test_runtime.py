import os

import pytest

from slurm_gpushare.container.mounts import Mount
from slurm_gpushare.container.runtime import CLIENT_ENV, Apptainer, Singularity, find_runtime, find_shield
from slurm_gpushare.errors import BrokenInstallation

COMMAND = ["/spool/slurm_script", "a b", "--nv"]


@pytest.mark.parametrize(
    "arguments, options",
    [
        ({}, ["--pid", "--pwd", "/home/u"]),
        ({"pid": False}, ["--pwd", "/home/u"]),
        ({"nv": True}, ["--pid", "--nv", "--pwd", "/home/u"]),
    ],
)
@pytest.mark.parametrize("kind", [Apptainer, Singularity])
def test_exec_argv(kind, arguments, options):
    mounts = [Mount("/data/digits", "/datasets/digits", True), Mount("/w,x", "/w,x", False)]
    assert kind("/bin/rt").exec_argv("/i/a.sif", mounts, COMMAND, "/home/u", **arguments) == [
        "/bin/rt",
        "--quiet",
        "exec",
        *options,
        "--mount",
        "type=bind,source=/data/digits,destination=/datasets/digits,ro",
        "--mount",
        'type=bind,"source=/w,x","destination=/w,x"',
        "/i/a.sif",
        *COMMAND,
    ]


def test_what_an_outer_container_left_is_dropped(tmp_path):
    environment = {
        "APPTAINER_BIND": "/x",
        "APPTAINER_CONTAINER": "/i",
        "SINGULARITY_NAME": "i",
        "SINGULARITY_BINDPATH": "/y",
        "APPTAINER_TMPDIR": str(tmp_path),
        "SINGULARITY_TMPDIR": "/nosuch",
        "APPTAINERENV_A": "1",
        "SINGULARITYENV_B": "2",
        "PATH": "/bin",
        "OMP_NUM_THREADS": "4",
    }
    assert Apptainer("rt").environment(environment, {}, None) == {
        "APPTAINER_TMPDIR": str(tmp_path),
        "APPTAINERENV_A": "1",
        "SINGULARITYENV_B": "2",
        "PATH": "/bin",
        "OMP_NUM_THREADS": "4",
    }


@pytest.mark.parametrize("kind, name", [(Apptainer, "APPTAINERENV_TMPDIR"), (Singularity, "SINGULARITYENV_TMPDIR")])
def test_what_must_be_inside_wins_and_leaves_the_runtimes_own_alone(kind, name):
    environment = {"TMPDIR": "/tmp/u", "APPTAINERENV_TMPDIR": "/a", "SINGULARITYENV_TMPDIR": "/b"}
    assert kind("rt").environment(environment, {"TMPDIR": "/work"}, None) == {"TMPDIR": "/tmp/u", name: "/work"}


@pytest.mark.parametrize(
    "environment, value",
    [
        # The runtime's script in the container expands it, after the image has set its own.
        ({"LD_LIBRARY_PATH": "/host"}, "/shim${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"),
        ({"APPTAINERENV_LD_LIBRARY_PATH": "/own"}, "/shim:/own"),
        ({"APPTAINERENV_LD_LIBRARY_PATH": "", "SINGULARITYENV_LD_LIBRARY_PATH": "/own"}, "/shim:/own"),
    ],
)
def test_libraries_come_before_those_of_user_and_image(environment, value):
    found = Apptainer("rt").environment(environment, {"LD_LIBRARY_PATH": "/shim"}, None)
    kept = {name: text for name, text in environment.items() if name == "LD_LIBRARY_PATH"}
    assert found == {**kept, "APPTAINERENV_LD_LIBRARY_PATH": value}


def test_the_shield_is_searched_first():
    runtime = Apptainer("rt")
    assert runtime.environment({"PATH": "/x:/y"}, {}, "/shield")["PATH"] == "/shield:/x:/y"
    assert runtime.environment({}, {}, "/shield")["PATH"] == "/shield:/usr/bin:/bin"


@pytest.mark.parametrize(
    "environment, value",
    [
        ({}, None),
        ({"TMPDIR": "/a"}, "/a"),
        ({"TMPDIR": "/a", "SINGULARITYENV_TMPDIR": "/b"}, "/b"),
        ({"TMPDIR": "/a", "SINGULARITYENV_TMPDIR": "/b", "APPTAINERENV_TMPDIR": ""}, ""),
    ],
)
def test_what_a_variable_is_inside(environment, value):
    assert Apptainer("rt").inside(environment, "TMPDIR") == value


def test_a_client_around_the_runtime_hands_on_what_it_sets():
    argv = Apptainer("rt").exec_argv("/i/a.sif", [], ["prog"], "/home/u", env_file=CLIENT_ENV)
    file = "/opt/gpushare/libexec/client.env"
    assert argv == ["rt", "--quiet", "exec", "--pid", "--env-file", file, "--pwd", "/home/u", "/i/a.sif", "prog"]


@pytest.mark.parametrize("kind", [Apptainer, Singularity])
def test_for_a_client_around_it_the_host_and_the_user_do_not_hide_the_clients_libraries(kind):
    hidden = {
        "LD_LIBRARY_PATH": "/host",
        "APPTAINERENV_LD_LIBRARY_PATH": "/a",
        "SINGULARITYENV_LD_LIBRARY_PATH": "/b",
        "APPTAINERENV_LD_PRELOAD": "/c.so",
        "SINGULARITYENV_LD_PRELOAD": "/d.so",
    }
    kept = {"LD_PRELOAD": "/e.so", "APPTAINERENV_A": "1", "PATH": "/bin"}
    assert kind("rt").around({**hidden, **kept}) == kept


@pytest.fixture
def folder(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).write_text("")
            (tmp_path / name).chmod(0o755)
        return (str(tmp_path),)

    return make


@pytest.mark.parametrize(
    "installed, wanted, kind",
    [
        (("apptainer",), "auto", Apptainer),
        (("apptainer", "singularity"), "auto", Apptainer),
        (("singularity",), "auto", Singularity),
        (("singularity",), "singularity", Singularity),
        (("apptainer",), "apptainer", Apptainer),
    ],
)
def test_find_runtime(folder, installed, wanted, kind):
    assert type(find_runtime(wanted, folder(*installed))) is kind


def test_a_link_named_singularity_may_be_apptainer(folder, tmp_path):
    search = folder("apptainer")
    (tmp_path / "singularity").symlink_to("apptainer")
    assert type(find_runtime("singularity", search)) is Apptainer


@pytest.mark.parametrize(
    "installed, wanted", [((), "auto"), (("apptainer",), "singularity"), (("singularity",), "apptainer")]
)
def test_without_a_runtime_the_installation_is_broken(folder, installed, wanted):
    with pytest.raises(BrokenInstallation, match=wanted):
        find_runtime(wanted, folder(*installed))


def test_the_shield_is_used_only_where_its_helper_exists(folder, tmp_path):
    (shield,) = folder("squashfuse_ll")
    assert find_shield(None, shield, "/nosuch") is None
    assert find_shield(None, "/nosuch", "/bin/sh") is None
    assert find_shield(None, shield, "/bin/sh") == shield


def test_in_a_job_the_helper_is_known_by_its_name(folder, tmp_path):
    (shield,) = folder("squashfuse_ll")
    work = tmp_path / "work"
    work.mkdir()
    for _ in range(2):
        assert find_shield(str(work), shield, "/bin/sh") == f"{work}/shield"
        assert os.readlink(work / "shield/squashfuse_ll") == f"{shield}/squashfuse_ll"
