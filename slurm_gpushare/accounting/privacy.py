"""Who sees whose runs: everybody their own, coordinators those of their accounts, operators all. Slurm knows who is."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.errors import RequestError
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.rights import Person, Privacy, fetch_known, fetch_person, fetch_privacy

# What PrivateData may hide of a report. Sums are of jobs, so that "jobs" hides them too.
JOBS = frozenset({"jobs"})
SUMS = frozenset({"jobs", "usage"})

_PERSON_FRESH = 15.0  # seconds in which Slurm is not asked again about somebody: so long a right that was taken holds
_CONFIG_FRESH = 60.0
_AWAY = 5.0  # the same after a failure: whoever asks meanwhile is answered at once

T = TypeVar("T")


@dataclass(frozen=True)
class Sight:
    """Whose runs somebody sees."""

    uid: int | None  # None: everybody's
    accounts: tuple[str, ...] = ()  # beside the own runs, those of these accounts
    warning: str | None = None  # why it may be less than Slurm would show


def narrowed(selection: Selection, sight: Sight, own: str | None) -> Selection:
    """Return what remains of ``selection`` for who has ``sight`` and the name ``own``.

    Raises
    ------
    RequestError
        It names others, of whom who asks sees nothing.
    """
    if sight.uid is None:
        return selection
    # The number decides; a name can be another's on the cluster.
    alone = replace(selection, uid=sight.uid, users=None, accounts_seen=None)
    if selection.users is not None and set(selection.users) == {own}:
        return alone
    if sight.accounts:
        return replace(selection, uid=sight.uid, accounts_seen=sight.accounts)
    if selection.users is not None:
        others = ", ".join(name for name in selection.users if name != own)
        why = f" ({sight.warning})" if sight.warning else ""
        raise RequestError(
            f"jobs of {others}: only coordinators of their accounts, operators and administrators see the jobs of "
            f"others{why}"
        )
    return alone


class Rights:
    """Asks Slurm who may see what, and remembers it for seconds. Safe for several threads.

    What Slurm does not say gives nobody more than their own runs.
    """

    def __init__(
        self,
        follow: bool = False,
        person: Callable[[str], Person | None] = fetch_person,
        privacy: Callable[[], Privacy] = fetch_privacy,
        known: Callable[[str, Iterable[str]], set[str]] = fetch_known,
        clock: Callable[[], float] = time.monotonic,
    ):
        """With ``follow`` the runs of others are hidden only where Slurm's PrivateData says so."""
        self._follow = follow
        self._person = person
        self._privacy = privacy
        self._known = known
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str | None, tuple[float, object]] = {}  # by user; None: the configuration
        self._failed: dict[bool, tuple[float, str]] = {}  # of persons, and of the configuration: when and why

    def sight(self, uid: int, name: str | None, hidden_by: frozenset[str] | None = JOBS) -> Sight:
        """Return what ``uid``, who is ``name`` on this host, sees of what PrivateData's words hide; None: is hidden."""
        privacy, why = self._cached(None, _CONFIG_FRESH, self._privacy)
        followed = self._follow and privacy is not None and hidden_by is not None
        if followed and not hidden_by & (privacy.slurm | privacy.slurmdbd):
            return Sight(None)
        closed = why if self._follow else None
        if name is None:
            return Sight(uid, warning=closed)
        person, unknown = self._cached(name, _PERSON_FRESH, lambda: self._person(name) or Person())
        if person is None:
            return Sight(uid, warning=unknown)
        if person.sees_all:
            return Sight(None)
        if privacy is not None and privacy.coordinators:
            return Sight(uid, person.coordinates)
        return Sight(uid, warning=why if person.coordinates else closed)

    def unknown(self, kind: str, names: Iterable[str]) -> set[str]:
        """Return those of ``names`` that Slurm has not of ``kind``, "user" or "account"; none where it does not say."""
        try:
            return set(names) - self._known(kind, names)
        except SlurmError:
            return set()

    def _cached(self, key: str | None, fresh: float, ask: Callable[[], T]) -> tuple[T | None, str | None]:
        """Return what is known, or None and why it is not."""
        kind = key is None
        with self._lock:
            now = self._clock()
            kept = self._kept.get(key)
            if kept is not None and now - kept[0] < fresh:
                return kept[1], None
            when, why = self._failed.get(kind, (-_AWAY, None))
            if why is not None and now - when < _AWAY:
                return None, why
        try:
            value = ask()
        except SlurmError as error:
            why = f"jobs of others may be missing: {error}"
            with self._lock:
                self._failed[kind] = (self._clock(), why)
            return None, why
        with self._lock:
            self._failed.pop(kind, None)
            self._kept = {one: each for one, each in self._kept.items() if now - each[0] < _CONFIG_FRESH}
            self._kept[key] = (now, value)
        return value, None
