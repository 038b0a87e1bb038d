"""A pool's server out of service: its licences, and the reservations that Slurm shows."""

import pytest

from slurm_gpushare.drain import servers
from slurm_gpushare.drain.hold import write_comment
from slurm_gpushare.errors import RefusedError, RequestError
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.licences import Licence
from slurm_gpushare.status.jobs import HeldJob

LICENCES = [Licence(name, 100, 0, 100, True) for name in ("gpu0@s1", "gpu1@s1", "gpu0@s2", "bitfusion", "matlab@s1")]

# As 26.05.5 prints them with -o; the last one is a site's own, which has such a name.
LINE = (
    "ReservationName={} StartTime=1795454700 EndTime=1826990700 Duration=365-00:00:00 Nodes=(null) NodeCnt=0 "
    "CoreCnt=0 Features=(null) PartitionName=(null) Flags=ANY_NODES TRES=(null) AllowedPartitions=(null) QOS=(null) "
    "Users=root Groups=(null) Accounts=(null) Licenses=gpu0@s1:100 State=ACTIVE BurstBuffer=(null) "
    "MaxStartDelay=(null){}"
)


def _line(name: str, comment: str) -> str:
    return LINE.format(name, f" Comment={comment}" if comment else "")


def test_the_licences_of_a_server() -> None:
    assert servers.licences_of("s1", LICENCES) == {"gpu0@s1": 100, "gpu1@s1": 100}
    with pytest.raises(RequestError, match=r"licences of: s1, s2\)"):
        servers.licences_of("s3", LICENCES)
    with pytest.raises(RequestError, match="placement flat"):
        servers.licences_of("s1", LICENCES[3:4])


def test_reservations_of_ours_are_known_by_name_and_comment() -> None:
    ours = write_comment("s1", "carol", 1795454700, "fan = broken, Comment=x")
    lines = [
        _line("gpushare-drain-s1", ours),
        _line("gpushare-drain-s2", ours),
        _line("gpushare-drain-s3", "a site's own"),
        _line("gpushare-drain-s4", ""),
        _line("maintenance", ours),
    ]
    (hold,) = servers.parse_holds("\n".join(lines) + "\n").values()
    assert (hold.target, hold.kind, hold.by, hold.reason) == ("s1", "server", "carol", "fan = broken, Comment=x")
    assert hold.held_by == "reservation gpushare-drain-s1"
    assert servers.parse_holds("No reservations in the system\n") == {}


def test_jobs_with_licences_of_the_server_are_still_there() -> None:
    (hold,) = servers.parse_holds(_line("gpushare-drain-s1", write_comment("s1", "carol", 0, "fan"))).values()
    jobs = [HeldJob(number, str(number), "a", "RUNNING", 0, None, licences=held) for number, held in (
        (9, {"gpu0@s1": 25}), (3, {"gpu1@s1": 5, "matlab": 1}), (4, {"gpu0@s2": 25}), (5, {"gpu0@as1": 25})
    )]  # fmt: skip
    assert servers.with_jobs(hold, jobs).jobs == (3, 9)


def test_what_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(servers, "run_slurm", lambda argv, timeout: ran.append(argv) or "")
    servers.drain("s1", {"gpu0@s1": 100, "gpu1@s1": 50}, "why not")
    servers.resume("s1")
    assert "licenses=gpu0@s1:100,gpu1@s1:50" in ran[0] and "comment=why not" in ran[0]
    assert ran[1] == ["scontrol", "delete", "reservationname=gpushare-drain-s1"]


def test_who_may_not_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["scontrol: status 1: Error creating the reservation: Invalid user id"]

    def fail(argv: list[str], timeout: float) -> str:
        raise SlurmError(said[0])

    monkeypatch.setattr(servers, "run_slurm", fail)
    with pytest.raises(RefusedError, match="only root"):
        servers.resume("s1")
    said[0] = "scontrol: status 1: Error creating the reservation: Invalid license specification"
    with pytest.raises(SlurmError, match="Invalid license"):
        servers.drain("s1", {"gpu0@s1": 100}, "fan")
