"""Drawing with matplotlib, without its global state: figures, their files, and page templates."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sccs.system.files import atomic_path
from sccs.system.text import BREAKS, UNPRINTABLE, printable

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure
    from PIL.Image import Image

INK = "#333333"
WIDEST_PANEL = 800  # px of an image in a panel, more than a figure shows; matplotlib reduces larger ones slowly


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **kw: Any) -> tuple[Figure, np.ndarray]:
    """A Figure (inches) and its axes (rows, columns), without touching matplotlib's global state or a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **kw)


def template(name: str) -> Template:
    """A page template in this folder; undefined names are errors, and all text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("sccs.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def _as_written(figure: Figure) -> None:
    """Draw all text literally: names may contain dollar signs, which matplotlib would read as formulas, and control
    characters, which are invalid in SVG. The ticks of logarithmic axes are formulas by matplotlib itself."""
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter

    axes = [axis for each in figure.axes for axis in (each.xaxis, each.yaxis)]
    logarithmic = [axis for axis in axes if isinstance(axis.get_major_formatter(), LogFormatter)]
    formulas = {label for axis in logarithmic for label in axis.get_ticklabels(which="both")}
    for text in figure.findobj(Text):
        text.set_parse_math(text in formulas)
        if UNPRINTABLE.search(written := text.get_text()):
            text.set_text(printable(written, BREAKS))


@contextmanager
def _any_letters() -> Iterator[None]:
    """Names may have letters that the font lacks; they are drawn as boxes, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def save_png(figure: Figure, path: Path, dpi: int = 110) -> Path:
    """Write the figure atomically, and return its path."""
    _as_written(figure)
    with atomic_path(path) as scratch, _any_letters():
        figure.savefig(scratch, dpi=dpi, facecolor="white")
    return Path(path)


def to_svg(figure: Figure, name: str) -> str:
    """Figure -> an <svg> element whose text and axes take the page's colour; `name` keeps ids unique on a page."""
    import matplotlib

    _as_written(figure)
    buffer = io.StringIO()
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    with matplotlib.rc_context(style), _any_letters():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)


def reduced(rgb: np.ndarray, widest: int) -> Image:
    """(H, W, 3) uint8 as an image of at most `widest` px on its longer side."""
    from PIL import Image

    image = Image.fromarray(rgb)
    image.thumbnail((widest, widest), Image.Resampling.LANCZOS, reducing_gap=1)
    return image


def show(axis: Any, image: np.ndarray | None, title: str = "") -> None:
    """Draw an image (H, W, 3), or nothing, below its title, without axes."""
    axis.set_axis_off()
    if image is not None:
        axis.imshow(np.asarray(reduced(image, WIDEST_PANEL)), interpolation="antialiased")
    if title:
        axis.set_title(title, fontsize=9, color=INK)


def add_legend(figure: Figure, colours: Mapping[str, str]) -> None:
    """Add a legend below the figure; colours: name -> hex."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 8),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
    )
