"""Exit codes of every command: 0 done, 2 the user's input, 1 a defect of ours, 130 interrupted."""

from __future__ import annotations

import errno
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from registry.base import UserError
from sccs.system.text import printable

# Faults of the user's disk, whichever call meets them: no permission, read-only, full, quota used up.
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def guard(function: Callable[..., Any]) -> Callable[..., int]:
    """`function` with its exceptions turned into exit codes; an integer that it returns is the exit code."""

    def guarded(*args: Any, **kwargs: Any) -> int:
        try:
            with _terminable():
                return function(*args, **kwargs) or 0
        except UserError as error:
            print(f"sccs: error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("sccs: interrupted", file=sys.stderr)
            return 130
        except OSError as error:
            if error.errno not in DENIED:
                return _defect()
            print(f"sccs: error: {printable(error.filename or 'the disk')}: {error.strerror}", file=sys.stderr)
            return 2
        except Exception:
            return _defect()

    return guarded


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends what goes on here as SIGINT does, by KeyboardInterrupt, so that files are closed and removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)  # None: not set by Python


def _defect() -> int:
    """Says that the exception at hand is ours to mend."""
    traceback.print_exc()
    print("sccs: this is a defect of sccs, please report it with the lines above", file=sys.stderr)
    return 1
