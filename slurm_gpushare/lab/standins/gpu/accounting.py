"""What a card remembers of each process that computed on it, once accounting mode is on (nvml.h)."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

BUFFER_SIZE = 4000  # assumed; of more processes the oldest are forgotten


@dataclass
class Account:
    """One process, from its first load to its last; of a pid used again only the newest is kept, as nvml.h says."""

    pid: int
    start_us: int
    memory: int = 0  # the most bytes
    sm_us: float = 0.0
    end_us: int | None = None  # None: it runs

    def lived_us(self, now_us: int) -> int:
        """Return how long it ran so far."""
        return (now_us if self.end_us is None else self.end_us) - self.start_us

    def utilisation(self, now_us: int) -> int:
        """Return its SM percent over its life."""
        return round(100 * self.sm_us / max(1, self.lived_us(now_us)))


class Accounts:
    """The processes of one card by client."""

    def __init__(self) -> None:
        self.on = False
        self.by_client: dict[Hashable, Account] = {}

    def switch(self, on: bool) -> None:
        """Switch accounting on or off; what was kept is gone when it is switched off."""
        self.on = on
        if not on:
            self.by_client.clear()

    def note(self, memory: Mapping[Hashable, tuple[int, int]], now_us: int) -> None:
        """Take note of who holds what now: (pid, bytes) by client."""
        if not self.on:
            return
        for client, (pid, size) in memory.items():
            account = self.by_client.get(client)
            if account is None or account.end_us is not None:
                self.by_client.pop(client, None)
                account = self.by_client[client] = Account(pid, now_us)
            account.memory = max(account.memory, size)
        for client, account in self.by_client.items():
            if client not in memory and account.end_us is None:
                account.end_us = now_us
        while len(self.by_client) > BUFFER_SIZE:
            del self.by_client[next(iter(self.by_client))]

    def used(self, client: Hashable, sm_us: float) -> None:
        """Add what a client used."""
        account = self.by_client.get(client)
        if account is not None and account.end_us is None:
            account.sm_us += sm_us
