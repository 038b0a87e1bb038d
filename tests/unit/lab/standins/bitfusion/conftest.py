"""A real server on loopback and the real client, static and with sanitizers, as a user with a home of its own."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_gpushare.lab.standins import bitfusion
from slurm_gpushare.lab.standins.bitfusion import inspect

SOURCE = Path(bitfusion.__file__).parent
DEADLINE_SECONDS = 30
TOKEN = "a%token/of=ours"
_places = itertools.count(1)

CLIENT_YAML = f"""version: ""
ssl: true
timeout: 3s
authconfig:
  enabled: true
  username: ""
  token: {TOKEN}
network: {{}}
dispatcher:
  enabled: true
"""


def _wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's value as soon as it is true."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_SECONDS} s"
        time.sleep(0.02)
    return value


def free_address() -> str:
    """Return a loopback address that no other test and no other run of the tests uses, so that all ports are free."""
    return f"127.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}.{next(_places)}"


def _gpu(number: int = 0, memory_mib: int = 16280, name: str = "Tesla P100-PCIE-16GB") -> dict[str, Any]:
    return {
        "uuid": f"GPU-{number:08d}-aaaa-bbbb-cccc-{number:012d}",
        "name": name,
        "memory_mib": memory_mib,
        "idle_watts": 30,
        "max_watts": 250,
        "capability": "6.0",
    }


class Server:
    """A server process."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.config = {"listen": free_address(), "token": TOKEN, "wait_seconds": 60, "gpus": [_gpu()]} | settings
        self.path = folder / f"{self.config['listen']}.json"
        self.path.write_text(json.dumps(self.config))
        self.address = f"{self.config['listen']}:56001"
        module = "slurm_gpushare.lab.standins.bitfusion.server"
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--config", str(self.path)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline().startswith("bitfusion stand-in: ")

    def state(self) -> dict[str, Any]:
        return inspect.state(self.address, TOKEN)

    def allocations(self) -> list[dict[str, Any]]:
        return self.state()["allocations"]

    def free_mib(self) -> list[int]:
        return [each["free_mib"] for each in self.state()["gpus"]]

    def stop(self) -> int:
        self.process.terminate()
        self.process.stdout.close()
        return self.process.wait(DEADLINE_SECONDS)


class User:
    """A user: a home with a configuration, a folder for temporary files, and the client."""

    def __init__(self, folder: Path, client: Path, servers: str) -> None:
        self.client = client
        self.home = folder / "home"
        self.dot = self.home / ".bitfusion"
        self.tmp = folder / "tmp"
        self.dot.mkdir(parents=True)
        self.tmp.mkdir()
        (self.dot / "client.yaml").write_text(CLIENT_YAML)
        (self.dot / "servers.conf").write_text(servers)
        self.env = {"HOME": str(self.home), "TMPDIR": str(self.tmp), "PATH": os.environ["PATH"], "TZ": "Asia/Shanghai"}
        self.children: list[subprocess.Popen] = []

    def __call__(self, *words: str, prefix: tuple[str, ...] = (), **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*prefix, self.client, *words],
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen:
        child = subprocess.Popen(
            [self.client, *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.children.append(child)
        return child

    def files(self) -> list[Path]:
        return sorted(self.tmp.iterdir())


@pytest.fixture(scope="session")
def wait_for() -> Callable[[Callable[[], Any], str], Any]:
    """Return a function that polls until a condition is true."""
    return _wait_for


@pytest.fixture(scope="session")
def gpu() -> Callable[..., dict[str, Any]]:
    """Return a function that describes a GPU for a server's configuration."""
    return _gpu


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and install everything, as an administrator and as these tests do."""
    folder = tmp_path_factory.mktemp("bitfusion")
    gpu = SOURCE.parent / "gpu"
    for words in (
        ["-C", str(SOURCE), "install", "sanitized", f"BUILD={folder / 'build'}", f"DESTDIR={folder / 'dest'}"],
        ["-C", str(gpu), f"BUILD={folder / 'build' / 'gpu'}"],
    ):
        made = subprocess.run(["make", *words], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        assert "warning" not in made.stderr
    return folder


@pytest.fixture(params=["static", "sanitized"])
def client(request: pytest.FixtureRequest, build: Path) -> Path:
    """Return the client, in both builds."""
    return build / {"static": "dest/usr/bin/bitfusion", "sanitized": "build/bitfusion-sanitized"}[request.param]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server with changed settings."""
    servers = []

    def start(**settings: Any) -> Server:
        servers.append(Server(tmp_path, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def make_user(tmp_path: Path, client: Path) -> Iterator[Callable[..., User]]:
    """Return a function that makes the user of some servers; what it started is ended with the test."""
    users = []

    def make(*servers: Server | str) -> User:
        addresses = [server if isinstance(server, str) else server.address for server in servers]
        text = "servers:\n" + "".join(f"- addresses:\n  - {address}\n" for address in addresses)
        users.append(User(tmp_path / f"user{len(users)}", client, text))
        return users[-1]

    yield make
    for user in users:
        for child in user.children:
            # A command outlives its killed client, and would keep the pipes open.
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.communicate()


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    """Return a server with one 16 GB GPU."""
    return start_server()


@pytest.fixture
def user(make_user: Callable[..., User], server: Server) -> User:
    """Return a user of ``server``."""
    return make_user(server)
