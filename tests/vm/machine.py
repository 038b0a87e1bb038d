"""A virtual machine with a kernel of its own, in which commands are run through QEMU's guest agent.

The processor is emulated, since no test may depend on KVM.
"""

import base64
import itertools
import json
import signal
import socket
import subprocess
import time
from pathlib import Path

from slurm_gpushare.lab import kernel as process_control
from tests.lab.cluster import Cluster
from tests.vm import tools

BOOT_SECONDS = 240.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POLL = 0.1


class NoAnswer(Exception):
    """The guest agent did not answer: the machine is off, or on its way up or down."""


class Machine(Cluster):
    """One machine: the interface of a lab, its commands run in the machine."""

    def __init__(self, work: Path, kernel: Path, ram_disk: Path, disk: Path, *more: Path):
        """Start it from a copy of ``disk``, with ``more`` disks of which it has copies, too; ``work`` is its folder."""
        super().__init__("machine")
        self.work = work
        self._ids = itertools.count(1)
        overlay = work / "system.qcow2"
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(disk), str(overlay)]
        subprocess.run(tools.inside(create, work, [disk]), check=True, capture_output=True)
        argv = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-user-config"]
        argv += ["-machine", "q35", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "3072"]
        argv += ["-kernel", str(kernel), "-initrd", str(ram_disk)]
        argv += ["-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=no panic=-1"]
        argv += ["-serial", f"file:{work}/console.log", "-device", "virtio-rng-pci"]
        argv += ["-drive", f"file={overlay},if=virtio,format=qcow2,cache=unsafe"]
        for path in more:
            argv += ["-drive", f"file={path},if=virtio,format=raw,snapshot=on"]
        argv += ["-nic", "user,restrict=on,model=virtio-net-pci"]
        argv += ["-qmp", f"unix:{work}/monitor,server=on,wait=off", "-device", "virtio-serial"]
        argv += ["-chardev", f"socket,id=agent,path={work}/agent,server=on,wait=off"]
        argv += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
        with open(work / "qemu.log", "wb") as log:
            self._process = subprocess.Popen(
                tools.inside(argv, work, [kernel, ram_disk, disk, *more]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: process_control.die_with_parent(signal.SIGKILL),
            )
        self._agent = self._connect("agent")
        self._monitor = self._connect("monitor")
        self._monitor_stream = self._monitor.makefile("rb")
        self._monitor_stream.readline()
        self._control("qmp_capabilities")
        self._wait_booted(None)

    def _connect(self, name: str) -> socket.socket:
        end = time.monotonic() + 20
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.work / name))
                return connection
            except OSError:
                connection.close()
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"qemu: {(self.work / 'qemu.log').read_text()}") from None
                time.sleep(POLL)

    def _control(self, command: str) -> dict:
        """Tell QEMU itself; https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html."""
        self._monitor.sendall(json.dumps({"execute": command}).encode() + b"\n")
        while True:
            answer = json.loads(self._monitor_stream.readline())
            if "event" not in answer:
                return answer["return"]

    def _ask(self, command: str, arguments: dict | None = None, timeout: float = 60) -> dict:
        """Ask the guest agent; https://www.qemu.org/docs/master/interop/qemu-ga-ref.html."""
        self._agent.sendall(json.dumps({"execute": command, "arguments": arguments or {}}).encode() + b"\n")
        answer = self._read_line(timeout)
        if "error" in answer:
            raise RuntimeError(f"guest agent, {command}: {answer['error']}")
        return answer["return"]

    def _read_line(self, timeout: float) -> dict:
        self._agent.settimeout(timeout)
        line = b""
        try:
            while not line.endswith(b"\n"):
                part = self._agent.recv(1 << 16)
                if not part:
                    raise NoAnswer
                line += part
        except TimeoutError:
            raise NoAnswer from None
        return json.loads(line.rpartition(b"\xff")[2])

    def _synchronize(self, timeout: float) -> None:
        """Bring both ends to the same place, whatever was left unread in between; raises NoAnswer."""
        number = next(self._ids)
        # 0xFF makes the agent forget what it had read of a line before.
        text = json.dumps({"execute": "guest-sync-delimited", "arguments": {"id": number}})
        self._agent.sendall(b"\xff" + text.encode() + b"\n")
        while True:
            if self._read_line(timeout).get("return") == number:
                return

    def _wait_booted(self, before: str | None) -> None:
        """Wait until it runs and all units have been started; ``before`` is the boot that it must not be any more."""
        end = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < end:
            try:
                self._synchronize(2)
                if self.boot() != before:
                    break
            except (NoAnswer, ValueError):
                pass
            time.sleep(POLL)
        else:
            raise RuntimeError(f"the machine did not boot:\n{(self.work / 'console.log').read_text()[-3000:]}")
        self.run("systemctl", "is-system-running", "--wait", check=False, timeout=BOOT_SECONDS)

    def boot(self) -> str:
        """Return the id of this boot."""
        return self.out("cat", "/proc/sys/kernel/random/boot_id", timeout=5)

    def reboot(self) -> None:
        """Reboot as an administrator would."""
        before = self.boot()
        self.run("systemctl", "reboot", "--no-block")
        self._wait_booted(before)

    def power_cut(self) -> None:
        """Cut the power without a word to any program, and switch it on again."""
        before = self.boot()
        self._control("system_reset")
        self._wait_booted(before)

    def stop(self) -> None:
        """Switch it off for good."""
        self._process.kill()
        self._process.wait()

    def run(
        self,
        *command: str,
        user: str = "root",
        node: str | None = None,
        check: bool = True,
        stdin: str | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess:
        """Run one command in the machine and return it with its text; ``node`` is this one, whatever its name."""
        home = "/root" if user == "root" else f"/home/{user}"
        become = [] if user == "root" else ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
        asked = {
            "path": "/usr/bin/env",
            "arg": ["-C", home, *become, *command],
            "env": [f"PATH={PATH}", f"HOME={home}", f"USER={user}", f"LOGNAME={user}", "LANG=C.UTF-8"],
            "capture-output": True,
        }
        if stdin is not None:
            asked["input-data"] = base64.b64encode(stdin.encode()).decode()
        pid = self._ask("guest-exec", asked)["pid"]
        end = time.monotonic() + timeout
        while not (done := self._ask("guest-exec-status", {"pid": pid}))["exited"]:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(command, timeout)
            time.sleep(POLL)
        status = done["exitcode"] if "exitcode" in done else -done.get("signal", 1)
        texts = [base64.b64decode(done.get(key, "")).decode(errors="replace") for key in ("out-data", "err-data")]
        if check and status:
            raise AssertionError(f"{' '.join(command)}: status {status}\n{texts[0]}\n{texts[1]}")
        return subprocess.CompletedProcess(list(command), status, *texts)

    def put(self, path: str, text: str, mode: str = "0644", owner: str = "root") -> None:
        """Write a file of the machine."""
        self.run("sh", "-ec", f'umask 077; cat >"{path}"; chown {owner}: "{path}"; chmod {mode} "{path}"', stdin=text)

    def journal(self, unit: str) -> str:
        """Return what a unit has written since this boot."""
        return self.out("journalctl", "--boot", "--no-pager", "--output=cat", "--unit", unit)
