"""Who sent a credential, as munge's library says."""

from pathlib import Path

import pytest

from slurm_gpushare.accounting.identity import Identity, IdentityError, identify
from tests.unit.test_munge import build


def test_munge_says_who(tmp_path: Path) -> None:
    library = build(tmp_path)
    assert identify("MUNGE:1001:abc:", library) == Identity(1001, b"abc")


@pytest.mark.parametrize("credential", ["MUNGE:1001:abc", "", "MUNGE:17:abc:", "\udcff", "ü", "a\0b"])
def test_all_else_is_nobody(tmp_path: Path, credential: str) -> None:
    with pytest.raises(IdentityError):
        identify(credential, build(tmp_path))


def test_no_munge_is_nobody(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="is munge installed"):
        identify("c", str(tmp_path / "none.so"))
