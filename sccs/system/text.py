"""Makes text from untrusted sources safe for a terminal, log or table."""

from __future__ import annotations

import re

# cursor movement, colours, line ends, writing direction, and half characters
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
BREAKS = "\n\t"


def printable(text: object, keep: str = "") -> str:
    r"""`text` with control characters escaped; `keep`: exceptions, such as `BREAKS` in multi-line text.

    >>> printable("nucleus\x1b[2J\n")
    'nucleus\\x1b[2J\\n'
    """
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], str(text))
