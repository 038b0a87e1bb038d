"""A study over an engine that writes what jobs would: nothing is run twice, nothing is lost when a job fails."""

import json
from pathlib import Path

import pytest

from slurm_gpushare.errors import RequestError
from slurm_gpushare.study.conduct import conduct
from slurm_gpushare.study.plan import Round, Settings, rounds
from slurm_gpushare.study.read import StudyError
from tests.unit.study.test_read import BEGIN, END, MODEL, lines

SETTINGS = Settings(models=("a", "b"), command=("x",), repeats=2, jobs=2, ways=("shard", "mps"))


class Engine:
    """Writes outputs; fails the rounds named in ``broken``."""

    def __init__(self, *broken: str):
        self.broken, self.tried = broken, []

    def run(self, one: Round, scripts: list[Path]) -> dict:
        """Write what the jobs of a round would."""
        self.tried.append(one.name)
        if one.name in self.broken:
            scripts[0].with_suffix(".out").write_text(lines(BEGIN))
            raise StudyError("job 7 ended as FAILED: no memory")
        for script, order in zip(scripts, one.orders, strict=True):
            trained = [{**MODEL, "model": model} for model in order]
            script.with_suffix(".out").write_text(lines(BEGIN, *trained, END))
        return {"backend": one.case, "remote": False, "jobs": list(range(len(scripts)))}


def test_all_rounds_in_their_order(tmp_path: Path) -> None:
    engine = Engine()
    said: list[str] = []
    results = conduct(SETTINGS, tmp_path / "new/study", engine, "", said.append)
    assert engine.tried == [one.name for one in rounds(SETTINGS)]
    assert [len(case["rounds"]) for case in results["cases"]] == [2, 2, 2]
    assert results["missing"] == [] and len(said) == len(engine.tried)
    assert json.loads((tmp_path / "new/study/results.json").read_text()) == results


def test_a_failed_round_is_told_and_run_again_alone(tmp_path: Path) -> None:
    first = conduct(SETTINGS, tmp_path, Engine("shard-1"), "", lambda _: None)
    assert first["missing"] == [{"round": "shard-1", "why": "job 7 ended as FAILED: no memory"}]
    assert [case["seconds"]["n"] for case in first["cases"]] == [2, 1, 2]
    again = Engine()
    second = conduct(SETTINGS, tmp_path, again, "", lambda _: None)
    assert again.tried == ["shard-1"] and second["missing"] == []
    assert (tmp_path / "rounds/shard-1/1/1.out").exists(), "what failed is kept"
    assert second["date"] == first["date"]


def test_what_is_complete_is_not_run_again_and_more_rounds_are_added(tmp_path: Path) -> None:
    conduct(SETTINGS, tmp_path, Engine(), "", lambda _: None)
    more = Settings(
        **{**SETTINGS.to_dict(), "models": ("a", "b"), "command": ("x",), "ways": SETTINGS.ways, "repeats": 3}
    )
    engine = Engine()
    assert conduct(more, tmp_path, engine, "", lambda _: None)["cases"][0]["seconds"]["n"] == 3
    assert engine.tried == ["whole-3", "shard-3", "mps-3"]


def test_a_case_whose_first_round_fails_is_given_up(tmp_path: Path) -> None:
    engine = Engine("mps-burn-in1")
    results = conduct(SETTINGS, tmp_path, engine, "", lambda _: None)
    assert [name for name in engine.tried if name.startswith("mps")] == ["mps-burn-in1"]
    assert [one["round"] for one in results["missing"]] == ["mps-burn-in1", "mps-1", "mps-2"]
    assert results["comparisons"][0]["completion_ratio"] and results["comparisons"][1]["completion_ratio"] is None


@pytest.mark.parametrize("broken", [("whole-burn-in1",), ("shard-burn-in1", "mps-burn-in1")])
def test_it_stops_where_nothing_can_be_compared(tmp_path: Path, broken: tuple[str, ...]) -> None:
    engine = Engine(*broken)
    with pytest.raises(StudyError, match=f"round {broken[-1]}: job 7 ended as FAILED: no memory"):
        conduct(SETTINGS, tmp_path, engine, "", lambda _: None)
    assert engine.tried[-1] == broken[-1]


def test_another_study_has_no_place_in_the_folder(tmp_path: Path) -> None:
    conduct(SETTINGS, tmp_path, Engine(), "", lambda _: None)
    other = Settings(models=("a",), command=("x",), repeats=2, jobs=2, ways=("shard", "mps"))
    with pytest.raises(RequestError, match=r"has a study with other settings \(models\): choose another by --out"):
        conduct(other, tmp_path, Engine(), "", lambda _: None)


def test_a_study_without_any_round_makes_way(tmp_path: Path) -> None:
    with pytest.raises(StudyError):
        conduct(SETTINGS, tmp_path, Engine("whole-burn-in1"), "", lambda _: None)
    other = Settings(models=("a",), command=("x",), repeats=1, jobs=2)
    assert conduct(other, tmp_path, Engine(), "", lambda _: None)["settings"]["models"] == ["a"]


def test_an_interrupted_round_counts_for_nothing(tmp_path: Path) -> None:
    class Stopped(Engine):
        def run(self, one: Round, scripts: list[Path]) -> dict:
            facts = super().run(one, scripts)
            if one.name == "shard-1":
                raise KeyboardInterrupt
            return facts

    with pytest.raises(KeyboardInterrupt):
        conduct(SETTINGS, tmp_path, Stopped(), "", lambda _: None)
    engine = Engine()
    assert conduct(SETTINGS, tmp_path, engine, "", lambda _: None)["missing"] == []
    assert engine.tried == ["shard-1", "mps-1", "whole-2", "shard-2", "mps-2"]


def test_one_study_is_run_by_one_process(tmp_path: Path) -> None:
    class Second(Engine):
        def run(self, one: Round, scripts: list[Path]) -> dict:
            with pytest.raises(RequestError, match="is run by another process now"):
                conduct(SETTINGS, tmp_path, Engine(), "", lambda _: None)
            return super().run(one, scripts)

    conduct(SETTINGS, tmp_path, Second(), "", lambda _: None)


def test_a_file_that_is_not_a_study(tmp_path: Path) -> None:
    conduct(SETTINGS, tmp_path, Engine(), "", lambda _: None)
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(RequestError, match="is not of a study"):
        conduct(SETTINGS, tmp_path, Engine(), "", lambda _: None)
