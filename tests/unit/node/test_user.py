import os
import time

import pytest

from slurm_gpushare.node.user import clean_environment, run_as

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


def test_the_child_is_the_user_and_nothing_else():
    def action():
        seen = (os.getresuid(), os.getresgid(), os.getgroups(), os.getcwd(), os.read(0, 1))
        os.write(1, repr(seen).encode())
        return True

    well, output = run_as(1001, 1002, action, 30)
    assert well is True
    assert output == "((1001, 1001, 1001), (1002, 1002, 1002), [1002], '/', b'')"


def test_a_user_of_the_passwd_file_has_its_groups_and_home():
    entry = clean_environment(0)
    assert entry["USER"] == "root" and entry["HOME"].startswith("/")
    assert clean_environment(4123456789) == {"PATH": "/usr/bin:/bin", "HOME": "/"}


@pytest.mark.parametrize("action", [lambda: False, lambda: None, lambda: os._exit(3)])
def test_what_does_not_go_well(action):
    assert run_as(1001, 1001, action, 30)[0] is False


def test_an_error_is_told():
    def action():
        raise FileNotFoundError("no such thing")

    assert run_as(1001, 1001, action, 30) == (False, "FileNotFoundError: no such thing\n")


def test_what_takes_too_long_is_killed_with_what_it_started():
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)

    def action():
        os.fork()
        time.sleep(600)
        return True

    well, output = run_as(1001, 1001, action, 0.3)
    os.close(writer)
    assert well is False
    assert "no end within 0.3 s" in output
    # The pipe ends when no process of the child's session holds it any more.
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_what_is_left_running_is_killed_too():
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)

    def action():
        if os.fork() == 0:
            time.sleep(600)
        return True

    assert run_as(1001, 1001, action, 30)[0] is True
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
