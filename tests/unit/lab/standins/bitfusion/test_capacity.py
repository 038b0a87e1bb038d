"""The pool's limits as clients meet them: fits, waits, servers, and clients that die."""

import os
import re
import signal

import pytest

HOLD = ("sh", "-c", "echo $$; exec sleep 600")


def start_holding(user, *words):
    """Start a run that holds its GPUs; return it and the process id of its command, once that runs."""
    child = user.start("run", *words, "--", *HOLD)
    lines = [child.stdout.readline() for _ in range(4)]
    return child, int(lines[-1])


def test_four_quarters_fit_on_one_gpu_and_the_fifth_gets_in_when_one_ends(user, server, wait_for):
    holders = [start_holding(user, "-n", "1", "-p", "0.25") for _ in range(4)]
    assert server.free_mib() == [0]
    fifth = user.start("run", "-n", "1", "-p", "0.25", "--", "echo", "in")
    wait_for(lambda: server.state()["counts"]["refused"] > 1, "the fifth to be refused twice")
    assert fifth.poll() is None
    first, _ = holders[0]
    first.terminate()
    out, err = fifth.communicate(timeout=30)
    assert (fifth.returncode, out.splitlines()[-1]) == (0, "in")
    assert "Resources not available, retrying for 60 seconds..." in err
    log = server.state()["log"]
    refused = next(entry for entry in log if entry["event"] == "refused")
    granted = next(entry for entry in log if entry["event"] == "granted" and entry["request"] == refused["request"])
    freed = next(entry for entry in log if entry["event"] == "released")
    assert refused["time"] < freed["time"] < granted["time"]
    assert (refused["reason"], refused["times"] > 1, granted["mib"]) == ("full", True, 4070)


def test_the_wait_ends_as_the_server_says(start_server, make_user):
    server = start_server(wait_seconds=1)
    user = make_user(server)
    user("request_gpus", "-n", "1", "-p", "0.8")
    done = user("run", "-n", "1", "-p", "0.25", "true")
    assert done.stderr.endswith(
        "Error: resources not available: no server had 1 GPUs with 25% of their memory free within 1 seconds.\n"
    )
    assert "Locked" not in done.stderr
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    "words",
    [
        ["-n", "2"],
        ["-n", "1", "-m", "16281"],
        ["-n", "1", "--filter", "device.name=A100"],
        ["-n", "1", "--filter", "server.hostname=elsewhere"],
    ],
)
def test_what_no_server_can_ever_give_fails_at_once(user, server, words):
    done = user("request_gpus", *words)
    assert re.search(r"Error: no server has \d GPUs with .* that match the request\.\n$", done.stderr)
    assert done.returncode == 1
    assert server.state()["log"][0]["reason"] == "never"


def test_filters_choose_the_gpu(start_server, make_user, gpu):
    server = start_server(gpus=[gpu(0), gpu(1, 32510, "Tesla V100S-PCIE-32GB")], hostname="gpuhost", has_rdma=True)
    user = make_user(server)

    def chosen(*filters):
        words = [word for each in filters for word in ("--filter", each)]
        found = re.search(r"Requesting GPUs \[([\d ]+)\]", user("run", "-n", "1", *words, "true").stderr)
        return found and found[1]

    assert chosen() == "0"
    assert chosen("device.name=V100") == "1"
    assert chosen("device.phy-memory=32510", "server.hostname=gpuhost", "server.has-rdma=true") == "1"
    assert chosen("device.id=7", "device.id=1") == "1"
    assert chosen(f"server.addr={server.config['listen']}", "device.id=0") == "0"
    assert chosen("device.id=0", "device.name=V100") is None
    assert chosen("server.driver-version=460") is None


def test_all_gpus_of_a_request_are_of_one_server_and_alike(start_server, make_user, gpu):
    mixed = start_server(gpus=[gpu(0), gpu(1, 32510), gpu(2)])
    user = make_user(mixed)
    done = user("run", "-n", "2", "-p", "0.5", "true")
    assert "Requesting GPUs [0 2] with 8140 MiB of memory from server 0" in done.stderr
    assert "Locked 2 GPUs with partial memory 0.5" in done.stderr
    assert user("run", "-n", "3", "-m", "100", "true").returncode == 1


