"""The grant's text and its reader."""

import json

import pytest

from slurm_gpushare.errors import GrantError
from slurm_gpushare.grant import MAX_BYTES, Grant, decode_grant, grant_to_dict, looks_like_grant

GRANT = Grant("bitfusion", 2, 0.25, 50, 4070 * 1024**2, 1, "partition bitfusion", "gpu:0.25", 'a "b"\n')


def text_of(**changes: object) -> str:
    return json.dumps(grant_to_dict(GRANT) | changes, separators=(",", ":"))


def test_round_trip() -> None:
    assert decode_grant(text_of()) == GRANT
    assert decode_grant(text_of(memory=None)).memory is None


# As version 0.1 wrote it, to the byte. Jobs wait for weeks: every later version reads it.
FIRST = (
    r'{"v":1,"backend":"shard","gpus":1,"fraction":0.25,"slices":25,"memory":4267704320,"nodes":2,'
    r'"rule":"partition shard","request":"gpu:0.25","extra":"mine \"\u000a"}'
)


def test_what_the_first_version_wrote_is_read() -> None:
    assert decode_grant(FIRST) == Grant(
        "shard", 1, 0.25, 25, 4070 * 1024**2, 2, "partition shard", "gpu:0.25", 'mine "\n', 1
    )


def test_only_our_exact_beginning_is_a_grant() -> None:
    assert looks_like_grant('{"v":')
    for text in (None, "", "words", ' {"v":1}', '{ "v":1}', '{"V":1}'):
        assert not looks_like_grant(text)
        with pytest.raises(GrantError, match="does not begin"):
            decode_grant(text)


def test_another_version_is_named() -> None:
    with pytest.raises(GrantError, match="version 2 is not known here, only 1"):
        decode_grant(text_of(v=2))


@pytest.mark.parametrize(
    "changes",
    [
        {"v": True},
        {"gpus": 0},
        {"gpus": True},
        {"gpus": "1"},
        {"fraction": 0},
        {"fraction": 1.01},
        {"fraction": float("nan")},
        {"slices": 0.5},
        {"memory": 0},
        {"nodes": -1},
        {"rule": 3},
        {"backend": None},
        {"extra": "x" * MAX_BYTES},
    ],
)
def test_values_out_of_range_are_refused(changes: dict) -> None:
    with pytest.raises(GrantError):
        decode_grant(text_of(**changes))


@pytest.mark.parametrize("text", ['{"v":', '{"v":1', '{"v":1}x', '{"v":' + "[" * 900])
def test_broken_json_is_refused(text: str) -> None:
    with pytest.raises(GrantError):
        decode_grant(text)
