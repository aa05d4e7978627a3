"""Distribute tasks over processes and machines with Dask: a local cluster, or a scheduler at an address."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from registry.base import UserError
from registry.requirements import pip_install
from sccs.system.log import say_error

ALLOWED_FAILURES = 10  # workers that may die on one block before it is blamed
# The C library keeps freed arrays up to this size for the next ones, for all threads together. By Dask's default it
# returns everything to the system at once, and a third of the time goes into getting it back.
KEPT = str(1 << 24)  # bytes
MEMORY = {"MALLOC_TRIM_THRESHOLD_": KEPT, "MALLOC_MMAP_THRESHOLD_": KEPT, "MALLOC_ARENA_MAX": "1"}
# By default, Dask samples the stack of each worker every 10 ms and checks its event loop every 20 ms; a block takes
# seconds.
QUIET = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
Task = TypeVar("Task")


def import_distributed() -> Any:
    """Dask's `distributed`. Raises UserError if it is not installed."""
    try:
        import distributed
    except ImportError as error:
        raise UserError(f"--workers and --scheduler need Dask: {pip_install('distributed')}") from error
    return distributed


class cluster:
    """Context: a Dask client for the scheduler at that address, or for a local cluster; None for a single worker."""

    def __init__(self, workers: int, scheduler: str | None):
        self.workers, self.scheduler = workers, scheduler
        self.opened: list[Any] = []

    def __enter__(self) -> Any:
        if self.scheduler is None and self.workers == 1:
            return None
        distributed = import_distributed()
        if self.scheduler is not None:
            try:
                self.opened = [distributed.Client(self.scheduler)]
            except (OSError, ValueError, TypeError) as error:
                raise UserError(f"--scheduler {self.scheduler}: no Dask scheduler responds there ({error})") from None
            return self.opened[0]
        import dask

        threads = str(max(1, (os.cpu_count() or 1) // self.workers))
        variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        settings = {
            "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
            "distributed.nanny.pre-spawn-environ": {**variables, **MEMORY},
            **QUIET,
        }
        with dask.config.set(settings):
            local = distributed.LocalCluster(
                n_workers=self.workers,
                threads_per_worker=1,
                dashboard_address=None,
                memory_limit=0,
                silence_logs=logging.ERROR,
            )
        self.opened = [distributed.Client(local), local]
        return self.opened[0]

    def __exit__(self, *raised: Any) -> None:
        for each in self.opened:
            each.close()


def on_cluster(client: Any, function: Callable[[Task], Task], tasks: Sequence[Task]) -> Iterator[Task]:
    """Yields the tasks as any worker finishes them; those of a worker that dies go to another."""
    distributed = import_distributed()
    if not client.scheduler_info()["workers"]:
        say_error("the scheduler has no workers yet; waiting for some")
    futures = client.map(function, tasks, pure=False)
    try:
        for future in distributed.as_completed(futures):
            yield future.result()
    except ImportError as error:
        raise UserError(f"a worker lacks a package ({error}); install this version of sccs where workers run") from None
    except distributed.KilledWorker as error:
        raise UserError(
            f"{ALLOWED_FAILURES} workers died on the same block ({error}), perhaps for lack of memory; finished "
            "blocks are kept: fix the cause, then pass --resume"
        ) from None
    finally:
        client.cancel(futures)
