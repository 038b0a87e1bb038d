"""What a person sees of the lab's work."""

import pytest

from slurm_gpushare.lab.progress import Progress, StepFailed, last_lines


def test_a_failed_step_says_which_why_and_where(tmp_path) -> None:
    log = tmp_path / "x.log"
    log.write_text("\n".join(f"line {number}" for number in range(40)) + "\n\n")
    error = StepFailed("slurmctld", "it ended", log)
    assert str(error) == f"slurmctld: it ended (log: {log})"
    assert error.tail[-1] == "line 39" and len(error.tail) == 15


def test_no_log_is_no_error(tmp_path) -> None:
    assert last_lines(tmp_path / "none") == []
    assert str(StepFailed("a", "b", None)) == "a: b"


def test_a_step_that_fails_is_not_reported_as_done() -> None:
    lines: list[str] = []
    progress = Progress(lines.append)
    with progress.step("first"):
        pass
    with pytest.raises(ValueError), progress.step("second"):
        raise ValueError
    assert [line.split()[-1] for line in lines] == ["first", "first", "second"]
