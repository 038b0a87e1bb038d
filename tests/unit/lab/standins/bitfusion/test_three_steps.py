"""`request_gpus`, `client`, `release_gpus`, and the commands that only look."""

import os
import re
import time


def test_request_prints_three_lines_and_leaves_a_file_that_client_and_release_use(user, server):
    user("list_gpus")
    requested = user("request_gpus", "-n", "1", "-m", "2048")
    assert requested.stdout == f"Requested resources:\nServer List: {server.address}\nClient idle timeout: 0 min\n"
    assert (requested.stderr, requested.returncode) == ("", 0)
    (file,) = user.files()
    assert re.fullmatch(r"bitfusion\d{9}", file.name) and file.stat().st_mode & 0o777 == 0o600
    assert server.free_mib() == [16280 - 2048]
    uuid = server.allocations()[0]["uuid"]

    used = user("client", "--", "sh", "-c", "echo $NVML_STANDIN_ENDPOINT; exit 5")
    assert used.returncode == 5
    assert f":45201:{uuid}:" in used.stdout
    assert [each["uuid"] for each in server.allocations()] == [uuid]

    released = user("release_gpus")
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+08:00"
    assert re.fullmatch(
        rf"\[INFO\] {stamp} Releasing GPUs from config file '{file}'\.\.\.\n"
        rf"\[INFO\] {stamp} Released GPUs on 1 servers and removed generated config file '{file}'\n",
        released.stderr,
    )
    assert (released.returncode, released.stdout, user.files(), server.free_mib()) == (0, "", [], [16280])


def test_client_runs_on_the_newest_allocation_that_is_alive(user, server):
    files = []
    for age in (30, 20, 10):
        user("request_gpus", "-n", "1", "-p", "0.1")
        (new,) = set(user.files()) - set(files)
        os.utime(new, (time.time() - age,) * 2)
        files.append(new)
    newest = server.allocations()[-1]["uuid"]
    # None of these is an allocation of this user's.
    (user.tmp / "bitfusion000000001").write_text("something else\n")
    (user.tmp / "bitfusion12").write_text(files[0].read_text())
    (user.tmp / "bitfusion000000002").symlink_to(files[0])
    assert newest in user("client", "--", "printenv", "NVML_STANDIN_ENDPOINT").stdout
    # The newest is gone at the server, its file has come back.
    text = files[-1].read_text()
    user("release_gpus", "-f", str(files[-1]))
    files[-1].write_text(text)
    second = server.allocations()[-1]["uuid"]
    assert second != newest
    assert second in user("client", "--", "printenv", "NVML_STANDIN_ENDPOINT").stdout


def test_client_works_in_the_allocation_of_a_run(user, server):
    done = user("run", "-n", "1", "--", "sh", "-c", '"$0" client -- printenv NVML_STANDIN_ENDPOINT', str(user.client))
    assert f":45201:{server.state()['log'][0]['allocation']}:" in done.stdout
    assert server.state()["counts"]["granted"] == 1


def test_without_an_allocation_client_and_release_refuse(user):
    for words in (["client", "--", "true"], ["release_gpus"]):
        done = user(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: no GPUs are allocated: found no valid allocation file in ")


def test_release_without_a_file_leaves_the_allocation_of_a_run_alone(user, server):
    done = user("run", "-n", "1", "--", "sh", "-c", '"$0" release_gpus; echo status $?', str(user.client))
    assert done.stdout.splitlines()[-1] == "status 1"
    assert "already released" not in done.stderr


def test_releasing_again_warns_removes_the_file_and_succeeds(user, server):
    user("request_gpus", "-n", "1")
    (file,) = user.files()
    text = file.read_text()
    assert user("release_gpus", "-f", str(file)).returncode == 0
    file.write_text(text)
    again = user("release_gpus", "-f", str(file))
    assert f"The allocation of '{file}' was already released" in again.stderr
    assert (again.returncode, user.files()) == (0, [])


def test_release_refuses_what_is_no_allocation_file(user):
    (user.home / "notes").write_text("kind=run\n")
    missing, other = user("release_gpus", "-f", "/nonexistent/f"), user("release_gpus", "-f", str(user.home / "notes"))
    assert missing.stderr == "Error: open /nonexistent/f: no such file or directory\n"
    assert other.stderr == f"Error: {user.home}/notes is not an allocation file\n"
    assert (missing.returncode, other.returncode) == (1, 1)
    assert (user.home / "notes").exists()


def test_the_file_stays_when_the_server_cannot_be_reached(user, server):
    user("request_gpus", "-n", "1")
    server.process.terminate()
    server.process.wait(30)
    done = user("release_gpus")
    assert done.returncode == 1
    assert "Unable to release GPUs" in done.stderr
    assert len(user.files()) == 1


def test_list_gpus_is_printed_as_it_was_seen(start_server, make_user, gpu):
    v100 = [gpu(number, 32510, "Tesla V100S-PCIE-32GB") | {"capability": "7.0"} for number in range(2)]
    leader, other = start_server(gpus=v100), start_server(gpus=v100, leader=False)
    user = make_user(leader, other)
    user("request_gpus", "-n", "1", "-p", "0.8")
    done = user("list_gpus")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f" - server 0 (leader)  [{leader.address}]: running 1 tasks\n"
        "   |- GPU [0]: free memory (6502 / 32510MiB) Tesla V100S-PCIE-32GB (7.0)\n"
        "   |- GPU [1]: free memory (32510 / 32510MiB) Tesla V100S-PCIE-32GB (7.0)\n"
        f" - server 1 [{other.address}]: running 0 tasks\n"
        "   |- GPU [0]: free memory (32510 / 32510MiB) Tesla V100S-PCIE-32GB (7.0)\n"
        "   |- GPU [1]: free memory (32510 / 32510MiB) Tesla V100S-PCIE-32GB (7.0)\n"
    )


def test_health_and_smi_show_every_server_that_answers(start_server, make_user):
    server = start_server()
    user = make_user(server, "127.0.0.1:9")
    user("request_gpus", "-n", "1", "-p", "0.25")
    health, smi = user("health"), user("smi")
    assert health.stdout == f" - server 0 [{server.address}]: ok\n - server 1 [127.0.0.1:9]: unreachable\n"
    assert smi.stdout == (
        f" - server 0 (leader)  [{server.address}]: running 1 tasks\n"
        "   | 0  Tesla P100-PCIE-16GB  4070MiB / 16280MiB  0%\n"
    )
    assert (health.returncode, smi.returncode) == (0, 0)