def test_a_second_server_is_used_when_the_first_is_full(start_server, make_user):
    servers = [start_server(), start_server(leader=False)]
    user = make_user(*servers)
    first, second = (user("request_gpus", "-n", "1", "-p", "0.75") for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)
    assert f"Server List: {servers[0].address}\n" in first.stdout
    assert f"Server List: {servers[1].address}\n" in second.stdout
    third = user("run", "-n", "1", "-p", "0.25", "true")
    assert f"Choosing GPUs from server list [{servers[0].address} {servers[1].address}]" in third.stderr
    assert "from server 0" in third.stderr
    both = user("request_gpus", "-n", "2", "-p", "0.1")
    assert "Error: no server has 2 GPUs" in both.stderr


def test_server_list_replaces_the_configured_servers(start_server, make_user):
    configured, listed = start_server(), start_server()
    user = make_user(configured)
    done = user("run", "-n", "1", "--server_list", f"127.0.0.1:9,{listed.address}", "true")
    assert f"Choosing GPUs from server list [{listed.address}]" in done.stderr
    assert "from server 1," in done.stderr
    assert configured.state()["log"] == []


def test_killed_run_frees_at_disconnect(start_server, make_user, wait_for):
    server = start_server(on_disconnect="free")
    user = make_user(server)
    child, command = start_holding(user, "-n", "1")
    child.kill()
    wait_for(lambda: server.free_mib() == [16280], "the allocation to be freed")
    assert server.state()["log"][-1]["reason"] == "disconnect"
    # The command outlives it (assumed), and so does the file, which can still be released.
    os.kill(command, signal.SIGKILL)
    (file,) = user.files()
    assert user("release_gpus", "-f", str(file)).returncode == 0
    assert user.files() == []


def test_killed_run_is_held_until_released(start_server, make_user, wait_for):
    server = start_server(on_disconnect="hold")
    user = make_user(server)
    child, command = start_holding(user, "-n", "1")
    assert server.allocations()[0]["connected"] == 1
    child.kill()
    os.kill(command, signal.SIGKILL)
    wait_for(lambda: server.allocations()[0]["connected"] == 0, "the server to see that the client is gone")
    assert server.free_mib() == [0]
    (file,) = user.files()
    assert user("release_gpus", "-f", str(file)).returncode == 0
    assert server.free_mib() == [16280]
    assert server.state()["log"][-1]["reason"] == "release"


def test_killed_run_is_held_until_it_has_been_idle_long_enough(start_server, make_user, wait_for):
    server = start_server(on_disconnect="hold", auto_release_timeout=0.5)
    user = make_user(server)
    child, command = start_holding(user, "-n", "1")
    child.kill()
    os.kill(command, signal.SIGKILL)
    wait_for(lambda: server.free_mib() == [16280], "the allocation to be released")
    assert server.state()["log"][-1]["reason"] == "auto_release_timeout"


@pytest.mark.parametrize("on_disconnect", ["free", "hold"])
@pytest.mark.parametrize("end", ["normal", "kill"])
def test_a_client_that_ends_never_frees_what_request_gpus_made(start_server, make_user, wait_for, on_disconnect, end):
    server = start_server(on_disconnect=on_disconnect)
    user = make_user(server)
    user("request_gpus", "-n", "1")
    child = user.start("client", "--", *HOLD)
    command = int(child.stdout.readline())
    assert server.allocations()[0]["connected"] == 1
    if end == "kill":
        child.kill()
    os.kill(command, signal.SIGKILL)
    child.communicate(timeout=30)
    wait_for(lambda: server.allocations()[0]["connected"] == 0, "the server to see that the client is gone")
    assert server.free_mib() == [0]


def test_no_timeout_releases_what_a_client_is_connected_to(start_server, make_user, wait_for):
    server = start_server(auto_release_timeout=0.5)
    user = make_user(server)
    user("request_gpus", "-n", "1", "-p", "0.5")
    child = user.start("client", "--", *HOLD)
    command = int(child.stdout.readline())
    user("request_gpus", "-n", "1", "-p", "0.5")
    used, unused = (each["uuid"] for each in server.allocations())
    wait_for(lambda: server.free_mib() == [8140], "the unused allocation to be released")
    log = server.state()["log"]
    assert [entry["allocation"] for entry in log if entry["event"] == "released"] == [unused]
    assert [each["uuid"] for each in server.allocations()] == [used]
    os.kill(command, signal.SIGKILL)
    child.communicate(timeout=30)
    wait_for(lambda: server.free_mib() == [16280], "the other to be released when its client has gone")
