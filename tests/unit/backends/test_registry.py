import pytest

from slurm_gpushare import backends
from slurm_gpushare.errors import BrokenInstallation

KINDS = {"memory", "compute", "faults"}
WORDS = {"enforced", "advisory", "none"}


@pytest.mark.parametrize("name", backends.NAMES)
def test_every_backend_has_the_same_names(name):
    module = backends.find(name)
    for function in ("agrees", "begin", "finish", "task_argv", "task_environment", "binds", "prepare", "epilog"):
        assert callable(getattr(module, function)), function
    assert isinstance(module.REMOTE, bool) and isinstance(module.SAMPLED, bool)
    assert module.SEES in ("card", "share")


@pytest.mark.parametrize("name", backends.NAMES)
def test_every_backend_says_what_holds_a_job_to_its_share(name):
    module = backends.find(name)
    assert module.ENFORCES in module.MODES.values()
    for words, enforces in module.MODES.items():
        assert set(enforces) == KINDS and set(enforces.values()) <= WORDS, words
        # A condition is there to be better, so the least of all stands alone.
        assert all(
            ["none", "advisory", "enforced"].index(enforces[kind])
            >= ["none", "advisory", "enforced"].index(module.ENFORCES[kind])
            for kind in KINDS
        ), words


@pytest.mark.parametrize("name", ["", "nosuch", "os", "../gpu", "gpu.x", "__init__"])
def test_an_unknown_backend_is_refused_by_name(name):
    with pytest.raises(BrokenInstallation, match="bitfusion") as caught:
        backends.find(name)
    assert repr(name) in str(caught.value)
    assert caught.value.exit_status == 78
