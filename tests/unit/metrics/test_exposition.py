import re
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from slurm_gpushare.metrics import accumulate, gpu_hours
from slurm_gpushare.metrics.exposition import COUNTER, FAMILIES, page
from slurm_gpushare.metrics.figures import Figures, GpuFigures, JobFigures, newest
from slurm_gpushare.metrics.live import LiveGpu
from slurm_gpushare.usage import SOURCES

DOCS = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"

GPU = GpuFigures(
    LiveGpu(0, "GPU-0", "Tesla P100", 16 << 30, 0.5, 3 << 30, 120.0),
    "GPU-0",
    0.75,
    gpu_hours.Sums(
        None, 10.0, 0.0, 0.0, 7.5, 5.0, 4.0, 0.5, 0.5, energy=100.0, energy_jobs=80.0, energy_overhead=5.0,
        energy_unattributed=15.0,
    ),
)  # fmt: skip
JOB = JobFigures(
    7, "alice", 0, "GPU-0", "shard", "node", 0.25, 1000.0, 3.0, 0.2, 1 << 30, 4 << 30, 2,
    accumulate.Sums(
        sampled=10.0, estimated=1.0, used=2.0, idle=0.75, over=0.25, without_process=0.5, energy=30.0,
        memory_max=2 << 30,
    ),
)  # fmt: skip
FIGURES = Figures("node", "n1", 1500.0, (GPU,), (JOB,))


