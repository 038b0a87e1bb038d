import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.backends import bitfusion
from slurm_gpushare.errors import BackendError, BrokenInstallation, GpushareError
from slurm_gpushare.grant import Grant
from slurm_gpushare.node_policy import BackendPolicy

# A client that makes and removes its allocation files as the real one does, and refuses what it does not know.
CLIENT = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/calls"
case "$1" in
request_gpus)
    [ "$2" = -n ] && [ "$4" = -p ] && [ $# -eq 5 ] || { echo "Error: unknown option: $*" >&2; exit 1; }
    if [ -e "$here/says" ]; then cat "$here/says" >&2; exit 1; fi
    [ -e "$here/silent" ] || echo lease >"$TMPDIR/bitfusion0$$"
    ;;
release_gpus)
    [ "$2" = -f ] && [ $# -eq 3 ] || { echo "Error: unknown option: $*" >&2; exit 1; }
    [ "$(dirname "$3")" = "$TMPDIR" ] || { echo "Error: $3 is not in $TMPDIR" >&2; exit 1; }
    grep -qx lease "$3" || { echo "Error: no such allocation" >&2; exit 1; }
    rm "$3"
    ;;
*) echo "Error: unknown command $1" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def client(tmp_path):
    path = tmp_path / "bin" / "bitfusion"
    path.parent.mkdir()
    path.write_text(CLIENT)
    path.chmod(0o755)
    return path


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir(mode=0o700)
    return folder


ENVIRONMENT = {"PATH": "/usr/bin:/bin", "TMPDIR": "/somewhere/else"}


def grant(fraction=0.25, gpus=1, slices=25, nodes=1):
    return Grant("bitfusion", gpus, fraction, slices, None, nodes, "rule", "gpu:0.25", "")


def settings(client=None):
    return BackendPolicy(command=None if client is None else str(client), licence="bitfusion", gres="bitfusion")


def calls(client):
    path = client.parent / "calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    "text, counts",
    [
        ("", {}),
        ("bitfusion:25", {"bitfusion": 25}),
        ("matlab,bitfusion:25", {"matlab": 1, "bitfusion": 25}),
        ("a:25|b:25|c:25", {"a": 25, "b": 25, "c": 25}),
    ],
)
def test_licences(text, counts):
    assert bitfusion.licences(text) == counts


@pytest.mark.parametrize("text", ["bitfusion:x", "bitfusion:-1", "a:1:2", "a:٣"])
def test_licences_that_are_none(text):
    with pytest.raises(ValueError):
        bitfusion.licences(text)


@pytest.mark.parametrize(
    "held, slices, nodes, believed",
    [
        ("bitfusion:25", 25, 1, True),
        ("x:1,bitfusion:50", 25, 2, True),
        ("bitfusion:25|other:25", 25, 1, True),
        ("bitfusion:26", 25, 1, False),
        ("bitfusion:24", 25, 1, False),
        ("bitfusion:25", 25, 2, False),
        ("bitfusion2:25", 25, 1, False),
        ("other:25", 25, 1, False),
        ("bitfusion:many", 25, 1, False),
        ("", 25, 1, False),
    ],
)
def test_a_grant_is_believed_when_slurm_gave_its_licences(held, slices, nodes, believed):
    reason = bitfusion.agrees(grant(slices=slices, nodes=nodes), {"SLURM_JOB_LICENSES": held}, settings())
    assert (reason is None) is believed


def test_without_licences_in_the_environment_nothing_is_believed():
    assert "none" in bitfusion.agrees(grant(), {}, settings())


@pytest.mark.parametrize(
    "fraction, text",
    [(0.07, "0.07"), (0.25, "0.25"), (1.0, "1"), (1 / 3, "0.333333"), (0.1 + 0.2, "0.3"), (1e-6, "0.000001")],
)
def test_fraction_text(fraction, text):
    assert bitfusion.fraction_text(fraction) == text


