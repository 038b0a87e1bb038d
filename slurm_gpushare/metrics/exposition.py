"""What an agent measures as text that Prometheus reads: format 0.0.4, names and units by its conventions.

https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/practices/naming/.
Standard library only, and no client library: this is one page that is made anew each time, of which nothing is kept
(prometheus_client takes 2 MB more in each agent, and its start 0.1 s). What is not known has no sample.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

from slurm_gpushare import __version__
from slurm_gpushare.metrics.figures import Figures, GpuFigures, JobFigures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

GAUGE, COUNTER = "gauge", "counter"

# All metrics: name, type, meaning. docs/metrics.md has the same table.
FAMILIES = {
    "gpushare_build_info": (GAUGE, "Version of the agent; always 1."),
    "gpushare_agent_info": (GAUGE, "Slurm's name of the node, or the name of the pool's server; always 1."),
    "gpushare_agent_last_sample_timestamp_seconds": (GAUGE, "When the GPUs were last sampled."),
    "gpushare_agent_dropped_series": (GAUGE, "Series left out since there are more than agent.metrics_series."),
    "gpushare_agent_unsent_bytes": (GAUGE, "Usage records on the node's disk that gpushare serve has not taken yet."),
    "gpushare_gpu_info": (GAUGE, "Model of the GPU; always 1."),
    "gpushare_gpu_memory_size_bytes": (GAUGE, "Memory that the GPU has."),
    "gpushare_gpu_memory_used_bytes": (GAUGE, "Memory that processes have on the GPU."),
    "gpushare_gpu_utilization_ratio": (GAUGE, "Share of the last sample period with a kernel on the GPU."),
    "gpushare_gpu_power_watts": (GAUGE, "Power that the GPU takes."),
    "gpushare_gpu_reserved_ratio": (GAUGE, "Share of the GPU that jobs have reserved."),
    "gpushare_gpu_reserved_seconds_total": (COUNTER, "GPU-seconds reserved by jobs, while its use was known."),
    "gpushare_gpu_sampled_seconds_total": (COUNTER, "Seconds in which the GPU's use was known."),
    "gpushare_gpu_used_seconds_total": (COUNTER, "GPU-seconds used, by jobs, MPS servers (overhead) or unattributed."),
    "gpushare_gpu_energy_joules_total": (COUNTER, "Energy, of jobs, MPS servers (overhead) or unattributed."),
    "gpushare_job_info": (GAUGE, "Backend of a job's share; always 1."),
    "gpushare_job_start_timestamp_seconds": (GAUGE, "When the run of the job began on this node."),
    "gpushare_job_gpu_share_ratio": (GAUGE, "Share of the GPU that the job has reserved."),
    "gpushare_job_gpu_reserved_seconds_total": (COUNTER, "GPU-seconds that the job has had reserved."),
    "gpushare_job_gpu_sampled_seconds_total": (COUNTER, "Seconds of the job in which its use was known."),
    "gpushare_job_gpu_estimated_seconds_total": (COUNTER, "Those of the sampled seconds whose use was estimated."),
    "gpushare_job_gpu_used_seconds_total": (COUNTER, "GPU-seconds that the job used."),
    "gpushare_job_gpu_idle_seconds_total": (COUNTER, "GPU-seconds reserved and not used."),
    "gpushare_job_gpu_without_process_seconds_total": (COUNTER, "Those of the idle in which it had no process there."),
    "gpushare_job_gpu_over_seconds_total": (COUNTER, "GPU-seconds used above the share."),
    "gpushare_job_gpu_energy_joules_total": (COUNTER, "The job's part of the GPU's energy."),
    "gpushare_job_gpu_utilization_ratio": (GAUGE, "Share of the whole GPU that the job used in the last interval."),
    "gpushare_job_gpu_memory_used_bytes": (GAUGE, "Memory that the job's processes have on the GPU."),
    "gpushare_job_gpu_memory_peak_bytes": (GAUGE, "The most memory that they had at a sample."),
    "gpushare_job_gpu_memory_share_bytes": (GAUGE, "The GPU memory that the job was given."),
    "gpushare_job_gpu_processes": (GAUGE, "Processes of the job on the GPU."),
    "process_cpu_seconds_total": (COUNTER, "CPU time of the agent."),
    "process_resident_memory_bytes": (GAUGE, "Resident memory of the agent."),
}

Sample = tuple[str, Mapping[str, str], float | None]  # name, labels, value; None is not known


def page(figures: Figures, most: int, own: Mapping[str, float | None] | None = None) -> tuple[str, int]:
    """Return the page, and how many series were left out of it so that it has ``most`` about.

    Left out are whole jobs, those that began last, so that what is shown once stays; then whole GPUs. ``own`` are the
    values without labels that the agent has of itself.
    """
    shown: dict[str, list[str]] = {name: [] for name in FAMILIES}
    left, dropped = most, 0
    for block in _blocks(figures):
        lines = [(name, _line(name, labels, value)) for name, labels, value in block if _is_known(value)]
        if left < len(lines) or dropped:
            dropped += len(lines)
            continue
        left -= len(lines)
        for name, line in lines:
            shown[name].append(line)
    head = [
        ("gpushare_build_info", {"version": __version__}, 1),
        ("gpushare_agent_info", {"node": figures.name, "kind": figures.kind}, 1),
        ("gpushare_agent_last_sample_timestamp_seconds", {}, round(figures.sampled, 3)),
        ("gpushare_agent_dropped_series", {}, dropped),
        *((name, {}, value) for name, value in (own or {}).items()),
    ]
    for name, labels, value in head:
        if _is_known(value):
            shown[name].append(_line(name, labels, value))
    return "".join(_family(name, lines) for name, lines in shown.items() if lines), dropped


def _blocks(figures: Figures) -> Iterator[Iterable[Sample]]:
    yield from map(_gpu, figures.gpus)
    for job in sorted(figures.jobs, key=lambda job: (job.started, job.job_id, job.gpu)):
        yield _job(job)


def _gpu(gpu: GpuFigures) -> Iterator[Sample]:
    now, totals = gpu.now, gpu.totals
    labels = {"gpu": str(now.number), "uuid": gpu.name}
    yield "gpushare_gpu_info", labels | {"model": now.model or ""}, 1
    yield "gpushare_gpu_memory_size_bytes", labels, now.memory_total
    yield "gpushare_gpu_memory_used_bytes", labels, now.memory
    yield "gpushare_gpu_utilization_ratio", labels, now.sm
    yield "gpushare_gpu_power_watts", labels, now.power
    yield "gpushare_gpu_reserved_ratio", labels, gpu.reserved
    yield "gpushare_gpu_reserved_seconds_total", labels, totals.reserved
    yield "gpushare_gpu_sampled_seconds_total", labels, totals.sampled
    for by in ("jobs", "overhead", "unattributed"):
        parts = labels | {"by": by}
        # What is left of a difference of floats is no negative amount.
        yield "gpushare_gpu_used_seconds_total", parts, _least(getattr(totals, by))
        yield "gpushare_gpu_energy_joules_total", parts, _least(getattr(totals, f"energy_{by}"))


def _job(job: JobFigures) -> Iterator[Sample]:
    totals = job.totals
    known = totals.sampled > 0
    labels = {"jobid": str(job.job_id), "user": job.user, "gpu": str(job.gpu), "uuid": job.name, "source": job.source}
    yield "gpushare_job_info", labels | {"backend": job.backend}, 1
    yield "gpushare_job_start_timestamp_seconds", labels, job.started
    yield "gpushare_job_gpu_share_ratio", labels, job.fraction
    yield "gpushare_job_gpu_reserved_seconds_total", labels, job.reserved
    yield "gpushare_job_gpu_sampled_seconds_total", labels, totals.sampled
    yield "gpushare_job_gpu_estimated_seconds_total", labels, totals.estimated
    yield "gpushare_job_gpu_used_seconds_total", labels, totals.used if known else None
    yield "gpushare_job_gpu_idle_seconds_total", labels, totals.idle if known else None
    yield "gpushare_job_gpu_without_process_seconds_total", labels, totals.without_process
    yield "gpushare_job_gpu_over_seconds_total", labels, totals.over if known else None
    yield "gpushare_job_gpu_energy_joules_total", labels, totals.energy
    yield "gpushare_job_gpu_utilization_ratio", labels, job.sm
    yield "gpushare_job_gpu_memory_used_bytes", labels, job.memory
    yield "gpushare_job_gpu_memory_peak_bytes", labels, totals.memory_max
    yield "gpushare_job_gpu_memory_share_bytes", labels, job.memory_share
    yield "gpushare_job_gpu_processes", labels, job.processes


def _least(value: float | None) -> float | None:
    return None if value is None else max(0.0, value)


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _family(name: str, lines: list[str]) -> str:
    kind, meaning = FAMILIES[name]
    return f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n{''.join(lines)}"


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    # Amounts are rounded at the microsecond, as in the records.
    number = repr(round(value, 6))
    return f"{name}{{{inner}}} {number}\n" if inner else f"{name} {number}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
