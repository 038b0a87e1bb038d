"""Slurm's JSON in its versions' forms."""

import pytest

from slurm_gpushare.slurm.jsondata import number, words


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (3, 3),
        ({"set": True, "infinite": False, "number": 0}, 0),
        ({"set": False, "infinite": False, "number": 5}, None),
        ({"set": True, "infinite": True, "number": 0}, None),
        (True, None),
        (None, None),
        ("7", None),
    ],
)
def test_numbers(value: object, found: int | None) -> None:
    assert number(value) == found


@pytest.mark.parametrize(
    ("value", "found"), [("IDLE", ("IDLE",)), (["A", "B"], ("A", "B")), ("", ()), (None, ()), (4, ())]
)
def test_words(value: object, found: tuple[str, ...]) -> None:
    assert words(value) == found
