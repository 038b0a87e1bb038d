"""Which GPUs of a pool the licences of a job pay for."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.backends.places import find_places, is_open
from slurm_gpushare.errors import RefusedError
from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import Place

SETTINGS = SimpleNamespace(servers={"s1": "h1:56001", "s2": "h2:56001"})


def grant(gpus: int = 1, slices: int = 25, nodes: int = 1, tasks: int = 1) -> Grant:
    fraction = slices / tasks / gpus / 100
    return Grant("bitfusion", gpus, fraction, slices, None, nodes, "rule", "gpu:x", "", tasks)


def found(licences: str, wanted: Grant, node: int = 0) -> list[tuple[str, tuple[int, ...]]]:
    places = find_places(licences, wanted, SETTINGS, 100, node)
    assert all(isinstance(place, Place) and place.address == SETTINGS.servers[place.server] for place in places)
    return [(place.server, place.gpus) for place in places]


@pytest.mark.parametrize(
    ("licences", "wanted", "node", "places"),
    [
        ("gpu0@s1:25", grant(), 0, [("s1", (0,))]),
        ("matlab:1,gpu11@s2:25,gpu:3", grant(), 0, [("s2", (11,))]),
        ("gpu1@s1:100;gpu0@s1:100;matlab:1", grant(gpus=2, slices=200), 0, [("s1", (0, 1))]),
        ("gpu0@s1:100", grant(slices=100, tasks=2), 0, [("s1", (0,)), ("s1", (0,))]),
        ("gpu0@s1:50,gpu0@s2:25", grant(nodes=3), 1, [("s1", (0,))]),
        ("gpu0@s1:50,gpu0@s2:25", grant(nodes=3), 2, [("s2", (0,))]),
        ("gpu0@s1:50,gpu1@s1:50,gpu2@s1:50,gpu3@s1:50", grant(2, 100, 2), 1, [("s1", (2, 3))]),
        ("gpu0@elsewhere:7,gpu0@s1:25,gpux@s1:1", grant(), 0, [("s1", (0,))]),
    ],
)
def test_places(licences: str, wanted: Grant, node: int, places: list) -> None:
    assert found(licences, wanted, node) == places


@pytest.mark.parametrize(
    ("licences", "wanted", "node", "why"),
    [
        ("", grant(), 0, "no licences: the grant costs 1 x 25 slices"),
        ("bitfusion:25", grant(), 0, "the grant costs 1 x 25"),
        ("gpu0@s3:25", grant(), 0, "the grant costs 1 x 25"),
        ("gpu0@s1:24", grant(), 0, "an allocation is 25 slices"),
        ("gpu0@s1:50", grant(), 0, "the grant costs 1 x 25"),
        ("gpu0@s1:0", grant(), 0, "an allocation is 25 slices"),
        ("gpu0@s1:25,gpu1@s1:25", grant(), 0, "the grant costs 1 x 25"),
        ("gpu0@s1:125", grant(nodes=5), 0, "an allocation is 25 slices"),
        ("gpu0@s1:25,gpu0@s1:25", grant(nodes=2), 0, "a GPU stands in them twice"),
        ("gpu0@s1:25,gpu00@s1:25", grant(gpus=2, slices=50), 0, "a GPU stands in them twice"),
        ("gpu0@s1:100,gpu0@s2:100", grant(gpus=2, slices=200), 0, "each of 2 GPUs of one server"),
        ("gpu0@s1:100", grant(gpus=2, slices=200), 0, "each of 2 GPUs of one server"),
        ("gpu0@s1:75,gpu1@s1:25", grant(gpus=2, slices=100), 0, "each of 2 GPUs of one server"),
        ("gpu0@s1:25", grant()._replace(slices=26, tasks=25), 0, "the grant costs 25 x 1"),
        ("gpu0@s1:25", grant()._replace(slices=1, tasks=25), 0, "an allocation is 0 slices"),
        ("gpu0@s1:25", grant(), 1, "for 1 nodes"),
    ],
)
def test_what_does_not_agree_is_refused(licences: str, wanted: Grant, node: int, why: str) -> None:
    with pytest.raises(RefusedError, match="does not agree with what Slurm allocated") as caught:
        find_places(licences, wanted, SETTINGS, 100, node)
    assert why in str(caught.value) and "\n" not in str(caught.value)


@given(st.text(max_size=60), st.sampled_from([grant(), grant(2, 50), grant(1, 50, 2, 2)]), st.integers(-1, 3))
def test_any_text_is_a_place_or_refused(licences: str, wanted: Grant, node: int) -> None:
    try:
        assert len(find_places(licences, wanted, SETTINGS, 100, node)) == wanted.tasks
    except RefusedError:
        pass


def test_what_slurm_chose_from() -> None:
    assert is_open("gpu0@s1:25|gpu1@s1:25") and not is_open("gpu0@s1:25,matlab:1") and not is_open("")
