"""Amounts as people write and read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.units import MIB, format_fraction, format_memory, parse_memory, parse_nodes, parse_slurm_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16280 MiB", 16280 * MIB),
        ("16280MiB", 16280 * MIB),
        ("16G", 16384 * MIB),
        ("1.5 GiB", 1536 * MIB),
        ("1t", 2**40),
        ("1K", 1024),
    ],
)
def test_memory(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["", "16", "16 GB", "0 MiB", "-1 G", "1e3 M", "1.00001 K", "nan G", "16 GiB x", 16, None]
)
def test_memory_without_a_meaning_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="write it"):
        parse_memory(text)


@given(st.integers(1, 2**24))
def test_memory_round_trip(mib: int) -> None:
    assert parse_memory(format_memory(mib * MIB)) == mib * MIB


def test_memory_that_is_no_whole_mib() -> None:
    assert format_memory(MIB + MIB // 2) == "1.5 MiB"


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.25, "0.25"), (1, "1"), (1 / 3, "0.333333"), (0.1 + 0.2, "0.3"), (10, "10")]
)
def test_fraction(fraction: float, text: str) -> None:
    assert format_fraction(fraction) == text


@pytest.mark.parametrize(("text", "nodes"), [("2", (2, 2)), ("1-3", (1, 3)), (" 4 ", (4, 4))])
def test_nodes(text: str, nodes: tuple) -> None:
    assert parse_nodes(text) == nodes


@pytest.mark.parametrize("text", ["", "0", "x", "2-", "-2", "3-1", "1,3", "1.5", "٢"])
def test_nodes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_nodes(text)


@pytest.mark.parametrize(("text", "mib"), [("500", 500), ("500M", 500), ("2G", 2048), ("1t", 1024**2), ("1025K", 2)])
def test_memory_as_sbatch_takes_it(text: str, mib: int) -> None:
    assert parse_slurm_memory(text) == mib


@pytest.mark.parametrize("text", ["", "2X", "-1", "1.5G", "\u0662G", "9" * 13])
def test_memory_that_sbatch_does_not_take(text: str) -> None:
    with pytest.raises(ValueError, match="such as 500M"):
        parse_slurm_memory(text)