@given(st.integers(1, 1000000))
def test_fraction_text_is_what_was_granted(millionths):
    text = bitfusion.fraction_text(millionths / 1000000)
    assert float(text) == millionths / 1000000
    assert ("e" not in text and not text.endswith((".", "0"))) or text == "1"


@pytest.mark.parametrize(
    "step, tmpdir, argv",
    [
        (
            "batch",
            "/tmp/u",
            ["/c/bf", "run", "-n", "2", "-p", "0.5", "--", "env", "TMPDIR=/tmp/u", "/s/script", "a b", "--"],
        ),
        (
            "batch",
            None,
            ["/c/bf", "run", "-n", "2", "-p", "0.5", "--", "env", "-u", "TMPDIR", "/s/script", "a b", "--"],
        ),
        ("0", "", ["/c/bf", "client", "--", "env", "TMPDIR=", "/s/script", "a b", "--"]),
        ("interactive", None, ["/c/bf", "client", "--", "env", "-u", "TMPDIR", "/s/script", "a b", "--"]),
    ],
)
def test_task_argv(step, tmpdir, argv):
    share = grant(0.5, 2, 100)
    assert bitfusion.task_argv(share, settings("/c/bf"), step, ["/s/script", "a b", "--"], tmpdir) == argv


def test_without_a_command_in_the_policy_it_is_where_its_package_puts_it():
    assert bitfusion.task_argv(grant(), settings(), "0", ["x"], None)[0] == "/usr/bin/bitfusion"


def test_a_command_that_env_would_take_for_an_assignment_is_refused():
    with pytest.raises(GpushareError, match="'='") as caught:
        bitfusion.task_argv(grant(), settings(), "0", ["PATH=/evil", "x"], None)
    assert caught.value.exit_status == 126


def test_the_batch_script_makes_its_own_allocation(client, work):
    bitfusion.prepare(grant(), settings(client), "batch", str(work), ENVIRONMENT)
    assert calls(client) == []


def test_a_step_makes_the_allocation_once(client, work):
    for step in ("0", "0", "1"):
        bitfusion.prepare(grant(0.07, slices=7), settings(client), step, str(work), ENVIRONMENT)
    assert calls(client) == ["request_gpus -n 1 -p 0.07"]
    assert len(bitfusion.allocation_files(str(work), os.getuid())) == 1


def test_a_step_uses_the_batch_scripts_allocation(client, work):
    (work / "bitfusion123456789").write_text("lease\n")
    bitfusion.prepare(grant(), settings(client), "0", str(work), ENVIRONMENT)
    assert calls(client) == []


def test_of_tasks_that_start_at_once_one_makes_the_allocation(client, work):
    errors = []

    def task():
        try:
            bitfusion.prepare(grant(), settings(client), "0", str(work), ENVIRONMENT)
        except Exception as error:
            errors.append(error)

    tasks = [threading.Thread(target=task) for _ in range(8)]
    for thread in tasks:
        thread.start()
    for thread in tasks:
        thread.join(30)
    assert errors == []
    assert calls(client) == ["request_gpus -n 1 -p 0.25"]


@pytest.mark.parametrize(
    "says, status, text",
    [
        (
            "[WARN] x\nError: none of the servers responded correctly to client id claim requests.\n",
            69,
            r"cannot be reached: Error: none .* requests\. \(\[WARN\] x\)",
        ),
        ("Error: no GPUs in time\n", 75, "gave no GPUs"),
        ("", 75, "status 1"),
    ],
)
def test_a_refused_request_is_one_line_and_a_status(client, work, says, status, text):
    (client.parent / "says").write_text(says)
    with pytest.raises(BackendError, match=text) as caught:
        bitfusion.prepare(grant(), settings(client), "0", str(work), ENVIRONMENT)
    assert caught.value.exit_status == status
    assert "\n" not in str(caught.value)


