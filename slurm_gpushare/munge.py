"""Munge's credentials, the identity that every Slurm host has, by its library: no process is started for one.

``munge_encode``, ``munge_decode`` and ``munge_strerror`` are those of munge.h (0.5.x), as Slurm's own auth/munge uses
them. What they return is malloc'ed and the caller's. Standard library only.
"""

import ctypes
import functools

LIBRARY = "libmunge.so.2"


class MungeError(Exception):
    """Munge gives or takes no such credential, munged does not answer, or munge is not installed."""


def encode(payload: bytes, library: str = LIBRARY) -> str:
    """Return a credential of this process's user over ``payload``; raises MungeError."""
    munge = _load(library)
    credential = ctypes.c_void_p()
    try:
        _check(munge, munge.munge_encode(ctypes.byref(credential), None, payload, len(payload)))
        return ctypes.string_at(credential).decode("ascii", "replace").strip()
    finally:
        munge.free(credential)


def decode(credential: str, library: str = LIBRARY) -> tuple[int, bytes]:
    """Return whose ``credential`` it is (uid) and its payload.

    Raises
    ------
    MungeError
        It is forged, of another key, too old, or was decoded before: munged takes each one only once.
    """
    try:
        sent = credential.encode("ascii")
    except UnicodeEncodeError:
        raise MungeError("the credential has characters that none has") from None
    if b"\0" in sent:
        raise MungeError("the credential has characters that none has")
    munge = _load(library)
    payload, length, uid, gid = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_uint32(), ctypes.c_uint32()
    references = [ctypes.byref(each) for each in (payload, length, uid, gid)]
    try:
        # For some errors, such as a replayed credential, it fills in all the same: only the status counts.
        _check(munge, munge.munge_decode(sent, None, *references))
        return uid.value, ctypes.string_at(payload, length.value) if length.value > 0 else b""
    finally:
        munge.free(payload)


def _check(munge: ctypes.CDLL, status: int) -> None:
    if status != 0:
        text = munge.munge_strerror(status)
        raise MungeError(f"{'?' if text is None else text.decode('utf-8', 'replace')} ({status})")


@functools.cache
def _load(library: str) -> ctypes.CDLL:
    try:
        munge = ctypes.CDLL(library)
        libc = ctypes.CDLL(None)
    except OSError as error:
        raise MungeError(f"{error}: is munge installed?") from None
    pointer = ctypes.POINTER(ctypes.c_void_p)
    numbers = [ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_uint32), ctypes.POINTER(ctypes.c_uint32)]
    munge.munge_encode.argtypes = [pointer, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    munge.munge_decode.argtypes = [ctypes.c_char_p, ctypes.c_void_p, pointer, *numbers]
    munge.munge_strerror.argtypes = [ctypes.c_int]
    munge.munge_strerror.restype = ctypes.c_char_p
    munge.free = libc.free
    munge.free.argtypes = [ctypes.c_void_p]
    munge.free.restype = None
    return munge
