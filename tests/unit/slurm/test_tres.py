"""TRES strings."""

from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.slurm.tres import gres_count, gres_types, parse_tres

NAME = st.from_regex(r"[a-z]+(/[a-z]+(:[a-z0-9]+)?)?", fullmatch=True)


def test_types_are_not_counted_beside_their_sum() -> None:
    tres = parse_tres("billing=8,cpu=8,gres/gpu=3,gres/gpu:a100=2,gres/gpu:t4=1,mem=32G,node=1")
    assert gres_count(tres, "gpu") == 3
    assert gres_types(tres, "gpu") == ["a100", "t4"]
    assert gres_count(parse_tres("gres/gpu:a100=2,gres/gpu:t4=1"), "gpu") == 3
    assert gres_count(parse_tres("cpu=8,gres/gpumem=5G"), "gpu") == 0
    assert parse_tres("") == {}


@given(st.dictionaries(NAME, st.integers(0, 10**6)))
def test_every_amount_is_found_again(tres: dict[str, int]) -> None:
    assert parse_tres(",".join(f"{name}={amount}" for name, amount in tres.items())) == {
        name: str(amount) for name, amount in tres.items()
    }
