"""Units as the stand-in for systemctl reads them."""

from pathlib import Path

import pytest

from slurm_gpushare.lab.standins.systemd.unit import Refused, parse, seconds

UNITS = Path(__file__).parents[5] / "etc/systemd"


@pytest.mark.parametrize("path", sorted([*UNITS.glob("*.service"), *UNITS.glob("*.timer")]), ids=lambda path: path.name)
def test_every_unit_of_ours_is_understood(path: Path) -> None:
    unit = parse([path.read_text()])
    if path.suffix == ".timer":
        assert unit.period > 0
    else:
        assert unit.argv[0].startswith("/opt/gpushare/")


def test_a_drop_in_wins() -> None:
    unit = parse(["[Service]\nExecStart=/bin/a b\nUser=slurm\n", "[Service]\nExecStart=\nExecStart=/bin/c 'd e'\n"])
    assert (unit.argv, unit.get("User"), unit.oneshot) == (["/bin/c", "d e"], "slurm", False)


@pytest.mark.parametrize("line", ["ExecStop=/bin/true", "[Socket]", "nonsense", "Exec Start=/bin/a"])
def test_what_is_not_known_is_refused(line: str) -> None:
    with pytest.raises(Refused, match="not known"):
        parse([line])


@pytest.mark.parametrize(("text", "value"), [("20s", 20), ("2min", 120), ("1h", 3600), ("30", 30)])
def test_spans(text: str, value: int) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "2 days", "-1s", "1.5h"])
def test_no_span(text: str) -> None:
    with pytest.raises(Refused):
        seconds(text)
