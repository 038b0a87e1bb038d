"""`gpushare datasets`: what the caller may use, as job_submit decides it."""

import json

import pytest

from slurm_gpushare.cli import explain
from slurm_gpushare.cli.main import main

POLICY = """
partitions: {shard: shard}
backends: {shard: {}}
containers: {images: [/data]}
datasets:
  open: {path: /data/open, target: /open}
  other: {path: /data/other, target: /other, mode: rw}
  staff: {path: /data/staff, target: /staff, groups: [root]}
rules:
  - {name: course, accounts: [course], datasets: [open]}
  - {name: night, qos: [night], datasets: [other, staff]}
  - {name: closed, partitions: [closed], datasets: []}
"""


@pytest.fixture
def ask(tmp_path, capsys, monkeypatch):
    """Run the command for a user; Slurm's commands are away."""
    path = tmp_path / "gpushare.yaml"
    path.write_text(POLICY)
    monkeypatch.setattr(explain, "_ask", lambda *argv: [])

    def run(*words: str, output_format: str = "json"):
        with pytest.raises(SystemExit) as caught:
            main(["datasets", "--policy", str(path), "--format", output_format, *words])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--user=alice"], ["open", "other"]),
        (["--user=root"], ["open", "other", "staff"]),
        ([], ["open", "other", "staff"]),
        (["--user=root", "-Acourse"], ["open"]),
        (["--user=alice", "-qnight"], ["other"]),
        (["--user=root", "-qnight"], ["other", "staff"]),
        (["--user=root", "-pclosed"], []),
    ],
)
def test_those_that_the_rule_and_the_groups_open(ask, words, names, monkeypatch):
    monkeypatch.setattr("os.getuid", lambda: 0)
    status, out, _ = ask(*words)
    assert status == 0 and [row["name"] for row in json.loads(out)] == names


def test_each_says_where_it_is(ask):
    rows = json.loads(ask("--user=root")[1])
    assert rows[1] == {"name": "other", "target": "/other", "mode": "rw", "path": "/data/other", "groups": None}
    assert rows[2]["groups"] == ["root"]
    table = ask("--user=root", output_format="table")[1]
    assert "in the container" in table and "/data/staff" in table


def test_a_policy_that_is_not_there_is_one_line(ask, tmp_path):
    (tmp_path / "gpushare.yaml").unlink()
    status, out, told = ask()
    assert (status, out) == (1, "") and told.startswith("gpushare: ") and told.count("\n") == 1
