"""Who coordinates what and what is private, as sacctmgr of 24.11.5 and 26.05.5 prints it."""

import pytest

from slurm_gpushare.slurm import rights
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.rights import Person, Privacy, parse_person, parse_privacy, person_argv

CONFIG = """Configuration data as of 2026-11-23T06:15:50
AccountingStorageHost  = login
PrivateData            = {slurm}
SlurmUserId            = slurm(64030)

SlurmDBD configuration:
DebugFlags             = (null)
DisableCoordDBD        = {disable}
PluginDir              = /usr/lib/x86_64-linux-gnu/slurm-wlm
PrivateData            = {dbd}
PurgeEventAfter        = NONE
StorageType            = accounting_storage/mysql
"""
# As sacctmgr 26.05.5 prints it: in the place of slurmdbd's settings those of its own.
ITS_OWN = CONFIG.format(slurm="none", dbd="none", disable="no").replace("/mysql", "/slurmdbd")
ITS_OWN += "SLURMDBD_CONF          = /etc/slurm/slurmdbd.conf\n"


def parse(text: str, file: str | None = None) -> Privacy:
    def read(path: str) -> str:
        if file is None:
            raise PermissionError(13, "Permission denied", path)
        assert path == "/etc/slurm/slurmdbd.conf"
        return file

    return parse_privacy(text, read)


def test_a_coordinator_has_the_accounts_below_too() -> None:
    assert parse_person("bob|None|optics,physics\n", "bob") == Person("None", ("optics", "physics"))
    assert parse_person("alice|None|\n", "alice") == Person()
    assert not Person().sees_all


@pytest.mark.parametrize("level", ["Operator", "Administrator"])
def test_operators_and_administrators_see_all(level: str) -> None:
    assert parse_person(f"carol|{level}|\n", "carol").sees_all


def test_who_is_not_named_is_nobody() -> None:
    assert parse_person("", "mallory") is None
    assert parse_person("bob|Administrator|\n", "mallory") is None


def test_what_is_not_readable_is_refused() -> None:
    with pytest.raises(SlurmError, match="sacctmgr show user"):
        parse_person("bob|Administrator\n", "bob")


def test_argv_names_one_user() -> None:
    assert "name=bob" in person_argv("bob") and "withcoord" in person_argv("bob")


def test_what_each_file_hides() -> None:
    assert parse(CONFIG.format(slurm="none", dbd="jobs,usage", disable="no")) == Privacy(
        frozenset(), frozenset({"jobs", "usage"})
    )
    assert parse(CONFIG.format(slurm="jobs", dbd="none", disable="yes")) == Privacy(
        frozenset({"jobs"}), frozenset(), coordinators=False
    )


@pytest.mark.parametrize("text", ["", CONFIG.partition("SlurmDBD")[0], CONFIG.replace("PrivateData ", "Other ")])
def test_what_is_not_told_is_no_permission(text: str) -> None:
    with pytest.raises(SlurmError, match="sacctmgr show config"):
        parse(text)


@pytest.mark.parametrize(
    ("file", "words", "coordinators"),
    [
        ("", (), True),
        ("AuthType=auth/munge\nPrivateData=jobs,Usage\n", ("jobs", "usage"), True),
        ("privatedata = none # PrivateData=jobs\nDISABLECOORDDBD=YES", (), False),
        ('DbdHost=login PrivateData="jobs" DisableCoordDBD=no', ("jobs",), True),
    ],
)
def test_where_sacctmgr_does_not_tell_slurmdbds_the_file_does(file: str, words: tuple, coordinators: bool) -> None:
    assert parse(ITS_OWN, file) == Privacy(frozenset(), frozenset(words), coordinators)


def test_a_file_that_cannot_be_read_or_is_not_all_is_no_permission() -> None:
    with pytest.raises(SlurmError, match=r"/etc/slurm/slurmdbd.conf cannot be read: Permission denied: run gpushare"):
        parse(ITS_OWN)
    with pytest.raises(SlurmError, match="has an Include"):
        parse(ITS_OWN, "Include /etc/slurm/more.conf\n")


def test_those_who_are_users(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(argv: list[str], timeout: float) -> str:
        asked.append(argv)
        return "alice\n"

    monkeypatch.setattr(rights, "run_slurm", run)
    assert rights.fetch_known("user", ["bobb", "alice"]) == {"alice"}
    assert rights.fetch_known("account", ["Alice"]) == {"Alice"}
    assert asked[0][2:] == ["show", "user", "where", "name=alice,bobb", "format=user"]
    assert asked[1][2:] == ["show", "account", "where", "name=Alice", "format=account"]
