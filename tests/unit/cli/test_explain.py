"""`gpushare explain`: the decision in sbatch's own words."""

import json
import os

import pytest

from slurm_gpushare.cli import explain as module
from slurm_gpushare.cli.main import main
from slurm_gpushare.policy.lua import shipped_etc

SHIPPED = os.path.join(shipped_etc(), "gpushare.yaml")


@pytest.fixture(autouse=True)
def no_site(monkeypatch, tmp_path) -> None:
    """A host without a policy of the site's and without Slurm."""
    monkeypatch.setattr(module, "POLICY_YAML", str(tmp_path / "none.yaml"))
    monkeypatch.setenv("PATH", str(tmp_path))


def run(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["explain", *argv])
    return caught.value.code


def decided(capsys, *argv: str) -> tuple[int, dict]:
    status = run(*argv, "--format", "json")
    return status, json.loads(capsys.readouterr().out)


def test_a_grant(capsys) -> None:
    status, data = decided(
        capsys, "--gres=gpu:0.25", "--partition=bitfusion", "--user=alice", "-N2", "-n", "4", "--extra=mine"
    )
    assert status == 0
    assert list(data) == ["outcome", "grant", "message", "rule", "observed"]
    assert (data["outcome"], data["rule"]) == ("granted", "partition bitfusion")
    assert list(data["grant"]) == [
        "v", "backend", "gpus", "fraction", "slices", "memory", "nodes", "rule", "request", "extra",
    ]  # fmt: skip
    assert (data["grant"]["slices"], data["grant"]["nodes"], data["grant"]["extra"]) == (25, 2, "mine")
    assert "on each of 2 nodes, 50 slices in all" in data["message"]


def test_untouched_and_refused(capsys) -> None:
    assert decided(capsys, "-p", "shard") == (
        0,
        {"outcome": "untouched", "grant": None, "message": None, "rule": "no GPU asked", "observed": None},
    )
    status, data = decided(capsys, "--gres=gpu:1.5", "-p", "shard")
    assert status == 1 and data["outcome"] == "refused" and data["grant"] is None and "gpu:2" in data["message"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["-G", "0.5", "-N2"], "--gpus=0.5 on 2 nodes"),
        (["--gpus-per-task=0.6", "-n2"], "--gpus-per-task=0.6: the tasks of a node share one GPU"),
        (["--tres-per-task=gres/gpu:0.6", "-n2"], "--gpus-per-task=0.6"),
        (["--gpus-per-task=0.25", "--ntasks-per-node=5"], "5 of them need more"),
        (["--gpu-share=0.25x"], "--gpu-share=0.25x"),
        (["--gpu-mem=8"], "--gpu-mem=8: is no amount of memory"),
        (["--gpu-share=0.5", "--gpu-backend=bitfusion"], "partition shard has shard"),
        (["--gres=gpu:0.5", "--mem-per-gpu=1G"], "write --mem=1024 instead"),
        (["-L", "bitfusion:25"], "licences of bitfusion"),
        (["--container-image=/etc/passwd"], "/etc/passwd"),
        (["--container-image=/data/images/a", "--container-mounts=/etc:/e"], "/etc:/e"),
        (["--container-image=/data/images/a", "--dataset=none"], "--dataset=none"),
        (["--container-image=/data/images/a", "--container-scope=x"], "--container-scope=x"),
        (["--gres=gpu:0.25", "--cpus-per-gpu=4", "-n2"], "write --cpus-per-task=2 instead"),
        (['--extra={"v":1}'], "gpushare's own"),
    ],
)
def test_every_word_reaches_the_decision(capsys, argv: list[str], said: str) -> None:
    assert run("-p", "shard", *argv) == 1
    assert said in capsys.readouterr().out


def test_text_says_what_slurm_would_get(capsys) -> None:
    assert run("--gres=gpu:0.25,nvme:1", "--partition=bitfusion", "--licenses=matlab", "--policy", SHIPPED) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("granted: gpu:0.25 is 0.25 of one GPU in the bitfusion pool: 25 of 100 slices, 4070 MiB")
    assert "gres: bitfusion:25,nvme:1" in lines and "licenses: matlab,bitfusion:25" in lines


def test_the_clusters_default_partition(capsys, tmp_path) -> None:
    sinfo = tmp_path / "sinfo"
    sinfo.write_text("#!/bin/sh\necho bitfusion\necho 'shard*'\n")
    sinfo.chmod(0o755)
    assert decided(capsys, "--gres=gpu:0.25")[1]["grant"]["backend"] == "shard"
    sinfo.write_text("#!/bin/sh\nexit 1\n")
    assert decided(capsys, "--gres=gpu:0.25")[1]["outcome"] == "refused"


def test_what_is_no_number_of_nodes(capsys) -> None:
    assert run("-p", "shard", "-N", "two") == 1
    assert capsys.readouterr().err == "gpushare: 'two' is not a number of nodes: write a number from 1 on, such as 2\n"


