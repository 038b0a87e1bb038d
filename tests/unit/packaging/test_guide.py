"""docs/install.md can be done word by word: every block names its host, and what it does is undone."""

import pytest

from slurm_gpushare.policy.included import LINE
from tests.lab.guide import GUIDE, read_guide

TEXT = GUIDE.read_text()


def commands(section: str) -> str:
    """Return the commands of the section whose heading begins so."""
    return "".join(block.text for block in read_guide(TEXT) if block.section.startswith(section))


def test_every_block_is_for_a_host_that_the_test_knows() -> None:
    assert len(read_guide(TEXT)) == TEXT.count("\n```sh\n")


def test_a_block_without_a_host_is_refused() -> None:
    with pytest.raises(ValueError, match="write one of"):
        read_guide("## A\n\n```sh\nrm x\n```\n")


def test_no_other_fences() -> None:
    assert TEXT.count("```") == 2 * TEXT.count("\n```sh\n")


def test_the_include_is_the_one_that_is_checked() -> None:
    assert f"echo '{LINE}' >>/etc/slurm/job_submit.lua" in commands("5.")


def test_what_slurm_is_told_is_taken_back() -> None:
    remove = commands("Remove")
    for word in ("# gpushare begins", "shard", "gpushare\\.so", "job_submit\\.lua", "cli_filter\\.lua"):
        assert word in remove
    assert remove.index("scontrol reconfigure") < remove.index("apt-get purge")
