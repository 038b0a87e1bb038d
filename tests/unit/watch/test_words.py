import pytest

from slurm_gpushare.watch.judge import Holding
from slurm_gpushare.watch.words import reason, told

GIB = 1 << 30


def test_the_user_reads_what_is_wrong_and_what_to_do():
    holding = Holding((7, 1.0), 1, 6 * GIB + 1, 4 * GIB)
    assert told(holding, "n1", ended=False) == (
        "gpushare: job 7 holds 6.0 GiB of GPU 1 of n1 and its share is 4.0 GiB: others may fail for it; "
        "ask for --gpu-mem=7G, or use less"
    )
    assert "the job is ended now" in told(holding, "n1", ended=True)


def test_the_reason_has_nothing_that_sacctmgr_reads_as_its_own():
    text = reason(Holding((7, 1.0), 1, 6 * GIB, 4 * GIB), "n1")
    assert text == (
        "gpushare: ended by the memory watcher: job 7 holds 6.0 GiB of GPU 1 of n1 and its share is 4.0 GiB"
    )
    assert not set(text) & set("=,'\"+-")


@pytest.mark.parametrize(("held", "shown"), [(4 * GIB + (30 << 20), "4.03 GiB"), (4 * GIB + (2 << 20), "4.002 GiB")])
def test_amounts_differ_where_they_nearly_agree(held, shown):
    assert f"holds {shown} " in reason(Holding((7, 1.0), 1, held, 4 * GIB), "n1")