def read(text):
    """Return the page as prometheus_client reads it: (name, labels) -> value, and the type of each name."""
    found, kinds = {}, {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, "one series twice"
            found[key] = sample.value
            kinds[sample.name] = family.type
    return found, kinds


def value(text, name, **labels):
    """Return the value of the one series that has these labels among its own; None where there is none."""
    found, _ = read(text)
    fitting = [one for (its, has), one in found.items() if its == name and labels.items() <= dict(has).items()]
    assert len(fitting) <= 1
    return fitting[0] if fitting else None


def test_all_that_is_known_is_shown_under_its_name_and_type():
    text, dropped = page(FIGURES, 1000, {"gpushare_agent_unsent_bytes": 12, "process_cpu_seconds_total": 0.5,
                                         "process_resident_memory_bytes": 1024})  # fmt: skip
    found, kinds = read(text)
    assert dropped == 0
    assert {name for name, _ in found} == set(FAMILIES)
    assert kinds == {name: kind for name, (kind, _) in FAMILIES.items()}
    assert value(text, "gpushare_agent_info", node="n1", kind="node") == 1
    assert value(text, "gpushare_agent_last_sample_timestamp_seconds") == 1500
    assert value(text, "gpushare_gpu_utilization_ratio", gpu="0", uuid="GPU-0") == 0.5
    assert value(text, "gpushare_gpu_reserved_ratio", gpu="0") == 0.75
    parts = {by: value(text, "gpushare_gpu_used_seconds_total", by=by) for by in ("jobs", "overhead", "unattributed")}
    assert parts == {"jobs": 4.0, "overhead": 0.5, "unattributed": 0.5}
    joules = [value(text, "gpushare_gpu_energy_joules_total", by=by) for by in parts]
    assert joules == [80.0, 5.0, 15.0]
    mine = {"jobid": "7", "user": "alice", "gpu": "0", "uuid": "GPU-0", "source": "node"}
    expected = {
        "gpushare_job_info": 1,
        "gpushare_job_start_timestamp_seconds": 1000,
        "gpushare_job_gpu_share_ratio": 0.25,
        "gpushare_job_gpu_reserved_seconds_total": 3,
        "gpushare_job_gpu_sampled_seconds_total": 10,
        "gpushare_job_gpu_estimated_seconds_total": 1,
        "gpushare_job_gpu_used_seconds_total": 2,
        "gpushare_job_gpu_idle_seconds_total": 0.75,
        "gpushare_job_gpu_without_process_seconds_total": 0.5,
        "gpushare_job_gpu_over_seconds_total": 0.25,
        "gpushare_job_gpu_energy_joules_total": 30,
        "gpushare_job_gpu_utilization_ratio": 0.2,
        "gpushare_job_gpu_memory_used_bytes": 1 << 30,
        "gpushare_job_gpu_memory_peak_bytes": 2 << 30,
        "gpushare_job_gpu_memory_share_bytes": 4 << 30,
        "gpushare_job_gpu_processes": 2,
    }
    assert {name: value(text, name, **mine) for name in expected} == expected
    assert value(text, "gpushare_job_info", backend="shard") == 1


def test_names_follow_the_conventions():
    for name, (kind, meaning) in FAMILIES.items():
        assert re.fullmatch(r"(gpushare|process)_[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (kind == COUNTER)
        # Base units, and the unit last.
        assert re.search(r"_(seconds|bytes|joules|watts|ratio|info|series|processes)(_total)?$", name), name
        assert meaning.endswith(".") and "\n" not in meaning and "\\" not in meaning


def test_what_is_not_known_is_not_shown_and_never_as_0():
    job = replace(JOB, sm=None, memory=None, memory_share=None, processes=None, totals=accumulate.Sums())
    gpu = replace(GPU, now=LiveGpu(0, None, None, None, None, None, None), totals=gpu_hours.Sums())
    text, _ = page(replace(FIGURES, gpus=(gpu,), jobs=(job,)), 1000, {"process_resident_memory_bytes": None})
    shown = {name for name, _ in read(text)[0]}
    assert {name for name in shown if name.startswith("gpushare_job_")} == {
        "gpushare_job_info",
        "gpushare_job_start_timestamp_seconds",
        "gpushare_job_gpu_share_ratio",
        "gpushare_job_gpu_reserved_seconds_total",
        "gpushare_job_gpu_sampled_seconds_total",
        "gpushare_job_gpu_estimated_seconds_total",
    }
    assert {name for name in shown if name.startswith("gpushare_gpu_")} == {
        "gpushare_gpu_info",
        "gpushare_gpu_reserved_ratio",
        "gpushare_gpu_reserved_seconds_total",
        "gpushare_gpu_sampled_seconds_total",
    }
    assert "process_resident_memory_bytes" not in shown


def test_a_value_that_is_no_number_does_not_spoil_the_page():
    text, _ = page(replace(FIGURES, jobs=(replace(JOB, sm=float("nan"), memory=float("inf")),)), 1000)
    assert value(text, "gpushare_job_gpu_utilization_ratio") is None
    assert value(text, "gpushare_job_gpu_memory_used_bytes") is None
    assert value(text, "gpushare_job_gpu_used_seconds_total") == 2


def test_over_the_limit_the_youngest_jobs_are_left_out_whole_and_it_is_said():
    jobs = tuple(replace(JOB, job_id=number, started=float(number)) for number in range(30, 0, -1))
    text, dropped = page(replace(FIGURES, jobs=jobs), 100)
    found, _ = read(text)
    of_jobs = [dict(labels)["jobid"] for _, labels in found if "jobid" in dict(labels)]
    assert set(of_jobs) == {str(number) for number in range(1, 6)}
    assert len(of_jobs) == 5 * 16
    assert dropped == 25 * 16 == value(text, "gpushare_agent_dropped_series")
    assert value(text, "gpushare_gpu_power_watts") == 120


def test_of_two_runs_of_a_job_the_later_one_is_shown():
    assert newest([replace(JOB, started=5.0), replace(JOB, started=3.0)]) == (replace(JOB, started=5.0),)
    assert len(newest([JOB, replace(JOB, gpu=1), replace(JOB, job_id=8)])) == 3


words = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
)
amounts = st.none() | st.floats(0, 1e15)


def sums(kind):
    values = {
        each.name: st.none() | st.floats(0, 1e12) if each.default is None else st.floats(0, 1e12)
        for each in fields(kind)
        if each.name not in ("name", "told", "memory_max")
    }
    return st.builds(kind, **values)


@given(
    gpus=st.lists(
        st.builds(
            GpuFigures,
            st.builds(LiveGpu, st.integers(0, 99), words, words, amounts, amounts, amounts, amounts),
            words,
            st.floats(0, 9),
            sums(gpu_hours.Sums),
        ),
        max_size=3,
        unique_by=lambda gpu: gpu.now.number,
    ),
    jobs=st.lists(
        st.builds(
            JobFigures,
            job_id=st.integers(1, 2**32),
            user=words,
            gpu=st.integers(0, 99),
            name=words,
            backend=words,
            source=st.sampled_from(SOURCES),
            fraction=st.floats(0, 1),
            started=st.floats(0, 4e9),
            reserved=st.floats(0, 1e12),
            sm=amounts,
            memory=amounts,
            memory_share=amounts,
            processes=st.none() | st.integers(0, 10**6),
            totals=sums(accumulate.Sums),
        ),
        max_size=4,
        unique_by=lambda job: (job.job_id, job.gpu),
    ),
    most=st.integers(0, 120),
)
def test_prometheus_reads_every_page_with_the_labels_as_they_were(gpus, jobs, most):
    figures = Figures("node", "n1", 1500.0, tuple(gpus), tuple(jobs))
    whole, dropped = page(figures, 10**6)
    found, kinds = read(whole)
    assert dropped == 0
    assert all(FAMILIES[name][0] == kind for name, kind in kinds.items())
    texts = {(dict(labels)["jobid"], dict(labels)["user"], dict(labels)["uuid"], dict(labels)["backend"])
             for name, labels in found if name == "gpushare_job_info"}  # fmt: skip
    assert texts == {(str(job.job_id), job.user, job.name, job.backend) for job in jobs}
    for job in jobs:
        shown = value(whole, "gpushare_job_gpu_utilization_ratio", jobid=str(job.job_id), gpu=str(job.gpu))
        assert shown == (None if job.sm is None else round(job.sm, 6))
    part, dropped = page(figures, most)
    shown, _ = read(part)
    always = [key for key in found if key[0].startswith(("gpushare_agent", "gpushare_build"))]
    assert len(shown) + dropped == len(found)
    assert len(shown) <= most + len(always)
    assert all(found[key] == one for key, one in shown.items() if key not in always)


def test_the_documentation_names_every_metric():
    rows = re.findall(r"^\| `((?:gpushare|process)_\w+)` \| (\w+) \|", DOCS.read_text(), re.M)
    assert rows == [(name, kind) for name, (kind, _) in FAMILIES.items()]
    counts = Counter(name.split("_")[1] for name, _ in read(page(FIGURES, 1000)[0])[0])
    assert f"{counts['gpu']} for each GPU, {counts['job']} for each GPU of each job" in DOCS.read_text()
