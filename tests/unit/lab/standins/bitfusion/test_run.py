"""`bitfusion run`: its output, the allocation file, the command's environment, signals and status."""

import re
import signal
import subprocess

import pytest

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+08:00"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def golden(address: str, tmp: str, command: str) -> str:
    """The life cycle that was seen with release 4.0.1, on this pool and with our split of stdout and stderr."""
    ip = address.partition(":")[0]
    lines = [
        rf"\[INFO\] {STAMP} Choosing GPUs from server list \[{address}\]",
        rf"\[INFO\] {STAMP} Requesting GPUs \[0\] with 4070 MiB of memory from server 0,"
        r" with version 4\.0\.1-7a9ad936\.\.\.",
        rf"\[INFO\] {STAMP} Locked 1 GPUs with partial memory 0\.25, configuration saved to '({tmp}/bitfusion\d{{9}})'",
        rf"\[INFO\] {STAMP} Running client command '{command}' on 1 GPUs, with the following servers:",
        rf"\[INFO\] {STAMP} {ip} 55001 ({UUID}) 56001 4\.0\.1-7a9ad936",
        r"",
        rf"\[INFO\] {STAMP} Command started, launching telemetry process: {UUID} \| {address}",
        rf"\[INFO\] {STAMP} Releasing GPUs from config file '\1'\.\.\.",
        rf"\[INFO\] {STAMP} Released GPUs on 1 servers and removed generated config file '\1'",
    ]
    return "\n".join(lines) + "\n"


def test_the_life_cycle_is_printed_as_it_was_seen(user, server):
    user("list_gpus")  # the first contact, which has lines of its own
    done = user("run", "-n", "1", "-p", "0.250", "--", "echo", "hello", "there")
    assert re.fullmatch(golden(server.address, str(user.tmp), "echo hello there"), done.stderr), done.stderr
    three = f"Requested resources:\nServer List: {server.address}\nClient idle timeout: 0 min\n"
    assert done.stdout == three + "hello there\n"
    assert done.returncode == 0
    assert user.files() == []


def test_first_contact_queries_the_server_and_keeps_the_client_id(user, server):
    first, second = user("run", "-n", "1", "true"), user("run", "-n", "1", "true")
    claimed = re.search(rf"Query server {server.address} to claim client id: ({UUID})\n", first.stderr)
    assert claimed
    assert f"Query server {server.address} gpu availability\n" in first.stderr
    assert "Query server health status\n" in first.stderr
    assert "Query server" not in second.stderr
    assert {entry["client"] for entry in server.state()["log"]} == {claimed[1]}


@pytest.mark.parametrize(
    ("request_words", "mib", "partial"),
    [
        ([], 16280, "1"),
        (["-p", "1"], 16280, "1"),
        (["-p", "0.5"], 8140, "0.5"),
        (["-p", "0.37"], 6023, "0.37"),
        (["-p", "1e-4"], 1, "0.0001"),
        (["-m", "4070"], 4070, "0.25"),
    ],
)
def test_size_is_the_fraction_of_total_memory_rounded_down(user, server, request_words, mib, partial):
    done = user("run", "-n", "1", *request_words, "true")
    assert f"Requesting GPUs [0] with {mib} MiB of memory from server 0" in done.stderr
    assert f"Locked 1 GPUs with partial memory {partial}, " in done.stderr
    assert server.state()["log"][0]["mib"] == mib
    assert server.free_mib() == [16280]


def test_the_command_gets_the_environment_that_was_seen(user, server):
    done = user("run", "-n", "1", "--", "sh", "-c", "env; cat $TMPDIR/*; stat -c %a $TMPDIR/*", LD_LIBRARY_PATH="/mine")
    environment = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    base = "/opt/bitfusion/lib/x86_64-linux-gnu/"
    libraries = f"{base}/bitfusion//lib"
    assert environment["BF_BIN_PATH"] == f"{base}//bin"
    assert environment["BF_ADAPTOR_PATH"] == base
    assert environment["BF_ADAPTOR_RDMA"] == "1"
    assert environment["LD_LIBRARY_PATH"] == (
        f"{libraries}/nvml:/opt/intel/opencl/lib64:{libraries}/cuda:/etc/bitfusion/icd:{libraries}/opencl:{libraries}:/mine"
    )
    assert "LD_PRELOAD" not in environment
    endpoint = environment["NVML_STANDIN_ENDPOINT"]
    assert endpoint == f"tcp:{server.config['listen']}:45201:{environment['uuid']}:{environment['secret']}"
    assert server.config["token"] not in done.stdout
    assert done.stdout.splitlines()[-1] == "600"


