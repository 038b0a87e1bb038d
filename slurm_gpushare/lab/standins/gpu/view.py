"""The part of a machine's GPUs that one allocation of a pool sees."""

from collections.abc import Callable, Sequence

from slurm_gpushare.errors import LabError
from slurm_gpushare.lab.standins.gpu.engine import Gpus, OutOfMemory


class View(Gpus):
    """GPUs 0, 1, …: some of a machine's, each cut down to a partition of its memory.

    It sees its own processes alone; so does its utilisation, unless ``whole_card_utilisation``.
    """

    def __init__(
        self, machine: Gpus, partitions: Sequence[tuple[int, int]], whole_card_utilisation: bool = False
    ) -> None:
        """Reserve (gpu, bytes) on distinct GPUs of ``machine``. Raises OutOfMemory, LabError."""
        if isinstance(machine, View):
            raise LabError("a view cannot be divided: ask the machine's Gpus for another")
        if len({gpu for gpu, _ in partitions}) != len(partitions):
            raise LabError(f"the partitions {list(partitions)} name a GPU twice: each must be on a GPU of its own")
        for gpu, size in partitions:
            if size < 1:
                raise LabError(f"a partition of {size} bytes cannot be: it must be at least 1")
            if size > machine.memory(gpu)[2]:
                raise OutOfMemory(size, machine.memory(gpu)[2])
        super().__init__((), machine._clock_us, machine.driver_version)
        self._slots = [machine._slots[gpu] for gpu, _ in partitions]
        self._owner = self
        self._next_handle = machine._next_handle
        self._rules = machine._rules
        self._whole_card_utilisation = whole_card_utilisation
        self.on_close: list[Callable[[], None]] = []
        for card, (_, size) in zip(self._slots, partitions, strict=True):
            card.partitions[self] = size

    def memory(self, gpu: int) -> tuple[int, int, int]:
        """Return (total, used, free) of the partition in bytes."""
        card = self._slots[gpu]
        total = card.partitions[self]
        used = sum(load.memory_bytes for load in card.loads if load.owner is self)
        return total, used, total - used

    def close(self) -> None:
        """End the loads, give the partitions back, call what stands in ``on_close``; nothing the second time."""
        for handle in list(self._loads):
            self.detach(handle)
        for card in self._slots:
            card.partitions.pop(self, None)
        self._slots = []
        callbacks, self.on_close = self.on_close, []
        for callback in callbacks:
            callback()

    def _sees(self, owner: Gpus | None) -> bool:
        return owner is self

    def _counts(self, owner: Gpus | None) -> bool:
        return self._whole_card_utilisation or owner is self
