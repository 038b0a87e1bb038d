"""Who sees whose runs: decided by the rights that Slurm tells, kept in the store's queries, failing closed."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from slurm_gpushare.accounting import client
from slurm_gpushare.accounting.privacy import JOBS, SUMS, Rights, Sight, narrowed
from slurm_gpushare.accounting.read import summed
from slurm_gpushare.accounting.report import build
from slurm_gpushare.accounting.selection import JobRef, Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.errors import RequestError, StoreError
from slurm_gpushare.metrics.live import LiveGpu, LiveJob, LiveSample, sample_to_json
from slurm_gpushare.metrics.sender import post
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.rights import Person, Privacy
from tests.unit.accounting.month import GIB, T, run, used
from tests.unit.accounting.test_service import as_uid, credential, jobs_of, serve  # noqa: F401 (fixtures)

PERIOD = Selection(T, T + 2000)
ALICE, BOB, CAROL, OPERATOR, STRANGER = 1001, 1002, 1003, 1004, 4711
NAMES = {ALICE: "alice", BOB: "bob", CAROL: "carol", OPERATOR: "olga"}
PEOPLE = {
    "alice": Person(),
    "bob": Person("None", ("optics", "physics")),
    "carol": Person(),
    "olga": Person("Operator"),
}
BOBS = {"user": "bob", "uid": BOB, "account": "biology"}
CAROLS = {"user": "carol", "uid": CAROL, "account": "optics"}
ROWS = [run(1, 0, 100), run(2, 0, 100, **BOBS), run(3, 0, 100, **CAROLS), run(4, 0, 100, **(CAROLS | {"account": "x"}))]
OF = {1: {}, 2: {"uid": BOB, "user": "bob"}, 3: {"uid": CAROL, "user": "carol"}, 4: {"uid": CAROL, "user": "carol"}}
RECORDS = [
    used(job, 1, 100, 0.1, gpu=f"GPU-{job}", sm_p95=0.1, memory_share_bytes=4 * GIB, **whose)
    for job, whose in OF.items()
]


class Slurm:
    """What Slurm says, how often it was asked, and whether it answers."""

    def __init__(self, privacy: Privacy = Privacy(frozenset(), frozenset()), follow: bool = False):  # noqa: B008
        self.privacy, self.people, self.away, self.asked, self.now = privacy, dict(PEOPLE), False, [], 0.0
        self.rights = Rights(follow, self._person, self._privacy, self._known, self._clock)

    def _clock(self) -> float:
        return self.now

    def _person(self, name: str) -> Person | None:
        return self._said(name, self.people.get(name))

    def _privacy(self) -> Privacy:
        return self._said("config", self.privacy)

    def _known(self, kind: str, names: Iterable[str]) -> set[str]:
        return set(names) & (set(PEOPLE) if kind == "user" else {"physics", "optics"})

    def _said(self, what: str, value: object) -> object:
        self.asked.append(what)
        if self.away:
            raise SlurmError("sacctmgr: status 1: Problem talking to the database")
        return value

    def sight(self, uid: int, hidden_by: frozenset[str] = JOBS) -> Sight:
        return self.rights.sight(uid, NAMES.get(uid), hidden_by)


def test_users_see_their_own_coordinators_their_accounts_operators_all() -> None:
    slurm = Slurm()
    assert slurm.sight(ALICE) == Sight(ALICE)
    assert slurm.sight(BOB) == Sight(BOB, ("optics", "physics"))
    assert slurm.sight(OPERATOR) == Sight(None)
    assert slurm.sight(STRANGER) == Sight(STRANGER)
    slurm.people["alice"] = replace(PEOPLE["alice"], level="Administrator")
    slurm.now = 16.0
    assert slurm.sight(ALICE) == Sight(None)


def test_coordinators_have_no_rights_where_slurmdbd_gives_them_none() -> None:
    slurm = Slurm(Privacy(frozenset(), frozenset(), coordinators=False))
    assert slurm.sight(BOB) == Sight(BOB)
    assert slurm.sight(OPERATOR) == Sight(None)


@pytest.mark.parametrize(
    ("slurm_conf", "slurmdbd_conf", "jobs", "sums"),
    [
        ((), (), None, None),
        ((), ("jobs",), ALICE, ALICE),
        (("jobs",), (), ALICE, ALICE),
        ((), ("usage",), None, ALICE),
        ((), ("accounts", "nodes"), None, None),
    ],
)
def test_private_data_is_followed_where_the_policy_says_so(
    slurm_conf: tuple, slurmdbd_conf: tuple, jobs: int | None, sums: int | None
) -> None:
    privacy = Privacy(frozenset(slurm_conf), frozenset(slurmdbd_conf))
    following = Slurm(privacy, follow=True)
    assert (following.sight(ALICE, JOBS).uid, following.sight(ALICE, SUMS).uid) == (jobs, sums)
    assert Slurm(privacy).sight(ALICE, JOBS) == Sight(ALICE)
    # What is for operators alone stays so.
    assert (following.sight(ALICE, None), following.sight(OPERATOR, None)) == (Sight(ALICE), Sight(None))


@pytest.mark.parametrize("follow", [False, True])
def test_without_an_answer_nobody_sees_more_than_the_own(follow: bool) -> None:
    slurm = Slurm(follow=follow)
    slurm.away = True
    for uid in (ALICE, BOB, OPERATOR):
        sight = slurm.sight(uid)
        assert (sight.uid, sight.accounts) == (uid, ()) and "Problem talking" in sight.warning


def test_a_failure_is_remembered_for_seconds_and_then_asked_again() -> None:
    slurm = Slurm()
    slurm.away = True
    slurm.sight(BOB)
    slurm.sight(OPERATOR)
    assert slurm.asked == ["config", "bob"]
    slurm.away, slurm.now = False, 6.0
    assert slurm.sight(OPERATOR) == Sight(None)


def test_where_the_configuration_alone_is_not_known_coordinators_lose_and_operators_do_not() -> None:
    def away() -> Privacy:
        raise SlurmError("slurmdbd.conf cannot be read")

    rights = Rights(False, PEOPLE.get, away)
    sights = {uid: rights.sight(uid, NAMES.get(uid)) for uid in (ALICE, BOB, OPERATOR)}
    assert sights[ALICE] == Sight(ALICE) and sights[OPERATOR] == Sight(None)
    assert (sights[BOB].uid, sights[BOB].accounts) == (BOB, ()) and "cannot be read" in sights[BOB].warning
    following = Rights(True, PEOPLE.get, away).sight(ALICE, "alice")
    assert following.uid == ALICE and "cannot be read" in following.warning


def test_an_answer_holds_for_seconds_and_a_right_that_was_taken_ends() -> None:
    slurm = Slurm()
    for _ in range(3):
        slurm.sight(BOB)
    assert slurm.asked == ["config", "bob"]
    slurm.people["bob"] = Person()
    slurm.now = 16.0
    assert slurm.sight(BOB) == Sight(BOB)
    slurm.away, slurm.now = True, 32.0
    assert slurm.sight(OPERATOR).uid == OPERATOR


def test_what_remains_of_a_question() -> None:
    others, own = replace(PERIOD, users=("alice", "bob")), replace(PERIOD, users=("bob",))
    assert narrowed(others, Sight(None), None) == others
    assert narrowed(own, Sight(BOB, ("physics",)), "bob") == replace(PERIOD, uid=BOB)
    assert narrowed(others, Sight(BOB, ("physics",)), "bob") == replace(others, uid=BOB, accounts_seen=("physics",))
    assert narrowed(PERIOD, Sight(BOB), "bob") == replace(PERIOD, uid=BOB)
    # Rights never come with the question.
    asked = replace(PERIOD, uid=0, accounts_seen=("physics",))
    assert narrowed(asked, Sight(BOB), "bob") == replace(PERIOD, uid=BOB)
    with pytest.raises(RequestError, match="jobs of alice"):
        narrowed(others, Sight(BOB), "bob")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = Store(database_url)
    store.add_jobs(ROWS)
    store.add_usage(RECORDS)
    yield store
    store.close()


def test_the_store_tells_a_coordinator_runs_and_records_of_the_accounts_and_the_own(store: Store) -> None:
    seen = replace(PERIOD, uid=BOB, accounts_seen=("optics", "physics"))
    assert {row.job_id for row in store.jobs(seen)} == {1, 2, 3}
    assert {record.job_id for record in store.usage(seen)} == {1, 2, 3}
    assert {row.job_id for row in store.jobs(replace(seen, users=("carol",)))} == {3}
    assert {record.job_id for record in store.usage(replace(seen, users=("carol",)))} == {3}
    assert {record.job_id for record in store.usage(replace(PERIOD, uid=CAROL))} == {3, 4}


def test_a_run_in_another_account_is_another_matter_than_the_same_job_in_ours(store: Store) -> None:
    store.add_jobs([run(3, 500, 600, submit=T + 400, restart=1, **(CAROLS | {"account": "secret"}))])
    store.add_usage([used(3, 501, 600, 0.2, uid=CAROL, user="carol")])
    seen = replace(PERIOD, uid=BOB, accounts_seen=("optics",))
    assert [record.started for record in store.usage(seen) if record.job_id == 3] == [T + 1]
    reports = build(store.jobs(seen), store.usage(seen), T, T + 2000)
    assert [(one.job_id, one.account) for one in reports] == [(2, "biology"), (3, "optics")]


@pytest.mark.parametrize("by", [("user",), ("account",), ("user", "day")])
@pytest.mark.parametrize("days", [1, 40])
def test_sums_are_those_of_the_runs_that_are_seen(store: Store, days: int, by: tuple[str, ...]) -> None:
    """Whole days may come from roll-ups, parts of them from records: the rule is one."""
    around = Selection(T - days * 86400, T + days * 86400)
    seen = replace(around, uid=BOB, accounts_seen=("optics", "physics"))
    all_of = summed(store, replace(around, accounts=("optics", "physics")), by) + summed(
        store, replace(around, users=("bob",)), by
    )
    key = lambda line: sorted(line.group.items())  # noqa: E731
    assert sorted(summed(store, seen, by), key=key) == sorted(all_of, key=key)
    assert {line.group["user"] for line in summed(store, replace(around, uid=CAROL), ("user",))} == {"carol"}


def test_a_record_without_a_run_is_for_its_owner_alone(store: Store) -> None:
    store.add_usage([used(9, 1, 50, 0.1, uid=CAROL, user="carol")])
    assert 9 not in {record.job_id for record in store.usage(replace(PERIOD, uid=BOB, accounts_seen=("optics",)))}
    assert 9 in {record.job_id for record in store.usage(replace(PERIOD, uid=CAROL))}


@pytest.fixture
def served(serve, as_uid, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    """A service with the history above, and Slurm's word on who may see what."""
    monkeypatch.setattr("slurm_gpushare.accounting.service._user_name", NAMES.get)
    slurm = Slurm()
    service = serve(lambda *arguments: ROWS, rights=slurm.rights)
    service.store.add_usage(RECORDS)
    service.slurm = slurm
    return service


