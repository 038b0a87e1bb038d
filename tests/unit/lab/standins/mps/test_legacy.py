"""Protocol 2 from outside: daemon, server and clients as processes."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

GPU = "GPU-00000001-0000-0000-0000-000000000000"
SECOND = "GPU-00000002-0000-0000-0000-000000000000"
MIB = 1 << 20

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="clients of several users")


@pytest.fixture
def control(make_control):
    control = make_control({}, {"compute_mode": "EXCLUSIVE_PROCESS"})
    control.start()
    return control


def as_user(control, uid: int, *words: str) -> subprocess.Popen:
    """Start gpu-workload as another user."""
    program = control.machine.build / "gpu-workload"
    copy = control.pipe.parent / "gpu-workload"
    if not copy.exists():
        copy.write_bytes(program.read_bytes())
        copy.chmod(0o755)
    process = subprocess.Popen(
        [str(copy), *words],
        user=uid,
        group=uid,
        extra_groups=[],
        env=control.machine.environment,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    control.machine.processes.append(process)
    return process


def test_without_a_daemon_it_cannot_be_found(make_control) -> None:
    control = make_control({})
    assert control.run(lines="get_server_list\n") == (1, "", "Cannot find MPS control daemon process\n")


def test_a_pipe_folder_has_one_daemon_and_quit_ends_it_with_its_files(control, runs) -> None:
    assert control.run("-d") == (1, "", "An instance of this daemon is already running\n")
    pid = control.pid
    assert runs(pid)
    assert control.say("quit") == ""
    assert not runs(pid)
    assert list(control.pipe.iterdir()) == []
    assert (control.log / "control.log").read_text().rstrip().endswith("Exit")


def test_a_daemon_that_was_killed_is_replaced(control, runs, until) -> None:
    before = control.pid
    control.say("set_default_active_thread_percentage 10")
    os.kill(before, signal.SIGKILL)
    until(lambda: not runs(before), "it has ended")
    assert control.run(lines="ps\n")[0] == 1
    control.start()
    assert control.pid != before
    assert control.say("get_default_active_thread_percentage") == "100.0\n"


def test_a_path_that_no_socket_can_have(make_control) -> None:
    control = make_control({})
    folder = str(control.pipe / ("x" * 100))
    status, _, errors = control.run("-d", CUDA_MPS_PIPE_DIRECTORY=folder)
    assert (status, errors) == (1, "Cannot find MPS control daemon process\n")


def test_defaults_are_set_and_read_and_reach_the_next_server(control) -> None:
    assert control.say("get_default_active_thread_percentage") == "100.0\n"
    assert control.say("set_default_active_thread_percentage 25") == "25.0\n"
    assert control.say(f"get_default_device_pinned_mem_limit {GPU}") == "\n"
    assert control.say(f"set_default_device_pinned_mem_limit {GPU} 2048M") == ""
    assert control.say(f"get_default_device_pinned_mem_limit {GPU}") == "2G\n"
    assert control.say("get_default_device_pinned_mem_limit 0") == "\n"
    assert control.say("get_server_list") == ""
    control.say(f"start_server -uid {os.geteuid()}")
    server = control.say("get_server_list").strip()
    control.say("set_default_active_thread_percentage 50")
    assert control.say(f"get_active_thread_percentage {server}") == "25.0\n"
    assert control.say(f"get_device_pinned_mem_limit {server} {GPU}") == "2G\n"
    assert control.say(f"set_active_thread_percentage {server} 30") == "30.0\n"
    assert control.say(f"get_server_status {server}") == "ACTIVE\n"
    assert Path(f"/proc/{server}/cmdline").read_text() == "nvidia-cuda-mps-server\0"


def test_the_environment_of_the_daemon_sets_the_defaults(make_control) -> None:
    control = make_control({})
    control.start(CUDA_MPS_ACTIVE_THREAD_PERCENTAGE="40", CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="0=1G")
    assert control.say("get_default_active_thread_percentage") == "40.0\n"
    assert control.say("get_default_device_pinned_mem_limit 0") == "1G\n"


@pytest.mark.parametrize(
    "line",
    [
        "get_server_lists",
        "server list",
        "set_default_active_thread_percentage",
        "set_default_active_thread_percentage 0",
        "set_default_device_pinned_mem_limit 0 3T",
        "set_device_pinned_mem_limit 1 0 1G",
        "get_server_status 1",
        "start_server 0",
        "terminate_client 1 2",
        "ps -x",
        "quit now",
        "sm_partition add 0 7",
    ],
)
def test_what_it_does_not_know_is_refused_and_the_next_command_done(control, line: str) -> None:
    status, output, errors = control.run(lines=f"{line}\nget_default_active_thread_percentage\n")
    assert (status, output) == (1, "100.0\n")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["-x"], ["-d", "-f"], ["-m", "-d"], ["-p", "3", "-d"], ["-p"], ["-p", "4"], ["-S", "-d"]]
)
def test_a_wrong_command_line_is_refused(control, words: list[str]) -> None:
    status, output, errors = control.run(*words)
    assert (status, output) == (2, "")
    assert "usage: nvidia-cuda-mps-control" in errors


def test_commands_on_the_command_line_are_not_of_protocol_2(control) -> None:
    assert control.run("get_server_list")[0] == 1


def test_a_client_is_held_to_the_limits_and_shown(control, until) -> None:
    machine = control.machine
    control.say("set_default_active_thread_percentage 25")
    control.say("set_default_device_pinned_mem_limit 0 2G")
    client = machine.attached(0, 80, "1G")
    server = control.say("get_server_list").strip()
    assert control.say(f"get_client_list {server}") == f"{client.pid}\n"
    assert control.say("get_device_client_list") == f"Device: {GPU}\n{client.pid}\nDevice: {SECOND}\n{client.pid}\n"
    header, *rows = control.say("ps").splitlines()
    assert header.split() == ["PID", "ID", "SERVER", "DEVICE", "NAMESPACE", "COMMAND"]
    assert rows[0].split()[:4] == [str(client.pid), "0", server, GPU[:22]]
    assert machine.pids(0) == {client.pid, int(server)}
    until(lambda: machine.snapshot()[0]["utilisation"] == 25, "the utilisation is held")
    script = "say([[p.pid for p in n.nvmlDeviceGetMPSComputeRunningProcesses(g)], n.nvmlDeviceGetComputeMode(g)])"
    assert machine.nvml(script) == [[client.pid], 0]
    load = "--gpu", "0", "--sm", "1", "--memory"
    assert machine.refused(*load, "2049M") == (
        1,
        "gpu-workload: GPU 0: out of memory (asked 2049 MiB, free 2048 MiB)\n",
    )
    tighter = {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=512M"}
    assert "free 512 MiB" in machine.refused(*load, "1G", **tighter)[1]
    wider = {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=8G"}
    assert "free 2048 MiB" in machine.refused(*load, "3G", **wider)[1]
    client.kill()
    until(lambda: control.say(f"get_client_list {server}") == "", "the client is gone")
    assert control.say("get_server_list") == f"{server}\n"


def test_each_process_has_the_limit_for_itself(control) -> None:
    control.say("set_default_device_pinned_mem_limit 0 2G")
    clients = [control.machine.attached(0, 1, "2G") for _ in range(2)]
    used = {process["pid"]: process["memory"] for process in control.machine.snapshot()[0]["processes"]}
    assert [used[client.pid] for client in clients] == [2048 * MIB] * 2


def test_exclusive_process_keeps_everybody_out_who_is_no_client(control) -> None:
    machine = control.machine
    machine.attached(1, 1, "1M")
    load = "--gpu", "1", "--sm", "1", "--memory", "1M"
    status, errors = machine.refused(*load, CUDA_MPS_PIPE_DIRECTORY="/nowhere")
    assert (status, errors) == (
        1,
        "gpu-workload: GPU 1: the device is busy or unavailable: its compute mode is EXCLUSIVE_PROCESS\n",
    )
    machine.attached(1, 1, "1M")
    assert machine.nvml("say(n.nvmlDeviceGetComputeMode(n.nvmlDeviceGetHandleByIndex(1)))") == 3


def test_a_server_gets_no_gpu_that_another_process_has_for_itself(control) -> None:
    control.machine.attached(1, 1, "1M", CUDA_MPS_PIPE_DIRECTORY="/nowhere")
    status, errors = control.machine.refused("--gpu", "0", "--sm", "1", "--memory", "1M")
    assert status == 1
    assert errors.startswith("gpu-workload: MPS: CUDA_ERROR_MPS_CONNECTION_FAILED (805)")
    assert control.say("get_server_list") == ""


def test_the_daemon_s_visible_devices_are_renumbered(make_control) -> None:
    control = make_control({}, {})
    control.start(CUDA_VISIBLE_DEVICES=SECOND)
    load = "--gpu", "0", "--sm", "1", "--memory", "1M"
    client = control.machine.workload(*load, "--", "sh", "-c", "echo up; read line")
    assert client.stdout.readline() == "up\n"
    assert client.pid in control.machine.pids(1)
    status, errors = control.machine.refused("--gpu", "1", "--sm", "1", "--memory", "1M")
    assert status == 1
    assert "no such GPU" in errors
    assert control.machine.refused("--gpu", "0", "--sm", "1", "--memory", "1M", CUDA_VISIBLE_DEVICES="1")[0] == 1


@needs_root
def test_another_user_s_client_waits_for_the_first_user_s(control, until) -> None:
    first = control.machine.attached(0, 1, "1M")
    server = control.say("get_server_list").strip()
    second = as_user(control, 12345, "--gpu", "0", "--sm", "1", "--memory", "1M")
    until(lambda: f"NEW CLIENT {second.pid}" in (control.log / "control.log").read_text(), "the second has come")
    assert control.say(f"get_client_list {server}") == f"{first.pid}\n"
    assert control.run(lines="start_server -uid 12345\n")[0] == 1
    first.kill()
    until(lambda: second.pid in control.machine.pids(0), "the second computes")
    other = control.say("get_server_list").strip()
    assert other != server
    assert "Uid:\t12345\t12345\t12345\t12345\n" in Path(f"/proc/{other}/status").read_text()


@needs_root
def test_who_waits_may_vanish(control, until) -> None:
    first = control.machine.attached(0, 1, "1M")
    second = as_user(control, 12345, "--gpu", "0", "--sm", "1", "--memory", "1M")
    until(lambda: f"NEW CLIENT {second.pid}" in (control.log / "control.log").read_text(), "the second has come")
    second.kill()
    second.wait()
    third = control.machine.attached(0, 1, "1M")
    assert control.machine.pids(0) >= {first.pid, third.pid}


@needs_root
def test_several_users_share_a_multiuser_server(make_control, until) -> None:
    control = make_control({})
    control.start("-multiuser-server")
    first = as_user(control, 12345, "--gpu", "0", "--sm", "1", "--memory", "1M")
    second = as_user(control, 23456, "--gpu", "0", "--sm", "1", "--memory", "1M")
    until(lambda: {first.pid, second.pid} <= control.machine.pids(0), "both compute")
    server = control.say("get_server_list").strip()
    assert "Uid:\t0\t0\t0\t0\n" in Path(f"/proc/{server}/status").read_text()


@needs_root
def test_others_may_not_give_commands(control) -> None:
    script = "import socket; s = socket.socket(socket.AF_UNIX); s.connect(r'%s'); s.sendall(b'command [\"quit\"]\\n');"
    script += " print(s.makefile().readline())"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", script % (control.pipe / "control")],
        user=12345,
        group=12345,
        extra_groups=[],
        capture_output=True,
        text=True,
    )
    assert "only the daemon's own user and root" in done.stdout
    assert control.say("get_server_list") == ""


def test_a_fault_meets_all_clients_of_the_server_and_nobody_else(control, until) -> None:
    machine = control.machine
    victim = machine.attached(0, 1, "1M")
    outside = machine.attached(0, 1, "1M", CUDA_MPS_PIPE_DIRECTORY="/nowhere")
    stays = machine.workload("--gpu", "0", "--sm", "1", "--memory", "1M", "--", "sh", "-c", "echo up; read line")
    assert stays.stdout.readline() == "up\n"
    load = "--gpu", "0", "--sm", "1", "--memory", "1M"
    assert machine.refused(*load, "--fault", "0") == (1, "gpu-workload: GPU 0: lost: a fatal fault on the GPU\n")
    assert victim.communicate(timeout=20)[1] == "gpu-workload: GPU 0: lost: a fatal fault on the GPU\n"
    server = control.say("get_server_list").strip()
    assert machine.pids(0) == {int(server), outside.pid}
    assert control.say(f"get_server_status {server}") == "FAULT\n"
    status, errors = machine.refused(*load)
    assert status == 1
    assert errors.startswith("gpu-workload: MPS: CUDA_ERROR_MPS_SERVER_NOT_READY (807)")
    stays.communicate("\n", timeout=20)
    until(lambda: control.say(f"get_server_status {server}") == "ACTIVE\n", "the server is active again")
    machine.attached(0, 1, "1M")


def test_a_fault_without_mps_is_one_s_own(machine) -> None:
    other = machine.attached(0, 1, "1M")
    assert machine.refused("--gpu", "0", "--sm", "1", "--memory", "1M", "--fault", "0")[0] == 1
    assert machine.pids(0) == {other.pid}


def test_a_client_is_terminated(control) -> None:
    client = control.machine.attached(0, 1, "1M")
    server = control.say("get_server_list").strip()
    assert control.say(f"terminate_client {server} {client.pid}") == "0\n"
    assert client.communicate(timeout=20)[1] == "gpu-workload: GPU 0: lost: terminated by the MPS server\n"


def test_a_server_that_is_killed_takes_its_clients_with_it(control, until) -> None:
    client = control.machine.attached(0, 1, "1M")
    server = control.say("get_server_list").strip()
    os.kill(int(server), signal.SIGKILL)
    assert client.communicate(timeout=20)[1] == "gpu-workload: GPU 0: lost: the MPS server ended\n"
    until(lambda: control.say("get_server_list") == "", "the daemon has noticed")
    control.machine.attached(0, 1, "1M")
    assert control.say("get_server_list") != f"{server}\n"


def test_servers_outlive_a_killed_daemon_until_their_last_client_has_left(control, until) -> None:
    client = control.machine.attached(0, 1, "1M")
    server = int(control.say("get_server_list"))
    os.kill(control.pid, signal.SIGKILL)
    until(lambda: control.run(lines="ps\n")[0] == 1, "the daemon is gone")
    assert control.machine.pids(0) == {client.pid, server}
    client.kill()
    until(lambda: control.machine.pids(0) == set(), "the server is gone")


def test_quit_with_a_time_ends_clients(control) -> None:
    client = control.machine.attached(0, 1, "1M")
    assert control.say("quit -t 0") == ""
    assert client.wait(timeout=20) == 1


def test_before_volta_the_server_computes_for_its_clients_without_limits(make_control, until) -> None:
    control = make_control({"capability": "6.0"})
    control.start(CUDA_MPS_ACTIVE_THREAD_PERCENTAGE="10", CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="0=1M")
    control.machine.workload("--gpu", "0", "--sm", "50", "--memory", "2G")
    until(lambda: control.machine.snapshot()[0]["memory_used"] > 2 << 30, "the client computes")
    server = int(control.say("get_server_list"))
    assert control.machine.pids(0) == {server}
    until(lambda: control.machine.snapshot()[0]["utilisation"] == 50, "the utilisation is not held")
