"""nvidia-cuda-mps-control: starts the control daemon of a pipe folder, or gives it commands.

Protocol 2: ``-d`` (in the background), ``-f``, ``-multiuser-server``, ``-S`` (R590), ``-v``; commands come on standard
input.
Protocol 3 (``-p 3``, drivers from R615 on): ``-d``, ``-f``, ``-m``, ``-q``, ``-v``, ``-h``; commands are words of the
command line.
"""

import json
import os
import select
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm_gpushare.errors import EXIT_FAILED, EXIT_USAGE, LabError
from slurm_gpushare.lab.standins.mps import assumed

DEFAULT_PIPE, DEFAULT_PIPE_OF_ROOT_V3 = "/tmp/nvidia-mps", "/run/nvidia-mps"
DEFAULT_LOG = "/var/log/nvidia-mps"
USAGE = "usage: nvidia-cuda-mps-control [-d | -f] [-v] [-multiuser-server] [-S]\n"
USAGE_V3 = """usage: nvidia-cuda-mps-control [-p <2|3>] [-d | -f] [-m] [-q] [-v] [-h] | <module> <verb> [arguments]
  -h, --help        print this message
  -d, --daemon      set the daemon up in the background
  -f, --foreground  set the daemon up in the foreground
  -m, --multiuser   enable multiuser mode
  -p, --protocol    2 (legacy, default) or 3
  -q, --quit        quit and stop the daemon and all running servers
  -v, --version     print the version
modules: server, namespace, client
"""
LONG = {
    "--static-partitioning": "-S",
    "--daemon": "-d",
    "--foreground": "-f",
    "--multiuser": "-m",
    "--quit": "-q",
    "--version": "-v",
    "--help": "-h",
}


class Usage(LabError):
    """The command line is wrong."""

    exit_status = EXIT_USAGE


@dataclass
class Options:
    """The command line: flags by their short names, and a command of protocol 3."""

    flags: set[str]
    protocol: str
    command: list[str]


def parse(arguments: Sequence[str], environment: dict[str, str]) -> Options:
    """Return what the command line and CUDA_MPS_PROTOCOL_VERSION ask for. Raises Usage."""
    words, flags, protocol = list(arguments), set(), "2"
    while words and words[0].startswith("-"):
        word = words.pop(0)
        flag = LONG.get(word, word)
        if word in ("-p", "--protocol"):
            if not words:
                raise Usage(f"{word} needs 2 or 3")
            protocol = words.pop(0)
        elif flag in ("-d", "-f", "-m", "-q", "-v", "-h", "-multiuser-server", "-S"):
            flags.add(flag)
        else:
            raise Usage(f"{word} is no option that is known here")
    protocol = environment.get("CUDA_MPS_PROTOCOL_VERSION", protocol)
    if protocol not in ("2", "3"):
        raise Usage(f"protocol {protocol!r}: it must be 2 or 3")
    if len(flags & {"-d", "-f", "-q", "-v", "-h"}) > 1 or (words and flags):
        raise Usage(f"{' '.join(arguments)}: these do not go together")
    if "-m" in flags and protocol == "2":
        raise Usage("-m is of protocol 3: write -multiuser-server")
    if "-multiuser-server" in flags and protocol == "3":
        raise Usage("-multiuser-server is of protocol 2: write -m")
    if "-S" in flags and protocol == "3":
        raise Usage("-S is of protocol 2")
    return Options(flags, protocol, words)


def folders(protocol: str) -> tuple[str, str]:
    """Return the pipe folder and the log folder."""
    root_v3 = protocol == "3" and os.geteuid() == 0
    pipe = os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or (DEFAULT_PIPE_OF_ROOT_V3 if root_v3 else DEFAULT_PIPE)
    return pipe, os.environ.get("CUDA_MPS_LOG_DIRECTORY") or DEFAULT_LOG


def ask(pipe: str, words: Sequence[str], kind: str) -> dict:
    """Give the daemon of ``pipe`` one command; return its answer. Raises LabError when there is no daemon."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(f"{pipe}/control")
            connection.sendall(f"{kind} {json.dumps(words)}\n".encode())
            with connection.makefile(encoding="utf-8") as answers:
                answer = json.loads(answers.readline())
            if words[0] == "quit" and not answer["status"]:
                wait_for_end(connection)
            return answer
    except (OSError, ValueError):
        raise LabError(assumed.NOT_FOUND) from None


def wait_for_end(connection: socket.socket) -> None:
    """Return when the process at the other end of a Unix socket has ended."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    try:
        process = os.pidfd_open(struct.unpack("3i", credentials)[0])
    except ProcessLookupError:
        return
    select.select([process], [], [])
    os.close(process)