def numbers(service, **chosen: object) -> set[int]:
    return {one["job_id"] for one in jobs_of(service.url, replace(PERIOD, **chosen)).runs}


def test_every_report_is_answered_by_identity(served, as_uid) -> None:  # noqa: F811
    for uid, seen in ((ALICE, {1}), (BOB, {1, 2, 3}), (CAROL, {3, 4}), (OPERATOR, {1, 2, 3, 4}), (STRANGER, set())):
        as_uid(uid)
        assert numbers(served) == seen
        for name in ("usage", "efficiency", "chargeback"):
            said = repr(client.ask(served.url, name, PERIOD, **({"by": "user"} if name != "chargeback" else {})).data)
            for one, job in (("alice", 1), ("bob", 2), ("carol", 3)):
                assert (repr(one) in said) == (job in seen or (one == "carol" and 4 in seen)), (name, uid, one)
        assert {line["user"] for line in client.ask(served.url, "advice", PERIOD).data["lines"]} == {
            row.user for row in ROWS if row.job_id in seen
        }
        for job in (1, 2, 3, 4):
            told = client.ask(served.url, "job", replace(PERIOD, jobs=(JobRef(job),))).data["runs"]
            assert bool(told) == (job in seen), (uid, job)


def test_the_names_in_a_question(served, as_uid) -> None:  # noqa: F811
    as_uid(ALICE)
    for names in (("bob",), ("alice", "bob"), ("nobody1",)):
        with pytest.raises(StoreError, match="only coordinators of their accounts"):
            numbers(served, users=names)
    as_uid(BOB)
    assert numbers(served, users=("carol",)) == {3}
    assert numbers(served, users=("bob",)) == {2}
    assert numbers(served, accounts=("x",)) == set()


