"""systemctl VERB [--now] UNIT…: what it does is done by this process and by those that it leaves behind.

Each host of the lab has units of its own: their pids lie in /run/systemd-standin/HOST, their output in /var/log/lab.
"""

import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from slurm_gpushare.lab.standins.systemd import SYSTEMCTL
from slurm_gpushare.lab.standins.systemd.unit import Refused, Unit, parse

UNITS = ("/etc/systemd/system", "/usr/lib/systemd/system")
RUN = Path("/run/systemd-standin", socket.gethostname())
LOG = "/var/log/lab/{name}-{host}.log"
REAL = (SYSTEMCTL, "--root=/", "--quiet")
STOP_SECONDS = 10.0


def load(name: str) -> Unit:
    """Return the unit called ``name``; raises Refused where there is none."""
    for folder in UNITS:
        path = Path(folder, name)
        if path.is_file():
            drop_ins = sorted(Path("/etc/systemd/system", name + ".d").glob("*.conf"))
            return parse([each.read_text() for each in (path, *drop_ins)])
    raise Refused(f"Unit {name} could not be found.")


def pid_of(name: str) -> int | None:
    """Return the pid of a unit that runs on this host."""
    try:
        pid, start = (RUN / name).read_text().split()
        return int(pid) if start == started(int(pid)) else None
    except (FileNotFoundError, ValueError):
        return None


def started(pid: int) -> str | None:
    """Return when ``pid`` started, None where it is over."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def make_folders(unit: Unit) -> None:
    """Make the folders that a service is promised."""
    account = pwd.getpwnam(unit.get("User", "root"))
    for setting, base, mode in (
        ("RuntimeDirectory", "/run", "0755"),
        ("StateDirectory", "/var/lib", unit.get("StateDirectoryMode", "0755")),
    ):
        if name := unit.get(setting):
            folder = Path(base, name)
            folder.mkdir(exist_ok=True)
            os.chown(folder, account.pw_uid, account.pw_gid)
            os.chmod(folder, int(mode, 8))


def command(unit: Unit, log) -> subprocess.Popen:
    """Start a service's command as its user."""
    make_folders(unit)
    user = unit.get("User") or None
    return subprocess.Popen(
        unit.argv,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        user=user,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
        umask=int(unit.get("UMask", "0022"), 8),
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"},
        start_new_session=True,
    )


def start(name: str) -> int:
    """Start a unit that does not run; returns its status, 0 for what goes on."""
    unit = load(name)
    if pid_of(name):
        return 0
    condition = unit.get("ConditionPathExists")
    if condition and not os.path.exists(condition):
        return 0
    with open(LOG.format(name=name, host=socket.gethostname()), "ab") as log:
        if name.endswith(".timer"):
            pid = leave_behind(lambda: repeat(name.replace(".timer", ".service"), unit.period), log)
        elif unit.oneshot:
            return command(unit, log).wait()
        else:
            pid = command(unit, log).pid
    RUN.mkdir(parents=True, exist_ok=True)
    (RUN / name).write_text(f"{pid} {started(pid)}")
    return 0


def leave_behind(act: Callable[[], None], log) -> int:
    """Do ``act`` in a process of its own, whose pid this returns."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, null), (1, log.fileno()), (2, log.fileno())):
            os.dup2(source, target)
        try:
            act()
        finally:
            os._exit(1)
    return pid


def repeat(service: str, period: float) -> None:
    """Run the service of a timer again and again."""
    while True:
        time.sleep(period)
        start(service)


def stop(name: str) -> int:
    """Stop a unit; one that does not run is stopped."""
    load(name)
    pid = pid_of(name)
    if pid:
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS
        while pid_of(name) and time.monotonic() < end:
            time.sleep(0.02)
        if pid_of(name):
            os.kill(pid, signal.SIGKILL)
    (RUN / name).unlink(missing_ok=True)
    return 0


def restart(name: str) -> int:
    """Stop, then start."""
    return stop(name) or start(name)


def try_restart(name: str) -> int:
    """Start a unit again where it runs; what does not run, or does not exist, is left alone."""
    return restart(name) if pid_of(name) else 0


def is_active(name: str) -> int:
    """Say whether a unit runs."""
    active = pid_of(name) is not None
    print("active" if active else "inactive")
    return 0 if active else 3


VERBS = {"start": start, "stop": stop, "restart": restart, "try-restart": try_restart, "is-active": is_active}


def main(words: list[str]) -> int:
    """Do what systemctl was asked for; returns its exit status."""
    now = "--now" in words
    verb, *names = [word for word in words if word not in ("--now", "--quiet")] or [""]
    if verb == "daemon-reload" and not names:
        return 0
    names = [name if "." in name else name + ".service" for name in names]
    if verb in ("enable", "disable") and names:
        done = subprocess.run([*REAL, verb, *names], stdin=subprocess.DEVNULL)
        act = start if verb == "enable" else stop
        return done.returncode or (max(act(name) for name in names) if now else 0)
    if verb not in VERBS or not names or now:
        raise Refused(f"'{' '.join(words)}' is not known here")
    return max(VERBS[verb](name) for name in names)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Refused as error:
        sys.exit(f"systemctl (stand-in): {error}")
