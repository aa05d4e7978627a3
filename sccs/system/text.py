"""Text that somebody else may have written, made fit for a terminal, a log, a table."""

from __future__ import annotations

import re

# what moves the cursor, colours, ends lines, turns the direction of writing around, or is half a character
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
BREAKS = "\n\t"


def printable(text: object, keep: str = "") -> str:
    r"""`text` with control characters as escapes; `keep`: those that stay, such as `BREAKS` in text of several lines.

    >>> printable("nucleus\x1b[2J\n")
    'nucleus\\x1b[2J\\n'
    """
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], str(text))