def test_no_empty_entry_stands_in_the_library_path(user):
    path = user("run", "-n", "1", "--", "printenv", "LD_LIBRARY_PATH").stdout.splitlines()[-1]
    assert "" not in path.split(":")


@pytest.mark.parametrize(
    ("script", "status"), [("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill $$", 143)]
)
def test_the_status_is_the_commands(user, server, script, status):
    assert user("run", "-n", "1", "--", "sh", "-c", script).returncode == status
    assert user.files() == []
    assert server.allocations() == []


def test_a_command_that_cannot_be_executed_is_an_error_and_holds_nothing(user, server):
    missing, forbidden = user("run", "-n", "1", "--", "nosuch"), user("run", "-n", "1", "--", "/etc/passwd")
    assert 'Error: exec: "nosuch": executable file not found in $PATH\n' in missing.stderr
    assert "Error: fork/exec /etc/passwd: permission denied\n" in forbidden.stderr
    assert "Command started" not in missing.stderr
    assert (missing.returncode, forbidden.returncode) == (1, 1)
    assert (server.allocations(), user.files()) == ([], [])


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "USR2"])
def test_signals_are_passed_to_the_command_and_what_it_says_is_passed_back(user, server, name):
    script = f"trap 'echo caught; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
    child = user.start("run", "-n", "1", "--", "sh", "-c", script)
    assert [child.stdout.readline() for _ in range(4)][-1] == "ready\n"
    child.send_signal(signal.Signals[f"SIG{name}"])
    out, _ = child.communicate(timeout=30)
    assert (out, child.returncode) == ("caught\n", 9)
    assert server.allocations() == []


def test_a_signal_that_the_caller_ignores_stays_ignored(user):
    script = "trap '' HUP; exec \"$0\" run -n 1 -- sh -c 'kill -HUP $PPID; kill -HUP $$; echo alive'"
    done = subprocess.run(["sh", "-c", script, user.client], env=user.env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "alive")


def test_a_signal_while_it_waits_ends_it_without_an_allocation(user, server, wait_for):
    user("request_gpus", "-n", "1")
    child = user.start("run", "-n", "1", "true")
    wait_for(lambda: server.state()["counts"]["refused"], "the refusal")
    child.terminate()
    child.communicate(timeout=30)
    assert child.returncode == 143
    assert user("release_gpus").returncode == 0
    assert server.allocations() == []


def test_an_allocation_that_cannot_be_written_down_is_given_back(user, server):
    done = user("run", "-n", "1", "true", TMPDIR="/nonexistent")
    assert re.search(r"Error: open /nonexistent/bitfusion\d{9}: no such file or directory\n", done.stderr)
    assert done.returncode == 1
    assert [entry["event"] for entry in server.state()["log"]] == ["granted", "released"]


def test_released_from_outside_it_warns_and_still_ends_with_the_commands_status(user, server):
    script = '"$0" release_gpus -f $TMPDIR/bitfusion*; exit 3'
    done = user("run", "-n", "1", "--", "sh", "-c", script, str(user.client))
    assert re.search(r"\[WARN\] .* The allocation of '.*' was already released\n", done.stderr)
    assert done.returncode == 3
    assert server.state()["counts"] == {"granted": 1, "refused": 0, "released": 1}
    assert user.files() == []


def test_a_server_that_is_gone_at_the_end_is_a_warning(user, server):
    child = user.start(
        "run", "-n", "1", "--", "sh", "-c", "trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    )
    assert [child.stdout.readline() for _ in range(4)][-1] == "ready\n"
    server.process.terminate()
    server.process.wait(30)
    child.terminate()
    _, err = child.communicate(timeout=30)
    assert re.search(
        r"\[WARN\] .* Unable to release GPUs from config file '.*': dial tcp .*: connect: connection refused", err
    )
    assert child.returncode == 4
