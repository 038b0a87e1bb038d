"""The command line: what is documented, and a refusal of all else."""

import pytest


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["run", "-n", "1", "--x", "true"], "unknown flag: --x"),
        (["run", "--num_gpus", "1", "true"], "unknown flag: --num_gpus"),
        (["run", "-n", "1", "--timeout=3", "true"], "unknown flag: --timeout"),
        (["run", "-n", "1", "-t", "3", "true"], "unknown shorthand flag: 't' in -t"),
        (["run", "-n"], "flag needs an argument: 'n' in -n"),
        (["run", "-n", "1", "--server_list"], "flag needs an argument: --server_list"),
        (["run", "true"], 'required flag(s) "n" not set'),
        (["request_gpus", "-p", "0.5"], 'required flag(s) "n" not set'),
        (
            ["run", "-n", "x", "true"],
            'invalid argument "x" for "-n" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (["run", "-n", "0", "true"], 'invalid argument "0" for "-n" flag: must be at least 1'),
        (["run", "-n", "99999999999999999999", "true"], "must be at least 1"),
        (["run", "-n", "1", "-p", "0", "true"], "must be greater than 0.0 and at most 1.0"),
        (["run", "-n", "1", "-p", "1.01", "true"], "must be greater than 0.0 and at most 1.0"),
        (["run", "-n", "1", "-p", "-0.5", "true"], "must be greater than 0.0 and at most 1.0"),
        (["run", "-n", "1", "-p", "nan", "true"], 'strconv.ParseFloat: parsing "nan": invalid syntax'),
        (["run", "-n", "1", "-p", "0x1", "true"], 'strconv.ParseFloat: parsing "0x1": invalid syntax'),
        (["run", "-n", "1", "-m", "1.5", "true"], 'strconv.ParseInt: parsing "1.5": invalid syntax'),
        (["run", "-n", "1", "-p", "0.5", "-m", "100", "true"], "only one of -p and -m can be given"),
        (
            ["run", "-n", "1", "--filter", "server.colour=red", "true"],
            "must be KEY=VALUE with one of the keys server.addr,",
        ),
        (["run", "-n", "1", "--filter", "device.id", "true"], "must be KEY=VALUE"),
        (["run", "-n", "1"], "requires a command to run"),
        (["run", "-n", "1", "--"], "requires a command to run"),
        (["run", "-n", "1", "  "], "requires a command to run"),
        (["run", "-n", "1", "sh -c 'open"], "a quote is not closed"),
        (["request_gpus", "-n", "1", "true"], 'unknown command "true" for "bitfusion request_gpus"'),
        (["client", "-n", "1", "--", "true"], "unknown shorthand flag: 'n' in -n"),
        (["client"], "requires a command to run"),
        (["release_gpus", "-n", "1"], "unknown shorthand flag: 'n' in -n"),
        (["list_gpus", "-p", "1"], "unknown shorthand flag: 'p' in -p"),
        (["smi", "--server_list", "x:1"], "unknown flag: --server_list"),
    ],
)
def test_a_wrong_command_line_is_an_error_with_usage_before_any_server_is_asked(make_user, words, error):
    done = make_user("127.0.0.1:9")(*words)
    first, *usage = done.stderr.splitlines()
    assert done.returncode == 1
    assert first.startswith("Error: ") and error in first
    assert usage[:1] == ["Usage:"] and usage[1].startswith(f"  bitfusion {words[0]}")
    assert (done.stdout, "contacting server" in done.stderr) == ("", False)


def test_unknown_subcommands_are_refused(make_user):
    done = make_user("127.0.0.1:9")("local", "health")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == 'Error: unknown command "local" for "bitfusion"\nRun \'bitfusion --help\' for usage.\n'


@pytest.mark.parametrize("words", [["--help"], ["help"], [], ["run", "--help"], ["run", "-n", "1", "-h"]])
def test_help_is_usage_on_stdout(make_user, words):
    done = make_user("127.0.0.1:9")(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage:\n")


def test_version_needs_no_configuration(make_user):
    done = make_user("127.0.0.1:9")("version", HOME="/nonexistent")
    assert (done.returncode, done.stdout) == (0, "bitfusion version 4.0.1-7a9ad936\n")


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["--", "printf", "<%s>", "a b", "c"], "<a b><c>"),
        (["printf", "<%s>", "-n", "--x"], "<-n><--x>"),
        (["printf '<%s>' \"a  'b\" c\\ d '\"' $HOME"], "<a  'b><c d><\"><$HOME>"),
        (["-p0.5", "--", "printf", "ok"], "ok"),
        (["-p=0.5", "--filter=device.id=0", "--filter", "device.name=Tesla", "printf", "ok"], "ok"),
    ],
)
def test_the_command_is_what_follows_or_one_string_split_without_a_shell(user, words, printed):
    done = user("run", "-n", "1", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[3:] == [printed]


def test_one_word_after_two_dashes_is_never_split(user):
    script = user.home / "my script"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    assert user("run", "-n", "1", "--", str(script)).stdout.splitlines()[3:] == ["ran"]