def test_who_is_unknown_is_said(served, as_uid) -> None:  # noqa: F811
    answer = jobs_of(served.url, replace(PERIOD, users=("nobody1", "alice")))
    assert {one["job_id"] for one in answer.runs} == {1}
    assert answer.warnings == ["nobody1: neither Slurm nor the store knows a user of that name"]
    assert jobs_of(served.url, replace(PERIOD, users=("olga",))).warnings == []
    # One who has left: Slurm knows no such user any more, the store does.
    served.store.add_jobs([run(7, 0, 10, user="gone", uid=77)])
    assert jobs_of(served.url, replace(PERIOD, users=("gone",))).warnings == []
    answer = jobs_of(served.url, replace(PERIOD, users=("alice",), accounts=("phisics", "physics", "closed")))
    assert answer.warnings == [
        f"{name}: neither Slurm nor the store knows an account of that name" for name in ("closed", "phisics")
    ]
    served.store.add_jobs([run(8, 0, 10, account="closed")])
    assert jobs_of(served.url, replace(PERIOD, accounts=("closed",))).warnings == []
    as_uid(BOB)  # who does not see all is not told what there is
    assert jobs_of(served.url, replace(PERIOD, accounts=("phisics",))).warnings == []


def test_without_slurm_a_coordinator_sees_the_own_and_is_told(served, as_uid) -> None:  # noqa: F811
    served.slurm.away = True
    as_uid(BOB)
    answer = jobs_of(served.url, PERIOD)
    assert {one["job_id"] for one in answer.runs} == {2}
    assert any("jobs of others may be missing" in line for line in answer.warnings)
    as_uid(0)
    assert numbers(served) == {1, 2, 3, 4}


