"""What ships for Prometheus and Grafana asks only for metrics and labels that the agent shows."""

import json
import re
from pathlib import Path

import pytest
import yaml

from slurm_gpushare.metrics.exposition import FAMILIES, page

from .test_exposition import FIGURES, read

ETC = Path(__file__).resolve().parents[3] / "etc"
BOARD = json.loads((ETC / "grafana" / "gpushare.json").read_text())
RULES = yaml.safe_load((ETC / "prometheus" / "gpushare.rules.yml").read_text())["groups"]
SCRAPE = yaml.safe_load((ETC / "prometheus" / "prometheus.yml").read_text())

OF_TARGET = {"instance", "job", "node"}
FUNCTIONS = {"sum", "rate", "count", "min", "max", "time", "min_over_time", "or", "vector", "by"}


def labels_of(name):
    """Return the labels that a metric has."""
    own = {name: 1.0 for name in FAMILIES if name.startswith(("process_", "gpushare_agent_unsent"))}
    found, _ = read(page(FIGURES, 1000, own)[0])
    (labels,) = {frozenset(dict(labels)) for its, labels in found if its == name}
    return labels


def queries():
    """Return all queries by where they stand."""
    found = [(panel["title"], target["expr"]) for panel in BOARD["panels"] for target in panel.get("targets", ())]
    for each in BOARD["templating"]["list"]:
        if each["type"] == "query":
            found.append((each["name"], re.fullmatch(r"label_values\((\w+), \w+\)", each["definition"])[1]))
    rules = [(rule.get("alert") or rule["record"], rule["expr"]) for group in RULES for rule in group["rules"]]
    return found + rules


@pytest.mark.parametrize("where, query", queries())
def test_a_query_asks_for_what_there_is(where, query):
    bare = re.sub(r'"[^"]*"', '""', query)
    names = set(re.findall(r"\b[a-z_]\w+", re.sub(r"\{[^}]*\}|\[[^]]*\]|\bby \([^)]*\)", " ", bare))) - FUNCTIONS
    assert names and names <= set(FAMILIES) | {"up"}
    for name, inner in re.findall(r"([a-z_]+)\{([^}]*)\}", bare):
        labels = set(re.findall(r"(\w+)=", inner))
        assert labels <= OF_TARGET | (labels_of(name) if name != "up" else set()), (where, name)
    for inner in re.findall(r"\bby \(([^)]*)\)", bare):
        assert set(inner.split(", ")) <= OF_TARGET.union(*map(labels_of, names - {"up"})), where
    # A counter is looked at through rate, or as it is in the table of the jobs; a gauge never through rate.
    for name in re.findall(r"\brate\((\w+)", bare):
        assert name.endswith("_total")


@pytest.mark.parametrize("where, query", queries())
def test_what_two_agents_measure_of_a_job_is_not_added_up(where, query):
    bare = re.sub(r"\{[^}]*\}", "", query)
    sums = re.findall(r"(\w+) by \(([^)]*)\) \((?:rate\()?gpushare_job_gpu_\w+", bare)
    assert all(source.split(", ")[-1] == "source" for function, source in sums if function == "sum")
    assert bare.count(", source)") == bare.count("max by (jobid, user) (sum by (jobid, user, source)"), where


def test_an_alert_names_labels_that_it_has():
    for rule in (rule for group in RULES for rule in group["rules"] if "alert" in rule):
        names = set(re.findall(r"gpushare_\w+", rule["expr"]))
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert used <= OF_TARGET.union(*map(labels_of, names)), rule["alert"]


def test_the_dashboard_is_whole():
    panels = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert all(panel["targets"] for panel in panels)
    taken = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    variables = {each["name"] for each in BOARD["templating"]["list"]} | {"__rate_interval", "__all"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD))) <= variables


def test_the_example_scrapes_under_the_name_that_queries_use():
    (job,) = SCRAPE["scrape_configs"]
    named = set(re.findall(r'\bjob="(\w+)"', " ".join(query for _, query in queries())))
    assert named == {job["job_name"]}
    (relabel,) = job["relabel_configs"]
    for address, node in (("n1:6828", "n1"), ("n1.example.org:6828", "n1.example.org"), ("[fd00::1]:6828", "fd00::1")):
        assert re.fullmatch(relabel["regex"], address)[1] == node
    assert SCRAPE["rule_files"] == ["gpushare.rules.yml"]
