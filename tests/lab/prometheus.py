"""Debian's Prometheus in a lab: fetched once into ``build/prometheus``, no part of the lab's root file system."""

import fcntl
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from tests import debian
from tests.lab.cluster import Cluster, until

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "prometheus"
SUITE = "bookworm"  # later ones have no promtool in the package
FOLDER = "/tmp/prometheus"
ADDRESS = "127.0.0.1:9090"


def fetch() -> Path:
    """Return the folder with the programs ``prometheus`` and ``promtool``."""
    CACHE.mkdir(parents=True, exist_ok=True)
    # Each process of pytest-xdist has fixtures of its own: the second waits for what the first fetches.
    with (CACHE / ".lock").open("w") as lock, tempfile.TemporaryDirectory(prefix=".new-", dir=CACHE) as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        programs = CACHE / "bin"
        if not (programs / "promtool").is_file():
            debian.unpack("prometheus", SUITE, Path(folder))
            shutil.rmtree(programs, ignore_errors=True)
            (Path(folder) / "tree" / "usr" / "bin").rename(programs)
        return programs


class Prometheus:
    """One that scrapes ``targets`` each second, by the example's own configuration and rules."""

    def __init__(self, lab: Cluster, targets: list[str]):
        self._lab = lab
        config = yaml.safe_load((ROOT / "etc" / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        (job,) = config["scrape_configs"]
        job["scrape_timeout"] = "1s"
        job["static_configs"] = [{"targets": targets}]
        lab.run("mkdir", "-p", FOLDER)
        for program in ("prometheus", "promtool"):
            self._put(program, (fetch() / program).read_bytes())
        lab.run("chmod", "755", f"{FOLDER}/prometheus", f"{FOLDER}/promtool")
        for each in (ROOT / "etc" / "prometheus").iterdir():
            self._put(each.name, each.read_bytes())
        self._put("lab.yml", yaml.safe_dump(config).encode())

    def _put(self, name: str, data: bytes) -> None:
        subprocess.run(self._lab.argv("sh", "-c", f"cat >{FOLDER}/{name}"), input=data, check=True)

    def promtool(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess:
        """Run promtool; returns it with what it said."""
        return self._lab.run(f"{FOLDER}/promtool", *words, stdin=stdin, check=False)

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"--config.file=lab.yml --storage.tsdb.path=data --web.listen-address={ADDRESS}"
        self._lab.run(
            "sh", "-c", f"cd {FOLDER} && setsid ./prometheus {options} </dev/null >log 2>&1 & echo $! >{FOLDER}/pid"
        )
        until("prometheus", lambda: not self._query("vector(1)").returncode)

    def stop(self) -> None:
        """End it and remove all that it left."""
        self._lab.run("sh", "-c", f"kill -9 $(cat {FOLDER}/pid)", check=False)
        self._lab.run("rm", "-rf", FOLDER, check=False)

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Return what a query gives now: labels and value of each series."""
        done = self._query(query)
        assert done.returncode == 0, f"{query}: {done.stdout}{done.stderr}"
        return [(each["metric"], float(each["value"][1])) for each in json.loads(done.stdout) or ()]

    def _query(self, query: str) -> subprocess.CompletedProcess:
        return self.promtool("query", "instant", "-o", "json", f"http://{ADDRESS}", query)

    def value(self, query: str) -> float | None:
        """Return what a query of one series at most gives now."""
        found = self.ask(query)
        assert len(found) <= 1, f"{query}: {found}"
        return found[0][1] if found else None
