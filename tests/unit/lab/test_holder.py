"""How the lab's init is started."""

import json
from pathlib import Path

from slurm_gpushare.lab import holder, state
from slurm_gpushare.lab.params import LabParams


def test_bubblewrap_ends_with_the_holder_and_hides_the_host() -> None:
    params = LabParams(name="x", nodes=3)
    argv = holder.bwrap_argv(Path("/r"), Path("/d"), Path("/l"), ["python3", "-m", "init"], 7, params)
    options = argv[: argv.index("--")]
    assert {"--die-with-parent", "--as-pid-1", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--clearenv"} < set(
        options
    )
    bound = [options[at + 1] for at, word in enumerate(options) if word.endswith("bind")]
    assert bound == ["/r", "/d", "/sys", "/l"]
    assert options[options.index("--info-fd") + 1] == "7"
    assert options[options.index("/l") + 1] == state.LOG_INSIDE
    command = argv[argv.index("--") + 1 :]
    assert command[:3] == ["python3", "-m", "init"]
    assert LabParams(**json.loads(command[3])) == params
