"""One long job in a napari thread, with progress and cancellation."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

from napari.qt.threading import create_worker
from napari.utils import progress

from sccs.napari.watch import Cancelled, Watch

PAUSE = 0.1  # s between progress messages
Work = Callable[[Watch], Any]
Step = tuple[int, int, str]


def start(
    title: str,
    work: Work,
    *,
    stopped: Callable[[], bool],
    say: Callable[[str], None],
    ended: Callable[[], None],
    finish: Callable[[Any, Exception | None], None],
) -> Any:
    """Run `work(watch)` in a thread, with a progress bar in napari's corner; returns the running worker.

    stopped() is checked whenever the work calls its watch. In the window's thread, say(text) receives the progress,
    ended() is called at the end in any case, then finish(result, None) or finish(None, exception).
    """
    bar = progress(total=0, desc=title)
    said = 0.0

    def watch(count: int, total: int, what: str) -> None:
        nonlocal said
        if stopped() or worker.abort_requested:
            raise Cancelled
        if what and (time.monotonic() - said > PAUSE or count == total):
            said = time.monotonic()
            worker.yielded.emit((count, total, what))

    def job() -> Generator[Step, None, tuple[Any, Exception | None]]:
        yield 0, 0, title  # a generator, because only those have the signal `yielded`
        try:
            return work(watch), None
        except Exception as error:  # handled in `finish`; napari would take a RuntimeError for a closed window
            return None, error

    def show(step: Step) -> None:
        count, total, what = step
        if count:
            say(f"{what} {count} of {total}" if total else f"{what}, iteration {count}")
        # Last, as the bar processes events, including the end of the job.
        if bar.total != total:
            bar.reset(total)
        bar.set_description(what)
        bar.update(count - bar.n)

    def close() -> None:
        bar.close()
        ended()

    def close_and_finish(outcome: tuple[Any, Exception | None]) -> None:
        close()
        finish(*outcome)

    connected = {"yielded": show, "returned": close_and_finish, "aborted": close}
    worker: Any = create_worker(job, _start_thread=False, _connect=connected)
    worker.start()
    return worker
