"""Which label of a file is which class, according to the file or the user; and sizes as users write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from registry.base import UserError
from sccs.data.schema import LONGEST_CLASS
from sccs.evaluation.tables import REST_NAMES
from sccs.recipe.named import checked_name
from sccs.system import bounds
from sccs.system.text import printable

CODES = 256
NO_CLASS = {*REST_NAMES, "not segmented", "no class", "unnamed"}
_SIZE = re.compile(
    r"(?P<number>\d+\.?\d*(?:e[+-]?\d+)?)\s*(?P<unit>vx|voxels?|px|nm[23³²]?|[uµ]m[23³²]?)?", re.IGNORECASE
)


def stored_names(path: str) -> dict[int, str]:
    """Code -> name, as SCCS stored it with labels: in an ImageJ TIFF, or in the `image-label` of an OME-Zarr."""
    place = Path(path)
    if place.is_dir():
        for folder in (place, *sorted(place.glob("labels/*/")), *list(place.parents)[:2]):
            for name in ("zarr.json", ".zattrs"):
                if (names := _zarr_names(folder / name)) is not None:
                    return names
    elif place.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        with suppress(Exception), tifffile.TiffFile(place) as tif:
            text = str((tif.imagej_metadata or {}).get("Info", ""))
            pairs = (re.fullmatch(r"(\d{1,3}) = (.+)", line.strip()) for line in text.splitlines())
            return _shown((int(pair[1]), pair[2]) for pair in pairs if pair)
    return {}


def _shown(pairs: Iterable[tuple[int, str]]) -> dict[int, str]:
    """Names safe for tables, files and pages: one for each code, printable, not a spreadsheet formula."""
    names: dict[int, str] = {}
    for code, name in pairs:
        name = re.sub("^[=+@-]", "_", printable(name.strip()))[:LONGEST_CLASS]
        if not name or not 0 <= code < CODES:
            continue
        taken = {each.lower() for other, each in names.items() if other != code}
        names[code] = f"{name[: LONGEST_CLASS - 6]} ({code})" if name.lower() in taken else name
    return names


def _zarr_names(path: Path) -> dict[int, str] | None:
    with suppress(OSError, UserError, ValueError, KeyError, TypeError, AttributeError):
        about: Any = json.loads(bounds.read_text(path, bounds.JSON))
        about = about.get("attributes", about)
        properties = about.get("ome", about)["image-label"]["properties"]
        return _shown((int(each["label-value"]), str(each["name"])) for each in properties if each["name"])
    return None


def chosen(texts: Sequence[str], names: Mapping[int, str], path: str) -> tuple[dict[str, int] | None, dict[int, str]]:
    """Name -> code of the classes that the user chose (None: all present), and all names.

    texts: "mitochondria", "3" or "mitochondria=3". Raises UserError for a name that the file does not define.
    """
    named, codes = dict(names), {name.lower(): code for code, name in names.items()}
    if not texts:
        known = {name: code for code, name in names.items() if name.lower() not in NO_CLASS and code != 255}
        return (known or None), named
    classes: dict[str, int] = {}
    for text in texts:
        name, _, code = text.rpartition("=") if re.fullmatch(r".+=\d{1,3}", text) else ("", "", text)
        if not code.isdecimal() or len(code) > 3:
            if code.lower() not in codes:
                there = ", ".join(f"{c} {n}" for c, n in sorted(names.items())) or "none"
                raise UserError(f"{path}: has no class named {text!r} (it names {there}); give --class {text}=CODE")
            number = codes[code.lower()]
        else:
            number = int(code)
        if number > 254:
            raise UserError(f"--class {text}: class codes are 0 to 254")
        name = checked_name(name, f"--class {text}") if name else names.get(number, f"label_{number}")
        if name in classes or number in classes.values():
            raise UserError(f"--class {text}: class {name} ({number}) is chosen twice")
        classes[name] = number
        named[number] = name
    return classes, named


def voxels_of(text: str, option: str, voxel_size: Sequence[float] | None, flat: bool) -> float:
    """A size in voxels, given as "500" or "500vx" (voxels), "1e6nm3", "0.001um3"; for a 2-D image "nm2" and "um2".

    >>> voxels_of("4000nm3", "--min-size", (10, 20, 20), False)
    1.0
    """
    match = _SIZE.fullmatch(text.strip())
    unit = (match["unit"] or "vx").lower().translate(str.maketrans("µ³²", "u32")) if match else ""
    if match is None or (unit[-2:-1] == "m" and unit[-1] != ("2" if flat else "3")) or unit in ("nm", "um"):
        raise UserError(
            f"{option} {text}: write voxels, such as 500, or {'1e4nm2, .01um2' if flat else '1e6nm3, .001um3'}"
        )
    number = float(match["number"])
    if unit[0] not in "nu":
        return number
    if voxel_size is None:
        raise UserError(f"{option} {text}: the file does not give its voxel size; give --voxel-size, or use voxels")
    z, y, x = voxel_size
    return number * (1 if unit[0] == "n" else 1e6 if flat else 1e9) / (y * x if flat else z * y * x)
