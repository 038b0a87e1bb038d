"""Munge's library, over one with the same functions that knows the credentials MUNGE:UID:PAYLOAD: alone.

As the real one it fills in payload and uid of a credential that it refuses as replayed (here: that of uid 17).
"""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.munge import MungeError, decode, encode

SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

const char *munge_strerror(int error) { return error == 17 ? "Replayed credential" : "Invalid credential"; }

int munge_encode(char **credential, void *context, const void *payload, int length)
{
    char *text = NULL;
    if (context != NULL || asprintf(&text, "MUNGE:%u:", (unsigned)geteuid()) < 0)
        return 1;
    *credential = malloc(strlen(text) + length + 2);
    sprintf(*credential, "%s%.*s:", text, length, (const char *)payload);
    free(text);
    return 0;
}

int munge_decode(const char *credential, void *context, void **payload, int *length, uid_t *uid, gid_t *gid)
{
    int at = 0;
    size_t size = strlen(credential);
    *payload = NULL;
    if (context != NULL || sscanf(credential, "MUNGE:%u:%n", uid, &at) != 1 || !at || credential[size - 1] != ':')
        return 8;
    *gid = *uid;
    *length = size - at - 1;
    if (*length > 0)
        *payload = strndup(credential + at, *length);
    return *uid == 17 ? 17 : 0;
}
"""


def build(folder: Path) -> str:
    """Return the path of the library."""
    library = folder / "libmunge.so"
    (folder / "munge.c").write_text(SOURCE)
    argv = ["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, folder / "munge.c"]
    subprocess.run(argv, check=True)
    return str(library)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build(tmp_path_factory.mktemp("munge"))


@given(payload=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200))
def test_what_was_encoded_is_decoded(library: str, payload: str) -> None:
    credential = encode(payload.encode(), library)
    assert credential.startswith("MUNGE:")
    assert decode(credential, library)[1] == payload.encode()


def test_whose_it_is(library: str) -> None:
    assert decode("MUNGE:1001:x:", library) == (1001, b"x")
    assert decode("MUNGE:4294967294::", library) == (4294967294, b"")


def test_a_refused_one_is_nobodys_though_it_was_filled_in(library: str) -> None:
    with pytest.raises(MungeError, match=r"Replayed credential \(17\)"):
        decode("MUNGE:17:x:", library)


@pytest.mark.parametrize("credential", ["", "MUNGE:1001:x", "root", "\udcff", "MUNGE:1:\0:"])
def test_what_is_none_is_refused(library: str, credential: str) -> None:
    with pytest.raises(MungeError):
        decode(credential, library)


def test_no_library_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MungeError, match="is munge installed"):
        encode(b"x", str(tmp_path / "none.so"))
