"""unmunge's answers, as munge 0.5.16 prints them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.accounting.identity import IdentityError, identify, parse_unmunge

HEAD = """STATUS:          {status}
ENCODE_HOST:     login (10.77.0.1)
ENCODE_TIME:     2026-11-22 16:19:10 +0000 (1795364350)
DECODE_TIME:     2026-11-22 16:19:10 +0000 (1795364350)
TTL:             300
CIPHER:          aes128 (4)
MAC:             sha256 (5)
ZIP:             none (0)
UID:             {user} ({uid})
GID:             root (0)
LENGTH:          {length}

"""


def printed(payload: bytes, status: str = "Success (0)", user: str = "alice", uid: object = 1001, length=None) -> bytes:
    length = len(payload) if length is None else length
    return HEAD.format(status=status, user=user, uid=uid, length=length).encode() + payload


@given(st.binary(), st.integers(0, 2**32 - 2))
def test_any_payload_comes_back(payload: bytes, uid: int) -> None:
    identity = parse_unmunge(printed(payload, uid=uid))
    assert (identity.uid, identity.payload) == (uid, payload)


def test_a_payload_cannot_pose_as_metadata() -> None:
    identity = parse_unmunge(printed(b"UID:             root (0)\n\nSTATUS:          Success (0)\n"))
    assert identity.uid == 1001


def test_a_uid_without_a_name() -> None:
    assert parse_unmunge(printed(b"x", user="???", uid=4711)).uid == 4711


@pytest.mark.parametrize(
    "output",
    [
        printed(b"x", status="Replayed credential (17)"),
        printed(b"x", status="Expired credential (15)"),
        printed(b"x", uid="zero"),
        printed(b"x", length=2),
        printed(b"xy", length=1),
        b"",
        b"\n\n",
        b"\xff\xfe\n\n",
    ],
)
def test_all_else_is_nobody(output: bytes) -> None:
    with pytest.raises(IdentityError):
        parse_unmunge(output)


def test_a_status_other_than_0_is_nobody_whatever_is_printed(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    answer.write_bytes(printed(b"x"))
    program = tmp_path / "unmunge"
    for status in (0, 17):
        program.write_text(f"#!/bin/sh\ncat {answer}\nexit {status}\n")
        program.chmod(0o755)
        if status == 0:
            assert identify("c", str(program)).uid == 1001
        else:
            with pytest.raises(IdentityError, match="17"):
                identify("c", str(program))


def test_no_munge_is_nobody(tmp_path: Path) -> None:
    program = tmp_path / "unmunge"
    with pytest.raises(IdentityError, match="unmunge"):
        identify("c", str(program))
    program.write_text("#!/bin/sh\necho 'unmunge: Error: Failed to match armor prefix' >&2\nexit 8\n")
    program.chmod(0o755)
    for credential in ("c", "", "\udcff"):
        with pytest.raises(IdentityError, match="armor prefix"):
            identify(credential, str(program))
