"""Where images and mounts lead on the submitting host: told to the user when a job is let in, and never decided by."""

import pytest

from slurm_gpushare.policy.compile import to_lua
from slurm_gpushare.policy.load import parse_policy
from tests.lua.conftest import GROUPS, POOL, Answer, Controller, install

OPTION = "_SLURM_SPANK_OPTION_gpushare_container_"


def submit(controller: Controller, real: dict[str, str], image: str = "/data/images/a.sif", **fields: object) -> Answer:
    options = [f"{OPTION}image={image}", f"{OPTION}mounts=/data/x:/x,/scratch/y:/y:ro"]
    found = [f"GPUSHARE_REAL_{name}={path}" for name, path in real.items()]
    fields = {"partition": "shard", "user_name": "alice", **fields}
    return controller.submit(spank_job_env=[*options, *found], **fields)


@pytest.mark.parametrize(
    ("real", "said"),
    [
        ({"IMAGE": "/root/b.sif"}, ["--container-image=/data/images/a.sif leads to /root/b.sif on this host"]),
        ({"MOUNT_1": "/etc"}, ["--container-mounts=/data/x:/x leads to /etc on this host, which is not below /data"]),
        ({"MOUNT_2": "/scratch2"}, ["--container-mounts=/scratch/y:/y:ro leads to /scratch2 on this host"]),
        (
            {"MOUNT_2": "/etc", "IMAGE": "/data/x.sif"},
            ["--container-image=/data/images/a.sif", "--container-mounts=/scratch/y:/y:ro"],
        ),
    ],
)
def test_what_leads_outside_is_told_and_let_in(controller, real: dict[str, str], said: list[str]) -> None:
    answer = submit(controller, real)
    assert (answer.status, answer.logged, len(answer.told)) == (0, [], len(said))
    for line, begin in zip(answer.told, said, strict=True):
        assert line.startswith(f"gpushare: {begin}") and line.endswith("on the nodes, too, the job will fail")


@pytest.mark.parametrize(
    "real",
    [
        {},
        {"IMAGE": "/data/images/v3.sif", "MOUNT_1": "/scratch/x", "MOUNT_2": "/data/y"},
        {"MOUNT_3": "/etc", "OTHER": "/etc", "MOUNT_": "/etc", "IMAGE_1": "/etc", "MOUNT_111": "/etc"},
        {"IMAGE": "no path"},
    ],
)
def test_nothing_else_is_said(controller, real: dict[str, str]) -> None:
    answer = submit(controller, real)
    assert (answer.status, answer.told, answer.logged) == (0, [], [])


def test_it_is_said_of_this_job_alone(controller) -> None:
    """Decisions on equal requests are remembered, and a link may be another one by then."""
    for path in ("/root/b.sif", "/data/images/c.sif", "/root/d.sif"):
        told = submit(controller, {"IMAGE": path}).told
        assert [path in line for line in told] == ([True] if path.startswith("/root") else [])


def test_a_share_is_told_first(controller) -> None:
    answer = submit(controller, {"IMAGE": "/root/b.sif"}, tres_per_node="gres/gpu:0.25")
    assert answer.status == 0 and "25 of 100 slices" in answer.told[0] and "/root/b.sif" in answer.told[1]


def test_nothing_is_said_of_a_job_that_is_refused(controller) -> None:
    answer = submit(controller, {"IMAGE": "/data/images/b.sif", "MOUNT_1": "/etc"}, image="/etc/a.sif")
    assert answer.status == -1 and len(answer.told) == 1 and "leads to" not in answer.told[0]


def test_text_that_is_no_path_of_anybodys_does_no_harm(controller) -> None:
    answer = submit(controller, {"IMAGE": "/etc/\n\x1b[2Jgpushare: all is well" + "x" * 4000})
    assert answer.status == 0 and len(answer.told) == 1
    assert "\n" not in answer.told[0] and "\x1b" not in answer.told[0] and len(answer.told[0]) < 400


def test_folders_of_the_policy_that_are_links_themselves(tmp_path) -> None:
    """As nodes resolve them before they compare."""
    links = {"/data/images": "/mnt/pool/images", "/scratch": "/mnt/fast"}
    controller = install(tmp_path, POOL)
    policy = to_lua(parse_policy(POOL).policy, GROUPS.__getitem__, lambda path: links.get(path, path))
    (tmp_path / "gpushare_policy.lua").write_text(policy)
    controller.load()
    inside = {"IMAGE": "/mnt/pool/images/a.sif", "MOUNT_2": "/mnt/fast/y"}
    assert submit(controller, inside).told == []
    (line,) = submit(controller, {"IMAGE": "/mnt/pool/other.sif"}).told
    assert "/mnt/pool/other.sif" in line
