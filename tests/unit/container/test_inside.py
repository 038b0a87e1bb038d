"""The container's first program: nothing runs without the mounts that were checked."""

import os
import signal
import subprocess
from pathlib import Path

import pytest


def word(path, place=None):
    found = os.stat(path)
    return f"{found.st_dev}:{found.st_ino}:{place or path}"


def refused(done, status, text):
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith("gpushare: ") and done.stderr.count("\n") == 1 and text in done.stderr


def test_it_becomes_the_command(first_program, tmp_path):
    show = ("sh", "-c", 'echo "$0 $PWD $(pwd) $X"; cat; exit 7', "a  b")
    done = first_program(
        *(word(tmp_path), word("/etc/passwd"), f"cd:{tmp_path}"),
        command=show,
        input="in",
        env={"PATH": os.environ["PATH"], "X": "1"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, f"a  b {tmp_path} {tmp_path} 1\nin", "")


def test_a_path_with_colons_and_line_ends(first_program, tmp_path):
    folder = tmp_path / "a:b\n,c d"
    folder.mkdir()
    assert first_program(word(folder)).returncode == 0


def test_a_mount_that_the_runtime_left_out(first_program, tmp_path):
    refused(first_program(word(tmp_path, "/nosuch")), 78, "'/nosuch' in the container is not what was checked")


def test_a_mount_that_is_another(first_program, tmp_path):
    (tmp_path / "x").mkdir()
    refused(first_program(word(tmp_path), word(tmp_path / "x", tmp_path)), 78, "somebody exchanged it")


def test_a_name_cannot_write_further_lines(first_program):
    done = first_program("1:1:/a\ngpushare: all is well\x1b[2J")
    refused(done, 78, "'/a?gpushare: all is well?[2J'")


@pytest.mark.parametrize("given", ["", "x", "1:2", "1:2:x", ":2:/x", "1::/x", "1 :2:/x", "/x", "-1"])
def test_words_that_it_does_not_know(first_program, given):
    refused(first_program(given), 78, "install slurm-gpushare again")


def test_without_a_command(inside):
    for words in ([], ["--"], [word("/")]):
        done = subprocess.run([str(inside), *words], capture_output=True, text=True, check=False)
        refused(done, 78, "no command")


def test_a_workdir_that_is_not_there(first_program):
    refused(first_program("cd:/nosuch"), 77, "--container-workdir: '/nosuch' in the container: No such file")


@pytest.mark.parametrize(
    ("text", "mode", "status", "said"),
    [
        (None, 0, 127, "No such file or directory: no such program"),
        ("#!/no/such/interpreter\n", 0o755, 127, "or not what its first line names"),
        ("echo", 0o644, 126, "Permission denied"),
    ],
)
def test_a_command_that_cannot_be_executed(first_program, tmp_path, text, mode, status, said):
    program = tmp_path / "program"
    if text is not None:
        program.write_text(text)
        program.chmod(mode)
    refused(first_program(command=(str(program),)), status, said)


def test_a_command_is_found_by_the_containers_path(first_program, tmp_path):
    (tmp_path / "only-here").write_text("#!/bin/sh\nexit 5\n")
    (tmp_path / "only-here").chmod(0o755)
    assert first_program(command=("only-here",), env={"PATH": f"/nosuch:{tmp_path}"}).returncode == 5
    refused(first_program(command=("only-here",), env={"PATH": "/nosuch"}), 127, "'only-here' in the container")


def test_by_the_name_of_srun_it_says_what_to_do(inside):
    done = subprocess.run(
        ["/.gpushare/srun", "-n1", "x"], executable=inside, capture_output=True, text=True, check=False
    )
    refused(done, 127, "--container-scope=tasks")


def test_it_names_options_as_the_site_has_them(inside):
    environment = {"SLURM_SPANK_GPUSHARE_PREFIX": "gs-"}
    for argv, text in (
        (["srun"], "submit with --gs-container-scope=tasks"),
        (["inside", "cd:/nosuch"], "--gs-container-workdir: "),
    ):
        done = subprocess.run(argv, executable=inside, env=environment, capture_output=True, text=True, check=False)
        assert text in done.stderr


def test_nothing_of_the_users_environment_runs_in_it(inside, tmp_path):
    """It is linked statically: a library before it would be a way around its checks."""
    assert "statically linked" in subprocess.run(
        ["file", "-b", str(inside)], capture_output=True, text=True, check=False
    ).stdout or not subprocess.run(["readelf", "-d", str(inside)], capture_output=True, text=True).stdout.count(
        "NEEDED"
    )
    env = {"LD_PRELOAD": "/nosuch.so", "LD_LIBRARY_PATH": str(tmp_path), "BASH_ENV": "/nosuch", "PATH": "/nosuch"}
    done = subprocess.run([str(inside), "1:1:/", "--", "true"], env=env, capture_output=True, text=True, check=False)
    refused(done, 78, "not what was checked")
    assert "ld.so" not in done.stderr


def test_signals_are_as_they_were(first_program):
    code = "import signal, os; print(signal.getsignal(signal.SIGPIPE) == signal.SIG_DFL); os.kill(os.getpid(), 15)"
    done = first_program(command=("python3", "-c", code))
    assert done.returncode == -signal.SIGTERM


def test_install_puts_it_into_one_folder_by_both_names(inside, tmp_path):
    make = ["make", "-C", "etc/libexec/inside", "install", "CFLAGS=-O2 -Werror"]
    make += [f"BUILD={inside.parent}", f"DESTDIR={tmp_path}"]
    subprocess.run(make, cwd=Path(__file__).parents[3], capture_output=True, check=True)
    folder = tmp_path / "opt/gpushare/libexec/inside"
    assert sorted(path.name for path in folder.iterdir()) == ["inside", "srun"]
    assert os.readlink(folder / "srun") == "inside" and (folder / "inside").stat().st_mode & 0o777 == 0o755
    refused(subprocess.run([folder / "srun"], capture_output=True, text=True, check=False), 127, "'srun'")