def test_only_root_and_slurm_user_write_and_only_operators_export(served, as_uid) -> None:  # noqa: F811
    assert served.send(b"", OPERATOR)[0] == 403
    served.store.add_jobs(ROWS)
    period = ("jobs", 0.0, T + 86400.0)
    for uid in (ALICE, BOB):
        as_uid(uid)
        with pytest.raises(StoreError, match="only operators may"):
            list(client.export(served.url, *period))
    as_uid(OPERATOR)
    assert {row["job_id"] for row in client.export(served.url, *period)} == {1, 2, 3, 4}


def test_what_runs_now_is_told_by_the_same_rule(served, as_uid) -> None:  # noqa: F811
    served.store.add_jobs([run(job, 0, None, **who) for job, who in ((11, {}), (12, BOBS), (13, CAROLS))])
    jobs = tuple(LiveJob(11 + number, uid, number, 0.1, 5) for number, uid in enumerate((ALICE, BOB, CAROL)))
    gpus = tuple(LiveGpu(number, f"GPU-{number}", "Tesla", 100, 0.5, 5, 70.0) for number in range(3))
    body = sample_to_json(LiveSample("node", "n1", 0.0, gpus, jobs))
    assert post(served.url + "/v1/live", body, credential(0, body))[0] == 200
    for uid, seen in ((ALICE, {11}), (BOB, {11, 12, 13}), (CAROL, {13}), (OPERATOR, {11, 12, 13})):
        as_uid(uid)
        (agent,) = client.live(served.url)["agents"]
        assert {job["job_id"] for job in agent["jobs"]} == seen
        assert [gpu["sm"] is not None for gpu in agent["gpus"]] == [job in seen for job in (11, 12, 13)]
