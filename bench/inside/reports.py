"""In the lab, as root: reports of a `gpushare serve` of its own over stores that load_year.py has filled; and Slurm's.

Arguments as JSON: folder (of databases.py, and of the SQLite file), stores, end, days (of the year that was loaded),
runs (of each command), user (who asks for what concerns one user).
Prints JSON: {"first": {store: seconds}, "reports": {store: {name: [seconds, ...]}}, "peers": {name: [seconds, ...]}}.
Each report is the command as people type it, from its start to its end; the first comes while roll-ups are still made.
"""

import json
import pwd
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

GPUSHARE = "/opt/gpushare/bin/gpushare"
START = 60.0  # seconds for the service to come up
LINES = 8  # of an answer at least: one without rows has fewer
READY = 3600.0  # seconds for its first report


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"reports: {text}", file=sys.stderr, flush=True)


@contextmanager
def serving(store: str) -> Iterator[str]:
    """Run the service over ``store``; yield its address once it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [GPUSHARE, "serve", "--listen", f"127.0.0.1:{port}", "--database", store]
    service = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + START
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if service.poll() is not None or time.monotonic() > end:
                    sys.exit("gpushare serve does not listen")
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        service.terminate()
        service.wait()


def command(argv: list[str], user: str = "root") -> float:
    """Return how many seconds a command took; raises RuntimeError where it fails, warns, or has little to tell."""
    identity = pwd.getpwnam(user)
    who = {"user": identity.pw_uid, "group": identity.pw_gid}
    began = time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **who)
    taken = time.monotonic() - began
    if done.returncode or "warning" in done.stderr or len(done.stdout.splitlines()) < LINES:
        raise RuntimeError(f"{' '.join(argv)}: status {done.returncode}: {done.stderr or done.stdout}")
    return taken


def first(argv: list[str]) -> float:
    """Return how long it took until the service had a first answer."""
    began = time.monotonic()
    while True:
        try:
            command(argv)
            return time.monotonic() - began
        except RuntimeError as error:
            if time.monotonic() - began > READY:
                raise
            say(str(error))
            time.sleep(1)


def main(arguments: dict) -> dict:
    """Run it."""
    sys.path.insert(0, arguments["folder"])
    from databases import as_on_a_site, url

    last, user, runs = datetime.fromtimestamp(arguments["end"]), arguments["user"], arguments["runs"]
    year, today = (f"{day:%Y-%m-%d}" for day in (last - timedelta(days=arguments["days"]), last))
    after = last.replace(day=1)
    month, after = (f"{day:%Y-%m-%d}" for day in ((after - timedelta(days=1)).replace(day=1), after))
    sums = ["usage", "--by", "account"]
    asked = {
        "usage, a month": ([*sums, "-S", month, "-E", after], "root"),
        "usage, this month": (sums, "root"),
        "usage, a year": ([*sums, "-S", year], "root"),
        "efficiency of a user": (["efficiency"], user),
        "efficiency of a user, a year": (["efficiency", "-S", year], user),
        "advice for a user": (["advice"], user),
        "advice for a user, a year": (["advice", "-S", year], user),
    }
    found: dict = {"first": {}, "reports": {}}
    with as_on_a_site():
        for store in arguments["stores"]:
            taken: dict[str, list[float]] = {name: [] for name in asked}
            with serving(url(store, arguments["folder"])) as service:
                found["first"][store] = first([GPUSHARE, "report", *sums, "-S", year, "--service", service])
                say(f"{store}: first report after {found['first'][store]:.1f} s")
                for _ in range(runs):
                    for name, (words, who) in asked.items():
                        taken[name].append(command([GPUSHARE, "report", *words, "--service", service], who))
            found["reports"][store] = taken
            say(f"{store}: {taken}")
        sreport = ["sreport", "-t", "Hours", "-T", "gres/gpu,gres/shard", "cluster", "AccountUtilizationByUser"]
        sacct = ["sacct", "-X", "-D", "--format=JobID,Account,State,ElapsedRaw,AllocTRES"]
        peers = {
            "sreport, a month": ([*sreport, f"start={month}", f"end={after}"], "root"),
            "sreport, a year": ([*sreport, f"start={year}", f"end={today}"], "root"),
            "sacct of a user, 30 days": ([*sacct, "-S", "now-30days"], user),
            "sacct of a user, a year": ([*sacct, "-S", year], user),
            "sacct of all, a month": ([*sacct, "-a", "-S", month, "-E", after], "root"),
        }
        found["peers"] = {name: [command(argv, who) for _ in range(runs)] for name, (argv, who) in peers.items()}
        say(f"Slurm: {found['peers']}")
    return found


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