def give(pipe: str, words: Sequence[str], kind: str = "command") -> int:
    """Give one command and print what it says; return 0 or 1."""
    answer = ask(pipe, words, kind)
    sys.stdout.write(answer["output"])
    sys.stdout.flush()
    sys.stderr.write(answer["errors"])
    return answer["status"]


def give_lines(pipe: str) -> int:
    """Give the commands on standard input, a line each; return 1 when any failed."""
    status = 0
    for line in sys.stdin:
        if words := line.split():
            status |= give(pipe, words)
            if words[0] == "quit" and not status:
                break
    return status


def start(options: Options) -> int:
    """Become the daemon, in the background or not; return the exit status of this process. Raises LabError."""
    pipe, log = folders(options.protocol)
    for folder in (pipe, log):
        try:
            Path(folder).mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise LabError(f"{folder}: {error.strerror}") from None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(f"{pipe}/control")
        raise LabError(assumed.ALREADY_RUNNING)
    except OSError as error:
        if "too long" in str(error):
            raise LabError(assumed.NOT_FOUND) from None
    if "-f" in options.flags:
        return become(options, pipe, log, lambda: None)
    hears, says = os.pipe()
    if os.fork() == 0:
        os._exit(be_in_background(options, pipe, log, says))
    os.close(says)
    with os.fdopen(hears, "rb") as stream:
        return 0 if stream.read(1) == b"+" else EXIT_FAILED


def be_in_background(options: Options, pipe: str, log: str, says: int) -> int:
    """Be the daemon in a session of its own; ``says`` is the pipe on which it says that it takes commands."""
    os.setsid()
    errors = os.dup(2)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1):
        os.dup2(null, number)
    os.dup2(os.open(f"{log}/control.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), 2)

    def ready() -> None:
        os.write(says, b"+")
        os.close(says)
        os.close(errors)

    try:
        return become(options, pipe, log, ready)
    except LabError as error:
        os.write(errors, f"{error}\n".encode())
        return EXIT_FAILED


def become(options: Options, pipe: str, log: str, ready: Callable[[], object]) -> int:
    """Be the daemon until it is told to quit. Raises LabError."""
    import asyncio  # the commands need none of it, and it takes longer to load than they to run

    from slurm_gpushare.lab.standins.mps.legacy import Legacy
    from slurm_gpushare.lab.standins.mps.modules import Modules

    async def run() -> None:
        multiuser = bool(options.flags & {"-m", "-multiuser-server"})
        if multiuser and os.geteuid() != 0:
            raise LabError("a server for several users needs root")
        static = "-S" in options.flags
        daemon = Modules(pipe, log, multiuser) if options.protocol == "3" else Legacy(pipe, log, multiuser, static)
        await daemon.run(ready)

    os.chdir("/")
    os.umask(0o022)
    asyncio.run(run())
    return 0


def driver_branch() -> int:
    """Return the branch of the driver, e.g. 580. Raises LabError."""
    from slurm_gpushare.lab.standins.mps import daemon  # as asyncio

    return daemon.driver_branch()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    usage = USAGE
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments, dict(os.environ))
        if options.protocol == "3" or options.flags & {"-h", "-v", "-q"}:
            if driver_branch() < assumed.FIRST_BRANCH_WITH_V3:
                if options.flags & {"-h", "-q"} or "CUDA_MPS_PROTOCOL_VERSION" not in os.environ:
                    raise Usage("protocol 3 is not known here: it needs a driver of R615 or newer")
                options.protocol = "2"  # the variable means nothing to an older driver
            else:
                usage = USAGE_V3
        if "-S" in options.flags and driver_branch() < assumed.FIRST_BRANCH_WITH_STATIC_PARTITIONS:
            raise Usage("-S is not known here: it needs a driver of R590 or newer")
        if "-h" in options.flags:
            sys.stdout.write(usage)
            return 0
        if "-v" in options.flags:
            sys.stdout.write(f"CUDA MPS control version {driver_branch()}\n")
            return 0
        if options.flags & {"-d", "-f"}:
            return start(options)
        pipe, _ = folders(options.protocol)
        if "-q" in options.flags:
            return give(pipe, ["quit"])
        return give(pipe, options.command, "arguments") if options.command else give_lines(pipe)
    except Usage as error:
        sys.stderr.write(f"nvidia-cuda-mps-control: {error}\n{usage}")
        return error.exit_status
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED
