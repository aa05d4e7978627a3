"""The log of a run: log.txt for people, metrics.jsonl for scripts, TensorBoard for curves, and a progress bar."""

from __future__ import annotations

import json
import logging
import math
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sccs.system.exits import flush
from sccs.system.files import unwritable, write_text
from sccs.system.text import BREAKS, printable

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

# Parts cannot import sccs, so they log to their package's standard logger; a run's log handles both.
HEARD = ("sccs", "registry")
PAUSE = 1.0  # s between progress lines, so that short loops print little
SELDOM = 30.0  # s between lines of a bar without a terminal; the first comes after `PATIENCE` s
PATIENCE = 10.0
_quiet = False


def be_quiet(quiet: bool = True) -> None:
    """Suppress progress and messages for the rest of this process, but not results, warnings and errors."""
    global _quiet
    _quiet = quiet


def say(text: str) -> None:
    """Print a command's result. If the reader (head, less) closes the pipe, the command still finishes its work."""
    text = printable(text, BREAKS)
    try:
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        flush(drop=True)


def say_error(text: str) -> None:
    """Print a message in one line on stderr."""
    print(f"sccs: {printable(text)}", file=sys.stderr)


class RunLog:
    """The log of a run, written into its folder.

    log.txt        one line per message, with time and level; the console (stderr) shows the same without the date
    metrics.jsonl  one JSON object per line: {"step": 12, "loss/total": 0.3, ...}; NaN and infinity become null
    tensorboard/   the same scalars, images, histograms, hyper-parameters; omitted, with a note, without the package

    resume appends to existing files; with `resume_step` = n, entries beyond step n are dropped first, so that a run
    that was killed after its last checkpoint contains no step twice.

    Without a folder (`quiet_log`) nothing is written, and messages go to Python's logger "sccs", controlled by the
    calling program: by default only warnings are shown.
    """

    def __init__(
        self, folder: Path | None, tensorboard: bool = True, resume: bool = False, resume_step: int | None = None
    ) -> None:
        self._handlers: list[logging.Handler] = []
        self._before: list[tuple[logging.Logger, int, bool]] = []
        self._metrics: IO[str] | None = None
        self._board: Any = None
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        try:
            self._open(self.folder, tensorboard, resume, resume_step)
        except BaseException:
            with suppress(OSError):
                self.close()
            raise

    def _open(self, folder: Path, tensorboard: bool, resume: bool, resume_step: int | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        resume = resume or resume_step is not None
        mode = "a" if resume else "w"
        file = _File(folder / "log.txt", mode=mode, encoding="utf-8")
        file.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
        console = _Console()
        console.setFormatter(_OneLine("%(asctime)s %(warned)s%(message)s", "%H:%M:%S"))
        self._handlers = [file, console]
        for name in HEARD:
            logger = logging.getLogger(name)
            self._before.append((logger, logger.level, logger.propagate))
            logger.setLevel(logging.INFO)
            logger.propagate = False
            for handler in self._handlers:
                logger.addHandler(handler)
        metrics = folder / "metrics.jsonl"
        if resume and metrics.exists():
            _keep_until(metrics, resume_step)
        self._metrics = open(metrics, mode, encoding="utf-8")  # noqa: SIM115  # closed in `close`
        if tensorboard:
            self._board = self._open_board(folder / "tensorboard", resume_step)

    def _open_board(self, folder: Path, resume_step: int | None) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.info("TensorBoard is not installed: curves go to metrics.jsonl only (pip install tensorboard)")
            return None
        purge = None if resume_step is None else resume_step + 1
        shutil.rmtree(folder / "00000", ignore_errors=True)  # embeddings of a resumed run, written again at the end
        return SummaryWriter(log_dir=str(folder), purge_step=purge)

    def info(self, message: str) -> None:
        """Log progress or a fact."""
        self._say(logging.INFO, message)

    def warning(self, message: str) -> None:
        """Log something that needs the user's attention."""
        self._say(logging.WARNING, message)

    def _say(self, level: int, message: str, file_only: bool = False) -> None:
        """Log at one of `logging`'s levels; `file_only` if the console shows the same by other means."""
        if self.folder is None:
            logging.getLogger("sccs").log(level, "%s", message)
            return
        record = logging.LogRecord("sccs", level, __file__, 0, message, None, None)
        for handler in self._handlers[:1] if file_only else self._handlers:
            handler.handle(record)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """One number of one step."""
        self.scalars({tag: value}, step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Several numbers of one step as one line."""
        numbers = {tag: float(value) for tag, value in values.items()}
        line = {tag: value if math.isfinite(value) else None for tag, value in numbers.items()}
        if self._metrics is not None:
            try:
                self._metrics.write(json.dumps({"step": int(step), **line}) + "\n")
                self._metrics.flush()
            except OSError as error:
                raise unwritable(self._metrics.name, error) from error
        if self._board is not None:
            for tag, value in numbers.items():
                self._board.add_scalar(tag, value, step)

    def image(self, tag: str, rgb: np.ndarray, step: int) -> None:
        """A picture for TensorBoard. rgb: (H, W, 3) uint8."""
        if self._board is not None:
            self._board.add_image(tag, rgb, step, dataformats="HWC")

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        """A histogram of all `values` for TensorBoard."""
        if self._board is not None:
            self._board.add_histogram(tag, values, step)

    def embedding(self, tag: str, points: np.ndarray, names: Sequence[str], pictures: np.ndarray) -> None:
        """Points (n, u) for TensorBoard's projector, with names and pictures (n, side, side, 3) uint8."""
        if self._board is not None and len(points):
            from torch import from_numpy

            shown = from_numpy(pictures.transpose(0, 3, 1, 2).copy()).float() / 255
            self._board.add_embedding(points, list(names), shown, 0, tag)

    def hparams(self, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """TensorBoard's table of runs: settings (a resolved recipe, nested keys joined by dots) and final numbers."""
        if self._board is None:
            return
        plain = (bool, int, float, str)
        flat = {key: value if isinstance(value, plain) else str(value) for key, value in _flat(settings)}
        self._board.add_hparams(flat, {f"final/{k}": float(v) for k, v in metrics.items()}, run_name=".")

    def progress(self, total: int, desc: str, initial: int = 0) -> Progress:
        """`with log.progress(6000, "training") as bar: bar.update(1, loss=0.3)`."""
        return Progress(self, total, desc, initial)

    def close(self) -> None:
        """Close everything, even if one fails on a full disk, and restore the parts' loggers. Idempotent."""
        with ExitStack() as rest:  # last in, first out
            if (board := self._board) is not None:
                self._board = None
                rest.callback(board.close)
                rest.callback(board.flush)  # raises what its thread could not write
            if self._metrics is not None:
                rest.callback(self._metrics.close)
            for handler in self._handlers:
                rest.callback(handler.close)
            for logger, level, propagate in self._before:
                for handler in self._handlers:
                    logger.removeHandler(handler)
                logger.setLevel(level)
                logger.propagate = propagate
            self._before = []

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except OSError:
            if error is None:  # otherwise the error is more informative
                raise


def quiet_log() -> RunLog:
    """For use as a library: no files, no bar, no output except warnings."""
    return RunLog(None)


def bar(
    total: int,
    what: str,
    unit: str = "it",
    over: Iterable[Any] | None = None,
    *,
    initial: int = 0,
    shown: bool | None = None,
) -> tqdm:
    """A progress bar on stderr with the count out of `total`, units per second and time left; without a terminal, an
    occasional line.

    over: an iterable to yield from and count. shown: False for no bar.
    """
    from tqdm import tqdm

    given = {"iterable": over, "total": total, "desc": what, "unit": unit, "initial": initial}
    if shown is None and not sys.stderr.isatty():
        return tqdm(
            **given,
            file=_Lines(sys.stderr),
            disable=_quiet,
            bar_format="{desc} {n_fmt}/{total_fmt}, {rate_fmt}, {remaining} left",
            delay=PATIENCE,
            mininterval=SELDOM,
            maxinterval=SELDOM,
        )
    return tqdm(**given, file=sys.stderr, disable=_quiet or shown is False, dynamic_ncols=True, smoothing=0.05)


class Progress:
    """A bar on a terminal (loss, iterations per second, time left); elsewhere, and in log.txt, a line after every
    tenth, but at most one every `PAUSE` s."""

    def __init__(self, log: RunLog, total: int, desc: str, initial: int) -> None:
        self.log, self.total, self.desc = log, total, desc
        self.done = self.initial = initial
        self._values: dict[str, float] = {}

    def __enter__(self) -> Progress:
        self._start = self._said = time.monotonic()
        self._tenth = 10 * self.done // max(self.total, 1)
        self._on_terminal = self.log.folder is not None and sys.stderr.isatty() and not _quiet
        self._bar = bar(self.total, self.desc, initial=self.initial, shown=self._on_terminal)
        return self

    def update(self, n: int = 1, **values: float) -> None:
        """Report n more finished units, and current `values` (loss=...)."""
        self.done += n
        self._values.update(values)
        if self._on_terminal:
            self._bar.set_postfix({name: f"{float(value):.4g}" for name, value in values.items()}, refresh=False)
            self._bar.update(n)
        tenth, now = 10 * self.done // max(self.total, 1), time.monotonic()
        if tenth > self._tenth and (now - self._said >= PAUSE or self.done >= self.total):
            self._tenth, self._said = tenth, now
            self.log._say(logging.INFO, self._line(), file_only=self._on_terminal)

    def _line(self) -> str:
        passed = time.monotonic() - self._start
        rate = (self.done - self.initial) / max(passed, 1e-9)
        left = max(self.total - self.done, 0) / max(rate, 1e-9)
        parts = [f"{self.desc} {self.done}/{self.total}"]
        parts += [f"{name} {float(value):.4g}" for name, value in self._values.items()]
        parts.append(f"{rate:.3g} it/s")
        parts.append(f"{clock(left)} left" if self.done < self.total else f"took {clock(passed)}")
        return ", ".join(parts)

    def __exit__(self, *exc: object) -> None:
        self._bar.close()


def clock(seconds: float) -> str:
    """0.4 s, 12 s, 3:05 min, 1:02:03 h."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"


class _OneLine(logging.Formatter):
    """Messages of several lines become one, so that log.txt can be searched line by line."""

    def format(self, record: logging.LogRecord) -> str:
        record.warned = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return printable(" ".join(super().format(record).splitlines()))


class _File(logging.FileHandler):
    """log.txt. A failed write, as on a full disk, ends the run."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]  # called by `emit` in its except clause
        assert error is not None
        raise unwritable(self.baseFilename, error) from error


class _Console(logging.Handler):
    """The current stderr (tests and notebooks replace it), without breaking progress bars.

    A closed terminal does not stop a run.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if _quiet and record.levelno < logging.WARNING:
            return
        from tqdm import tqdm

        with suppress(OSError):
            tqdm.write(self.format(record), file=sys.stderr)


class _Lines:
    """A stream that prints a bar's states as lines."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream, self.said = stream, ""

    def write(self, text: str) -> None:
        """Receives tqdm's output: a state after a carriage return, blanks over the previous one, or a line end."""
        line = text.strip()
        if line and line != self.said:
            self.said = line
            with suppress(OSError):
                self.stream.write(line + "\n")

    def flush(self) -> None:
        """Flush the stream."""
        with suppress(OSError):
            self.stream.flush()


def _keep_until(path: Path, step: int | None) -> None:
    """Drop lines beyond `step`, and damaged ones, such as a last line cut off by a kill."""
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            number = float(json.loads(line)["step"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        if step is None or number <= step:
            kept.append(line + "\n")
    write_text(path, "".join(kept))


def _flat(settings: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        pairs += _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else [(f"{above}{key}", value)]
    return pairs
