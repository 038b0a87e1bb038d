"""What the driver and the cards would know: GPUs, who computes on them, memory, utilisation and energy.

A pure state machine over an injected clock: nothing happens between two calls but the passing of time, which the next
call accounts for. ``Gpus`` is the whole machine; a ``View`` (view.py) is what one allocation of a pool sees of it.

What is not publicly known of real cards, or is simpler here than there:

| subject | here | why |
|---|---|---|
| more than 100 % declared on a card | every load gets its proportional part, the card shows 100 | assumed |
| sample period | 200 ms; utilisation is the mean of the last whole period | nvml.h says 1/6 s to 1 s by product |
| samples kept | the newest of each process, for 20 s, at most 100 | assumed: a ring of 100 entries |
| time stamps of samples | µs of the monotonic clock, one for all of a period | as on DGX Spark; elsewhere the epoch |
| memory utilisation | half the SM utilisation | assumed: nothing declares it |
| power | idle + (max - idle) * SM utilisation, at once | assumed: linear |
| temperature | 35 °C idle to 75 °C busy, at once | assumed |
| memory that the driver itself takes | none: all of the card's can be had | a real card keeps some 100 MiB |
| partitions of a card (views) | count as used memory of the card from the start | assumed: strict reservation |
| driver versions, PCI place, chip id, near CPUs | one driver (answers.py), by minor number, none, all | assumed |
| power, energy and temperature in a view | the whole card's | assumed: they have no part of one process |
| a process on a card in MIG mode that names no instance | computes on its first | as CUDA does |
| MIG: utilisation and samples | of no instance and not of the card (answers.py) | as NVML's NOT_SUPPORTED |
| GPM of a part | the share of the part's own SMs | as of a device of its own |
| a fatal fault | all of the process's, under MPS of all its server's clients' use of the card | NVIDIA's MPS guide |
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.gpu import mps
from slurm_gpushare.lab.standins.gpu.accounting import Account, Accounts
from slurm_gpushare.lab.standins.gpu.spec import DRIVER_VERSION, GpuSpec, MigSpec, parse_specs

MIB = 1 << 20
PERIOD_US = 200_000
HISTORY_US = 20_000_000
MAX_SAMPLES = 100
MEMORY_PER_SM_UTILISATION = 0.5
IDLE_CELSIUS, BUSY_CELSIUS = 35, 75
MIG_SLICES = 7

__all__ = [
    "FAILURES",
    "MIB",
    "DeviceInUse",
    "GpuSpec",
    "Gpus",
    "NoSuchGpu",
    "NoSuchLoad",
    "OutOfMemory",
    "Sample",
    "parse_specs",
]

ALL = "all"
FAILURES = ("not_supported", "not_found", "gpu_is_lost", "no_permission", "driver_mismatch", "slow")


def monotonic_us() -> int:
    """Return the machine's monotonic clock in microseconds."""
    return time.monotonic_ns() // 1000


class OutOfMemory(LabError):
    """A process asked for more memory (bytes) than the card, or its partition, has free."""

    def __init__(self, asked: int, free: int) -> None:
        super().__init__(f"out_of_memory asked {asked} free {free}")
        self.asked = asked
        self.free = free


class DeviceInUse(LabError):
    """The card's compute mode keeps this process off it."""


class NoSuchGpu(LabError):
    """There is no GPU of that index, UUID or PCI bus id."""


class NoSuchLoad(LabError):
    """No process holds that handle (any more)."""


@dataclass(frozen=True)
class Sample:
    """Utilisation (percent, whole numbers) of one process in the period that ended at ``timestamp_us``."""

    pid: int
    timestamp_us: int
    sm: int
    memory: int


@dataclass(eq=False)
class _Load:
    owner: "Gpus | None"
    card: "_Card"
    pid: int
    sm_percent: int
    memory_bytes: int
    client: mps.Client | None = None
    on_lost: Callable[[str], None] | None = None

    @property
    def shown_pid(self) -> int:
        """Return the process that the driver reports: before Volta the server computes for its clients."""
        return self.client.server.pid if self.client and self.card.spec.before_volta else self.pid

    @property
    def effective_sm(self) -> float:
        """Return the SM percentage that MPS leaves of what was declared."""
        if self.client is None or self.card.spec.before_volta:
            return self.sm_percent
        return min(self.sm_percent, self.client.threads)


