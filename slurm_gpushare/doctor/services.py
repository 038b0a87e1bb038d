"""What must answer: munge, slurmctld, the service, the agent, pools' servers; and the clock."""

from slurm_gpushare.doctor.check import Finding, check, ok
from slurm_gpushare.doctor.facts import Facts, Unseen

CLOCK_WARN, CLOCK_FAIL = 2.0, 60.0  # seconds; munge refuses credentials of 300 s, reports join within seconds
WAITS_LONG = 600.0  # seconds that a record waits in the spool of an agent whose service answers
SAMPLE_OLD = 60.0  # seconds without news of an agent


@check(
    "munge", "munged gives a credential and takes it back.", "systemctl restart munge; its key is the same on all hosts"
)
def munge(facts: Facts) -> Finding:
    """A round trip."""
    fault = facts.value("munge")
    return Finding("fail", f"munge: {fault}") if fault else ok("round trip")


@check("slurm.controller", "slurmctld answers.", "systemctl status slurmctld on the controller; its log")
def controller(facts: Facts) -> Finding:
    """By `scontrol show config`."""
    try:
        facts.config()
    except Unseen as error:
        return Finding("fail", str(error))
    return ok("slurmctld answers")


@check(
    "service",
    "`gpushare serve` answers at the address that the policy says.",
    "systemctl enable --now gpushare-serve on the accounting host; agent.service in the policy is its address",
)
def service(facts: Facts) -> Finding:
    """Whatever it says of live measurements."""
    url = facts.policy()["agent"]["service"]
    if not url:
        return Finding("skip", "the policy names no service: agent.service")
    answer = facts.value("service")
    return ok(f"{url} answers") if isinstance(answer, dict) else Finding("fail", str(answer))


@check(
    "service.store",
    "The service answers out of its database.",
    "its journal (`journalctl -u gpushare-serve`), and the database that service.database in the policy names",
    ("accounting", "controller"),
)
def store(facts: Facts) -> Finding:
    """It reports on the last second."""
    fault = facts.value("store")
    return Finding("fail", fault) if fault else ok("it reports")


@check(
    "service.agents",
    "Agents of nodes have sent to the service of late.",
    "systemctl status gpushare-agent on these nodes",
    ("accounting", "controller"),
)
def agents(facts: Facts) -> Finding:
    """Age of each agent's last news, in seconds."""
    answer = facts.value("service")
    if not isinstance(answer, dict):
        return Finding("skip", "the service does not answer")
    ages = {one["name"]: one["age"] for one in answer["agents"]}
    if not ages:
        return Finding("warn", "no agent has sent anything since the service was started")
    late = [f"{name} ({age:.0f} s)" for name, age in sorted(ages.items()) if age > SAMPLE_OLD]
    return Finding("warn", "silent: " + ", ".join(late)) if late else ok(f"{len(ages)} agents")


@check(
    "agent",
    "The node's agent runs: without it nothing is measured (jobs run all the same).",
    "systemctl enable --now gpushare-agent",
    ("node",),
)
def agent(facts: Facts) -> Finding:
    """Its socket takes a connection."""
    fault = facts.value("agent")
    return Finding("fail", fault) if fault else ok("its socket answers")


@check(
    "agent.spool",
    "What the agent measured reaches the service: nothing waits for long on the node's disk, nothing was refused.",
    "the lines in refused.jsonl name the reason; for what waits, see the check `service` here and the agent's journal",
    ("node",),
)
def spool(facts: Facts) -> Finding:
    """Lines in the spool's files, and the age of the oldest that waits."""
    found = facts.value("spool")  # folder; waiting, refused, corrupt: lines; age: seconds, or None
    bad = [f"{found[name]} in {name}.jsonl" for name in ("refused", "corrupt") if found[name]]
    if bad:
        return Finding("warn", f"{found['folder']}: records that are kept and not sent: {', '.join(bad)}")
    if found["waiting"] and (found["age"] or 0) > WAITS_LONG:
        return Finding("warn", f"{found['folder']}: {found['waiting']} records wait, the first {found['age']:.0f} s")
    return ok(f"{found['waiting']} records wait to be sent")


@check(
    "pool.servers",
    "Servers of pools accept connections.",
    "look at the server and the network between; backends.….servers in the policy has the addresses",
    ("controller", "node", "login"),
)
def servers(facts: Facts) -> Finding:
    """Each address of the policy's."""
    silent = facts.value("silent_servers")
    return Finding("fail", "; ".join(silent)) if silent else ok("each that the policy names, or none named")


@check(
    "clock",
    "This host's clock and the service's agree: records are joined by time.",
    "run chrony or systemd-timesyncd on both",
)
def clock(facts: Facts) -> Finding:
    """By the Date of the service's answer."""
    skew = abs(facts.value("clock_skew"))
    if skew > CLOCK_WARN:
        return Finding("fail" if skew > CLOCK_FAIL else "warn", f"{skew:.0f} s from the service's clock")
    return ok(f"within {CLOCK_WARN:g} s of the service's")
