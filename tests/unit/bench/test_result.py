import json

import pytest

from bench import __main__ as bench
from bench.result import ADDED, MOST, TIMES, Bound, Result, to_dict, to_line


@pytest.mark.parametrize(
    "bound, ours, other, holds",
    [
        (Bound(ADDED, 25), 125.0, 100.0, True),
        (Bound(ADDED, 25), 125.1, 100.0, False),
        (Bound(TIMES, 0.5), 5.0, 10.0, True),
        (Bound(TIMES, 0.5), 5.1, 10.0, False),
        (Bound(MOST, 60), 60.0, 1.0, True),
        (Bound(MOST, 60), 60.1, 100.0, False),
        (None, 5.0, 1.0, None),
    ],
)
def test_a_bound_holds_up_to_its_limit(bound, ours, other, holds):
    assert Result("a", "b", ours, other, "ms", 3, bound).holds is holds


def test_the_line_and_the_object_of_a_result():
    result = Result("launch", "by hand", 130.0, 100.0, "ms", 60, Bound(ADDED, 25))
    line = to_line(result)
    assert line.split()[:6] == ["launch", "130", "ms", "100", "ms", "1.30x"]
    assert "at most 25 ms more: BROKEN" in line and "\n" not in line
    data = to_dict(result, "2 cores")
    assert data["bound"] == "at most 25 ms more" and data["holds"] is False and data["machine"] == "2 cores"
    assert {"name", "ours", "other", "unit", "ratio", "bound", "holds", "runs"} <= set(data)
    assert json.loads(json.dumps(data))["ratio"] == 1.3


def test_a_ratio_to_nothing_is_not_known():
    result = Result("a", "b", 1.0, 0.0, "ms", 1)
    assert result.ratio is None and " - " in to_line(result)


@pytest.mark.parametrize("ours, status", [(1.0, 0), (3.0, 1)])
def test_a_broken_bound_is_the_exit_status(monkeypatch, tmp_path, capsys, ours, status):
    result = Result("decision", "10 rules", ours, 1.0, "us", 1, Bound(TIMES, 2))
    monkeypatch.setattr("bench.decision.run", lambda setting: [result])
    results = tmp_path / "results/latest.json"
    assert bench.main(["decision", "--results", str(results)]) == status
    assert [(row["ours"], row["holds"]) for row in json.loads(results.read_text())] == [(ours, status == 0)]
    assert "cores" in capsys.readouterr().out


def test_an_unknown_name_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        bench.main(["speed"])
    assert caught.value.code == 2
    assert "'speed' is no benchmark: write decision" in capsys.readouterr().err
