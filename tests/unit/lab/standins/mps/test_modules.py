"""Protocol 3 from outside: named servers side by side."""

import os

import pytest

GPU = "GPU-00000001-0000-0000-0000-000000000000"
SECOND = "GPU-00000002-0000-0000-0000-000000000000"
LOAD = "--gpu", "0", "--sm", "60", "--memory"


@pytest.fixture
def control(make_control):
    control = make_control({}, {}, driver_version="615.10.01")
    control.start("-p", "3")
    return control


def test_an_older_driver_does_not_know_it(make_control) -> None:
    control = make_control({}, driver_version="610.43.02")
    status, _, errors = control.run("-d", "-p", "3")
    assert status == 2
    assert "R615" in errors
    assert control.run("-h", "-p", "3")[0] == 2
    control.start(CUDA_MPS_PROTOCOL_VERSION="3")
    assert control.say("get_default_active_thread_percentage") == "100.0\n"


def test_help_names_the_modules(control) -> None:
    status, output, _ = control.run("-p", "3", "-h")
    assert status == 0
    assert "server" in output.splitlines()[-1]


def test_a_server_is_created_listed_and_deleted(control) -> None:
    uid = str(os.geteuid())
    assert control.do("server", "create", "training", f"--uid={uid}", f"--allowed-devices={SECOND}") == ""
    pid = control.do("server", "get", "training", "pid").strip()
    folder = f"{control.pipe}/training"
    row = f"training,{uid},{pid},Ready,{folder},{SECOND},-\n"
    assert control.do("server", "list", "--format=csv,noheader") == row
    header = "name,uid,pid,status,pipe-directory,allowed-devices,context-ids\n"
    assert control.do("server", "list", "training", "--format=csv") == header + row
    assert control.do("server", "list").splitlines()[0].split()[:4] == ["NAME", "UID", "PID", "STATUS"]
    assert control.do("server", "get", "training", "pipe-directory") == f"{folder}\n"
    assert control.run("server", "create", "training")[0] == 1
    assert control.do("server", "delete", "training") == ""
    assert control.do("server", "list", "--format=csv,noheader") == ""
    assert not (control.pipe / "training").exists()


def test_each_server_holds_its_clients_to_its_limits_whatever_they_say(control, until) -> None:
    machine = control.machine
    for name, share in (("one", 25), ("two", 50)):
        control.do("server", "create", name)
        control.do("server", "set", name, "--pinned-memory-limit=2G", f"--active-thread-percentage={share}")
    one, two = ({"CUDA_MPS_PIPE_DIRECTORY": f"{control.pipe}/{name}"} for name in ("one", "two"))
    assert "free 2048 MiB" in machine.refused(*LOAD, "3G", **one)[1]
    first = machine.attached(0, 60, "1G", **one, CUDA_MPS_ACTIVE_THREAD_PERCENTAGE="10")
    second = machine.attached(0, 60, "1G", CUDA_MPS_PIPE_DIRECTORY=f"{control.pipe}/two/default")
    until(lambda: machine.snapshot()[0]["utilisation"] == 75, "each has its server's percentage")
    listed = control.do("client", "list", "--server=two", "--format=csv,noheader").splitlines()
    assert listed[0].startswith(f"{second.pid},two,0,default,")
    assert {line.split(",")[0] for line in control.do("client", "list", "--all", "--format=csv,noheader").split()} >= {
        str(first.pid),
        str(second.pid),
    }
    assert "free 1024 MiB" in machine.refused(*LOAD, "1025M", **two, CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="0=1G")[1]
    assert control.run("server", "delete", "one")[0] == 1
    assert control.do("server", "delete", "one", "--force") == ""
    assert first.communicate(timeout=20)[1] == "gpu-workload: GPU 0: lost: the MPS server ended\n"
    assert control.do("client", "terminate", str(second.pid)) == ""
    assert second.communicate(timeout=20)[1] == "gpu-workload: GPU 0: lost: terminated by the MPS server\n"