def test_the_other_tasks_of_a_step_fail_alike_and_the_next_step_asks_again(client, work):
    (client.parent / "says").write_text("Error: no GPUs in time\n")
    failures = []
    for _ in range(3):
        with pytest.raises(BackendError) as caught:
            bitfusion.prepare(grant(), settings(client), "0", str(work), ENVIRONMENT)
        failures.append((caught.value.exit_status, str(caught.value)))
    assert len(set(failures)) == 1 and failures[0][0] == 75
    assert len(calls(client)) == 1
    (client.parent / "says").unlink()
    bitfusion.prepare(grant(), settings(client), "1", str(work), ENVIRONMENT)
    assert len(calls(client)) == 2


def test_a_client_that_leaves_no_allocation_file_is_broken(client, work):
    (client.parent / "silent").touch()
    with pytest.raises(BrokenInstallation, match="TMPDIR"):
        bitfusion.prepare(grant(), settings(client), "0", str(work), ENVIRONMENT)


def test_a_client_that_is_missing_is_a_broken_installation(tmp_path, work):
    with pytest.raises(BrokenInstallation, match="install the Bitfusion client"):
        bitfusion.prepare(grant(), settings(tmp_path / "nosuch"), "0", str(work), ENVIRONMENT)


def test_the_lock_is_not_made_through_a_link(client, work, tmp_path):
    (work / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        bitfusion.prepare(grant(), settings(client), "0", str(work), ENVIRONMENT)
    assert not (tmp_path / "victim").exists()


def test_allocation_files_are_regular_and_the_users(work, tmp_path):
    (work / "bitfusion000000001").write_text("")
    (work / "lock").write_text("")
    (work / "xbitfusion").write_text("")
    (work / "bitfusion-folder").mkdir()
    (work / "bitfusion-link").symlink_to(tmp_path)
    os.mkfifo(work / "bitfusion-pipe")
    found = bitfusion.allocation_files(str(work), os.getuid())
    assert found == [str(work / "bitfusion000000001")]
    assert bitfusion.allocation_files(str(work), os.getuid() + 1) == []


def test_epilog_releases_every_allocation_with_the_clients_own_folder(client, work):
    for name in ("bitfusion1", "bitfusion2"):
        (work / name).write_text("lease\n")
    assert bitfusion.epilog(settings(client), str(work), ENVIRONMENT) is True
    assert calls(client) == [f"release_gpus -f {work}/bitfusion1", f"release_gpus -f {work}/bitfusion2"]
    assert list(work.iterdir()) == []


def test_epilog_goes_on_after_an_allocation_that_is_gone(client, work, capfd):
    (work / "bitfusion1").write_text("gone\n")
    (work / "bitfusion2").write_text("lease\n")
    assert bitfusion.epilog(settings(client), str(work), ENVIRONMENT) is False
    assert not (work / "bitfusion2").exists()
    assert "no such allocation" in capfd.readouterr().err


def test_a_container_gets_the_client_as_far_as_the_node_has_it(client, monkeypatch, tmp_path):
    there = tmp_path / "etc"
    there.mkdir()
    monkeypatch.setattr(bitfusion, "CLIENT_FILES", (str(there), str(tmp_path / "nosuch")))
    assert bitfusion.binds(settings(client)) == [str(client), str(there)]


def test_the_client_starts_with_the_usual_signals(tmp_path, work):
    script = tmp_path / "client"
    script.write_text("#!/bin/sh\ngrep SigIgn /proc/self/status\n")
    script.chmod(stat.S_IRWXU)
    status, output = bitfusion.run_client([str(script)], ENVIRONMENT)
    assert status == 0
    assert int(output.split()[1], 16) & (1 << 12 | 1 << 24) == 0  # SIGPIPE, SIGXFSZ


def test_a_client_that_leaves_something_running_does_not_keep_us(tmp_path):
    script = tmp_path / "client"
    script.write_text("#!/bin/sh\nsleep 600 & echo $!\n")
    script.chmod(stat.S_IRWXU)
    status, output = bitfusion.run_client([str(script)], ENVIRONMENT)
    os.kill(int(output), 9)
    assert status == 0
