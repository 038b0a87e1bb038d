"""The container within the pool's client, by the policy's `client: outside`."""

import json
import os

import pytest

from slurm_gpushare.container.mounts import INSIDE_FOLDER
from slurm_gpushare.container.runtime import CLIENT_ENV, INSIDE
from slurm_gpushare.node.prolog import OPTION, prolog


@pytest.fixture
def job(node, pool_job):
    """A job of the pool in a container, on a node with that policy, which holds its allocation already."""
    text = (node.base / "node.json").read_text()
    policy = json.loads(text)
    policy["backends"]["bitfusion"]["client"] = "outside"
    (node.base / "node.json").write_text(json.dumps(policy))
    prolog({**pool_job, OPTION + "container_image": node.image}, 1.0, node.run_dir, node.policy)
    held = node.work / "bitfusion1"
    held.write_text("lease\n")
    os.chown(held, 1001, 1001)


def told(node, name):
    return (node.bin / name).read_text().splitlines()


def container(node, *more):
    work = f"{node.work}"
    client = f"{node.bin}/bitfusion"
    return [
        *("--quiet", "exec", "--pid", "--env-file", CLIENT_ENV, "--pwd", "/"),
        *("--mount", f"type=bind,source={client},destination={client},ro"),
        *("--mount", f"type=bind,source={work},destination={work}"),
        *more,
        *("--mount", f"type=bind,source={INSIDE},destination={INSIDE_FOLDER},ro"),
        node.image,
        *(f"{INSIDE_FOLDER}/inside", "--"),
    ]


@pytest.mark.parametrize("tmpdir, restored", [({}, ["-u", "TMPDIR"]), ({"TMPDIR": "/tmp/u"}, ["TMPDIR=/tmp/u"])])
def test_the_client_starts_the_runtime(node, job, launch, tmpdir, restored):
    assert launch.run("0", "echo", "a=b", environment=tmpdir) == (0, "a=b\n")
    argv = [*container(node), "echo", "a=b"]
    assert told(node, "apptainer.argv") == argv
    client = ["1001 client --", "env", *restored, f"{node.bin}/apptainer", *argv]
    assert told(node, "bitfusion.calls")[-1] == " ".join(client)


def test_a_command_with_an_equals_sign_in_its_name_may_run_so(node, job, launch):
    program = node.base / "home/a=b"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    assert launch.run("0", str(program)) == (0, "ran\n")


def test_the_environment_is_what_the_client_adds_to(node, job, launch):
    mine = {"LD_LIBRARY_PATH": "/host", "APPTAINERENV_LD_PRELOAD": "/x.so", "APPTAINERENV_K": "v", "TMPDIR": "/tmp/u"}
    launch.run("0", "true", environment={**mine, "APPTAINER_BIND": "/nosuch"})
    seen = told(node, "apptainer.env")
    assert "APPTAINERENV_K=v" in seen and "TMPDIR=/tmp/u" in seen
    names = {line.partition("=")[0] for line in seen}
    assert not names & {"LD_LIBRARY_PATH", "APPTAINERENV_LD_PRELOAD", "APPTAINERENV_TMPDIR", "APPTAINER_BIND"}


def test_outside_of_a_container_the_order_means_nothing(node, job, launch):
    assert launch.run("0", "echo", "x", options=["--container-scope=tasks"])[0] == 0
    (node.bin / "bitfusion.calls").unlink()
    (node.bin / "apptainer.argv").unlink()
    assert launch.run("interactive", "echo", "x", options=["--container-scope=tasks"]) == (0, "x\n")
    assert told(node, "bitfusion.calls")[-1] == "1001 client -- env -u TMPDIR echo x"
    assert not (node.bin / "apptainer.argv").exists()
