"""What is out of service, as comments have it."""

import pytest

from slurm_gpushare.drain.hold import Hold, check_reason, parse_target, read_comment, write_comment
from slurm_gpushare.errors import RequestError


def test_a_comment_is_read_as_it_was_written() -> None:
    text = write_comment("n1:0", "root", 1795454700.9, "fan: broken, see a=b 50% it's")
    assert text == "gpushare: n1:0 is out of service since 2026-11-23T17:25:00Z by root: fan: broken, see a=b 50% it's"
    hold = read_comment(text + " ", "node", "job 7")
    assert hold == Hold("n1:0", "node", 1795454700.0, "root", "fan: broken, see a=b 50% it's", "job 7")


@pytest.mark.parametrize(
    "text",
    ["", "fan broken", "gpushare: n1:0 is out of service", "gpushare: n1:0 is out of service since then by root: fan"],
)
def test_other_comments_are_none_of_ours(text: str) -> None:
    assert read_comment(text, "node", "job 7") is None


@pytest.mark.parametrize(
    ("text", "target"),
    [("n1:0", ("n1", 0)), ("gpu-01.site:15", ("gpu-01.site", 15)), ("server1", ("server1", None))],
)
def test_targets(text: str, target: tuple) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["", ":0", "n1:", "n1:x", "n1:-1", "n[1-2]:0", "n1:0:1", "-n1", "a b", "n1:00000"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(RequestError, match="NODE:GPU"):
        parse_target(text)


def test_reasons() -> None:
    assert check_reason(" ECC errors ") == "ECC errors"
    for text in ("", "  ", "a\nb", "a\x1bb", "x" * 301):
        with pytest.raises(RequestError, match="--reason"):
            check_reason(text)