def test_who_asks_decides_the_rule(capsys, tmp_path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "partitions: {shard: shard}\nbackends: {shard: {}}\nrules:\n"
        "- {name: course, accounts: [course], maximum_fraction: 0.5}\n- {name: night, qos: [night]}\n"
        "- {name: bob, users: [bob]}\n"
    )
    for who, rule in (
        (["--account=course"], "rule course"),
        (["--qos=night"], "rule night"),
        (["--user=bob"], "rule bob"),
        (["--user=alice"], "partition shard"),
    ):
        argv = ["--gres=gpu:0.25", "-p", "shard", f"--policy={policy}", *who]
        assert decided(capsys, *argv)[1]["rule"] == rule
    status, data = decided(capsys, "--gres=gpu:0.75", "-p", "shard", f"--policy={policy}", "-A", "course")
    assert status == 1 and "write --gres=gpu:0.5" in data["message"]


def test_the_accounting_database_knows_the_users_account(capsys, tmp_path) -> None:
    sacctmgr = tmp_path / "sacctmgr"
    sacctmgr.write_text(
        '#!/bin/sh\ncase "$*" in *defaultaccount) echo physics;; *account=physics*) echo night;; esac\n'
    )
    sacctmgr.chmod(0o755)
    assert module.default_account("alice") == "physics"
    assert module.default_qos("alice", "physics") == "night" and module.default_qos("alice", "other") is None


def test_a_part_of_a_gpu_is_told_as_what_it_is(capsys, tmp_path) -> None:
    policy = tmp_path / "gpushare.yaml"
    types = "{a100_2g.10gb: {gpu: A100-PCIE-40GB, profile: 2g.10gb}}"
    policy.write_text(f"partitions: {{mig: mig}}\nbackends: {{mig: {{types: {types}}}}}\n")
    words = ["-p", "mig", "--user=alice", "--policy", str(policy)]
    status, data = decided(capsys, "--gres=gpu:0.25", *words)
    assert status == 0 and data["grant"]["backend"] == "mig" and data["grant"]["fraction"] == 0.285714285714
    assert "gpu:a100_2g.10gb:1" in data["message"] and "2/7 of a GPU" in data["message"]
    status, data = decided(capsys, "--gres=gpu:0.5", *words)
    assert status == 1 and "there are gpu:a100_2g.10gb (2/7 of a GPU, 9984 MiB)" in data["message"]


def test_options_of_containers_may_have_the_prefix_of_plugstack(capsys) -> None:
    image = ["--gs-container-image=/data/images/a.sif", "--partition=shard", "--gres=gpu:0.25", "--user=alice"]
    words = ["--gs-no-container-mount-home", "--gs-dataset=digits:x"]
    found, data = decided(capsys, *image, *words)
    assert found == 1 and "--dataset=digits:x: write NAME, or NAME:DST" in data["message"]
    names = ("no-container-env", "x-no-container-mount-home", "no-container-mount-home", "gs-gpu-mem")
    assert [module.canonical(name) for name in names] == [
        "container-env", "no-container-mount-home", "no-container-mount-home", "gs-gpu-mem",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--container-writable", "--container-mount-home", "--container-env=PATH", "--container-workdir=/x"], 0, ""),
        (["--no-container-mount-home", "--container-writable=no", "--dataset=digits:/x"], 0, ""),
        (["--container-writable=maybe"], 1, "--container-writable=maybe: write yes or no"),
        (["--container-env=HOME"], 1, "--container-env=HOME"),
        (["--container-workdir=x"], 1, "--container-workdir=x"),
        (["--dataset=digits:x"], 1, "--dataset=digits:x: write NAME, or NAME:DST"),
    ],
)
def test_options_of_containers(capsys, words, status, said) -> None:
    image = ["--container-image=/data/images/a.sif", "--partition=shard", "--gres=gpu:0.25", "--user=alice"]
    found, data = decided(capsys, *image, *words)
    assert (found, data["outcome"]) == (status, "refused" if status else "granted")
    assert said in (data["message"] or "")


def test_a_policy_that_only_observes(capsys, tmp_path) -> None:
    """What would become of the job at present, and what the policy would make of it."""
    policy = tmp_path / "observe.yaml"
    with open(SHIPPED, encoding="utf-8") as shipped:
        policy.write_text(shipped.read().replace("mode: enforce", "mode: observe"))
    asked = ["--gres=gpu:0.25", "-p", "bitfusion", f"--policy={policy}"]
    status, data = decided(capsys, *asked)
    assert (status, data["outcome"], data["rule"]) == (1, "refused", "mode observe")
    fields = "gres=bitfusion:25 licenses=bitfusion:25 max_nodes=1 min_nodes=1"
    assert data["observed"] == f"grant by partition bitfusion: {fields}"
    assert run(*asked) == 1
    assert "observed: the policy would grant by partition bitfusion: " in capsys.readouterr().out
    status, data = decided(capsys, *asked, "--enforced")
    assert (status, data["outcome"], data["observed"]) == (0, "granted", None)
