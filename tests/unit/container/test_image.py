import os
import pwd

import pytest

from slurm_gpushare.container import mounts
from slurm_gpushare.container.image import identity, resolve_image
from slurm_gpushare.errors import RefusedError


@pytest.fixture
def site(tmp_path):
    (tmp_path / "images/box").mkdir(parents=True)
    (tmp_path / "images/a.sif").write_bytes(b"SIF")
    (tmp_path / "images2").mkdir()
    (tmp_path / "images2/b.sif").write_bytes(b"SIF")
    (tmp_path / "images/out.sif").symlink_to(tmp_path / "images2/b.sif")
    (tmp_path / "images/in.sif").symlink_to("a.sif")
    return tmp_path


@pytest.mark.parametrize(
    "name, real", [("a.sif", "a.sif"), ("box", "box"), ("in.sif", "a.sif"), ("box/../a.sif", "a.sif")]
)
def test_an_allowed_image_by_its_real_path(site, name, real):
    path, found = resolve_image(f"{site}/images/{name}", (f"{site}/images",))
    assert path == found.path == f"{site}/images/{real}"
    assert found.inode == os.stat(path).st_ino


@pytest.mark.parametrize("name", ["images2/b.sif", "images/out.sif", "images/../images2/b.sif"])
def test_an_image_from_elsewhere_is_refused(site, name):
    with pytest.raises(RefusedError, match="images may lie in"):
        resolve_image(f"{site}/{name}", (f"{site}/images",))


@pytest.mark.parametrize("text", ["docker://alpine", "library://x/y", "instance://x", "a.sif", "~/a.sif", "-C"])
def test_only_a_path_is_an_image(text):
    with pytest.raises(RefusedError, match="absolute path"):
        resolve_image(text, ("/",))


def test_a_missing_image_is_named(site):
    with pytest.raises(RefusedError, match=r"nosuch.sif': No such file"):
        resolve_image(f"{site}/images/nosuch.sif", (f"{site}/images",))


def test_a_device_is_no_image():
    with pytest.raises(RefusedError, match="neither a SIF file nor"):
        resolve_image("/dev/null", ("/dev",))


@pytest.mark.parametrize("name", ["a,b.sif", "a:b.sif", " a b ", "a\"b'.sif", "a\nb.sif", "$(id).sif", "-a.sif"])
def test_any_name_of_a_file_may_be_an_images(site, name):
    (site / "images" / name).write_bytes(b"SIF")
    assert resolve_image(f"{site}/images/{name}", (f"{site}/images",))[0] == f"{site}/images/{name}"


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("docker://registry.example.org/group/tool:1", True),
        ("docker://registry.example.org/group", True),
        ("docker://registry.example.org/groups/tool", False),
        ("docker://registry.example.org/group/../x", False),
        ("docker://registry.example.org/group/x y", False),
        ("docker://registry.example.org/group/x\n", False),
        ("docker://evil.example.org/registry.example.org/group", False),
        ("docker-daemon://registry.example.org/group/tool", False),
        ("oras://registry.example.org/group/tool", False),
        ("oras://registry.example.org/sifs/tool@sha256:0", True),
        ("docker://registry.example.org/tools/blast:2.1", True),
        ("docker://registry.example.org/tools/blast-other:2.1", False),
        ("docker://registry.example.org/tools/x/blast:2.1", False),
    ],
)
def test_sources_below_those_of_the_policy(source: str, allowed: bool) -> None:
    tools = "docker://registry.example.org/tools/blast:*"
    prefixes = ("/data", "docker://registry.example.org/group", "oras://registry.example.org/sifs", tools)
    if allowed:
        assert resolve_image(source, prefixes) == (source, None)
    else:
        with pytest.raises(RefusedError):
            resolve_image(source, prefixes)
    with pytest.raises(RefusedError):
        resolve_image(source, ("/data",))


def test_an_image_that_was_written_anew_is_another(site):
    path = site / "images/a.sif"
    before = identity(mounts.open_source(str(path), "x"), "/a")
    assert before == identity(mounts.open_source(str(path), "x"), "/a") and before["asked"] == "/a"
    os.utime(path, ns=(0, before["mtime"] + 1))
    assert identity(mounts.open_source(str(path), "x"), "/a") != before
    os.utime(path, ns=(0, before["mtime"]))
    (site / "images/new").write_bytes(b"SIF")
    os.utime(site / "images/new", ns=(0, before["mtime"]))
    os.replace(site / "images/new", path)
    assert identity(mounts.open_source(str(path), "x"), "/a") != before


def test_a_folder_in_which_mounts_left_traces_is_the_same_image(site):
    before = identity(mounts.open_source(f"{site}/images/box", "x"), "/a")
    (site / "images/box/mnt").mkdir()
    assert identity(mounts.open_source(f"{site}/images/box", "x"), "/a") == before


@pytest.fixture
def owned(site):
    """The folders to which an image of root's may belong, and a way to give things to somebody else."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give files away")
    if any(path.stat().st_mode & 0o022 and not path.stat().st_mode & 0o1000 for path in site.parents):
        pytest.skip("others may change the folder for tests")
    return site


@pytest.mark.parametrize("owners", [("root",), ("self",), ("nosuchuser", "root")])
def test_an_image_of_an_owner_that_the_policy_names(owned, owners):
    for name in ("a.sif", "box"):
        assert resolve_image(f"{owned}/images/{name}", ("/",), owners)[0] == f"{owned}/images/{name}"


@pytest.mark.parametrize("owners", [("root",), ("self",), ("nosuchuser",), ()])
def test_an_image_of_somebody_elses_is_refused(owned, owners):
    os.chown(owned / "images/a.sif", 65534, 65534)
    name = pwd.getpwuid(65534).pw_name
    with pytest.raises(RefusedError, match=f"a.sif' belongs to {name}: images must belong to"):
        resolve_image(f"{owned}/images/a.sif", ("/",), owners)


@pytest.mark.parametrize("change", ["owner", "group", "others", "parent"])
def test_where_somebody_could_exchange_it_the_owner_proves_nothing(owned, change):
    folder = owned if change == "parent" else owned / "images"
    if change in ("owner", "parent"):
        os.chown(folder, 65534, 0)
    else:
        folder.chmod(0o775 if change == "group" else 0o757)
    with pytest.raises(RefusedError, match="which others than root may change"):
        resolve_image(f"{owned}/images/a.sif", ("/",), ("root",))
    if change == "others":
        folder.chmod(0o1777)
        assert resolve_image(f"{owned}/images/a.sif", ("/",), ("root",))
