"""What limits a client: sizes, devices by any name, and that an environment only tightens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.mps.limits import (
    UNITS,
    Limits,
    constrain,
    format_size,
    parse_memory_variable,
    parse_percentage,
    parse_size,
    visible,
)

GIB = 1 << 30
ONE, TWO = "GPU-1111", "GPU-2222"


def test_the_documented_spellings_are_read() -> None:
    assert parse_memory_variable("0=1G,1=512MB") == {"0": GIB, "1": 512 << 20}
    assert parse_size("900M", "MG") == 900 << 20
    assert parse_size("1024K", "KMG") == 1 << 20
    assert (parse_percentage("25"), parse_percentage("12.5")) == (25.0, 12.5)


@pytest.mark.parametrize("text", ["", "1", "G", "0G", "-1G", "1.5G", "1 G", "1024K", "1T", "1g"])
def test_what_is_no_limit_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(LabError, match="no memory limit"):
        parse_size(text, "MG")


@pytest.mark.parametrize("text", ["", "0", "101", "25%", "-5", "nan", "100.001"])
def test_what_is_no_percentage_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(LabError, match="no percentage"):
        parse_percentage(text)


@given(st.integers(1, 10**6), st.sampled_from(sorted(UNITS)))
def test_a_size_survives_being_printed(number: int, unit: str) -> None:
    size = parse_size(f"{number}{unit}", "KMG")
    assert parse_size(format_size(size), "KMG") == size == number * UNITS[unit]


def test_of_two_names_of_one_device_the_limit_set_last_holds() -> None:
    limits = Limits()
    limits.set_memory("0", GIB)
    limits.set_memory(ONE, 2 * GIB)
    limits.set_memory("GPU-9999", GIB)
    limits.set_memory("7", GIB)
    assert limits.on([ONE, TWO]) == {ONE: 2 * GIB}
    limits.set_memory("0", 3 * GIB)
    assert limits.on([ONE, TWO]) == {ONE: 3 * GIB}


def test_the_first_unknown_device_hides_all_that_follow() -> None:
    assert visible(None, [ONE, TWO]) == [ONE, TWO]
    assert visible("1,0", [ONE, TWO]) == [TWO, ONE]
    assert visible("GPU-2,2,0", [ONE, TWO]) == [TWO]
    assert visible("GPU-", [ONE, TWO]) == []


@given(st.floats(1, 100), st.floats(1, 100), st.integers(1, 64), st.integers(1, 64))
def test_a_client_can_only_tighten(server: float, own: float, limit: int, wish: int) -> None:
    of_server = Limits(server, {"0": limit * GIB})
    share, memory = constrain(of_server, [ONE, TWO], own, {ONE: wish * GIB, "1": wish * GIB}, overrides=False)
    assert share == min(server, own)
    assert memory == {ONE: min(limit, wish) * GIB, TWO: wish * GIB}
    assert constrain(of_server, [ONE], own, {}, overrides=True) == (server, {ONE: limit * GIB})


def test_without_limits_everything_is_allowed() -> None:
    assert constrain(Limits(), [ONE], None, {}, overrides=False) == (100.0, {})
    assert constrain(Limits(), [ONE], 30.0, {}, overrides=True) == (30.0, {})
