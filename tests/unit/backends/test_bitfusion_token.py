"""Who may use the pool's client is known before anybody waits for it."""

import os
import tempfile
from pathlib import Path

import pytest

from slurm_gpushare.backends.bitfusion_token import refusal


@pytest.fixture
def as_user():
    """Be nobody in particular: root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    # access() goes by the real user.
    os.setresuid(65534, 65534, 0)
    yield
    os.setresuid(0, 0, 0)


@pytest.fixture
def folder():
    """A folder that everybody may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.parametrize(
    "site, own, refused",
    [
        (0o644, None, False),
        (0o600, None, True),
        (0o600, 0o644, False),
        (0o600, 0o600, True),
        (None, None, False),
        (None, 0o600, False),
    ],
)
def test_a_user_without_a_token_is_told_at_once(folder, site, own, refused, request):
    home = folder / "home"
    (home / ".bitfusion").mkdir(parents=True)
    for path, mode in ((folder / "site.yaml", site), (home / ".bitfusion/client.yaml", own)):
        if mode is not None:
            path.write_text("token: x\n")
            path.chmod(mode)
    request.getfixturevalue("as_user")
    reason = refusal(str(home), str(folder / "site.yaml"))
    assert (reason is not None) is refused
    assert reason is None or str(folder / "site.yaml") in reason
