"""A page of superpixel pictures to label; it saves the table that `sccs teach` reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sccs.report.crops import CROP, framed
from sccs.report.drawing import template
from sccs.report.overlays import OUTLINE
from sccs.report.page_pictures import picture_uri
from sccs.system.files import write_text
from sccs.system.text import BREAKS, printable


class Question(NamedTuple):
    """A superpixel at the pixel (z, y, x) of a source, a volume or file; its surroundings, image (H, W) and mask (H, W)
    bool, at most `CROP` px a side; doubt: 0 to 1 or None."""

    image: np.ndarray
    mask: np.ndarray
    place: tuple[int, int, int]
    source: str
    doubt: float | None


def write_questions(path: Path, asked: Sequence[Question], names: Sequence[str], run: str) -> None:
    """Write the page. names: classes that the page offers; others can be typed. run: its path for the command."""
    spots = [
        {
            "src": picture_uri(framed(each.image, each.mask, CROP, OUTLINE), quality=80),
            "place": each.place,
            "image": each.source,
            "doubt": each.doubt,
        }
        for each in asked
    ]
    html = template("questions.html.j2").render(spots=spots, names=names, run=run)
    write_text(path, printable(html, BREAKS))
