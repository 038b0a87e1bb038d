"""Images, mounts and datasets, as the controller checks them: by name and lexical path."""

import pytest


def spank(**options: str) -> list[str]:
    return ["OTHER=1"] + [f"_SLURM_SPANK_OPTION_gpushare_{name}={value}" for name, value in options.items()]


IMAGE = {"container_image": "/data/images/digits.sif"}


@pytest.mark.parametrize(
    "options",
    [
        IMAGE,
        {"container_image": "/home/alice/my image.sif"},
        {"container_image": "//data/./images//x.sif"},
        IMAGE
        | {"container_mounts": "/data/a:/a,/scratch/b:/mnt/b:ro", "dataset": "digits", "container_scope": "tasks"},
    ],
)
def test_allowed(controller, options: dict) -> None:
    for asked in ({}, {"tres_per_node": "gres/gpu:0.25"}):
        answer = controller.submit(spank_job_env=spank(**options), partition="shard", **asked)
        assert answer.status == 0, answer.told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"container_image": ""}, "absolute paths"),
        ({"container_image": "digits.sif"}, "--container-image=digits.sif"),
        ({"container_image": "docker://busybox"}, "docker://busybox"),
        ({"container_image": "/etc/passwd"}, "below /data/images or /home"),
        ({"container_image": "/data/imagesX/a.sif"}, "below /data/images"),
        ({"container_image": "/data/images/../../etc/passwd"}, ".."),
        ({"container_image": "/data/images/a\nb"}, "absolute paths"),
        ({"container_mounts": "/data/a:/a"}, "--container-mounts=/data/a:/a needs --container-image"),
        ({"dataset": "digits"}, "--dataset=digits needs --container-image"),
        (IMAGE | {"container_mounts": "/etc:/mnt"}, "must lie below /data or /scratch"),
        (IMAGE | {"container_mounts": "/data/../etc:/mnt"}, "must lie below"),
        (IMAGE | {"container_mounts": "/data/a"}, "SRC:DST"),
        (IMAGE | {"container_mounts": "/data/a:b"}, "SRC:DST"),
        (IMAGE | {"container_mounts": "/data/a:/"}, "SRC:DST"),
        (IMAGE | {"container_mounts": "/data/a:/b/../c"}, "SRC:DST"),
        (IMAGE | {"container_mounts": "/data/a:/b:rx"}, "SRC:DST"),
        (IMAGE | {"container_mounts": "/data/a:/b,"}, "SRC:DST"),
        (IMAGE | {"dataset": "digits,nothing"}, "--dataset=nothing: no such dataset here: known are digits"),
        (IMAGE | {"dataset": ""}, "no such dataset"),
        (IMAGE | {"container_scope": "node"}, "write job or tasks"),
    ],
)
def test_refused_for_every_job(controller, options: dict, said: str) -> None:
    for asked in ({}, {"tres_per_node": "gres/gpu:1"}, {"tres_per_node": "gres/gpu:0.25"}):
        answer = controller.submit(spank_job_env=spank(**options), partition="shard", **asked)
        assert answer.status == -1 and len(answer.told) == 1 and said in answer.told[0]
        assert answer.told[0].isprintable()
