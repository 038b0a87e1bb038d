"""Licences as scontrol's JSON has them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.licences import Licence, parse_choices, parse_licences
from tests.unit.slurm.recorded import VERSIONS, texts


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded(version: str) -> None:
    found = parse_licences(texts(version, "pool-too-big")["licenses"])
    assert found == {"bitfusion": Licence("bitfusion", total=100, used=75, free=25)}


def test_none_and_nonsense() -> None:
    assert parse_licences('{"licenses": []}') == {}
    with pytest.raises(SlurmError, match="licenses"):
        parse_licences(json.dumps({"licenses": [{"Total": 1}]}))


def test_a_remote_one() -> None:
    data = {"LicenseName": "gpu0@s1", "Total": 100, "Used": 25, "Free": 60, "Remote": True, "LastDeficit": 15}
    assert parse_licences(json.dumps({"licenses": [data]})) == {
        "gpu0@s1": Licence("gpu0@s1", 100, 25, 60, remote=True, withheld=15)
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("gpu0@s1:25", ({"gpu0@s1": 25},)),
        ("gpu0@s1:25|gpu0@s2:25", ({"gpu0@s1": 25}, {"gpu0@s2": 25})),
        ("gpu0@s1:100,gpu1@s1:100,matlab", ({"gpu0@s1": 100, "gpu1@s1": 100, "matlab": 1},)),
        ("gpu0@s2:100;gpu1@s2:60;matlab:1", ({"gpu0@s2": 100, "gpu1@s2": 60, "matlab": 1},)),
    ],
)
def test_choices(text: str, found: tuple) -> None:
    assert parse_choices(text) == found


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["gpu0@s1", "gpu1@s1", "gpu0@s2"]), st.integers(1, 10**6), min_size=1),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read(choices: list[dict[str, int]]) -> None:
    text = "|".join(",".join(f"{name}:{count}" for name, count in choice.items()) for choice in choices)
    assert parse_choices(text) == tuple(choices)


@pytest.mark.parametrize("text", ["a:x", "a b", ",", "a::1", "a:1|"])
def test_no_licences(text: str) -> None:
    with pytest.raises(ValueError, match="is not NAME:COUNT"):
        parse_choices(text)
