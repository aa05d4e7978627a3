"""Exit codes of every command: 0 success, 2 invalid input, 1 a bug in SCCS, 130 interrupted."""

from __future__ import annotations

import _thread
import errno
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import registry
from registry.base import UserError
from sccs.system.files import FULL, disk_fault
from sccs.system.text import printable

AGAIN = 0.05  # s


def guard(function: Callable[..., Any]) -> Callable[..., int]:
    """`function` with its exceptions turned into exit codes; an integer that it returns is the exit code."""

    def guarded(*args: Any, **kwargs: Any) -> int:
        _open_streams()
        try:
            if gone := _gone():  # libraries end the process without a word of it
                return _refused(gone)
            with _terminable(), _kept_interrupts(), _quiet_threads(), _plain_warnings():
                code = function(*args, **kwargs) or 0
                flush()
                return code
        except UserError as error:
            return _refused(_gone() or error)
        except KeyboardInterrupt:
            _tell("sccs: interrupted")
            return 130
        except SystemExit as error:
            if _is_usage(error):
                raise
            return _refused(f"a plug-in or library exited the program (SystemExit: {error.code}): fix or remove it")
        except Exception as error:
            if (reason := _gone() or _fault(error)) is None:
                return _defect()
            return _refused(reason)
        finally:
            with suppress(OSError):
                flush(drop=True)

    return guarded


def _open_streams() -> None:
    """Standard streams that are closed (`>&-`, some schedulers) lead nowhere: the first file that is opened would take
    the number of one, and with it what libraries print."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # all numbers below are taken: this is the one that opening gives
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115  # for good


def ending_signals() -> list[int]:
    """The signals that terminate a command; not SIGHUP if it is ignored, as under `nohup`."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # Windows has none
        numbers.append(signal.SIGHUP)
    return list(numbers)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt as SIGINT does, so that files are closed and removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.default_int_handler) for number in ending_signals()[1:]}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set by Python


@contextmanager
def _kept_interrupts() -> Iterator[None]:
    """Repeat an interrupt that arrives while an object is being finalised, where Python drops all exceptions."""
    before = sys.unraisablehook

    def again() -> None:
        ending = signal.getsignal(signal.SIGTERM) is signal.default_int_handler  # SIGINT may be ignored, as with `&`
        if os.name == "nt":
            _thread.interrupt_main()
        else:
            os.kill(os.getpid(), signal.SIGTERM if ending else signal.SIGINT)

    def hook(args: sys.UnraisableHookArgs) -> None:
        if isinstance(args.exc_value, KeyboardInterrupt):
            threading.Timer(AGAIN, again).start()  # not at once: this hook runs inside the finaliser
        else:
            before(args)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Hide tracebacks of threads stopped by a full disk (TensorBoard's writer): their owner raises the same error."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if disk_fault(args.exc_value) is None:
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print library warnings as one line each, without the source line; they may quote names from files."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda text, kind, *rest, **more: f"sccs: {kind.__name__}: {_one_line(text)}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def _one_line(text: object) -> str:
    return printable(" ".join(str(text).split()))


def flush(drop: bool = False) -> None:
    """Flush the output. The reader may have closed it, like `head`; drop: leave nothing that could fail at exit.

    Raises OSError if the output is a file on a full disk.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        if drop or isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            raise


def _gone() -> str | None:
    """What to say where the working folder was deleted: relative paths, and some libraries, need it."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return "the working folder was deleted or moved: change to an existing one (cd) and start again"
    return None


def _fault(error: Exception) -> str | None:
    """What to say where the user's disk stopped a command; None where it did not."""
    reason = disk_fault(error)
    if reason is None:
        return None
    mend = "ask its owner for access" if reason == os.strerror(errno.EACCES) else "free some space"
    mend = f": {mend}, or choose another place" if reason in (os.strerror(n) for n in (errno.EACCES, *FULL)) else ""
    return f"{getattr(error, 'filename', None) or 'the disk'}: {reason}{mend}"


def _tell(text: str) -> None:
    """Print on stderr, unless it is gone, as a terminal may be closed."""
    with suppress(OSError):
        print(printable(text), file=sys.stderr)


def _refused(why: object) -> int:
    _tell(f"sccs: error: {_one_line(why)}")
    return 2


def _is_usage(error: SystemExit) -> bool:
    """Whether argparse exited the program, after its help or an error in the arguments."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "argparse"


def _defect() -> int:
    """Report the current exception as a bug in SCCS or, as the traceback does not tell, in a plug-in that is in use."""
    with suppress(OSError):
        traceback.print_exc()
    where = " or in ".join(["sccs", *registry.added()])
    _tell(f"sccs: this is a bug in {where}; please report it with the lines above")
    return 1
