"""The processes of one run: those started by `torchrun` or another launcher, or just this one.

Synchronisation and small values use gloo on the CPU; gradients use NCCL if the model is on a GPU.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.base import UserError
from sccs.system.device import resolve_device

if TYPE_CHECKING:
    import torch

LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # variables that every launcher sets


@dataclass(frozen=True)
class Team:
    """`size` processes; this is number `rank`, and number `local` on its machine.

    Every method except `device` is collective: all processes must call it. In a team of one it costs nothing.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    def together(self, work: Callable[[], Any], first_ahead: bool = False) -> Any:
        """Call work() in every process; if it fails in one, it fails in all, so that none waits for a dead one.

        first_ahead: the first process works before the others, which then find its results in the cache.
        Raises the process's own error, or UserError with another's.
        """
        if self.size == 1:
            return work()
        if first_ahead:
            ready = self.together(work if self.rank == 0 else lambda: None)
            return self.together(lambda: ready if self.rank == 0 else work())
        import torch.distributed as dist

        value = error = None
        try:
            value = work()
        except Exception as caught:
            error = caught
        if self.any(error is not None):
            texts: list[str | None] = [None] * self.size
            dist.all_gather_object(texts, error and f"{'' if isinstance(error, UserError) else 'failed: '}{error}")
            if error is not None:
                raise error
            rank = next(rank for rank, text in enumerate(texts) if text is not None)
            raise UserError(f"process {rank} of this run: {texts[rank]}")
        return value

    def on_first(self, work: Callable[[], Any]) -> Any:
        """Call work() in the first process only; every process gets its result, or fails with it."""
        value = self.together(work if self.rank == 0 else lambda: None)
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def mean(self, values: Sequence[float]) -> list[float]:
        """Means over the processes, bit-identical in all of them."""
        return list(values) if self.size == 1 else [total / self.size for total in self._sum(values)]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any of the processes."""
        return flag if self.size == 1 else self._sum([float(flag)])[0] > 0

    def _sum(self, values: Sequence[float]) -> list[float]:
        import torch
        import torch.distributed as dist

        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers)
        return numbers.tolist()

    def device(self, word: str) -> str:
        """As `resolve_device`; in a larger team each process has its own GPU, or all use the CPU."""
        if self.size > 1 and re.fullmatch(r"cuda:\d+", word):
            raise UserError(f"device {word!r}: {self.size} processes cannot share one GPU; use cuda, auto or cpu")
        device = resolve_device(word)
        return resolve_device(f"cuda:{self.local}") if self.size > 1 and device != "cpu" else device

    def parallel(self, model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
        """The module with its gradients averaged over the team in `backward`."""
        if self.size == 1:
            return model
        import torch
        import torch.distributed as dist
        from torch.nn.parallel import DistributedDataParallel

        gpu = device.type == "cuda"
        if gpu:
            torch.cuda.set_device(device)
        return DistributedDataParallel(
            model, device_ids=[device] if gpu else None, process_group=dist.new_group(backend="nccl") if gpu else None
        )


ALONE = Team()


@contextmanager
def launched_team() -> Iterator[Team]:
    """The team described by a launcher's environment variables; `ALONE` without them.

    Raises UserError if another process of the team ends while this one works.
    """
    if any(name not in os.environ for name in LAUNCHED) or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    def part() -> None:
        gc.collect()  # free connections now: ending their threads at exit may abort it
        dist.destroy_process_group()

    dist.init_process_group("gloo")
    try:
        yield Team(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", 0)))
    except BaseException as error:
        if not torch.cuda.is_initialized():  # gloo's threads, left alone, may abort the exit; NCCL would wait
            part()
        if isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise UserError(
                "another process of this run has ended; see its output for the reason; --resume continues from "
                "the last saved state"
            ) from error
        raise
    part()