def test_a_namespace_holds_its_clients_to_its_own_limits(control, until) -> None:
    machine = control.machine
    control.do("server", "create", "training")
    control.do("server", "set", "training", "--active-thread-percentage=10")
    control.do("namespace", "create", "large", "--server=training")
    control.do("namespace", "set", "large", "--server=training", "--pinned-memory-limit=2G")
    control.do("namespace", "set", "large", "--server=training", "--active-thread-percentage=40")
    folder = f"{control.pipe}/training/large"
    row = f"large,training,Ready,2G,40,0,{folder}\n"
    assert control.do("namespace", "list", "large", "--server=training", "--format=csv,noheader") == row
    assert control.do("namespace", "get", "large", "training", "pinned-memory-limit") == "2G\n"
    inside = {"CUDA_MPS_PIPE_DIRECTORY": folder}
    assert "free 2048 MiB" in machine.refused(*LOAD, "3G", **inside)[1]
    client = machine.attached(0, 60, "1G", **inside, CUDA_MPS_ACTIVE_THREAD_PERCENTAGE="90")
    until(lambda: machine.snapshot()[0]["utilisation"] == 40, "it has its namespace's percentage")
    assert f"{client.pid},training,0,large," in control.do("client", "list", "--server=training", "--format=csv")
    assert control.run("namespace", "delete", "large", "--server=training")[0] == 1
    assert control.do("namespace", "delete", "large", "--server=training", "--force") == ""
    assert client.communicate(timeout=20)[1] == "gpu-workload: GPU 0: lost: terminated by the MPS server\n"
    assert not os.path.exists(folder)
    assert control.do("namespace", "list", "--format=csv,noheader").startswith("default,training,Ready,-,10,")


@pytest.mark.parametrize(
    "words",
    [
        ("create", "large"),
        ("create", "Large", "--server=training"),
        ("create", "default", "--server=training"),
        ("create", "large", "--server=other"),
        ("delete", "large", "--server=training"),
        ("delete", "default", "--server=training"),
        ("set", "default", "--server=training"),
        ("set", "default", "--server=training", "--active-thread-percentage=0.5"),
        ("get", "default", "training", "colour"),
        ("rename", "default"),
    ],
)
def test_what_is_no_command_on_a_namespace_is_refused(control, words) -> None:
    control.do("server", "create", "training")
    assert control.run("namespace", *words)[0] == 1
    assert control.do("namespace", "list", "--format=csv,noheader").count("\n") == 1


def test_the_main_socket_leads_to_a_server_of_the_user_s_own_without_limits(control) -> None:
    client = control.machine.attached(0, 60, "20G")
    name = f"uid_{os.geteuid()}"
    assert control.do("client", "get", str(client.pid), "server") == f"{name}\n"
    assert control.do("server", "get", name, "status") == "Ready\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="servers of several users")
def test_a_server_of_another_user_takes_no_client(control) -> None:
    control.do("server", "create", "theirs", "--uid=12345")
    status, errors = control.machine.refused(*LOAD, "1M", CUDA_MPS_PIPE_DIRECTORY=f"{control.pipe}/theirs")
    assert status == 1
    assert "CUDA_ERROR_MPS_CONNECTION_FAILED (805): server theirs is of user 12345, not 0" in errors


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_in_multiuser_mode_servers_are_root_s(make_control) -> None:
    control = make_control({}, driver_version="615.10.01")
    control.start("-p", "3", "-m")
    assert control.run("server", "create", "theirs", "--uid=12345")[0] == 1
    assert control.do("server", "create", "shared", "--uid=0") == ""


@pytest.mark.parametrize(
    "words",
    [
        ["server"],
        ["server", "create"],
        ["server", "create", "Training"],
        ["server", "create", "a", "--allowed-devices=7"],
        ["server", "create", "a", "--uid=alice"],
        ["server", "create", "a", "b"],
        ["server", "set", "nowhere", "--pinned-memory-limit=1G"],
        ["server", "delete", "nowhere"],
        ["server", "list", "--format=xml"],
        ["server", "frobnicate"],
        ["device", "list"],
        ["client", "terminate", "1"],
        ["client", "list", "--all=1"],
        ["get_server_list"],
    ],
)
def test_what_it_does_not_know_is_refused(control, words: list[str]) -> None:
    status, output, errors = control.run(*words)
    assert (status, output) == (1, "")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "option", ["--pinned-memory-limit=1T", "--active-thread-percentage=0.5", "--client-priority=1", "--force"]
)
def test_a_wrong_limit_changes_nothing(control, option: str) -> None:
    control.do("server", "create", "a")
    assert control.run("server", "set", "a", option)[0] == 1


def test_quit_ends_daemon_and_servers(control, runs) -> None:
    client = control.machine.attached(0, 1, "1M")
    pid = control.pid
    assert control.run("-q") == (0, "", "")
    assert not runs(pid)
    assert client.wait(timeout=20) == 1
    assert list(control.pipe.iterdir()) == []
