import pytest

from slurm_gpushare import backends
from slurm_gpushare.errors import BrokenInstallation


@pytest.mark.parametrize("name", backends.NAMES)
def test_every_backend_has_the_same_names(name):
    module = backends.find(name)
    for function in ("agrees", "task_argv", "task_environment", "binds", "prepare", "epilog"):
        assert callable(getattr(module, function)), function
    assert isinstance(module.REMOTE, bool) and isinstance(module.SAMPLED, bool)
    assert set(module.ENFORCES) == {"memory", "compute", "faults"}
    assert set(module.ENFORCES.values()) <= {"enforced", "advisory", "none"}


@pytest.mark.parametrize("name", ["", "nosuch", "os", "../gpu", "gpu.x", "__init__"])
def test_an_unknown_backend_is_refused_by_name(name):
    with pytest.raises(BrokenInstallation, match="bitfusion") as caught:
        backends.find(name)
    assert repr(name) in str(caught.value)
    assert caught.value.exit_status == 78
