"""`gpushare policy check|show|compile`."""

import json
import os

import pytest

from slurm_gpushare.cli.main import main
from slurm_gpushare.policy.included import LINE
from slurm_gpushare.policy.lua import shipped_etc

PAGE = os.path.join(shipped_etc(), "..", "docs", "policy.md")
SHIPPED = os.path.join(shipped_etc(), "gpushare.yaml")


def run(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["policy", *argv])
    return caught.value.code


def test_check(capsys, tmp_path) -> None:
    assert run("check", SHIPPED) == 0
    assert capsys.readouterr().out == f"{SHIPPED}: valid: 2 partitions, 0 rules, 1 datasets\n"
    bad = tmp_path / "bad.yaml"
    bad.write_text("slices_per_gpu: 0\nwhat: 1\n")
    assert run("check", str(bad)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["gpushare", f"{bad}:1"], ["gpushare", f"{bad}:2"]]


def test_show(capsys) -> None:
    assert run("show", SHIPPED, "--format", "json") == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["backends.bitfusion.servers[0].gpu_memory"]["value"] == "16280 MiB"
    assert run("show", SHIPPED) == 0
    assert "16280 MiB" in capsys.readouterr().out


def test_an_invalid_policy_leaves_the_old_one_in_force(capsys, tmp_path) -> None:
    (tmp_path / "job_submit.lua").write_text(LINE)
    where = ["--slurm-dir", str(tmp_path), "--node-file", str(tmp_path / "node.json")]
    assert run("compile", "--policy", SHIPPED, *where) == 0
    assert capsys.readouterr() == (f"wrote {tmp_path}/gpushare_policy.lua\nwrote {tmp_path}/node.json\n", "")
    before = {
        name: ((tmp_path / name).read_bytes(), (tmp_path / name).stat().st_mtime_ns) for name in os.listdir(tmp_path)
    }
    bad = tmp_path / "bad.yaml"
    bad.write_text("slices_per_gpu: many\n")
    assert run("compile", "--policy", str(bad), *where) == 1
    assert "slices_per_gpu: 'many'" in capsys.readouterr().err
    assert {name: ((tmp_path / name).read_bytes(), (tmp_path / name).stat().st_mtime_ns) for name in before} == before


def test_a_job_submit_without_ours_is_said(capsys, tmp_path) -> None:
    (tmp_path / "job_submit.lua").write_text("function slurm_job_submit() end\n")
    where = ["--slurm-dir", str(tmp_path), "--node-file", str(tmp_path / "node.json")]
    assert run("compile", "--policy", SHIPPED, *where) == 0
    told = capsys.readouterr().err
    assert told.startswith(f"gpushare: {tmp_path}/job_submit.lua: includes nothing of slurm-gpushare")
    assert told.count("\n") == 1


def test_the_reference_page_is_current(capsys) -> None:
    assert run("reference") == 0
    with open(PAGE, encoding="utf-8") as page:
        assert capsys.readouterr().out == page.read(), "run `gpushare policy reference > docs/policy.md`"


def test_profiles(capsys) -> None:
    assert run("profiles", "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    found = [row for row in rows if row["gpu"] == "A100-SXM4-40GB" and row["profile"] == "2g.10gb"]
    assert [(row["backend"], row["fraction"], row["memory_mib"]) for row in found] == [("mig", "2/7", 9984)]
    assert run("profiles") == 0
    assert "2g.10gb" in capsys.readouterr().out


def test_observed(capsys, tmp_path, monkeypatch) -> None:
    log = tmp_path / "slurmctld.log"
    log.write_text(
        "[2026-03-29T01:59:59.124] lua: gpushare: observed: user=alice account=a partition=gpu"
        " would refuse by rule r: no\n"
    )
    assert run("observed", str(log), "--format", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["jobs"], row["what"], row["users"]) == (1, "refuse", ["alice"])
    assert run("observed", str(log), str(log)) == 0
    assert "rule r" in capsys.readouterr().out
    log.write_text("")
    assert run("observed", str(log)) == 0
    assert capsys.readouterr().out == "nothing: no job would have become anything else\n"
    assert run("observed", str(tmp_path / "none")) == 1
    assert "No such file or directory: name slurmctld's log" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("mode: of\n", "mode: 'of': "),
        ("enforce: {partition: [gpu]}\n", "did you mean partitions?"),
        ("operators: alice\n", "operators: 'alice': "),
    ],
)
def test_a_mode_that_is_none(capsys, tmp_path, written: str, said: str) -> None:
    policy = tmp_path / "gpushare.yaml"
    policy.write_text(written)
    assert run("check", str(policy)) == 1
    assert said in capsys.readouterr().err


def test_yaml_reads_off_as_no(capsys, tmp_path) -> None:
    policy = tmp_path / "gpushare.yaml"
    policy.write_text("mode: off\n")
    assert run("show", str(policy), "--format", "json") == 0
    assert next(row["value"] for row in json.loads(capsys.readouterr().out) if row["key"] == "mode") == "off"
