"""Rows of sacct: what 24.11.5 printed, and any text that a user may put into Extra."""

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.sacct import FIELDS, JobRow, lost_request, parse_sacct, sacct_argv

MARK = "\x1f0123456789abcdef\x1f"

# As printed by 24.11.5, "|" for the delimiter: a requeued array task, its second run waiting, a running job.
REQUEUED = (
    "lab|5|2_0|1795364126|0|1795364126|1795364129|3|alice|1001|physics|shard|normal|REQUEUED|0:0|1|n1|"
    "billing=1,cpu=1,gres/shard=25,mem=500M,node=1|billing=1,cpu=1,gres/shard=25,mem=500M,node=1||sbatch job.sh||"
)
PENDING = (
    "lab|5|2_0|1795364129|1|Unknown|Unknown|0|alice|1001|physics|shard|normal|PENDING|0:0|1|None assigned||"
    "billing=1,cpu=1,gres/shard=25,mem=500M,node=1||sbatch job.sh||"
)
RUNNING = (
    "lab|3|3|1795364126|0|1795364128|Unknown|2|alice|1001|physics|shard|normal|RUNNING|0:0|2|n[1-2]|"
    "billing=2,cpu=2,gres/gpu=2,mem=1000M,node=2|billing=2,cpu=2,gres/gpu=2,mem=1000M,node=2||sbatch -N2 job.sh||"
)


def printed(*lines: str) -> str:
    return "".join(line.replace("|", MARK) + "\n" for line in lines)


def test_rows_of_a_requeued_task_and_a_running_job() -> None:
    first, second, running = parse_sacct(printed(REQUEUED, PENDING, RUNNING), MARK)
    assert first.key == ("lab", 5, 1795364126, 0) and second.key == ("lab", 5, 1795364129, 1)
    assert (first.array_job_id, first.array_task_id, first.start, first.end) == (2, 0, 1795364126, 1795364129)
    assert (second.start, second.end, second.nodelist, second.alloc_tres) == (None, None, None, "")
    assert (running.start, running.end, running.nodes, running.nodelist) == (1795364128, None, 2, "n[1-2]")
    assert (running.array_job_id, running.array_task_id, running.uid) == (None, None, 1001)


def test_a_state_is_one_word_and_a_whole_array_has_no_task() -> None:
    line = PENDING.replace("|2_0|", "|2_[1-30%4]|").replace("PENDING", "CANCELLED by 1001")
    (row,) = parse_sacct(printed(line), MARK)
    assert (row.state, row.array_job_id, row.array_task_id) == ("CANCELLED", 2, None)


def test_nothing_printed_is_no_rows() -> None:
    assert parse_sacct("", MARK) == []


@pytest.mark.parametrize(
    "text", ["a line that is none\n", printed(RUNNING)[:-30], printed(RUNNING.replace("|3|3|", "|x|3|"))]
)
def test_what_is_not_readable_is_refused(text: str) -> None:
    with pytest.raises(SlurmError, match="sacct"):
        parse_sacct(text, MARK)


def test_a_reason_is_what_we_wrote_and_no_other_comment() -> None:
    ours, theirs = (RUNNING.removesuffix("|") + text + "|" for text in ("gpushare: ended, over its share", "a drain"))
    assert [row.reason for row in parse_sacct(printed(ours, theirs, RUNNING), MARK)] == [
        "ended, over its share",
        None,
        None,
    ]


@given(st.lists(st.text().filter(lambda text: MARK not in text), min_size=1, max_size=4))
def test_no_text_of_a_user_can_pose_as_a_row(texts: list[str]) -> None:
    head = RUNNING.removesuffix("|sbatch -N2 job.sh||").replace("|", MARK)
    lines = "".join(head + text + MARK + text + MARK + MARK + "\n" for text in texts)
    rows = parse_sacct(lines, MARK)
    assert [row.extra for row in rows] == texts
    assert {row.job_id for row in rows} == {3}


number = st.none() | st.integers(0, 2**40)
word = st.from_regex(r"[a-z][a-z0-9_-]{0,9}", fullmatch=True)


@given(
    st.builds(
        JobRow,
        cluster=word,
        job_id=st.integers(1, 2**31),
        submit=st.integers(0, 2**40),
        restart=st.integers(0, 99),
        array_job_id=st.none(),
        array_task_id=st.none(),
        start=number,
        end=number,
        elapsed_seconds=number,
        user=st.none() | word,
        uid=number,
        account=st.none() | word,
        partition=word,
        qos=word,
        state=st.sampled_from(["RUNNING", "COMPLETED", "NODE_FAIL"]),
        exit_code=st.just("0:0"),
        nodes=st.integers(0, 10000),
        nodelist=st.none() | word,
        alloc_tres=st.just("cpu=1,gres/gpu=2"),
        req_tres=st.just(""),
        extra=st.text(),
    )
)
def test_what_is_written_is_read_again(row: JobRow) -> None:
    told = [*astuple(row)[8:-4], "sbatch job.sh", ""]
    values = [row.cluster, row.job_id, row.job_id, row.submit, row.restart, row.start, row.end, *told]
    texts = [
        "Unknown" if value is None and name in ("Start", "End") else value
        for name, value in zip(FIELDS, values, strict=True)
    ]
    line = "".join(("" if text is None else str(text)) + MARK for text in texts)
    assert parse_sacct(line + "\n", MARK) == [row]


def test_a_component_of_a_heterogeneous_job_is_known_as_one() -> None:
    component, alone = parse_sacct(printed(RUNNING.replace("|3|3|", "|3|2+1|", 1), RUNNING), MARK)
    assert (component.job_id, component.het_job_id, component.het_offset, component.job) == (3, 2, 1, "2+1")
    assert (alone.job_id, alone.het_job_id, alone.het_offset, alone.job) == (3, None, None, "3")


def test_argv_has_no_shell_and_every_run() -> None:
    argv = sacct_argv(1795364126.9, 1795364200, MARK)
    assert argv[0] == "sacct" and "-D" in argv and "-X" in argv and "-a" in argv and f"--delimiter={MARK}" in argv
    assert argv[-4:] == ["-S", "2026-11-22T16:15:26", "-E", "2026-11-22T16:16:40"]
    assert sacct_argv(0, 1, MARK, [5, 7])[-2:] == ["-j", "5,7"]


@pytest.mark.parametrize(
    ("line", "lost"),
    [
        ("sbatch --gpus-per-task=0.25 -n1 job.sh", "--gpus-per-task=0.25"),
        ("srun -n1 --gpus-per-task a100:1/4", "--gpus-per-task a100:1/4"),
        ("sbatch --gpus-per-task=25% job.sh secret", "--gpus-per-task=25%"),
        ("sbatch --gpus-per-task=1 -n1 job.sh", None),
        ("sbatch job.sh x--gpus-per-task=0.25x", None),
        ("sbatch job.sh", None),
    ],
)
def test_the_share_that_a_client_lost(line: str, lost: str | None) -> None:
    assert lost_request(line, "billing=1,cpu=1,mem=500M,node=1", "") == lost
    assert lost_request(line, "billing=1,cpu=1,gres/shard=25,mem=500M,node=1", "") is None
    assert lost_request(line, "cpu=1", '{"v":1,"backend":"bitfusion"}') is None
