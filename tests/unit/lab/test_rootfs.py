"""The cache of root file systems: what is kept, what is removed, what is never used."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_gpushare.lab import rootfs
from slurm_gpushare.lab.progress import Progress, StepFailed
from slurm_gpushare.lab.recipe import Recipe, read_recipe

SOURCE = Path(__file__).parents[3]
RECIPE = Recipe("root file system", "apt", "s", None, ("p",), "", "setup", ())


@pytest.fixture
def built(monkeypatch) -> list[str]:
    """Replace the two doors to the outside; every build leaves one file."""
    calls = []

    def bootstrap(recipe, root, log, what) -> None:
        calls.append(what)
        root.mkdir()
        (root / "file").write_text("x")

    monkeypatch.setattr(rootfs, "_bootstrap", bootstrap)
    monkeypatch.setattr(rootfs, "_inside", lambda *args, **kwargs: None)
    return calls


def test_a_recipe_is_built_once(tmp_path, built) -> None:
    first = rootfs.ensure(tmp_path / "cache", RECIPE, Progress(lambda line: None))
    assert (first / "file").read_text() == "x"
    assert rootfs.ensure(tmp_path / "cache", RECIPE, Progress(lambda line: None)) == first
    assert len(built) == 1
    assert (first.parent.stat().st_mode & 0o777) == 0o700


def test_a_changed_recipe_replaces_the_old_one_unless_a_lab_holds_it(tmp_path, built) -> None:
    quiet = Progress(lambda line: None)
    old = rootfs.ensure(tmp_path, RECIPE, quiet)
    held = rootfs.hold(old)
    second = Recipe("root file system", "apt", "s", None, ("p", "q"), "", "setup", ())
    image = Recipe("base image", "apt", "s", None, ("p",), "", "setup", ())
    rootfs.ensure(tmp_path, second, quiet)
    rootfs.ensure(tmp_path, image, quiet)
    assert old.is_dir()
    rootfs.os.close(held)
    third = rootfs.ensure(tmp_path, Recipe("root file system", "apt", "s", None, (), "", "setup", ()), quiet)
    names = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert names == sorted([third.parent.name, rootfs.rootfs_path(tmp_path, image).parent.name])


def test_both_versions_of_slurm_lie_side_by_side(tmp_path, built) -> None:
    quiet = Progress(lambda line: None)
    old = rootfs.ensure(tmp_path, read_recipe(SOURCE, "24.11"), quiet)
    new = rootfs.ensure(tmp_path, read_recipe(SOURCE, "26.05"), quiet)
    again = replace(read_recipe(SOURCE, "24.11"), setup="other")
    changed = rootfs.ensure(tmp_path, again, quiet)
    assert not old.exists() and new.is_dir() and changed.is_dir()
    rootfs.ensure(tmp_path, replace(read_recipe(SOURCE, "26.05"), setup="other"), quiet)
    assert not new.exists() and changed.is_dir()
    rootfs.remove_all(tmp_path)
    assert not tmp_path.exists()


def test_a_half_built_one_is_never_used(tmp_path, monkeypatch, built) -> None:
    def fails(recipe, root, log, what) -> None:
        root.mkdir()
        raise StepFailed(what, "no network", None)

    good = rootfs._bootstrap
    monkeypatch.setattr(rootfs, "_bootstrap", fails)
    with pytest.raises(StepFailed, match="root file system: Debian packages: no network"):
        rootfs.ensure(tmp_path, RECIPE, Progress(lambda line: None))
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    (tmp_path / ".building-killed" / "root").mkdir(parents=True)
    monkeypatch.setattr(rootfs, "_bootstrap", good)
    rootfs.ensure(tmp_path, RECIPE, Progress(lambda line: None))
    assert not (tmp_path / ".building-killed").exists()


def test_clean_removes_what_is_ours_alone(tmp_path, built) -> None:
    cache = tmp_path / "cache"
    rootfs.ensure(cache, RECIPE, Progress(lambda line: None))
    rootfs.ensure(cache, replace(RECIPE, what="test tools"), Progress(lambda line: None))
    (cache / "somebody's file").write_text("x")
    (cache / "test-data").mkdir()
    rootfs.remove_all(cache)
    assert {path.name for path in cache.iterdir()} == {"somebody's file", "test-data"}
    (cache / "test-data").rmdir()
    (cache / "somebody's file").unlink()
    rootfs.remove_all(cache)
    assert not cache.exists()
    rootfs.remove_all(cache)


def test_mount_points_of_a_build_are_known_by_their_first_missing_part(tmp_path) -> None:
    (tmp_path / "etc").mkdir()
    assert rootfs._first_missing(tmp_path, "/etc/ssl/certs") == tmp_path / "etc/ssl"
    assert rootfs._first_missing(tmp_path, "/etc") is None


def test_one_file_of_a_package_is_taken_and_its_absence_borne(tmp_path: Path) -> None:
    """The hook's own lines, with an apt-get that has the package, and one that has not."""
    root, tools, package = (tmp_path / name for name in ("root", "tools", "package"))
    for path in (root, tools, package / "DEBIAN", package / "usr/lib/x"):
        path.mkdir(parents=True)
    (package / "usr/lib/x/wanted.so").write_text("wanted")
    (package / "usr/lib/x/other.so").write_text("other")
    (package / "DEBIAN/control").write_text(
        "Package: some\nVersion: 1\nArchitecture: all\nMaintainer: none\nDescription: none\n"
    )
    built = tmp_path / "some.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", package, built], check=True, capture_output=True)
    hook = ["sh", "-c", rootfs.take_file("some", "wanted.so"), "hook", str(root)]
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "MMDEBSTRAP_APT_CONFIG": "none", "TMPDIR": str(tmp_path)}
    (tools / "apt-get").write_text("#!/bin/sh\nexit 100\n")
    (tools / "apt-get").chmod(0o755)
    without = subprocess.run(hook, env=environment, check=True, capture_output=True, text=True)
    assert "some cannot be had" in without.stdout and not list(root.rglob("*.so"))
    (tools / "apt-get").write_text(f"#!/bin/sh\ncp {built} .\n")
    subprocess.run(hook, env=environment, check=True, capture_output=True)
    assert [path.relative_to(root).as_posix() for path in root.rglob("*.so")] == ["usr/lib/x/wanted.so"]


def test_wheels_lie_beside_their_root_and_are_built_once(tmp_path, built, monkeypatch) -> None:
    quiet = Progress(lambda line: None)
    asked = []

    def inside(root, argv, log, what, *, binds, environment, before=()) -> None:
        if before:
            asked.append(argv[-1])
            (root.parent / "upper/wheels" / "a.whl").write_text("x")

    monkeypatch.setattr(rootfs, "_inside", inside)
    root = rootfs.ensure(tmp_path, RECIPE, quiet)
    first = rootfs.ensure_wheels(tmp_path, RECIPE, ("a>=1",), quiet)
    assert [path.name for path in first.iterdir()] == ["a.whl"]
    assert first.parent == root.parent
    assert rootfs.ensure_wheels(tmp_path, RECIPE, ("a>=1",), quiet) == first
    assert rootfs.ensure_wheels(tmp_path, RECIPE, ("a>=2",), quiet) != first
    assert asked == ["a>=1", "a>=2"]
    assert not list(tmp_path.glob(rootfs.BUILDING + "*"))
