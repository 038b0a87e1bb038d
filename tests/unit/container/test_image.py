import pytest

from slurm_gpushare.container.image import resolve_image
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
    assert resolve_image(f"{site}/images/{name}", (f"{site}/images",)) == f"{site}/images/{real}"


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


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("docker://registry.example.org/group/tool:1", True),
        ("docker://registry.example.org/group", True),
        ("docker://registry.example.org/groups/tool", False),
        ("docker://registry.example.org/group/../x", False),
        ("oras://registry.example.org/group/tool", False),
    ],
)
def test_sources_below_those_of_the_policy(source: str, allowed: bool) -> None:
    prefixes = ("/data", "docker://registry.example.org/group")
    if allowed:
        assert resolve_image(source, prefixes) == source
    else:
        with pytest.raises(RefusedError):
            resolve_image(source, prefixes)
    with pytest.raises(RefusedError):
        resolve_image(source, ("/data",))
