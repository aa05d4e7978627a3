"""Small harm to files: of bytes, of text, and of JSON's values. Everything follows from the random generator given."""

from __future__ import annotations

import copy
import random
from typing import Any

TOKENS = (
    b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00", b"PK\x01\x02", b"\x1b[2J",
    b"[", b"]", b"{", b"}", b":", b",", b"\"", b"'", b"\n", b"- ", b"*a", b"&a ", b"!!python/name:os.system ",
    b"null", b"true", b".nan", b"NaN", b"-1", b"0", b"1e999", b"99999999999999999999", b"2147483648", b"../",
    b"$\\frac{$",
)  # fmt: skip
VALUES = (
    None, True, -1, 0, 1, 255, 256, 3.5, 2**31, 2**63, 10**30, float("nan"), float("inf"), "", "x", "\x1b[2J", "../x",
    "x" * 300,
    "$\\frac{$", [], {}, [[]], [None], {"": None}, [1, 2, 3], {"a": {"b": 1}},
)  # fmt: skip


def harmed(data: bytes, rng: random.Random) -> bytes:
    """A file with one to four changes of bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, length = rng.randrange(len(out) + 1), rng.choice((1, 1, 2, 4, 8, 32))
        if (kind := rng.randrange(7)) == 0:
            out[at : at + length] = rng.randbytes(length)
        elif kind == 1:
            out[at : at + length] = b""
        elif kind == 2:
            out[at:at] = rng.choice(TOKENS)
        elif kind == 3:
            token = rng.choice(TOKENS)
            out[at : at + len(token)] = token
        elif kind == 4:
            out[at:at] = out[at : at + 8 * length] * rng.choice((1, 2, 50))
        elif kind == 5:
            del out[at:]
        elif at < len(out):
            out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def harmed_values(content: Any, rng: random.Random) -> Any:
    """JSON with one to three of its values replaced, removed, doubled or renamed."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = [([content], 0), *_places(content)]
        inside, key = rng.choice(places)
        if inside[key] is content and rng.random() < 0.9:
            continue
        kind = rng.randrange(6)
        if kind < 3:
            inside[key] = copy.deepcopy(rng.choice(VALUES))
            content = inside[key] if len(places) == 1 else content
        elif kind == 3 and isinstance(inside, dict):
            del inside[key]
        elif kind == 4 and isinstance(inside, dict):
            inside[str(rng.choice(VALUES))[:40]] = inside.pop(key)
        elif isinstance(inside, list) and inside is not content:
            inside.insert(key, copy.deepcopy(inside[key])) if rng.random() < 0.5 else inside.pop(key)
    return content


def _places(content: Any) -> list[tuple[Any, Any]]:
    keys = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [place for key, value in keys for place in [(content, key), *_places(value)]]
