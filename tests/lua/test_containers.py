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
    "options",
    [
        {"dataset": "digits:/my/digits"},
        {"container_workdir": "/"},
        {"container_workdir": "/opt/a b", "container_env": "PATH,_a1"},
        {"container_mount_home": "", "container_writable": ""},
        {"container_mount_home": "(null)", "container_writable": "(null)", "no_container_mount_home": "(null)"},
        {"container_mount_home": "no", "container_writable": "no"},
        {"no_container_mount_home": "", "container_writable": "yes"},
    ],
)
def test_allowed_beside_an_image(controller, options: dict) -> None:
    answer = controller.submit(spank_job_env=spank(**IMAGE, **options), partition="shard")
    assert answer.status == 0, answer.told


def test_what_users_have_set_for_all_their_containers_needs_no_image(controller) -> None:
    options = {
        "container_workdir": "/w",
        "container_env": "PATH",
        "container_mount_home": "no",
        "container_scope": "job",
    }
    assert controller.submit(spank_job_env=spank(**options), partition="shard").status == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (IMAGE | {"dataset": "digits:x"}, "write NAME, or NAME:DST"),
        (IMAGE | {"dataset": "digits:"}, "write NAME, or NAME:DST"),
        (IMAGE | {"dataset": "digits:/"}, "write NAME, or NAME:DST"),
        (IMAGE | {"dataset": "digits:/a/../b"}, "write NAME, or NAME:DST"),
        (IMAGE | {"dataset": "nothing:/x"}, "--dataset=nothing: no such dataset here"),
        ({"container_workdir": "x"}, "--container-workdir=x: write an absolute path"),
        ({"container_workdir": "/a/../b"}, "write an absolute path without .."),
        ({"container_workdir": "docker://x"}, "write an absolute path"),
        ({"container_env": "A=1"}, "--container-env=A=1: write names"),
        ({"container_env": "A,,B"}, "write names of variables"),
        ({"container_env": "HOME"}, "--container-env=HOME: is the runtime's own"),
        ({"container_env": "APPTAINER_BIND"}, "the runtime's own"),
        ({"container_env": "SINGULARITYENV_X"}, "the runtime's own"),
        ({"container_mount_home": "1"}, "--container-mount-home=1: write yes or no"),
        ({"container_writable": "true"}, "--container-writable=true: write yes or no"),
        ({"container_image": "/scratch2/a.sif"}, "below /data/images or /home"),
        (IMAGE | {"container_mounts": "/scratch2/a:/a"}, "must lie below /data or /scratch"),
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
