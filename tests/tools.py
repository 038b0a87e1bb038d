"""Programs of Debian that tests need beside the lab's: database servers and a browser.

They are in a root file system of their own, built once, kept in the lab's cache and never written to; the host gets
none of them.
"""

from pathlib import Path

from slurm_gpushare.lab import host, rootfs
from slurm_gpushare.lab.progress import Progress
from slurm_gpushare.lab.recipe import SUITE, Recipe

PACKAGES = ("mariadb-server", "postgresql", "chromium", "chromium-sandbox", "fonts-dejavu-core")
SETUP = """\
set -e
rm -rf /var/cache/apt /var/lib/apt/lists /var/lib/mysql /var/lib/postgresql
rm -f /etc/resolv.conf /etc/hostname
: > /etc/resolv.conf
rm -rf /usr/share/doc /usr/share/info
"""
TOOLS = Recipe("test tools", "apt", SUITE, None, PACKAGES, "", SETUP, ())


def tools_root() -> Path:
    """Return the root file system of the tools; built when it is not there, which takes a minute or two."""
    return rootfs.ensure(host.cache_dir(), TOOLS, Progress(lambda text: None))


def inside(argv: list[str], work: Path, *, user: str = "nobody") -> list[str]:
    """Return the argv that runs ``argv`` in the tools' root file system, on the host's network, while its caller lives.

    ``work``, below /tmp, is the one folder that it can write, and has the same path in there; what ``user`` of that
    file system makes in it is the caller's outside.
    """
    root = tools_root()
    uid, gid = _ids(root, user)
    bwrap = ["bwrap", "--die-with-parent", "--unshare-user", "--unshare-pid", "--uid", uid, "--gid", gid]
    bwrap += ["--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev"]
    bwrap += ["--tmpfs", "/tmp", "--tmpfs", "/run", "--tmpfs", "/var/tmp", "--bind", str(work), str(work)]
    bwrap += ["--clearenv", "--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin", "--setenv", "HOME", str(work)]
    return [*bwrap, "--setenv", "LANG", "C.UTF-8", "--chdir", str(work), "--", *argv]


def _ids(root: Path, user: str) -> tuple[str, str]:
    lines = (line.split(":") for line in (root / "etc/passwd").read_text().splitlines())
    return next((fields[2], fields[3]) for fields in lines if fields[0] == user)


if __name__ == "__main__":
    rootfs.ensure(host.cache_dir(), TOOLS, Progress(print))
