"""`bitfusion list_gpus`: what people published of it, what it may not be, and all that may be written in its form."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.errors import BackendError
from slurm_gpushare.pool.listing import ListedGpu, ListedServer, Listing, parse_listing

GOLDEN = Path(__file__).parents[2] / "assets/pool"
V100 = "Tesla V100S-PCIE-32GB"


def golden(name: str) -> str:
    return (GOLDEN / f"list_gpus-{name}.txt").read_text()


def test_two_servers() -> None:
    gpus = tuple(ListedGpu(index, 32510, 32510, V100) for index in (0, 1))
    assert parse_listing(golden("4.0")) == Listing(
        (ListedServer("10.1.202.21:56001", True, 0, gpus), ListedServer("10.1.202.20:56001", False, 0, gpus)), {}
    )


def test_log_around_it() -> None:
    found = parse_listing(golden("first-contact"))
    (server,) = found.servers
    assert (server.address, server.tasks, server.gpus[0].used_mib) == ("172.24.210.80:56001", 1, 32510 - 6502)
    assert list(found.silent) == ["10.117.32.156:56001"]
    assert "i/o timeout" in found.silent["10.117.32.156:56001"]


def test_nobody_answers() -> None:
    found = parse_listing(golden("none"))
    assert found.servers == ()
    assert "deadline exceeded" in found.silent["10.117.32.156:56001"]


def test_a_warning_about_a_server_that_is_listed_counts_for_nothing() -> None:
    text = "[WARN] x Error contacting server 10.1.202.21:56001: i/o timeout\n" + golden("4.0")
    assert parse_listing(text).silent == {}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("32510 / 32510", "32511 / 32510"), "more is free"),
        (("0 / 32510", "0 / 0"), "no line|more is free"),
        (("GPU [1]", "GPU [0]"), "that GPU stands there twice"),
        (("10.1.202.20", "10.1.202.21"), "that server stands there twice"),
        (("free memory", "free ram"), "no line"),
        (("running 0 tasks", "running"), "no line"),
        ((":56001]", "]"), "no line"),
        ((" - server 0 (leader)  [10.1.202.21:56001]: running 0 tasks\n", ""), "below no server"),
        (("Tesla V100S-PCIE-32GB", ""), "no line"),
    ],
)
def test_what_it_may_not_be(change: tuple[str, str], why: str) -> None:
    text = golden("4.0")
    assert change[0] in text
    with pytest.raises(BackendError, match=why) as told:
        parse_listing(text.replace(*change))
    assert "\n" not in str(told.value)


NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=12)
GPUS = st.lists(
    st.tuples(st.integers(1, 10**6), st.integers(0, 100), NAMES, st.sampled_from(["", " (rev 2)", " PCIE"])), max_size=4
)


def as_printed(servers: list[ListedServer]) -> str:
    lines = []
    for number, server in enumerate(servers):
        role = "(leader)  " if server.leader else ""
        lines.append(f" - server {number} {role}[{server.address}]: running {server.tasks} tasks")
        lines += [
            f"   |- GPU [{gpu.index}]: free memory ({gpu.free_mib} / {gpu.total_mib}MiB) {gpu.name} (7.0)"
            for gpu in server.gpus
        ]
    return "\n".join(lines)


@given(st.lists(st.tuples(GPUS, st.booleans(), st.integers(0, 99)), max_size=4))
def test_what_is_printed_is_read(data: list) -> None:
    servers = [
        ListedServer(
            f"10.0.0.{number}:56001",
            leader,
            tasks,
            tuple(
                ListedGpu(index, total * percent // 100, total, name + more)
                for index, (total, percent, name, more) in enumerate(gpus)
            ),
        )
        for number, (gpus, leader, tasks) in enumerate(data)
    ]
    assert parse_listing(as_printed(servers)) == Listing(tuple(servers), {})


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_listing(text)
    except BackendError:
        return
    assert all(gpu.free_mib <= gpu.total_mib for server in found.servers for gpu in server.gpus)
