"""The colours of classes and clusters, and the conversion of label images to RGB.

Classes follow the paper's Figures 3 and 4 (nucleus yellow, mitochondria green, granules blue); every other name takes
the colour furthest from those in use, for normal and red-green colour-blind vision. Cluster colours differ primarily
in grey value, so that they stay distinguishable in greyscale. Colours are "#rrggbb" in lower case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import cos, pi, sin

import numpy as np

PAPER = {"nucleus": "#f5c518", "mitochondria": "#27a35a", "granules": "#3d7edb", "unrecognized": "#8d8d8d"}
SPELLINGS = {"nuclei": "nucleus", "mitochondrion": "mitochondria", "mito": "mitochondria", "granule": "granules"}
REST = {"unrecognized", "unrecognised", "rest", "other", "background", "unknown", "extracellular"}
GREYS = [PAPER["unrecognized"], "#c2c2c2", "#5a5a5a"]
FURTHER = [  # a spread over what a screen shows, each far from the paper's colours and from one another
    *("#56147a", "#64eff7", "#573400", "#d092fc", "#875093", "#eda9a8"),
    *("#a9ff96", "#466a12", "#2d3dbe", "#f9601f", "#92194f", "#17a9cb"),
]
IGNORED = "#ffffff"
MOST_CODES = 1 << 16  # of a table of colours
PALE, WRONG = "#f4f4f0", "#d6204e"
EYES = np.array(  # linear RGB as normal, protanopic and deuteranopic eyes see it (Machado et al. 2009, severity 1)
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ]
)


def class_colours(names: Sequence[str], chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """Class name -> hex colour, in the order of `names`. `chosen` (name -> hex), the user's choice, takes precedence.

    Only the first of several spellings gets the paper's colour, so that no two names share one. Other names avoid the
    paper's colours, so that they stay free for its classes.
    """
    chosen = dict(chosen or {})
    taken = set(chosen.values())
    colours = {name: chosen[name] for name in names if name in chosen}
    for name in names:
        plain = name.strip().lower()
        wanted = GREYS if plain in REST else [PAPER[w] for w in [SPELLINGS.get(plain, plain)] if w in PAPER]
        free = [colour for colour in wanted if colour not in taken]
        if name not in colours and free:
            colours[name] = free[0]
            taken.add(free[0])
    for name in names:
        if name not in colours:
            free = [colour for colour in FURTHER if colour not in taken] or [next(c for c in _many() if c not in taken)]
            reserved = {*taken, *PAPER.values(), WRONG}
            colours[name] = max(free, key=lambda colour: min(distance(colour, other) for other in reserved))
            taken.add(colours[name])
    return {name: colours[name] for name in names}


@lru_cache
def _many() -> list[str]:
    return cluster_colours(512)  # more than a label image of bytes has classes


def distance(one: str, other: str) -> float:
    """Distance of two hex colours in OKLab for the type of vision that distinguishes them worst (`EYES`): 0 is equal,
    and black and white are 1 apart."""
    return float(np.linalg.norm(_seen(one) - _seen(other), axis=1).min())


@lru_cache(maxsize=1024)
def _seen(colour: str) -> np.ndarray:
    """OKLab coordinates (3, 3) of a hex colour, a row each of `EYES` (Ottosson 2020)."""
    channels = np.array(rgb(colour)) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    cones = (EYES @ linear).clip(0, 1) @ [
        [0.4122214708, 0.2119034982, 0.0883024619],
        [0.5363325363, 0.6806995451, 0.2817188376],
        [0.0514459929, 0.1073969566, 0.6299787005],
    ]
    return np.cbrt(cones) @ [
        [0.2104542553, 1.9779984951, 0.0259040371],
        [0.7936177850, -2.4285922050, 0.7827717662],
        [-0.0040720468, 0.4505937099, -0.8086757660],
    ]


def cluster_colours(k: int) -> list[str]:
    """k hex colours, distinct in hue and in grey value; meant for k <= 16, works beyond.

    Grey values (luma, as in a greyscale copy) take k even steps; consecutive clusters are far apart in it, and hues
    turn by the golden angle.
    """
    if k < 1:
        return []
    stride = next(s for s in range(max(1, round(k * 0.382)), k + 2) if np.gcd(s, k) == 1)
    steps = [(i * stride) % k for i in range(k)]
    return [_colour_of(62 + 160 * step / max(k - 1, 1), 0.45 + 2 * pi * 0.618034 * i) for i, step in enumerate(steps)]


def _colour_of(grey: float, hue: float) -> str:
    """The most vivid colour (up to a chroma of .145 in Ottosson's OKLCH) of this hue and luma (0..255)."""
    for chroma in np.linspace(0.145, 0.0, 30):
        low, high = 0.0, 1.0
        while high - low > 1e-4:
            middle = (low + high) / 2
            low, high = (middle, high) if luma(_encoded(_linear_rgb(middle, chroma, hue))) < grey else (low, middle)
        linear = _linear_rgb(low, chroma, hue)
        if all(-1e-3 <= value <= 1 + 1e-3 for value in linear):
            break
    return "#{:02x}{:02x}{:02x}".format(*tuple(round(value) for value in _encoded(linear)))


def luma(channels: Sequence[float]) -> float:
    """Grey value of an sRGB colour, 0..255 (ITU-R BT.601, what image viewers and printers use)."""
    return 0.299 * channels[0] + 0.587 * channels[1] + 0.114 * channels[2]


def _encoded(linear: Sequence[float]) -> list[float]:
    """Linear light -> sRGB channels, 0..255."""
    channels = [min(max(value, 0.0), 1.0) for value in linear]
    return [255 * (12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055) for c in channels]


def _linear_rgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """OKLCH to linear sRGB (Ottosson 2020); values outside 0..1 do not exist on screen."""
    a, b = chroma * cos(hue), chroma * sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def rgb(colour: str) -> tuple[int, int, int]:
    """'#rrggbb' -> (r, g, b), each 0..255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def to_grey(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W) unchanged; floats are assumed standardised, -3 (black) to 3 (white) standard deviations."""
    if image.dtype == np.uint8:
        return image
    return (np.clip(image / 6 + 0.5, 0, 1) * 255).astype(np.uint8)


def colourise(
    labels: np.ndarray, colours: Sequence[str] | Mapping[int, str], image: np.ndarray | None = None, alpha: float = 0.5
) -> np.ndarray:
    """Label image (H, W) int -> (H, W, 3) uint8, alone or blended over a grey image.

    colours: hex by label code (a list is indexed by code). image: (H, W) for `to_grey`, shown beneath; alpha: share of
    the colour. Codes without a colour (ignored pixels, -1) show the bare image, or white without one.
    """
    codes = dict(colours) if isinstance(colours, Mapping) else dict(enumerate(colours))
    if image is None:
        below = np.full((*labels.shape, 3), rgb(IGNORED), dtype=np.uint8)
        alpha = 1.0
    else:
        if image.shape != labels.shape:
            raise ValueError(f"colourise: labels are {labels.shape}, the image is {image.shape}; they must agree")
        below = np.repeat(to_grey(image)[..., None], 3, axis=2)
    found, place = _codes_of(labels)
    coloured = np.array([int(code) in codes for code in found], bool)
    tint = np.array([rgb(codes.get(int(code), IGNORED)) for code in found], np.float32).reshape(-1, 3)
    # by code, then by pixel
    keep = np.where(coloured, 1 - alpha, 1).astype(np.float32)
    add = np.where(coloured[:, None], alpha * tint + np.float32(0.5), 0)
    return (below * keep[place][..., None] + add[place]).astype(np.uint8)


def _codes_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (m,), and the index of each pixel's code among them; those of a narrow range are not sorted."""
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if labels.dtype.kind in "iu" and high - low < MOST_CODES:
        return np.arange(low, high + 1), labels.astype(np.int64) - low
    found, place = np.unique(labels, return_inverse=True)
    return found, place.reshape(labels.shape)
