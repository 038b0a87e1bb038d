import os

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
def test_a_user_without_a_token_is_told_at_once(tmp_path, site, own, refused, request):
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    home = tmp_path / "home"
    (home / ".bitfusion").mkdir(parents=True)
    for path, mode in ((tmp_path / "site.yaml", site), (home / ".bitfusion/client.yaml", own)):
        if mode is not None:
            path.write_text("token: x\n")
            path.chmod(mode)
    request.getfixturevalue("as_user")
    reason = refusal(str(home), str(tmp_path / "site.yaml"))
    assert (reason is not None) is refused
    assert reason is None or str(tmp_path / "site.yaml") in reason
