import os

import pytest

from slurm_gpushare.container.mounts import Mount
from slurm_gpushare.container.runtime import (
    CLIENT_ENV,
    Apptainer,
    OldSingularity,
    Singularity,
    find_runtime,
    find_shield,
    runtime_of,
)
from slurm_gpushare.errors import BrokenInstallation, RefusedError

COMMAND = ["/spool/slurm_script", "a b", "--nv"]


@pytest.mark.parametrize(
    "arguments, options",
    [
        ({}, ["--pid", "--pwd", "/home/u"]),
        ({"pid": False}, ["--pwd", "/home/u"]),
        ({"nv": True}, ["--pid", "--nv", "--pwd", "/home/u"]),
        ({"writable": True}, ["--pid", "--writable-tmpfs", "--pwd", "/home/u"]),
        ({"hidden": ("home",)}, ["--pid", "--no-mount", "home", "--pwd", "/home/u"]),
        (
            {"hidden": ("home", "cwd"), "env_file": "/f"},
            ["--pid", "--no-mount", "home,cwd", "--env-file", "/f", "--pwd", "/home/u"],
        ),
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


def test_exec_argv_without_mount():
    mounts = [Mount("/data/digits", "/datasets/digits", True), Mount("/w x", "/w x", False)]
    assert OldSingularity("/bin/rt").exec_argv("docker://h/i", mounts, COMMAND, "/", nv=True) == [
        *("/bin/rt", "--quiet", "exec", "--pid", "--nv", "--pwd", "/"),
        *("--bind", "/data/digits:/datasets/digits:ro", "--bind", "/w x:/w x"),
        "docker://h/i",
        *COMMAND,
    ]
    with pytest.raises(RefusedError, match=r"older than 3\.9"):
        OldSingularity("rt").exec_argv("/i", [Mount("/w,x", "/w", False)], COMMAND, "/")


HOSTS = {"LD_LIBRARY_PATH": "/host", "PATH": "/bin", "X": "a$(id)`id`\\\"'"}


@pytest.mark.parametrize("kind, prefix", [(Apptainer, "APPTAINERENV_"), (Singularity, "SINGULARITYENV_")])
def test_variables_that_the_container_has_whatever_its_image_sets(kind, prefix):
    given = kind("rt").forwarded({**HOSTS, "SINGULARITYENV_PATH": "/old"}, ("LD_LIBRARY_PATH", "PATH", "X", "UNSET"))
    assert given == {
        **HOSTS,
        prefix + "LD_LIBRARY_PATH": "/host",
        prefix + "PATH": "/bin",
        prefix + "X": "a\\$(id)\\`id\\`\\\\\"'",
    }
    # What a backend's libraries need stays before them.
    inside = kind("rt").environment(given, {"LD_LIBRARY_PATH": "/shim"}, None)
    assert inside[prefix + "LD_LIBRARY_PATH"] == "/shim:/host"


@pytest.mark.parametrize(
    "name", ["", "A=1", "1A", "A-B", "ü", "A\n", "HOME", "PWD", "UID", "APPTAINER_BIND", "SINGULARITYENV_A"]
)
def test_what_cannot_be_set_in_a_container_is_refused(name):
    with pytest.raises(RefusedError, match="--container-env: "):
        Apptainer("rt").forwarded({name: "x"}, (name,))


@pytest.mark.parametrize("kind", [Apptainer, Singularity, OldSingularity])
def test_of_the_runtimes_own_variables_only_what_adds_nothing_is_kept(kind, tmp_path):
    kept = {
        "APPTAINER_CACHEDIR": str(tmp_path),
        "SINGULARITY_DOCKER_USERNAME": "u",
        "APPTAINER_DOCKER_PASSWORD": "p",
    }
    words = (
        "BIND",
        "BINDPATH",
        "MOUNT",
        "NV",
        "HOME",
        "WORKDIR",
        "SCRATCH",
        "OVERLAY",
        "WRITABLE",
        "CONFIGDIR",
        "SHELL",
        "PWD",
    )
    hostile = {f"{name}_{word}": "/x" for name in ("APPTAINER", "SINGULARITY") for word in words}
    assert kind("rt").environment({**hostile, **kept}, {}, None) == kept


def test_a_folder_goes_after_the_images_path():
    found = Apptainer("rt").environment({"APPTAINERENV_APPEND_PATH": "/mine"}, {"APPEND_PATH": "/x"}, None)
    assert found == {"APPTAINERENV_APPEND_PATH": "/mine:/x"}


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
    def make(*names, version="singularity-ce version 4.1.5"):
        for name in names:
            (tmp_path / name).write_text(f"#!/bin/sh\n[ $# = 1 ] && [ $1 = --version ] && echo '{version}'\n")
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


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("apptainer version 1.4.5", Apptainer),
        ("apptainer version 1.0.0-1.el8", Apptainer),
        ("singularity-ce version 4.1.5", Singularity),
        ("singularity-ce version 3.11.4-jammy", Singularity),
        ("singularity-ce version 3.9.0", Singularity),
        ("singularity-pro version 3.9.2", Singularity),
        ("singularity version 3.8.7-1.el8", OldSingularity),
        ("singularity-ce version 3.8.0", OldSingularity),
        ("singularity version 3.7.0", OldSingularity),
    ],
)
def test_versions(version, kind, folder, tmp_path):
    assert type(runtime_of("/bin/rt", version)) is kind
    folder("singularity", version=version)
    for wanted in ("singularity", f"{tmp_path}/singularity"):
        assert type(find_runtime(wanted, (str(tmp_path),))) is kind


@pytest.mark.parametrize(
    "version", ["singularity version 3.6.4", "2.6.1-dist", "", "podman version 4.3.1", "singularity version x"]
)
def test_what_is_too_old_or_no_runtime_is_a_broken_installation(version, folder):
    search = folder("singularity", version=version)
    with pytest.raises(BrokenInstallation, match=r"from 3\.7 on"):
        find_runtime("auto", search)


def test_a_runtime_by_its_path(folder, tmp_path):
    folder("apptainer")
    assert find_runtime(f"{tmp_path}/apptainer").program == f"{tmp_path}/apptainer"
    with pytest.raises(BrokenInstallation, match="no container runtime /nosuch/apptainer on this node"):
        find_runtime("/nosuch/apptainer")


def test_a_program_that_cannot_be_asked_is_a_broken_installation(tmp_path):
    (tmp_path / "singularity").write_bytes(b"\0")
    (tmp_path / "singularity").chmod(0o755)
    with pytest.raises(BrokenInstallation, match="'no runtime'"):
        find_runtime("singularity", (str(tmp_path),))


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