class _Card:
    """One card: its loads, and time turned into samples and energy. A client is (owner, pid)."""

    def __init__(
        self, spec: GpuSpec, now_us: int, instance: MigSpec | None = None, whole: "_Card | None" = None
    ) -> None:
        self.spec = spec
        self.instance, self.whole = instance, whole  # of a part that MIG made: which, and the card
        self.parts: list[_Card] = []
        self.total_bytes = (instance or spec).memory_mib * MIB
        self.loads: list[_Load] = []
        self.partitions: dict[Gpus, int] = {}
        self.samples: dict[tuple[Gpus | None, int], Sample] = {}
        self.accounts = Accounts()
        self.closed_us = 0
        self.energy_uj = 0.0
        self.sm_us = 0.0  # time in which all SMs would have been busy
        self._now_us = now_us
        self._period: dict[tuple[Gpus | None, int], float] = {}

    def utilisation(self) -> float:
        """Return the SM percentage of this instant."""
        parts = sum(part.utilisation() * part.instance.slices / MIG_SLICES for part in self.parts)
        return float(min(100, sum(load.effective_sm for load in self.loads) + parts))

    def watts(self) -> float:
        return self.spec.idle_watts + (self.spec.max_watts - self.spec.idle_watts) * self.utilisation() / 100

    def advance(self, now_us: int) -> None:
        """Account for the time since the last call, in which the loads did not change."""
        if self.whole:
            self.whole.advance(now_us)
        while True:
            end = (self._now_us // PERIOD_US + 1) * PERIOD_US
            self._pass(min(end, now_us) - self._now_us)
            if self._now_us < end:
                return
            self._close_period()
            # Whole periods under the same loads are all alike: only the last of them leaves samples.
            alike = (now_us - self._now_us) // PERIOD_US - 1
            if alike > 0:
                self._add_up(alike * PERIOD_US)
                self._now_us += alike * PERIOD_US

    def _pass(self, duration_us: int) -> None:
        if duration_us <= 0:
            return
        self._now_us += duration_us
        self._add_up(duration_us)
        for client, sm in self._parts_of_time():
            self._period[client] = self._period.get(client, 0.0) + sm * duration_us

    def _parts_of_time(self) -> list[tuple[tuple["Gpus | None", int], float]]:
        """Return (client, SM percent that it really gets) of each load that computes."""
        declared = sum(load.effective_sm for load in self.loads)
        scale = 100 / declared if declared > 100 else 1
        return [((load.owner, load.shown_pid), load.effective_sm * scale) for load in self.loads if load.effective_sm]

    def _add_up(self, duration_us: int) -> None:
        self.energy_uj += self.watts() * duration_us
        self.sm_us += self.utilisation() / 100 * duration_us
        if self.accounts.on:
            for client, sm in self._parts_of_time():
                self.accounts.used(client, sm / 100 * duration_us)

    def note(self) -> None:
        """Take note of a load that came, changed or went."""
        held: dict[tuple[Gpus | None, int], tuple[int, int]] = {}
        for load in self.loads:
            client = load.owner, load.shown_pid
            held[client] = load.shown_pid, held.get(client, (0, 0))[1] + load.memory_bytes
        self.accounts.note(held, self._now_us)

    def _close_period(self) -> None:
        self.closed_us = self._now_us
        busy = 0.0
        for client, amount in self._period.items():
            # Differences of rounded running sums: whole numbers that still add up to the card's.
            before, busy = busy, busy + amount / PERIOD_US
            sm = round(busy) - round(before)
            memory = round(busy * MEMORY_PER_SM_UTILISATION) - round(before * MEMORY_PER_SM_UTILISATION)
            self.samples.pop(client, None)
            if sm:
                self.samples[client] = Sample(client[1], self.closed_us, sm, memory)
        self._period.clear()
        oldest = self.closed_us - HISTORY_US
        kept = [item for item in self.samples.items() if item[1].timestamp_us > oldest][-MAX_SAMPLES:]
        self.samples = dict(kept)


class Gpus:
    """The GPUs of a machine and everything that happens on them.

    ``gpu`` is always an index: 0 to ``len() - 1`` for a card, more for a part of one that MIG made.
    """

    def __init__(
        self,
        specs: Iterable[GpuSpec],
        clock_us: Callable[[], int] = monotonic_us,
        driver_version: str = DRIVER_VERSION,
    ) -> None:
        self.driver_version = driver_version
        self.mps = mps.Table()
        self._clock_us = clock_us
        self._slots = [_Card(spec, clock_us()) for spec in specs]
        for card in list(self._slots):  # after all cards: NVML counts those alone
            card.parts = [_Card(card.spec, clock_us(), instance, card) for instance in card.spec.mig]
            self._slots += card.parts
        self._owner: Gpus | None = None
        self._loads: dict[int, _Load] = {}
        self._next_handle = [1]
        self._rules: dict[tuple[_Card | None, str], tuple[str, int]] = {}

    def __len__(self) -> int:
        return sum(card.instance is None for card in self._slots)

    def spec(self, gpu: int) -> GpuSpec:
        """Return what the configuration says of the card."""
        return self._slots[gpu].spec

    def instance(self, gpu: int) -> MigSpec | None:
        """Return which part of a card ``gpu`` is, None for a whole card."""
        return self._slots[gpu].instance

    def parts(self, gpu: int) -> list[int]:
        """Return the parts that MIG made of the card, in their order."""
        return [self._slots.index(part) for part in self._slots[gpu].parts]

    def card_of(self, gpu: int) -> int:
        """Return the card that ``gpu`` is a part of, or is."""
        return self._slots.index(self._slots[gpu].whole or self._slots[gpu])

    def unique_name(self, gpu: int) -> str:
        """Return the UUID of a card or of a part."""
        part = self.instance(gpu)
        return part.uuid if part else self.spec(gpu).uuid

    def find(self, word: str) -> int:
        """Return the index of the GPU of that index, UUID (or its unique beginning) or PCI bus id. Raises NoSuchGpu."""
        if re.fullmatch(r"\d{1,4}", word):
            found = [int(word)] if int(word) < len(self._slots) else []
        elif word.startswith("MIG-"):
            # The second is how a part was called up to R470, and Slurm still may.
            found = [
                gpu
                for gpu, card in enumerate(self._slots)
                if card.instance
                and word in (card.instance.uuid, f"MIG-{card.spec.uuid}/{card.instance.gpu_instance}/0")
            ]
        elif word.startswith("GPU-") and len(word) > len("GPU-"):
            found = [gpu for gpu in range(len(self)) if self.spec(gpu).uuid.startswith(word)]
            found = [gpu for gpu in found if self.spec(gpu).uuid == word] or found
        else:
            # NVML takes a PCI domain of 8 digits, of 4, or none.
            found = [
                gpu for gpu in range(len(self)) if word.upper() in {self.spec(gpu).pci_bus_id[i:] for i in (0, 4, 9)}
            ]
        if len(found) != 1:
            raise NoSuchGpu(f"{word!r} names {'no GPU' if not found else 'more than one GPU'} of the {len(self)} here")
        return found[0]

    # Loads

    def attach(
        self,
        pid: int,
        gpu: int,
        sm_percent: int,
        memory_bytes: int,
        on_lost: Callable[[str], None] | None = None,
    ) -> int:
        """Let process ``pid`` use SM percent (0-100) and bytes of a GPU; return a handle.

        ``on_lost`` is told why, should something else than ``detach`` end it. Raises OutOfMemory, DeviceInUse.
        """
        self._check_load(sm_percent, memory_bytes)
        gpu = (self.parts(gpu) or [gpu])[0]
        card = self._at_now(gpu)
        client = self.mps.client(pid)
        if client and gpu not in client.server.gpus:
            raise NoSuchGpu(f"GPU {gpu} is not one of MPS server {client.server.pid}")
        if client and client in client.server.faulted:
            raise LabError("a fatal fault has met this process: it can only end")
        if client is None:
            self._check_mode(gpu, pid)
        self._check_memory(gpu, memory_bytes, pid, client, 0)
        handle = self._next_handle[0]
        self._next_handle[0] += 1
        self._loads[handle] = _Load(self._owner, card, pid, sm_percent, memory_bytes, client, on_lost)
        card.loads.append(self._loads[handle])
        card.note()
        return handle

    def change(self, handle: int, sm_percent: int, memory_bytes: int) -> None:
        """Change what a load uses; on OutOfMemory it stays as it was. Raises NoSuchLoad, OutOfMemory, LabError."""
        self._check_load(sm_percent, memory_bytes)
        load = self._load(handle)
        gpu = self._slots.index(load.card)
        self._at_now(gpu)
        self._check_memory(gpu, memory_bytes, load.pid, load.client, load.memory_bytes)
        load.sm_percent, load.memory_bytes = sm_percent, memory_bytes
        load.card.note()

    def detach(self, handle: int) -> None:
        """End a load. Raises NoSuchLoad."""
        load = self._load(handle)
        load.card.advance(self._clock_us())
        load.card.loads.remove(load)
        load.card.note()
        del self._loads[handle]

    def _check_memory(self, gpu: int, asked: int, pid: int, client: mps.Client | None, held: int) -> None:
        """Refuse what the card has not free, nor MPS leaves to the process; ``held`` of it is given back."""
        free = self.memory(gpu)[2] + held
        if client and gpu in client.limits and not self.spec(gpu).before_volta:
            used = sum(load.memory_bytes for load in self._slots[gpu].loads if load.client is client)
            free = min(free, client.limits[gpu] - used + held)
        if asked > free:
            raise OutOfMemory(asked, max(0, free))

    def _check_mode(self, gpu: int, pid: int) -> None:
        mode = self.spec(gpu).compute_mode
        others = {load.pid for load in self._slots[gpu].loads if load.client is None} - {pid}
        if mode == "PROHIBITED" or (mode == "EXCLUSIVE_PROCESS" and others):
            raise DeviceInUse(f"the device is busy or unavailable: its compute mode is {mode}")

    # MPS

    def serve(self, pid: int, gpus: Sequence[int]) -> mps.Server:
        """Make process ``pid`` the MPS server of GPUs. Raises DeviceInUse, LabError."""
        for gpu in gpus:
            self._check_mode(gpu, pid)
        server = self.mps.add(pid, tuple(gpus))
        try:
            for gpu in gpus:
                self.attach(pid, gpu, 0, mps.SERVER_BYTES)
        except LabError:
            self.end_server(server)
            raise
        return server

    def join(self, server: mps.Server, pid: int, threads: float, limits: dict[int, int]) -> None:
        """Make process ``pid`` a client with so many percent of the threads and bytes by GPU. Raises LabError."""
        most = mps.MAX_CLIENTS if int(self.driver_version.split(".")[0]) < 590 else mps.MAX_CLIENTS_FROM_R590
        if any(self.spec(gpu).before_volta for gpu in server.gpus):
            most = mps.MAX_CLIENTS_BEFORE_VOLTA
        self.mps.join(server, pid, threads, limits, most)

    def end_server(self, server: mps.Server) -> None:
        """End a server and with it what its clients use."""
        gone = {*server.clients.values()}
        self._lose(
            [load for load in self._loads.values() if load.client in gone or load.pid == server.pid],
            "the MPS server ended",
        )
        del self.mps.servers[server.pid]

    def terminate(self, server: mps.Server, pid: int) -> None:
        """End what client ``pid`` of the server uses. Raises NoSuchLoad."""
        if pid not in server.clients:
            raise NoSuchLoad(f"{pid} is no client of server {server.pid}")
        self._lose(
            [load for load in self._loads.values() if load.client is server.clients[pid]],
            "terminated by the MPS server",
        )

    def fault(self, pid: int, gpu: int) -> None:
        """Let process ``pid`` do what is fatal to all contexts that share its protection on the card."""
        client = self.mps.client(pid)
        met = [load for load in self._slots[gpu].loads if load.pid == pid]
        if client:
            met = [load for load in self._slots[gpu].loads if load.client and load.client.server is client.server]
            client.server.faulted |= {load.client for load in met}
        self._lose(met, "a fatal fault on the GPU")

    def _lose(self, loads: Iterable[_Load], reason: str) -> None:
        for handle in [handle for handle, load in self._loads.items() if load in loads]:
            on_lost = self._loads[handle].on_lost
            self.detach(handle)
            if on_lost:
                on_lost(reason)

    @staticmethod
    def _check_load(sm_percent: int, memory_bytes: int) -> None:
        if not 0 <= sm_percent <= 100:
            raise LabError(f"an SM share of {sm_percent} percent cannot be: it must be 0 to 100")
        if memory_bytes < 0:
            raise LabError(f"{memory_bytes} bytes of memory cannot be: it must be 0 or more")

    def _load(self, handle: int) -> _Load:
        if handle not in self._loads:
            raise NoSuchLoad(f"there is no load of handle {handle}")
        return self._loads[handle]

    # What NVML reports

    def memory(self, gpu: int) -> tuple[int, int, int]:
        """Return (total, used, free) in bytes."""
        card = self._slots[gpu]
        loads = [load for each in (card, *card.parts) for load in each.loads]
        used = sum(load.memory_bytes for load in loads if load.owner is None) + sum(card.partitions.values())
        return card.total_bytes, used, card.total_bytes - used

    def processes(self, gpu: int, mps_clients_only: bool = False) -> list[tuple[int, int]]:
        """Return (pid, bytes) of each process on the GPU, once a process."""
        used: dict[tuple[Gpus | None, int], int] = {}
        for load in [load for each in (self._slots[gpu], *self._slots[gpu].parts) for load in each.loads]:
            if self._sees(load.owner) and (load.client or not mps_clients_only):
                client = load.owner, load.shown_pid
                used[client] = used.get(client, 0) + load.memory_bytes
        return [(pid, memory) for (_, pid), memory in used.items()]

    def samples(self, gpu: int, last_seen_us: int = 0) -> list[Sample]:
        """Return the newest sample of each process, of those that are newer than ``last_seen_us``."""
        card = self._at_now(gpu)
        after = max(last_seen_us, card.closed_us - HISTORY_US)
        return [s for (owner, _), s in card.samples.items() if self._sees(owner) and s.timestamp_us > after]

    def utilisation(self, gpu: int) -> tuple[int, int]:
        """Return (SM, memory) percent of the last whole sample period: the sum over its processes."""
        card = self._at_now(gpu)
        last = [s for (owner, _), s in card.samples.items() if self._counts(owner) and s.timestamp_us == card.closed_us]
        return sum(s.sm for s in last), sum(s.memory for s in last)

    def sm_time(self, gpu: int) -> tuple[int, int]:
        """Return (now, SM time used so far) in microseconds, of a card or of a part."""
        card = self._at_now(gpu)
        return self._clock_us(), round(card.sm_us)

    def power_mw(self, gpu: int) -> int:
        """Return the card's power draw in milliwatts."""
        return round(self._at_now(gpu).watts() * 1000)

    def energy_mj(self, gpu: int) -> int:
        """Return what the card used since the start, in millijoules."""
        return int(self._at_now(gpu).energy_uj / 1000)

    def accounting(self, gpu: int) -> bool:
        """Return whether the card's accounting mode is on."""
        return self._slots[gpu].accounts.on

    def set_accounting(self, gpu: int, on: bool) -> None:
        """Switch accounting mode on or off; what runs already is counted from now on."""
        card = self._at_now(gpu)
        card.accounts.switch(on)
        card.note()

    def accounts(self, gpu: int) -> list[tuple[Account, int]]:
        """Return what the card remembers of processes, each with its start in microseconds since 1970."""
        card, now = self._at_now(gpu), self._clock_us()
        since = time.time_ns() // 1000 - now
        return [(each, each.start_us + since) for (o, _), each in card.accounts.by_client.items() if self._sees(o)]

    def account(self, gpu: int, pid: int) -> tuple[Account, int, int, int]:
        """Return (account, start in µs since 1970, SM percent, µs lived) of a process. Raises NoSuchLoad."""
        for account, started in self.accounts(gpu):
            if account.pid == pid:
                now = self._clock_us()
                return account, started, account.utilisation(now), account.lived_us(now)
        raise NoSuchLoad(f"process {pid} has no account")

    def celsius(self, gpu: int) -> int:
        """Return the card's temperature in degrees Celsius."""
        return round(IDLE_CELSIUS + (BUSY_CELSIUS - IDLE_CELSIUS) * self._at_now(gpu).utilisation() / 100)

    def snapshot(self) -> list[dict]:
        """Return one object per GPU with all of the above (bytes, percent, mW, mJ), fit for JSON.

        ``sm_us``, which NVML does not tell, is the truth about its use: SM microseconds since the start.
        """
        state = []
        for gpu in range(len(self)):
            spec = self.spec(gpu)
            total, used, free = self.memory(gpu)
            sm, memory_utilisation = self.utilisation(gpu)
            state.append(
                {
                    "index": gpu,
                    "uuid": spec.uuid,
                    "name": spec.name,
                    "capability": spec.capability,
                    "minor": spec.minor,
                    "memory_total": total,
                    "memory_used": used,
                    "memory_free": free,
                    "utilisation": sm,
                    "memory_utilisation": memory_utilisation,
                    "power_mw": self.power_mw(gpu),
                    "energy_mj": self.energy_mj(gpu),
                    "sm_us": self.sm_time(gpu)[1],
                    "processes": [{"pid": pid, "memory": memory} for pid, memory in self.processes(gpu)],
                }
            )
        return state

    # Scripted failures

    def fail(self, gpu: int | None, function: str, failure: str, milliseconds: int = 0) -> None:
        """Let ``function`` (or ``all``) of a GPU (None: of every GPU, and without one) fail. Raises LabError."""
        if failure not in FAILURES:
            raise LabError(f"{failure!r} is no failure: it must be one of {', '.join(FAILURES)}")
        if (failure == "slow") != (milliseconds > 0):
            raise LabError("slow needs milliseconds (1 or more), and no other failure has them")
        self._rules[self._rule_card(gpu), function] = failure, milliseconds

    def heal(self, gpu: int | None, function: str) -> None:
        """Remove every rule that the two cover; ``None`` and ``all`` cover each. Raises LabError when there is none."""
        card = self._rule_card(gpu)
        covered = [key for key in self._rules if (card is None or key[0] is card) and function in (ALL, key[1])]
        if not covered:
            raise LabError(f"no failure is set for GPU {ALL if gpu is None else gpu} and function {function}")
        for key in covered:
            del self._rules[key]

    def failure(self, gpu: int | None, function: str) -> tuple[str, int] | None:
        """Return (failure, milliseconds) or None for a call; a rule of the GPU or function goes before one of all."""
        card = self._rule_card(gpu)
        keys = dict.fromkeys([(card, function), (card, ALL), (None, function), (None, ALL)])
        return next((self._rules[key] for key in keys if key in self._rules), None)

    def failures(self) -> list[dict]:
        """Return the rules, fit for JSON."""
        return [
            {
                "gpu": ALL if card is None else self._slots.index(card),
                "function": function,
                "failure": failure,
                "milliseconds": milliseconds,
            }
            for (card, function), (failure, milliseconds) in self._rules.items()
            if card is None or card in self._slots
        ]

    # Shared by Gpus and View

    def _rule_card(self, gpu: int | None) -> _Card | None:
        return None if gpu is None else self._slots[gpu]

    def _at_now(self, gpu: int) -> _Card:
        card = self._slots[gpu]
        card.advance(self._clock_us())
        return card

    def _sees(self, owner: "Gpus | None") -> bool:
        return True

    def _counts(self, owner: "Gpus | None") -> bool:
        return True
