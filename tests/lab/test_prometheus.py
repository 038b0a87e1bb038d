"""A real Prometheus scrapes the agents of a lab, while two jobs share a GPU."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab import daemons
from tests.lab.cluster import Cluster, until
from tests.lab.known_loads import GIB, PYTHON, control
from tests.lab.prometheus import ROOT, Prometheus

POINTS = 0.02
POLICY = "/etc/gpushare/gpushare.yaml"
FIRST, SECOND = "127.0.0.1:6828", "127.0.0.1:6829"  # n1, n2
# May have nothing to show while all is well.
MAY_BE_EMPTY = {"Memory above the share", "Power, by whom"}


@dataclass
class Scene:
    """A lab whose agents are scraped, and two jobs on GPU 0 of n1."""

    lab: Cluster
    prometheus: Prometheus
    hers: int  # alice's, a quarter, which uses 20 %
    his: int  # bob's, a half, which uses 30 %

    def job(self, metric: str, job: int) -> float | None:
        """Return a value of one job's."""
        return self.prometheus.value(f'gpushare_job_{metric}{{jobid="{job}"}}')


def _empty(lab: Cluster) -> None:
    for user in ("alice", "bob"):
        lab.run("scancel", f"--user={user}", check=False)
    until("an empty queue", lambda: not lab.out("squeue", "-h"), 60)


def _submit(lab: Cluster, user: str, share: float, sm: int, gib: int) -> int:
    options = ("-t10", "-o/dev/null", "-wn1", f"--gres=gpu:{share}")
    command = f"exec gpu-workload --gpu 0 --sm {sm} --memory {gib}G --seconds 600"
    job = lab.sbatch(user, *options, script=lab.script(user, command))
    lab.wait_running(job)
    return job


def _set_metrics(lab: Cluster, address: str | None) -> None:
    edit = (
        "import sys, yaml; path, address = sys.argv[1:]; policy = yaml.safe_load(open(path));"
        "policy['agent']['metrics'] = address or None; yaml.safe_dump(policy, open(path, 'w'))"
    )
    lab.run(PYTHON, "-c", edit, POLICY, address or "")
    lab.run("gpushare", "policy", "compile")


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    """The agent of n1 shows its metrics by the policy, that of n2 by its option."""
    lab = cluster
    _empty(lab)
    prometheus = Prometheus(lab, [FIRST, SECOND])
    try:
        _set_metrics(lab, FIRST)
        for node in ("n1", "n2"):
            daemons.kill(lab, f"agent {node}", "TERM")
        daemons.start(lab, "agent n1")
        option = f"exec gpushare agent --metrics {SECOND} --node n2"
        lab.run("sh", "-c", f"{option} </dev/null >>/var/log/lab/again-agent-n2 2>&1 &", node="n2")
        prometheus.start()
        hers, his = _submit(lab, "alice", 0.25, 20, 1), _submit(lab, "bob", 0.5, 30, 2)
        scene = Scene(lab, prometheus, hers, his)
        enough = f'gpushare_job_gpu_sampled_seconds_total{{jobid=~"{hers}|{his}"}} > 15'
        until("15 s of both jobs", lambda: len(prometheus.ask(enough)) == 2, 60)
        yield scene
    finally:
        prometheus.stop()
        _set_metrics(lab, None)
        lab.run("sh", "-c", f"kill $(pgrep -f 'metrics.agent --metrics {SECOND}')", check=False)
        if daemons.pids(lab, "agent n1"):
            daemons.kill(lab, "agent n1", "TERM")
        until(
            "the end of n2's agent",
            lambda: not lab.out("pgrep", "-f", f"metrics.agent --metrics {SECOND}", check=False),
        )
        daemons.start_those_that_are_down(lab, ["agent n1", "agent n2"])
        _empty(lab)


