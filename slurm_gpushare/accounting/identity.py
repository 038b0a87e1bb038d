"""Who asks: munge's credentials, the identity that every Slurm host has."""

from dataclasses import dataclass

from slurm_gpushare import munge


class IdentityError(Exception):
    """The credential is missing, forged, replayed, too old or of another host's munge key."""


@dataclass(frozen=True)
class Identity:
    """Whose credential it is, and what it was made over."""

    uid: int
    payload: bytes


def identify(credential: str, library: str = munge.LIBRARY) -> Identity:
    """Decode ``credential``; munged takes each one only once.

    Raises
    ------
    IdentityError
        munged does not vouch for it, or cannot be asked.
    """
    try:
        return Identity(*munge.decode(credential, library))
    except munge.MungeError as error:
        raise IdentityError(str(error)) from None
