"""Whether the text of a site's job_submit.lua lets ours run."""

from pathlib import Path

import pytest

from slurm_gpushare.policy.included import LINE, include_fault
from slurm_gpushare.policy.lua import shipped_etc

SITE = "function slurm_job_submit(job) return slurm.SUCCESS end\nslurm_job_modify = slurm_job_submit\n"


def test_the_shipped_file_and_a_sites_with_the_line_at_its_end_do():
    shipped = Path(shipped_etc(), "slurm", "job_submit.lua").read_text()
    assert shipped.splitlines()[-1] == LINE
    assert include_fault(shipped) is None
    assert include_fault(SITE + LINE) is None
    assert include_fault(SITE + LINE.replace("/etc/slurm", "/opt/slurm/etc") + " -- gpushare\nlocal x = 1\n") is None
    assert include_fault(SITE + LINE + "\nif slurm_job_submit == nil then error() end\n-- slurm_job_submit = 1") is None


@pytest.mark.parametrize("text", ["", SITE, f"{SITE}-- {LINE}\n"])
def test_one_without_the_line_does_not(text):
    assert include_fault(text) == (
        f"includes nothing of slurm-gpushare, so no job gets a share of a GPU: write as its last line {LINE}"
    )


@pytest.mark.parametrize(
    ("below", "name"),
    [
        ("function slurm_job_submit(job)\nend", "submit"),
        ("x = 1; function  slurm_job_modify() end", "modify"),
        ("slurm_job_modify = slurm_job_submit", "modify"),
    ],
)
def test_one_that_goes_on_below_the_line_replaces_ours(below, name):
    assert include_fault(f"-- the site's\n{LINE}\n\n{below}\n") == (
        f"line 4 defines slurm_job_{name} below line 2, which includes ours: ours would not run: "
        f"make {LINE} the last line"
    )
