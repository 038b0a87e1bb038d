"""What frameworks are told of a share of a card that they see whole."""

import pytest

from tests.lab.cluster import Cluster

IMAGE = "--container-image=/data/images/digits.sif"
SHOW = "env | grep -E '^(TF_FORCE_GPU_ALLOW_GROWTH|XLA_PYTHON_CLIENT_MEM_FRACTION|GPUSHARE_MEMORY_FRACTION)=' | sort"


@pytest.mark.parametrize("options", [[], [IMAGE, "--container-scope=tasks"]], ids=["host", "container"])
def test_a_share_is_told_and_divided_among_the_tasks_of_a_step(cluster: Cluster, options: list[str]) -> None:
    script = cluster.script("", SHOW, "echo steps", f'srun -n2 --label sh -c "{SHOW}" | sort')
    job = cluster.sbatch(
        "alice", "-pshard", "-n2", "--gres=gpu:0.5", *options, "-o/home/alice/fw-%j.out", script=script
    )
    assert cluster.wait(job) == "COMPLETED"
    batch, _, steps = cluster.read(f"/home/alice/fw-{job}.out").partition("steps\n")

    def told(share: str, xla: str) -> list[str]:
        return [
            f"GPUSHARE_MEMORY_FRACTION={share}",
            "TF_FORCE_GPU_ALLOW_GROWTH=true",
            f"XLA_PYTHON_CLIENT_MEM_FRACTION={xla}",
        ]

    assert batch.splitlines()[-3:] == told("0.5000", "0.3750")
    assert steps.splitlines() == [f"{task}: {line}" for task in (0, 1) for line in told("0.2500", "0.1875")]


def test_what_the_user_has_set_stays_and_whole_gpus_are_left_alone(cluster: Cluster) -> None:
    mine = "--export=ALL,TF_FORCE_GPU_ALLOW_GROWTH=false,XLA_PYTHON_CLIENT_MEM_FRACTION=.1"
    done = cluster.run("srun", "-pshard", "--gres=gpu:0.25", mine, "sh", "-c", SHOW, user="alice")
    assert done.stdout.splitlines() == [
        "GPUSHARE_MEMORY_FRACTION=0.2500",
        "TF_FORCE_GPU_ALLOW_GROWTH=false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION=.1",
    ]
    assert cluster.run("srun", "-pshard", "--gres=gpu:1", "sh", "-c", f"{SHOW}; true", user="alice").stdout == ""