def test_promtool_finds_nothing_to_say(scene: Scene) -> None:
    for words in (
        ("check", "config", "/tmp/prometheus/prometheus.yml"),
        ("check", "rules", "/tmp/prometheus/gpushare.rules.yml"),
    ):
        done = scene.prometheus.promtool(*words)
        assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr
    for address in (FIRST, SECOND):
        read = (
            f"import urllib.request; print(urllib.request.urlopen('http://{address}/metrics').read().decode(), end='')"
        )
        page = scene.lab.run(PYTHON, "-c", read).stdout
        assert "gpushare_gpu_info" in page
        done = scene.prometheus.promtool("check", "metrics", stdin=page)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_job_has_what_it_uses_and_the_gpu_the_sum_of_both(scene: Scene) -> None:
    prometheus = scene.prometheus
    gpus = {labels["uuid"] for labels, _ in prometheus.ask("gpushare_job_info")}
    assert len(gpus) == 1
    assert {(labels["jobid"], labels["user"], labels["backend"], labels["node"], labels["gpu"]) for labels, _ in
            prometheus.ask("gpushare_job_info")} == {
        (str(scene.hers), "alice", "shard", "127.0.0.1", "0"),
        (str(scene.his), "bob", "shard", "127.0.0.1", "0"),
    }  # fmt: skip
    for job, share, used, gib in ((scene.hers, 0.25, 0.2, 1), (scene.his, 0.5, 0.3, 2)):
        one = f'{{jobid="{job}"}}[10s]'
        rate = f"rate(gpushare_job_gpu_used_seconds_total{one}) / rate(gpushare_job_gpu_sampled_seconds_total{one})"
        assert prometheus.value(rate) == pytest.approx(used, abs=POINTS)
        assert scene.job("gpu_utilization_ratio", job) == pytest.approx(used, abs=POINTS)
        assert scene.job("gpu_memory_used_bytes", job) == gib * GIB
        assert scene.job("gpu_share_ratio", job) == share
        assert scene.job("gpu_processes", job) == 1
        parts = prometheus.value(
            f'(gpushare_job_gpu_used_seconds_total{{jobid="{job}"}} + gpushare_job_gpu_idle_seconds_total'
            f" - gpushare_job_gpu_over_seconds_total) / gpushare_job_gpu_sampled_seconds_total"
        )
        assert parts == pytest.approx(share, abs=1e-3)
    mine = f'{{uuid="{gpus.pop()}"}}'
    assert prometheus.value(f"gpushare_gpu_reserved_ratio{mine}") == 0.75
    assert prometheus.value(f"gpushare_gpu_utilization_ratio{mine}") == pytest.approx(0.5, abs=POINTS)
    last = mine + "[10s]"
    whole = f"sum(rate(gpushare_gpu_used_seconds_total{last})) / sum(rate(gpushare_gpu_sampled_seconds_total{last}))"
    assert prometheus.value(whole) == pytest.approx(0.5, abs=POINTS)
    jobs = 'sum(rate(gpushare_gpu_used_seconds_total{by="jobs"}[10s]))'
    both = "sum(rate(gpushare_job_gpu_used_seconds_total[10s]))"
    assert prometheus.value(f"{jobs} - {both}") == pytest.approx(0, abs=1e-3)
    assert {labels["gpu"] for labels, _ in prometheus.ask(f'gpushare_gpu_info{{instance="{SECOND}"}}')} == {"0", "1"}


def test_each_query_of_the_dashboard_and_of_the_rules_is_answered(scene: Scene) -> None:
    board = json.loads((ROOT / "etc" / "grafana" / "gpushare.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$instance", ".*").replace("$user", ".*").replace("$__rate_interval", "10s")
            assert scene.prometheus.ask(query) or panel["title"] in MAY_BE_EMPTY, (panel["title"], query)
    used = {labels["user"]: value for labels, value in scene.prometheus.ask("user:gpushare_job_gpu_used:rate5m")}
    assert set(used) == {"alice", "bob"}
    assert scene.prometheus.ask('ALERTS{alertstate="firing"}') == []


def test_counters_go_on_where_a_killed_agent_stopped(scene: Scene) -> None:
    before = scene.job("gpu_used_seconds_total", scene.his)
    daemons.kill(scene.lab, "agent n1")
    until("n1 is down", lambda: scene.prometheus.value(f'up{{instance="{FIRST}"}}') == 0)
    assert scene.prometheus.ask("gpushare_job_info") == []
    daemons.start(scene.lab, "agent n1")
    until("it goes on", lambda: (scene.job("gpu_used_seconds_total", scene.his) or 0) > before)
    resets = scene.prometheus.ask("resets(gpushare_job_gpu_used_seconds_total[10m])")
    assert [value for _, value in resets] == [0, 0]


def test_an_agent_that_hangs_does_not_repeat_itself(scene: Scene) -> None:
    daemons.kill(scene.lab, "agent n1", "STOP")
    try:
        until("n1 is down", lambda: scene.prometheus.value(f'up{{instance="{FIRST}"}}') == 0)
        assert scene.prometheus.ask(f'gpushare_gpu_info{{instance="{FIRST}"}}') == []
    finally:
        daemons.kill(scene.lab, "agent n1", "CONT")
    until("n1 is up", lambda: scene.prometheus.value(f'up{{instance="{FIRST}"}}') == 1)


def test_a_lost_gpu_has_no_values_until_it_is_back(scene: Scene) -> None:
    prometheus, gpu = scene.prometheus, f'gpushare_gpu_utilization_ratio{{instance="{FIRST}",gpu="0"}}'
    until("a value of the GPU", lambda: prometheus.ask(gpu))
    control(scene.lab, "n1", "fail", "0", "all", "gpu_is_lost")
    try:
        until("no value of the GPU", lambda: not prometheus.ask(gpu))
        until("none of the job", lambda: scene.job("gpu_utilization_ratio", scene.his) is None)
        assert scene.job("gpu_used_seconds_total", scene.his) > 0
        assert prometheus.value(f'gpushare_gpu_utilization_ratio{{instance="{FIRST}",gpu="1"}}') == 0
    finally:
        control(scene.lab, "n1", "heal", "0", "all")
    until("a value again", lambda: prometheus.ask(gpu), 60)


def test_the_series_of_a_job_end_with_it(scene: Scene) -> None:
    lab, prometheus = scene.lab, scene.prometheus
    until("both jobs", lambda: len(prometheus.ask("gpushare_job_info")) == 2)
    lab.run("scancel", str(scene.hers))
    lab.wait(scene.hers)
    hers = f'{{jobid="{scene.hers}"}}'
    until("no series of hers", lambda: not prometheus.ask(f'{{__name__=~"gpushare_.*",jobid="{scene.hers}"}}'))
    assert prometheus.value(f"count_over_time(gpushare_job_info{hers}[10m])") > 10
    assert scene.job("info", scene.his) == 1
    until(
        "only his share is reserved",
        lambda: prometheus.value(f'gpushare_gpu_reserved_ratio{{instance="{FIRST}",gpu="0"}}') == 0.5,
    )
