"""Progress and cancellation of long jobs: a volume and a log that call ``watch(done, total, what)``.

They call it between a job's units of work (fields of view, iterations); an empty `what` only checks whether to
continue, and a total of 0 means unknown. Whatever `watch` raises ends the job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sccs.data.volumes import FOV, Volume
from sccs.system.log import Progress, RunLog

Watch = Callable[[int, int, str], None]


class Cancelled(Exception):
    """Raised by a `watch` to cancel the job."""


def unwatched(done: int, total: int, what: str) -> None:
    """A watch that does nothing."""


class WatchedVolume(Volume):
    """A Volume that calls `watch` before it yields a field of view to train on."""

    def __init__(self, *arguments: Any, watch: Watch, **options: Any):
        super().__init__(*arguments, **options)
        self.watch = watch

    def fovs(self) -> Iterator[FOV]:
        total = self.count_fovs()
        for done, fov in enumerate(super().fovs()):
            self.watch(done, total, "")
            yield fov


class WatchedLog(RunLog):
    """A run's log that also reports progress to `watch`."""

    def __init__(self, folder: Path, watch: Watch):
        super().__init__(folder, tensorboard=False)  # TensorBoard takes seconds to import; the report has the curves
        self.watch, self.bars = watch, 0  # bars: how many are open

    def progress(self, total: int, desc: str, initial: int = 0) -> WatchedProgress:
        return WatchedProgress(self, total, desc, initial)


class WatchedProgress(Progress):
    """Progress of a `WatchedLog`."""

    log: WatchedLog

    def __enter__(self) -> WatchedProgress:
        self.log.bars += 1
        super().__enter__()
        return self

    def update(self, n: int = 1, **values: float) -> None:
        super().update(n, **values)
        self.log.watch(self.done, self.total, self.desc)

    def __exit__(self, *exc: object) -> None:
        self.log.bars -= 1
        super().__exit__(*exc)


@contextmanager
def watched_iterations(log: WatchedLog) -> Iterator[None]:
    """Call the watch after every optimiser step, in any part.

    The trainer reports only a few steps, and parts that train themselves none.
    """
    from torch.optim.optimizer import register_optimizer_step_post_hook

    thread, steps = threading.get_ident(), 0

    def after(*_: Any) -> None:
        nonlocal steps
        if threading.get_ident() == thread:
            steps += 1
            log.watch(steps, 0, "" if log.bars else "training")

    hook = register_optimizer_step_post_hook(after)
    try:
        yield
    finally:
        hook.remove()
